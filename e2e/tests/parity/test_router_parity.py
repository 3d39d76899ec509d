"""I10: the asyncio router and the simulated router decide alike, entry by entry.

The same arrivals go through `sim.cluster` in simulated time, and through the router's real desk and the emulated
worker's real engine loop on a virtual asyncio clock. Both decide with the policy pool; what is tested is that two
shells around it tell it the same things in the same order.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from dataclasses import dataclass
from math import isclose
from typing import Any

import looptime
from hypothesis import given, settings
from hypothesis import strategies as st

from reference.custom_policy import routing_for
from reference.engine import Engine, Sequence
from reference.policy.pool import Action, Dispatch, Fail, Outcome, Pool, Refuse
from reference.policy.view import Observation, RequestView
from reference.router.desk import Desk
from reference.tokens import hash_segments
from reference.worker.emulated.engine_loop import EngineLoop
from sim.cluster import fly
from sim.cluster.flight import pool_settings
from sim.cluster.machines import machine_for
from sim.experiment.scenario import LoadedScenario, parse
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

HOP = 0.0007
MODEL = "tiny"
Entry = tuple[int, int, str, str]
"""(index, attempt, endpoint, reason); attempt 0 and no endpoint for a refusal."""

SCENARIO = """
windtunnel: 1
name: parity
seed: {seed}
workload: {{arrivals: {{process: constant, rate: 1/s}}, duration: 1h, lengths: {{input: 1, output: 1}}}}
cluster:
  gateway: {{overhead: 0}}
  network: {{hop: 700us}}
  router:
    overhead: 0
    policy: {policy}
    scrape_interval: 370ms
    health_interval: 100h
    queue:
      max_requests: {max_queued}
      max_wait: {max_wait}
      max_in_flight_per_endpoint: {limit}
      fairness: {fairness}
  pools:
    - model: tiny
      replicas: {replicas}
      max_num_seqs: {seats}
      num_gpu_blocks: {blocks}
      max_model_len: 4096
      step_cost: {{base: 5ms, per_prefill_token: 30us, per_sequence: 211us, per_context_token: 130us}}
"""

POLICIES = [
    "round_robin",
    "least_in_flight",
    "power_of_two",
    "least_kv_usage",
    "prefix_aware",
    "session_affinity",
    "weighted",
]


@dataclass(frozen=True)
class Case:
    """A cluster and what comes to it."""

    loaded: LoadedScenario
    workload: Workload


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Draw a small cluster and a busy stream: queues, shedding, prefixes, sessions, priorities, deadlines."""
    text = SCENARIO.format(
        seed=draw(st.integers(0, 10**6)),
        policy=draw(st.sampled_from(POLICIES)),
        replicas=draw(st.integers(1, 4)),
        seats=draw(st.integers(2, 8)),
        blocks=draw(st.integers(300, 600)),
        max_queued=draw(st.integers(0, 6)),
        max_wait=draw(st.sampled_from(["200ms", "3s", "null"])),
        limit=draw(st.sampled_from(["1", "3", "null"])),
        fairness=draw(st.sampled_from(["in_flight", "tokens", "none"])),
    )
    stream = random.Random(draw(st.integers(0, 10**9)))
    at, requests = 0.0, []
    for index in range(draw(st.integers(1, 40))):
        at += stream.expovariate(draw(st.sampled_from([8.0, 40.0])))
        requests.append(request(index, at, stream))
    workload = Workload(tuple(requests), at + 1.0, "parity")
    return Case(parse(text), workload)


def request(index: int, at: float, stream: random.Random) -> WorkloadRequest:
    shared = PromptSegment(stream.randrange(3), 64)
    prompt = (shared, PromptSegment(1000 + index, stream.randrange(1, 200))) if stream.random() < 0.6 else ()
    tokens = sum(segment.tokens for segment in prompt) or stream.randrange(1, 300)
    return WorkloadRequest(
        index=index,
        scheduled=round(at, 6),
        input_tokens=tokens,
        output_tokens=stream.randrange(1, 60),
        model=MODEL,
        tenant=stream.choice(["red", "blue"]),
        priority=stream.randrange(3),
        session=stream.choice(["", "", "one", "two", "three"]),
        prompt=prompt,
    )


def simulated(case: Case) -> list[tuple[float, Entry]]:
    """Return the decisions of the simulated router."""
    record = fly(case.loaded, case.workload)
    return [
        (at, (index, attempt if endpoint else 0, endpoint, reason))
        for at, index, attempt, endpoint, reason, _ in record.decisions
    ]


class Blind:
    """A routing policy that is shown endpoints with one field corrupted."""

    def __init__(self, routing: Any, field: str, value: object) -> None:
        self._routing, self._field, self._value = routing, field, value

    def route(self, view: RequestView, endpoints: Any, now: float, chance: Any) -> Any:
        shown = [dataclasses.replace(endpoint, **{self._field: self._value}) for endpoint in endpoints]
        return self._routing.route(view, shown, now, chance)


def deployed(case: Case, corrupt: tuple[str, object] | None = None) -> list[tuple[float, Entry]]:
    """Return the decisions of the router's desk over the worker's engine loops, on a virtual clock."""
    loop = looptime.new_event_loop(start=0.0, resolution=1e-10, idle_step=None)
    try:
        return loop.run_until_complete(_fly_deployed(case, corrupt))
    finally:
        loop.close()


async def _fly_deployed(case: Case, corrupt: tuple[str, object] | None) -> list[tuple[float, Entry]]:
    now = asyncio.get_running_loop().time
    scenario = case.loaded.scenario
    policy, block = scenario.cluster.router.policy, scenario.cluster.pools[0]
    routing: Any = routing_for(policy.name, policy.options)
    if corrupt is not None:
        routing = Blind(routing, *corrupt)
    log: list[tuple[float, Entry]] = []
    chance = random.Random(f"{scenario.seed}/routing/{MODEL}").random
    desk = Desk(
        Pool(pool_settings(scenario.cluster.router), routing, chance),
        now,
        lambda at, action: log.append((at, entry(action))),
    )
    machine = machine_for(block, leaping=False)
    workers = {f"vllm-{n}": EngineLoop(Engine(machine.settings, machine.cost), now) for n in range(block.replicas)}
    for name in workers:
        desk.add_endpoint(name)
    background = [asyncio.create_task(worker.run()) for worker in workers.values()]
    background.append(asyncio.create_task(scrape(desk, workers, scenario.cluster.router.scrape_interval, now)))
    await asyncio.gather(*(client(r, desk, workers, block.block_size, now) for r in case.workload.requests))
    for task in background:
        task.cancel()
    return log


async def client(asked: WorkloadRequest, desk: Desk, workers: dict[str, EngineLoop], block_size: int, now: Any) -> None:
    await asyncio.sleep(asked.scheduled + 2 * HOP - now())
    hashes = hash_segments(asked.prompt, block_size) if asked.prompt else ()
    view = RequestView(
        str(asked.index),
        MODEL,
        now(),
        asked.input_tokens,
        None,
        hashes,
        asked.tenant,
        asked.traffic_class,
        asked.priority,
        asked.session or None,
    )

    async def forward(dispatch: Dispatch) -> Outcome:
        await asyncio.sleep(HOP)
        sequence = Sequence(f"{asked.index}/{dispatch.attempt}", asked.input_tokens, asked.output_tokens, hashes)
        tokens = workers[dispatch.endpoint].submit(sequence)
        assert isinstance(tokens, asyncio.Queue)
        while not (await tokens.get()).is_finished:
            desk.first_token(view.request_id)
        await asyncio.sleep(HOP)
        return Outcome.OK

    await desk.serve(view, forward)


async def scrape(desk: Desk, workers: dict[str, EngineLoop], interval: float, now: Any) -> None:
    await asyncio.sleep(HOP)
    while True:
        read_at = now()
        read = {name: (w.engine.num_running, w.engine.num_waiting, w.engine.kv_usage) for name, w in workers.items()}
        for name, gauges in read.items():
            desk.observe(name, Observation(read_at, *gauges))
        await asyncio.sleep(interval)


def entry(action: Action) -> Entry:
    index = int(action.request.request_id)
    match action:
        case Dispatch():
            return index, action.attempt, action.endpoint, action.decision.reason
        case Refuse():
            return index, 0, "", action.rejected.reason
        case Fail():
            return index, 0, "", action.reason
    raise AssertionError(action)


@settings(max_examples=60, deadline=None)
@given(case=cases())
def test_the_deployed_router_decides_as_the_simulated_one(case: Case) -> None:
    there, here = simulated(case), deployed(case)

    assert [decided for _, decided in here] == [decided for _, decided in there]
    assert all(isclose(a, b, abs_tol=1e-5) for (a, _), (b, _) in zip(here, there, strict=True))


def busy_case(policy: str) -> Case:
    text = SCENARIO.format(
        seed=1,
        policy=policy,
        replicas=3,
        seats=4,
        blocks=400,
        max_queued=10,
        max_wait="null",
        limit="null",
        fairness="in_flight",
    )
    stream, at, requests = random.Random(2), 0.0, []
    for index in range(60):
        at += stream.expovariate(30.0)
        requests.append(request(index, at, stream))
    return Case(parse(text), Workload(tuple(requests), at + 1.0, "parity"))


def test_a_corrupted_in_flight_count_is_noticed() -> None:
    case = busy_case("least_in_flight")

    assert [d for _, d in deployed(case)] == [d for _, d in simulated(case)]
    assert [d for _, d in deployed(case, ("in_flight", 0))] != [d for _, d in simulated(case)]


def test_a_corrupted_observation_is_noticed() -> None:
    case = busy_case("least_kv_usage")

    assert [d for _, d in deployed(case)] == [d for _, d in simulated(case)]
    assert [d for _, d in deployed(case, ("observed", Observation(0.0, 0, 0, 0.5)))] != [d for _, d in simulated(case)]
