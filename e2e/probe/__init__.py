"""A gentle probe of an endpoint: so few clients that none of them can overload it, and what they saw, to fit a cost to.

Belongs here: what is asked (`ladder`), asking it (`prober`), and what the engine's own page tells beside
(`engine_page`). Start at `probing.probe`.
"""
