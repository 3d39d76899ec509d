"""llm-web: the chat page and its small server. The page talks to the gateway itself; this serves files and settings."""
