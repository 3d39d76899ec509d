"""How many requests per second the simulator flies: `python -m e2e.bench.simulator [COUNT] [NAME ...]`.

512 input and 128 output tokens, Poisson arrivals at 8/s per replica, one process, everything on: records kept, samples
and scrapes each second. Then how the cost grows with tokens, replicas and shared prefixes, and the first flight. Each
row is a process of its own, so that its peak of memory is its own. CPU seconds of the flight, best of the rounds,
because machines are shared; the last line is a yardstick of the machine at that moment.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sim.experiment.scenario import LoadedScenario
    from sim.experiment.workload import Workload

ROUNDS = 3
COUNT = 50_000
STEP_COST = {"base": 0.006, "per_prefill_token": 2e-5, "per_sequence": 1e-5, "per_context_token": 5e-8}


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table. `shared_tokens` of each prompt are one of twenty shared prefixes."""

    replicas: int = 1
    policy: str = "prefix_aware"
    rate_per_replica: float = 8.0
    input_tokens: int = 512
    output_tokens: int = 128
    shared_tokens: int = 0


ROWS = {
    "one replica": Row(),
    "four, round robin": Row(replicas=4, policy="round_robin"),
    "four, prefix aware": Row(replicas=4),
    "sixteen, prefix aware": Row(replicas=16),
    "sixteen, prefix aware, half of each prompt shared": Row(replicas=16, shared_tokens=256),
    "sixty-four, prefix aware": Row(replicas=64),
    "one replica, 1,024 output tokens at 1/s": Row(output_tokens=1024, rate_per_replica=1.0),
}


def build(row: Row, count: int) -> tuple[LoadedScenario, Workload]:
    """Make the scenario and the workload of a row."""
    from sim.experiment.scenario import LoadedScenario
    from sim.experiment.schema import Scenario
    from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

    chance = random.Random(1)
    now, requests = 0.0, []
    for index in range(count):
        now += chance.expovariate(row.rate_per_replica * row.replicas)
        prompt: tuple[PromptSegment, ...] = ()
        if row.shared_tokens:
            own = PromptSegment(1000 + index, row.input_tokens - row.shared_tokens)
            prompt = (PromptSegment(chance.randrange(20), row.shared_tokens), own)
        requests.append(WorkloadRequest(index, now, row.input_tokens, row.output_tokens, "m", prompt=prompt))
    pool = {"model": "m", "replicas": row.replicas, "step_cost": STEP_COST, "num_gpu_blocks": 16_384}
    fields = {
        "windtunnel": 1,
        "name": "bench",
        "workload": {},
        "cluster": {"router": {"policy": {"name": row.policy}}, "pools": [pool]},
    }
    scenario = LoadedScenario(Scenario.model_validate(fields), "", Path("bench.yaml"), Path())
    return scenario, Workload(tuple(requests), now, "")


def measure(name: str, count: int) -> dict[str, float]:
    """Fly one row in this process; give requests per CPU second and the peak of memory."""
    from resource import RUSAGE_SELF, getrusage

    from sim.cluster import fly

    loaded, workload = _first_flight() if name == "first flight" else build(ROWS[name], count)
    best = float("inf")
    for _ in range(ROUNDS):
        begin = time.process_time()
        record = fly(loaded, workload)
        best = min(best, time.process_time() - begin)
        if set(record.requests["status"]) != {"ok"}:
            raise AssertionError(f"{name}: not every request was answered")
        del record
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"per_second": len(workload.requests) / best, "megabytes": getrusage(RUSAGE_SELF).ru_maxrss / unit}


def yardstick() -> float:
    """Count millions of additions per CPU second in a plain loop: what the machine gives at the moment."""
    begin = time.process_time()
    total = 0
    for number in range(3_000_000):
        total += number
    return 3.0 / (time.process_time() - begin)


def main(arguments: Sequence[str]) -> None:
    """Print the table; a first argument that is a number is the count of requests, others are names of rows."""
    count = int(arguments[0]) if arguments and arguments[0].isdigit() else COUNT
    wanted = [name for name in arguments if not name.isdigit()] or [*ROWS, "first flight"]
    print(f"{'':50}{'requests/s':>12}{'peak MB':>10}")
    for name in wanted:
        command = [sys.executable, "-m", "e2e.bench.simulator", "--row", name, str(count)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=600, check=True)
        found = json.loads(done.stdout)
        print(f"{name:50}{found['per_second']:>12,.0f}{found['megabytes']:>10,.0f}", flush=True)
    print(f"{'yardstick: million additions per second':50}{yardstick():>12.1f}")


def _first_flight() -> tuple[LoadedScenario, Workload]:
    from e2e.shipped import find_scenario
    from sim.experiment.generate import build_workload
    from sim.experiment.scenario import load

    loaded = load(find_scenario("first_flight"))
    return loaded, build_workload(loaded)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(json.dumps(measure(sys.argv[2], int(sys.argv[3]))))
    else:
        main(sys.argv[1:])
