"""llm-api: authentication, rate limits, validation, access log, usage, and the relay to the router. See `server`."""
