"""A worker around a real `trtllm-serve`: `reference.worker.supervised` with its command, and its metrics made whole.

TensorRT-LLM's `GET /metrics` takes away what it tells. This worker is its only reader, and republishes it.
"""
