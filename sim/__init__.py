"""The same decisions in simulated time: experiments, the simpy cluster, hardware models, capacity search."""
