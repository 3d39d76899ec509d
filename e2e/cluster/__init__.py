"""kind clusters: node image, image sources, preflight, diagnostics."""
