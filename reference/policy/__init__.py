"""What the control plane decides, as pure functions of what it may know.

Belongs here: routing, admission and rate limits, queueing, retry and ejection, autoscaling. Nothing here knows a clock,
chance or I/O: `now` (seconds) and `chance` (a callable giving uniforms in [0, 1)) are arguments. Start at `pool`.
"""
