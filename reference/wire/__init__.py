"""What all servers share at the edge: OpenAI models and errors, SSE framing, the byte relay, request ids, access log, metrics."""
