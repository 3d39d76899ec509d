"""What the workers around foreign engines share: a child that dies with its parent, its life, the relay before it.

`recipe` says what an engine is to us, `supervisor` keeps one alive, `server` is what the router talks to. Nothing here
knows vLLM or TensorRT-LLM; `reference.worker.vllm` and `reference.worker.trt` are the two recipes.
"""
