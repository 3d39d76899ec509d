"""What no type can say about a scenario: that it names what exists, and asks what can be."""

from __future__ import annotations

from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path

from sim.experiment.expectation import NotAnExpectation
from sim.experiment.expectation import parse as parse_expectation
from sim.experiment.scenario import KeyPath, ScenarioError, Source
from sim.experiment.schema import Pool, Scenario, Slo

Refuse = Callable[[KeyPath, str], ScenarioError]


def check(scenario: Scenario, source: Source, base_dir: Path) -> None:
    """Refuse a scenario that could not fly or could not mean anything.

    Raises:
        ScenarioError: the first problem, with its place.
    """
    refuse = source.error
    _check_workload(scenario, refuse)
    _check_classes(scenario, refuse)
    _check_pools(scenario, refuse)
    _check_policy(scenario, refuse, base_dir)
    _check_faults(scenario, refuse)
    _check_expectations(scenario, refuse)
    for place, percentile in enumerate(scenario.measure.percentiles):
        if not 0 < percentile < 100:
            raise refuse(("measure", "percentiles", place), "expected a percentile above 0 and below 100")


def _check_workload(scenario: Scenario, refuse: Refuse) -> None:
    workload = scenario.workload
    if (workload.trace is None) == (workload.arrivals is None):
        both = "both are given" if workload.trace else "neither is given"
        raise refuse(("workload",), f"expected either `trace` or `arrivals`; {both}")
    if workload.trace is not None:
        _check_window(workload.trace.window, ("workload", "trace", "window"), refuse)
        if workload.sessions is not None:
            raise refuse(
                ("workload", "sessions"), "a trace brings its own sessions; expected `arrivals` with `sessions`"
            )
    else:
        _check_arrivals(scenario, refuse)
    duration = _duration(scenario)
    if duration is not None and scenario.measure.warm_up >= duration:
        raise refuse(("measure", "warm_up"), f"the workload ends after {duration:g} s; expected a shorter warm-up")


def _check_window(window: tuple[float, float] | None, path: KeyPath, refuse: Refuse) -> None:
    if window is not None and window[0] >= window[1]:
        raise refuse(path, f"the window from {window[0]:g} s to {window[1]:g} s is empty; expected [start, later end]")


def _check_arrivals(scenario: Scenario, refuse: Refuse) -> None:
    workload, path = scenario.workload, ("workload", "arrivals")
    arrivals = workload.arrivals
    assert arrivals is not None
    needs = {"stages": "stages", "diurnal": "curve"}.get(arrivals.process, "rate")
    if not getattr(arrivals, needs):
        raise refuse((*path, "process"), f"a {arrivals.process} process needs `{needs}`, above zero")
    _check_window(arrivals.window, (*path, "window"), refuse)
    if _duration(scenario) is None:
        raise refuse(("workload",), "expected a `duration`: these arrivals would never end")
    if workload.lengths is None and any(kind.lengths is None for kind in workload.classes):
        raise refuse(("workload",), "expected `lengths`: arrivals say when, not how long prompts and answers are")


def _duration(scenario: Scenario) -> float | None:
    from sim.experiment.arrivals import duration_of

    workload = scenario.workload
    if workload.arrivals is not None:
        return duration_of(workload.arrivals, workload.duration)
    window = workload.trace.window if workload.trace else None
    if window is None:
        return workload.duration
    scale = workload.trace.rate_scale if workload.trace else 1.0
    return min((window[1] - window[0]) / scale, workload.duration or float("inf"))


def _check_classes(scenario: Scenario, refuse: Refuse) -> None:
    models = [pool.model for pool in scenario.cluster.pools]
    _check_unique([kind.name for kind in scenario.workload.classes], ("workload", "classes"), refuse)
    _check_unique([tenant.name for tenant in scenario.workload.tenants], ("workload", "tenants"), refuse)
    for place, kind in enumerate(scenario.workload.classes):
        path: KeyPath = ("workload", "classes", place)
        if kind.name == "all":
            raise refuse((*path, "name"), "`all` stands for all classes together; expected another name")
        if kind.model is not None and kind.model not in models:
            raise refuse(
                (*path, "model"), f"no pool serves this model{_meant(kind.model, models)}; {', '.join(models)}"
            )
        _check_slo(kind.slo, (*path, "slo"), refuse)
    tenants = [tenant.name for tenant in scenario.workload.tenants]
    for place, limit in enumerate(scenario.cluster.gateway.rate_limits):
        if limit.tenant != "*" and limit.tenant not in tenants:
            raise refuse(
                ("cluster", "gateway", "rate_limits", place, "tenant"),
                f"there is no such tenant{_meant(limit.tenant, tenants)}; expected one of {', '.join(tenants)}, or *",
            )


def _check_slo(slo: Slo, path: KeyPath, refuse: Refuse) -> None:
    for name in ("ttft", "tpot", "e2e"):
        if getattr(slo, name) == 0:
            raise refuse((*path, name), "nothing can take no time; expected more than 0")
    if slo.ttft is not None and slo.e2e is not None and slo.e2e < slo.ttft:
        raise refuse((*path, "e2e"), f"no answer can end before its first token is due ({slo.ttft:g} s); expected more")


def _check_unique(names: list[str], path: KeyPath, refuse: Refuse) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise refuse((*path, place, "name"), "is there twice; expected each name once")


def _check_pools(scenario: Scenario, refuse: Refuse) -> None:
    names = [pool.name or pool.engine for pool in scenario.cluster.pools]
    _check_unique(names, ("cluster", "pools"), refuse)
    _check_unique([pool.model for pool in scenario.cluster.pools], ("cluster", "pools"), refuse)
    for place, pool in enumerate(scenario.cluster.pools):
        path: KeyPath = ("cluster", "pools", place)
        if (pool.gpu is None) == (pool.step_cost is None):
            both = "both are given" if pool.gpu else "neither is given"
            raise refuse(path, f"expected either `gpu` or `step_cost`; {both}")
        _check_autoscale(pool, path, refuse)
        if pool.gpu is not None:
            _check_hardware(pool, path, refuse)


def _check_autoscale(pool: Pool, path: KeyPath, refuse: Refuse) -> None:
    scale = pool.autoscale
    if scale is not None and not scale.min_replicas <= pool.replicas <= scale.max_replicas:
        raise refuse(
            (*path, "replicas"), f"expected {scale.min_replicas} to {scale.max_replicas}, the bounds of its autoscaler"
        )


def _check_hardware(pool: Pool, path: KeyPath, refuse: Refuse) -> None:
    from sim.hardware import HardwareError, find_gpu, find_model, kv_blocks_for

    assert pool.gpu is not None
    for key, find, name in (("gpu", find_gpu, pool.gpu), ("model", find_model, pool.model)):
        try:
            find(name)
        except HardwareError as error:
            raise refuse((*path, key), str(error)) from error
    try:
        kv_blocks_for(
            pool.gpu,
            pool.model,
            tensor_parallel=pool.tensor_parallel,
            weights=pool.weights,
            kv_cache=pool.kv_cache,
            block_size=pool.block_size,
            gpu_memory_utilization=pool.gpu_memory_utilization,
            max_num_batched_tokens=pool.max_num_batched_tokens,
            max_num_seqs=pool.max_num_seqs,
        )
    except HardwareError as error:
        raise refuse((*path, "gpu"), str(error)) from error


def _check_policy(scenario: Scenario, refuse: Refuse, base_dir: Path) -> None:
    from reference.custom_policy import PolicyError, routing_for
    from reference.policy.routing.registry import UnknownPolicy

    policy = scenario.cluster.router.policy
    try:
        routing_for(policy.name, policy.options, base_dir)
    except (PolicyError, UnknownPolicy) as error:
        raise refuse(("cluster", "router", "policy"), str(error)) from error


def _check_faults(scenario: Scenario, refuse: Refuse) -> None:
    duration = _duration(scenario)
    pools = {pool.name or pool.engine: pool for pool in scenario.cluster.pools}
    for place, fault in enumerate(scenario.faults):
        path: KeyPath = ("faults", place)
        known = _targets(fault.kind, pools)
        if fault.target not in known:
            raise refuse(
                (*path, "target"),
                f"there is no such target of a {fault.kind}{_meant(fault.target, known)}; {_some(known)}",
            )
        if duration is not None and fault.at >= duration:
            raise refuse((*path, "at"), f"the workload ends after {duration:g} s; expected an earlier time")
        if fault.kind == "slow_replica" and fault.factor is None:
            raise refuse(path, "a slow_replica needs `factor`, how many times slower a step is")
        if fault.kind == "error_burst" and fault.share is None:
            raise refuse(path, "an error_burst needs `share`, the share of requests answered 500")


def _targets(kind: str, pools: dict[str, Pool]) -> list[str]:
    nodes, number, replicas = [], 0, []
    for name, pool in pools.items():
        most = max(pool.replicas, pool.autoscale.max_replicas if pool.autoscale else 0)
        replicas += [f"{name}-{ordinal}" for ordinal in range(most)]
        count = -(-most // pool.replicas_per_node)
        nodes += [f"node-{number + offset}" for offset in range(count)]
        number += count
    if kind == "node_loss":
        return nodes
    return [*replicas, *pools] if kind in ("partition", "error_burst") else replicas


def _check_expectations(scenario: Scenario, refuse: Refuse) -> None:
    subjects = ["all", *(kind.name for kind in scenario.workload.classes)]
    for place, text in enumerate(scenario.expect):
        try:
            expectation = parse_expectation(text)
        except NotAnExpectation as error:
            raise refuse(("expect", place), str(error)) from error
        if expectation.subject not in subjects:
            raise refuse(
                ("expect", place),
                f"there is no class {expectation.subject!r}{_meant(expectation.subject, subjects)}; {_some(subjects)}",
            )


def _meant(word: str, known: list[str]) -> str:
    close = get_close_matches(word, known, 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _some(known: list[str]) -> str:
    shown = ", ".join(known[:8])
    return f"expected one of {shown}{', …' if len(known) > 8 else ''}"
