"""The stack on a kind cluster: preflight, stages up to the first token, what it leaves. Start at `stages`."""
