"""What one replica does, step by step: queues, token budget, KV blocks, prefix cache, preemption, the cost of a step.

Belongs here: everything that is the same whether a step is slept (the emulated worker) or passed (the simulator).
Nothing here knows a clock, chance or I/O. Start at `engine`.
"""

from reference.engine.counters import Counters
from reference.engine.engine import Engine, Step
from reference.engine.gaps import GapHistogram
from reference.engine.sequence import (
    FINISHED,
    FIRST_TOKEN,
    Emission,
    EngineError,
    Event,
    Rejected,
    Sequence,
    handed_over,
)
from reference.engine.settings import RULE_SETS, EngineSettings, RuleSet
from reference.engine.step_cost import StepCost

__all__ = [
    "FINISHED",
    "FIRST_TOKEN",
    "RULE_SETS",
    "Counters",
    "Emission",
    "Engine",
    "EngineError",
    "EngineSettings",
    "Event",
    "GapHistogram",
    "Rejected",
    "RuleSet",
    "Sequence",
    "Step",
    "StepCost",
    "handed_over",
]
