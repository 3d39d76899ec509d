"""A model server for encoders: embeddings and labels of texts, with transformers and torch, on a CPU or a GPU.

Texts wait in a queue (`batching`), one thread computes them batch by batch (`engine`), and `server` speaks OpenAI's API
around it. Start at `model`: what a directory of safetensors says its model is.
"""
