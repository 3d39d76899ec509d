"""Discovery, scraping, queueing and dispatch over pools of endpoints."""
