"""Model servers: bert, vllm and trt adapters, and the emulated engine on the wall clock."""
