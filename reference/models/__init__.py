"""The model puller of the init container."""
