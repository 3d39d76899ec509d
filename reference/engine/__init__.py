"""What one replica does, step by step: queues, token budget, KV blocks, prefix cache, preemption, and what a step costs.

Belongs here: everything that is the same whether a step is slept (the emulated worker) or passed (the simulator).
Nothing here knows a clock, chance or I/O. Start at `engine`.
"""
