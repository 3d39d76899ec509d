"""The container images: which there are, how each is built, what a built one is like. Start at `catalogue`."""
