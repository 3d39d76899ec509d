"""A model server without a model: `reference.engine` on the wall clock, behind vLLM's wire.

It takes as long as the engine says a real one would, counts words as tokens, and answers with words of its own. Start
at `engine_loop`.
"""
