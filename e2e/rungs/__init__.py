"""The rungs of the ladder. Each takes a scenario and a workload and returns a run record; nothing downstream knows which."""
