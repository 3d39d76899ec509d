"""From a scenario to its workload: the list of requests that every rung sends, the same on each, with its hash.

Every row read or drawn is accounted for: it is emitted, or dropped with a reason. Start at `build_workload`.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING

from sim.experiment.arrivals import arrival_times, duration_of
from sim.experiment.draft import Draft
from sim.experiment.errors import InputError
from sim.experiment.lengths import draw_counts
from sim.experiment.prompts import prepend_prefixes
from sim.experiment.recorded import from_trace
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Arrivals, Pool, Scenario, WorkloadBlock
from sim.experiment.sessions import converse
from sim.experiment.streams import stream
from sim.experiment.tenancy import assign
from sim.experiment.units import written
from sim.experiment.workload import Workload, WorkloadRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def build_workload(loaded: LoadedScenario, seed: int | None = None) -> Workload:
    """Make the workload of a scenario; `seed` overrides the scenario's own.

    Raises:
        InputError: a trace or a curve that cannot be used, or a workload without any request.
    """
    scenario = loaded.scenario
    chosen_seed = scenario.seed if seed is None else seed
    draft = _draft(loaded, chosen_seed)
    if scenario.workload.shared_prefixes is not None:
        prepend_prefixes(draft, scenario.workload.shared_prefixes, stream(chosen_seed, "shared prefixes"))
    _drop_what_nobody_takes(draft, scenario)
    requests = _emit(draft, scenario, chosen_seed)
    if not requests:
        reasons = "; ".join(f"{number:,} {reason}" for reason, number in sorted(draft.dropped.items()))
        raise loaded.error(
            ("workload",), f"there is no request in it: {draft.num_read:,} rows, dropped: {reasons or 'none'}"
        )
    _check_times(loaded, draft.duration)
    return Workload(
        requests,
        draft.duration,
        content_hash(requests),
        draft.num_read,
        dict(sorted(draft.dropped.items())),
        tuple(draft.notes),
    )


def content_hash(requests: Sequence[WorkloadRequest]) -> str:
    """Return the sha256 of a workload's requests, in hex: equal on every rung and machine for equal requests."""
    lines = []
    for r in requests:
        prompt = ",".join([f"{segment.key}:{segment.tokens}" for segment in r.prompt]) if r.prompt else ""
        lines.append(
            f"{r.index}|{r.scheduled:.6f}|{r.input_tokens}|{r.output_tokens}|{r.model}|{r.traffic_class}|{r.tenant}|"
            f"{r.priority}|{r.session}|{prompt}|{r.deadline_seconds}\n"
        )
    return sha256("".join(lines).encode()).hexdigest()


def longest_context(pool: Pool) -> int | None:
    """Return the most tokens (prompt and answer) that a replica of a pool takes; None: no bound is known."""
    if pool.max_model_len is not None:
        return pool.max_model_len
    if pool.gpu is None:
        return None
    from sim.hardware import find_model

    return find_model(pool.model).max_model_len


def _draft(loaded: LoadedScenario, seed: int) -> Draft:
    block = loaded.scenario.workload
    if block.arrivals is not None:
        return _from_arrivals(block, block.arrivals, loaded, seed)
    assert block.trace is not None  # checked when the scenario was read
    draft = from_trace(loaded, block.trace, seed)
    if block.duration is not None:
        draft.keep(draft.at < block.duration, "after the duration")
        draft.duration = min(block.duration, draft.duration)
    draft.classes = assign(_shares(block), draft.sessions, stream(seed, "classes"))
    _replace_lengths(draft, block, seed)
    return draft


def _from_arrivals(block: WorkloadBlock, arrivals: Arrivals, loaded: LoadedScenario, seed: int) -> Draft:
    duration = duration_of(arrivals, block.duration) or 0.0
    try:
        times = arrival_times(arrivals, duration, loaded.base_dir, stream(seed, "arrivals"))
    except InputError as error:
        raise loaded.error(("workload", "arrivals", "curve"), str(error)) from error
    classes = assign(_shares(block), [""] * len(times), stream(seed, "classes"))
    if block.sessions is not None:
        return converse(times, classes, lambda of: _lengths(block, of, seed), block.sessions, duration, seed)
    inputs, outputs = _lengths(block, classes, seed)
    count = len(times)
    return Draft(times, inputs, outputs, [()] * count, [""] * count, duration, count, classes)


def _shares(block: WorkloadBlock) -> list[float]:
    return [kind.share for kind in block.classes]


def _lengths(
    block: WorkloadBlock, classes: NDArray[np.int64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw the tokens of prompts and answers: a class's own lengths where it has some, else the workload's."""
    import numpy as np

    inputs, outputs = np.ones(len(classes), dtype=np.int64), np.ones(len(classes), dtype=np.int64)
    if block.lengths is not None:
        inputs = draw_counts(block.lengths.input, len(classes), stream(seed, "input lengths"))
        outputs = draw_counts(block.lengths.output, len(classes), stream(seed, "output lengths"))
    for number, kind in enumerate(block.classes):
        if kind.lengths is None:
            continue
        mine = classes == number
        count = int(mine.sum())
        inputs[mine] = draw_counts(kind.lengths.input, count, stream(seed, f"input lengths of {kind.name}"))
        outputs[mine] = draw_counts(kind.lengths.output, count, stream(seed, f"output lengths of {kind.name}"))
    return inputs, outputs


def _replace_lengths(draft: Draft, block: WorkloadBlock, seed: int) -> None:
    """Give rows of a trace the lengths of their class, where it has some; their recorded prompts no longer fit."""
    import numpy as np

    own = [number for number, kind in enumerate(block.classes) if kind.lengths is not None]
    if not own:
        return
    drawn = np.isin(draft.classes, own)
    inputs, outputs = _lengths(block, draft.classes, seed)
    draft.input_tokens = np.where(drawn, inputs, draft.input_tokens)
    draft.output_tokens = np.where(drawn, outputs, draft.output_tokens)
    draft.prompts = [() if new else prompt for new, prompt in zip(drawn.tolist(), draft.prompts, strict=True)]
    names = ", ".join(block.classes[number].name for number in own)
    draft.notes.append(f"lengths of {names} are drawn, not recorded")


def _drop_what_nobody_takes(draft: Draft, scenario: Scenario) -> None:
    """Drop requests longer than their model's context, and those beyond the workload's number."""
    import numpy as np

    pools = {pool.model: pool for pool in scenario.cluster.pools}
    first = scenario.cluster.pools[0].model
    models = [kind.model or first for kind in scenario.workload.classes]
    for model in sorted(set(models)):
        limit = longest_context(pools[model])
        if limit is None:
            continue
        its = np.asarray([name == model for name in models])[draft.classes]
        fits = ~its | (draft.input_tokens + draft.output_tokens <= limit)
        draft.keep(fits, f"longer than the {limit} tokens that {model} takes")
    if scenario.workload.max_requests is not None:
        draft.keep(np.arange(len(draft)) < scenario.workload.max_requests, "beyond max_requests")


def _emit(draft: Draft, scenario: Scenario, seed: int) -> tuple[WorkloadRequest, ...]:
    block = scenario.workload
    first_model = scenario.cluster.pools[0].model
    kinds = [(kind.model or first_model, kind.name, kind.priority, kind.deadline) for kind in block.classes]
    names = [tenant.name for tenant in block.tenants]
    tenants = assign([tenant.share for tenant in block.tenants], draft.sessions, stream(seed, "tenants")).tolist()
    rows = zip(
        # a microsecond is finer than any recording and the same on every machine
        draft.at.round(6).tolist(),
        draft.input_tokens.tolist(),
        draft.output_tokens.tolist(),
        draft.classes.tolist(),
        tenants,
        draft.sessions,
        draft.prompts,
        strict=True,
    )
    requests = []
    for index, (at, inputs, outputs, number, tenant, session, prompt) in enumerate(rows):
        model, kind, priority, deadline = kinds[number]
        requests.append(
            WorkloadRequest(index, at, inputs, outputs, model, kind, names[tenant], priority, session, prompt, deadline)
        )
    return tuple(requests)


def _check_times(loaded: LoadedScenario, duration: float) -> None:
    """Refuse what lies outside the run; how long a trace goes on is known only now."""
    scenario = loaded.scenario
    end = f"the workload ends after {written(duration)}"
    if scenario.measure.warm_up >= duration:
        raise loaded.error(("measure", "warm_up"), f"{end}; expected a shorter one")
    for place, fault in enumerate(scenario.faults):
        if fault.at >= duration:
            raise loaded.error(("faults", place, "at"), f"{end}; expected an earlier time")
