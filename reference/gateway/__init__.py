"""llm-api: authentication, rate limits, validation, access log, usage, streaming relay."""
