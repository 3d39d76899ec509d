"""How right the simulator is: its predictions held against published measurements of real engines, re-runnable.

Belongs here: the measured rows that come with the package, how each is flown, the split into rows that may be fitted
and rows that may not, and the scoreboard. Start at `scoreboard`.
"""
