"""The language of an experiment: scenario, workload, traces, measures, run record, report.

Belongs here: everything that is the same on every rung. Nothing here knows which rung flew.
"""
