"""What no type can say about a scenario: that it names what exists, and asks what can be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sim.experiment.arrivals import duration_of, natural_duration
from sim.experiment.disaggregation import prefill_pool, with_prefill
from sim.experiment.expectation import NotAnExpectation
from sim.experiment.expectation import parse as parse_expectation
from sim.experiment.profiles import keys_of
from sim.experiment.scenario import KeyPath, ScenarioError, Source
from sim.experiment.schema import LAYOUT_KEYS, Policy, Pool, Scenario, Slo
from sim.experiment.suggest import meant, one_of
from sim.experiment.units import written
from sim.experiment.vary import variation_of

Refuse = Callable[[KeyPath, str], ScenarioError]

ARRIVAL_KEYS: dict[str, set[str]] = {
    "constant": {"rate"},
    "poisson": {"rate"},
    "gamma": {"rate", "cv"},
    "stages": {"stages", "cv"},
    "diurnal": {"curve", "window", "compress", "rate", "cv"},
}
"""What each process of arrivals is told; any other key would be ignored, so it is refused."""

FAULT_KEYS = {
    "factor": ("slow_replica", "how many times slower a step is"),
    "share": ("error_burst", "the share of requests answered 500"),
}
"""Keys of a fault that one kind needs and no other has."""


def check(scenario: Scenario, source: Source, base_dir: Path) -> None:
    """Refuse a scenario that could not fly or could not mean anything.

    Raises:
        ScenarioError: the first problem, with its place.
    """
    refuse = source.error
    _check_workload(scenario, refuse)
    _check_classes(scenario, refuse)
    _check_pools(scenario, refuse, base_dir)
    _check_policy(scenario, refuse, base_dir)
    _check_faults(scenario, refuse)
    _check_expectations(scenario, refuse)
    if scenario.plan is not None:
        variation_of(scenario, scenario.plan.vary, refuse, base_dir)


def _check_workload(scenario: Scenario, refuse: Refuse) -> None:
    workload = scenario.workload
    if (workload.trace is None) == (workload.arrivals is None):
        both = "both are given" if workload.trace else "neither is given"
        raise refuse(("workload",), f"expected either `trace` or `arrivals`; {both}")
    if workload.duration == 0:
        raise refuse(("workload", "duration"), "the workload is empty; expected more than 0")
    if workload.trace is not None:
        _check_window(workload.trace.window, ("workload", "trace", "window"), refuse)
        if workload.sessions is not None:
            raise refuse(
                ("workload", "sessions"), "a trace brings its own sessions; expected `arrivals` with `sessions`"
            )
        if workload.lengths is not None:
            raise refuse(
                ("workload", "lengths"),
                "a trace brings its own lengths; expected `lengths` in a class, which then replace the recorded ones",
            )
    else:
        _check_arrivals(scenario, refuse)


def _check_window(window: tuple[float, float] | None, path: KeyPath, refuse: Refuse) -> None:
    if window is not None and window[0] >= window[1]:
        raise refuse(path, "the window is empty; expected [start, later end]")


def _check_arrivals(scenario: Scenario, refuse: Refuse) -> None:
    workload, path = scenario.workload, ("workload", "arrivals")
    arrivals = workload.arrivals
    assert arrivals is not None
    needs = {"stages": "stages", "diurnal": "curve"}.get(arrivals.process, "rate")
    if not getattr(arrivals, needs):
        above = ", above zero" if needs == "rate" else ""
        raise refuse(
            (*path, needs) if needs == "rate" else path, f"a {arrivals.process} process needs `{needs}`{above}"
        )
    for key in sorted(arrivals.model_fields_set - ARRIVAL_KEYS[arrivals.process] - {"process"}):
        if getattr(arrivals, key) is not None:
            known = ", ".join(sorted(ARRIVAL_KEYS[arrivals.process]))
            raise refuse((*path, key), f"a {arrivals.process} process has no `{key}`; it has {known}")
    _check_window(arrivals.window, (*path, "window"), refuse)
    natural = natural_duration(arrivals)
    if natural is not None and workload.duration is not None and workload.duration > natural:
        raise refuse(("workload", "duration"), f"the arrivals end after {written(natural)}; expected no more than that")
    if duration_of(arrivals, workload.duration) is None:
        what = "a `window` of the curve, or a `duration`" if arrivals.curve else "a `duration`"
        raise refuse(("workload",), f"expected {what}: these arrivals would never end")
    if workload.lengths is None and any(kind.lengths is None for kind in workload.classes):
        raise refuse(("workload",), "expected `lengths`: arrivals say when, not how long prompts and answers are")


def _check_classes(scenario: Scenario, refuse: Refuse) -> None:
    models = [pool.model for pool in scenario.cluster.pools]
    _check_unique([kind.name for kind in scenario.workload.classes], ("workload", "classes"), refuse)
    _check_unique([tenant.name for tenant in scenario.workload.tenants], ("workload", "tenants"), refuse)
    for place, kind in enumerate(scenario.workload.classes):
        path: KeyPath = ("workload", "classes", place)
        if kind.name == "all":
            raise refuse((*path, "name"), "`all` stands for all classes together; expected another name")
        if kind.model is not None and kind.model not in models:
            raise refuse((*path, "model"), f"no pool serves this model{meant(kind.model, models)}; {', '.join(models)}")
        _check_slo(kind.slo, (*path, "slo"), refuse)
    tenants = [tenant.name for tenant in scenario.workload.tenants]
    for place, limit in enumerate(scenario.cluster.gateway.rate_limits):
        if limit.tenant != "*" and limit.tenant not in tenants:
            raise refuse(
                ("cluster", "gateway", "rate_limits", place, "tenant"),
                f"there is no such tenant{meant(limit.tenant, tenants)}; expected one of {', '.join(tenants)}, or *",
            )


def _check_slo(slo: Slo, path: KeyPath, refuse: Refuse) -> None:
    for name in ("ttft", "tpot", "e2e"):
        if getattr(slo, name) == 0:
            raise refuse((*path, name), "nothing can take no time; expected more than 0")
    if slo.ttft is not None and slo.e2e is not None and slo.e2e < slo.ttft:
        raise refuse((*path, "e2e"), f"an answer ends after its first token; expected {written(slo.ttft)} or more")


def _check_unique(names: list[str], path: KeyPath, refuse: Refuse) -> None:
    for place, name in enumerate(names):
        if name in names[:place]:
            raise refuse((*path, place, "name"), "is there twice; expected each name once")


def _check_pools(scenario: Scenario, refuse: Refuse, base_dir: Path) -> None:
    names = [pool.name or pool.engine for pool in scenario.cluster.pools]
    _check_unique(names, ("cluster", "pools"), refuse)
    _check_unique([pool.model for pool in scenario.cluster.pools], ("cluster", "pools"), refuse)
    for place, pool in enumerate(scenario.cluster.pools):
        path: KeyPath = ("cluster", "pools", place)
        _check_origin(pool, path, refuse, base_dir)
        _check_outright(pool, path, refuse)
        _check_autoscale(pool, path, refuse)
        if pool.gpu is not None:
            _check_hardware(pool, path, refuse)
        if pool.disaggregated is not None:
            _check_disaggregated(pool, (*path, "disaggregated"), refuse, names)
    _check_policy_of_decode(scenario, refuse, base_dir)


def _check_disaggregated(pool: Pool, path: KeyPath, refuse: Refuse, names: list[str]) -> None:
    from sim.hardware import HardwareError, find_model

    prefill, given = prefill_pool(pool), pool.disaggregated
    assert prefill is not None
    assert given is not None
    if prefill.name in names:
        raise refuse(path, f"its prefill replicas would be {prefill.name}, and there is a pool of that name")
    if pool.worker is not None:
        raise refuse(path, "expected a pool without `worker`: only emulated engines hand KV over here")
    if given.prefill.gpu is not None and given.prefill.step_cost is not None:
        raise refuse((*path, "prefill"), "expected either `gpu` or `step_cost`; both are given")
    if prefill.gpu is not None:
        _check_hardware(prefill, (*path, "prefill"), refuse)
    if given.kv_bytes_per_token is None:
        try:
            find_model(pool.model)
        except HardwareError as error:
            raise refuse((*path, "kv_bytes_per_token"), f"expected the bytes that move per token: {error}") from error


def _check_policy_of_decode(scenario: Scenario, refuse: Refuse, base_dir: Path) -> None:
    for place, pool in enumerate(scenario.cluster.pools):
        if pool.disaggregated is not None:
            path = ("cluster", "pools", place, "disaggregated", "decode_policy")
            _check_routing(pool.disaggregated.decode_policy, path, refuse, base_dir)


def _check_origin(pool: Pool, path: KeyPath, refuse: Refuse, base_dir: Path) -> None:
    """Step times come from one place: given outright, a profile, or a GPU."""
    if pool.step_cost is not None:
        other = "gpu" if pool.gpu is not None else "profile" if pool.profile is not None else ""
        if other:
            raise refuse(path, f"expected either `{other}` or `step_cost`; both are given")
        return
    if pool.profile is None:
        if pool.gpu is None:
            raise refuse(path, "expected either `gpu` or `step_cost`; neither is given")
        return
    from sim.hardware import HardwareError
    from sim.hardware.profile import SHIPPED, find_profile, read_profile

    if pool.profile == SHIPPED and pool.gpu is None:
        raise refuse((*path, "profile"), f"expected a `gpu` beside it: `{SHIPPED}` are step times by GPU and model")
    try:
        if pool.profile == SHIPPED:
            find_profile(**keys_of(pool))
        else:
            read_profile(base_dir / pool.profile)
    except HardwareError as error:
        raise refuse((*path, "profile"), str(error)) from error


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
    longest = find_model(pool.model).max_model_len
    if pool.max_model_len is not None and pool.max_model_len > longest:
        raise refuse(
            (*path, "max_model_len"), f"expected at most {longest}, the context that {pool.model} was made for"
        )
    _check_layout(pool, path, refuse)
    try:
        num_blocks = pool.num_gpu_blocks or kv_blocks_for(
            pool.gpu,
            pool.model,
            **pool.layout,
            weights=pool.weights,
            kv_cache=pool.kv_cache,
            block_size=pool.block_size,
            gpu_memory_utilization=pool.gpu_memory_utilization,
            max_num_batched_tokens=pool.max_num_batched_tokens,
            max_num_seqs=pool.max_num_seqs,
        )
    except HardwareError as error:
        raise refuse((*path, "gpu"), str(error)) from error
    room, longest = num_blocks * pool.block_size, pool.max_model_len or longest
    if room < longest:
        # the engine itself refuses to start, since a request of that length could never run
        key = "num_gpu_blocks" if pool.num_gpu_blocks else "max_model_len" if pool.max_model_len else "gpu"
        raise refuse(
            (*path, key),
            f"the KV cache holds {room} tokens and a request may have {longest}; expected `max_model_len: {room}` "
            "or less, or more memory for the cache",
        )


def _check_layout(pool: Pool, path: KeyPath, refuse: Refuse) -> None:
    """The model can be cut so, and its step times are told for that."""
    from sim.hardware import HardwareError, Layout, find_model

    try:
        Layout(**pool.layout).check(find_model(pool.model))
    except HardwareError as error:
        raise refuse((*path, str(error).split()[0]), str(error)) from error


def _check_outright(pool: Pool, path: KeyPath, refuse: Refuse) -> None:
    """Step times that are given or measured are those of the replica as it is, and of tensor parallelism at most."""
    for key in LAYOUT_KEYS[1:]:
        if getattr(pool, key) > 1 and (pool.step_cost is not None or pool.profile is not None):
            what = "step_cost" if pool.step_cost is not None else "profile"
            raise refuse((*path, key), f"expected 1: the `{what}` says what a step takes, however its GPUs share it")


def _check_policy(scenario: Scenario, refuse: Refuse, base_dir: Path) -> None:
    _check_routing(scenario.cluster.router.policy, ("cluster", "router", "policy"), refuse, base_dir)


def _check_routing(policy: Policy, path: KeyPath, refuse: Refuse, base_dir: Path) -> None:
    from reference.custom_policy import PolicyError, routing_for
    from reference.policy.routing.registry import UnknownPolicy

    try:
        routing_for(policy.name, policy.options, base_dir)
    except (PolicyError, UnknownPolicy) as error:
        raise refuse(path, str(error)) from error


def _check_faults(scenario: Scenario, refuse: Refuse) -> None:
    pools = {pool.name or pool.engine: pool for pool in with_prefill(scenario.cluster.pools)}
    for place, fault in enumerate(scenario.faults):
        path: KeyPath = ("faults", place)
        known = fault_targets(fault.kind, pools)
        if fault.target not in known:
            raise refuse(
                (*path, "target"),
                f"there is no such target of a {fault.kind}{meant(fault.target, known)}; {one_of(known)}",
            )
        if fault.lasts == 0:
            raise refuse((*path, "lasts"), "nothing would happen; expected more than 0")
        for key, (kind, meaning) in FAULT_KEYS.items():
            is_given = getattr(fault, key) is not None
            if fault.kind == kind and not is_given:
                raise refuse(path, f"a {kind} needs `{key}`, {meaning}")
            if fault.kind != kind and is_given:
                raise refuse((*path, key), f"a {fault.kind} has no `{key}`; it belongs to a {kind}")


def fault_targets(kind: str, pools: dict[str, Pool]) -> list[str]:
    """Return what a fault of a kind can name in a cluster of these pools."""
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
                f"there is no class {expectation.subject!r}{meant(expectation.subject, subjects)}; {one_of(subjects)}",
            )
