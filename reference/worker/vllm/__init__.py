"""A worker around a real vLLM server: `reference.worker.supervised` with vLLM's command, metrics and first request."""
