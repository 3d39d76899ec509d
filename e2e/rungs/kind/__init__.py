"""The kind rung: the scenario's cluster as pods in a namespace of its own, flown at through the front door."""
