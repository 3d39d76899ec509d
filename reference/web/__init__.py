"""llm-web: the chat page and its small server."""
