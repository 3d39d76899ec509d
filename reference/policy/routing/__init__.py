"""Routing: which endpoint a request goes to. Filter → score in [0, 1] → pick, ties by name.

One file a policy; `registry` names them all. A user's own policy is a class with the same `route` (`protocol`).
"""
