"""The router: discovery, scraping, queueing and dispatch over pools of endpoints.

It decides nothing itself: `reference.policy.pool` does, `desk` carries it out. Start at `desk`.
"""
