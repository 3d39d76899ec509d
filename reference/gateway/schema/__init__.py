"""OpenAI's requests and answers as types: what the gateway validates by and publishes in its openapi.json.

Start at `chat`. TypedDicts, because a valid request is passed on as the bytes that came and nobody needs an object. The
types follow OpenAI's description: an unknown field passes where it says so, null is a value only where it is one.
"""
