"""The serving stack that is deployed: gateway, router, workers, page, and the pure core that decides for them."""
