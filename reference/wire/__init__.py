"""What all servers share at the edge: OpenAI errors, SSE framing, the relay, request ids, logs, metrics, serving."""
