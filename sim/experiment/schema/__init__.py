"""The scenario file as types: one model per block of the YAML. Line numbers live in `scenario`, units in `units`.

Every duration is held in seconds and every rate in requests per second, whatever unit the file used. Start at
`Scenario`.
"""

from __future__ import annotations

from sim.experiment.schema.block import Block
from sim.experiment.schema.pool import LAYOUT_KEYS, Autoscale, Disaggregated, Pool, Worker
from sim.experiment.schema.router import Gateway, Policy, RateLimit, Router
from sim.experiment.schema.scenario import Cluster, Fault, Plan, Scenario, json_schema
from sim.experiment.schema.workload import (
    Arrivals,
    ClientRetry,
    Distribution,
    Sessions,
    SharedPrefixes,
    Slo,
    Times,
    Trace,
    TrafficClass,
    WorkloadBlock,
)

__all__ = [
    "LAYOUT_KEYS",
    "Arrivals",
    "Autoscale",
    "Block",
    "ClientRetry",
    "Cluster",
    "Disaggregated",
    "Distribution",
    "Fault",
    "Gateway",
    "Plan",
    "Policy",
    "Pool",
    "RateLimit",
    "Router",
    "Scenario",
    "Sessions",
    "SharedPrefixes",
    "Slo",
    "Times",
    "Trace",
    "TrafficClass",
    "Worker",
    "WorkloadBlock",
    "json_schema",
]
