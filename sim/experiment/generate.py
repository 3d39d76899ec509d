"""From a scenario to its workload: the list of requests that every rung sends, the same on each, with its hash.

Every row read or drawn is accounted for: it is emitted, or dropped with a reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING

from sim.experiment.arrivals import arrival_times, duration_of
from sim.experiment.errors import InputError
from sim.experiment.lengths import draw, draw_counts
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Pool, Scenario, Sessions, SharedPrefixes, TrafficClass, WorkloadBlock
from sim.experiment.schema import Trace as TraceBlock
from sim.experiment.streams import stream
from sim.experiment.traces import TraceRow, read_trace
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_SHARED_PREFIX_KEYS = 1 << 40
_OWN_TEXT_KEYS = 1 << 41
"""Keys of text that only one request or session has; recorded block ids are far below."""


@dataclass(slots=True)
class _Draft:
    """Requests before they belong to a class: times, sizes, prompts, and the account so far."""

    rows: list[TraceRow]
    duration: float
    num_read: int
    dropped: Counter[str]
    notes: list[str]


def build_workload(loaded: LoadedScenario, seed: int | None = None) -> Workload:
    """Make the workload of a scenario; `seed` overrides the scenario's own.

    Raises:
        InputError: a trace that cannot be used, or a window without any request.
    """
    scenario = loaded.scenario
    block = scenario.workload
    chosen_seed = scenario.seed if seed is None else seed
    if block.trace is not None:
        draft = _from_trace(block.trace, loaded.base_dir, chosen_seed)
    else:
        draft = _from_arrivals(scenario, loaded.base_dir, chosen_seed)
    if block.duration is not None and block.trace is not None:
        _cut(draft, block.duration)
    if block.shared_prefixes is not None:
        _prepend_prefixes(draft, block.shared_prefixes, chosen_seed)
    requests = _classify(draft, scenario, chosen_seed)
    if not requests:
        raise InputError(
            f"{loaded.path}: workload: the window holds no request "
            f"({draft.num_read} rows, dropped: {dict(draft.dropped)})"
        )
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
    digest = sha256()
    for r in requests:
        prompt = ",".join(f"{segment.key}:{segment.tokens}" for segment in r.prompt)
        digest.update(
            f"{r.index}|{r.scheduled:.6f}|{r.input_tokens}|{r.output_tokens}|{r.model}|{r.traffic_class}|{r.tenant}|"
            f"{r.priority}|{r.session}|{prompt}|{r.deadline_seconds}\n".encode()
        )
    return digest.hexdigest()


def _from_trace(trace: TraceBlock, base_dir: Path, seed: int) -> _Draft:
    found = read_trace(base_dir / trace.file, trace.format)
    rows, notes, dropped = found.rows, [], Counter(found.dropped)
    if found.tick_seconds and trace.dequantise == "uniform":
        rows = _spread(rows, found.tick_seconds, seed)
        notes.append(f"timestamps come in ticks of {found.tick_seconds:g} s; requests were spread within theirs")
    elif found.tick_seconds:
        notes.append(f"timestamps come in ticks of {found.tick_seconds:g} s and were left so: requests come in volleys")
    start, end = trace.window or (0.0, float(ceil(rows[-1].at + 1e-9)))
    kept = [row for row in rows if start <= row.at < end]
    if not kept:
        raise InputError(
            f"{trace.file}: the window {start:g} s to {end:g} s holds no request; "
            f"the trace goes from 0 s to {rows[-1].at:.1f} s"
        )
    if len(kept) < len(rows):
        dropped["outside the window"] += len(rows) - len(kept)
    if trace.thin < 1:
        kept = _thin(kept, trace.thin, seed, dropped)
        notes.append(f"thinned: each request kept with probability {trace.thin:g}")
    if trace.rate_scale != 1:
        notes.append(f"rate scaled by {trace.rate_scale:g}: time compressed, the shape kept")
    scale = trace.rate_scale
    kept = [replace(row, at=(row.at - start) / scale) for row in kept]
    return _Draft(kept, (end - start) / scale, found.num_read, dropped, notes)


def _spread(rows: list[TraceRow], tick: float, seed: int) -> list[TraceRow]:
    moved = stream(seed, "dequantise").random(len(rows)) * tick
    return sorted(
        (replace(row, at=row.at + float(by)) for row, by in zip(rows, moved, strict=True)), key=lambda row: row.at
    )


def _thin(rows: list[TraceRow], share: float, seed: int, dropped: Counter[str]) -> list[TraceRow]:
    """Keep each request, or each session as a whole, with a probability."""
    random = stream(seed, "thin")
    fate: dict[str, bool] = {}
    kept = []
    for row, luck in zip(rows, random.random(len(rows)), strict=True):
        lucky = bool(luck < share)
        if fate.setdefault(row.session, lucky) if row.session else lucky:
            kept.append(row)
    dropped["thinned"] += len(rows) - len(kept)
    return kept


def _from_arrivals(scenario: Scenario, base_dir: Path, seed: int) -> _Draft:
    block = scenario.workload
    arrivals = block.arrivals
    assert arrivals is not None  # checked when the scenario was read
    duration = duration_of(arrivals, block.duration) or 0.0
    times = arrival_times(arrivals, duration, base_dir, stream(seed, "arrivals"))
    if block.sessions is not None:
        return _conversations([float(t) for t in times], block, duration, seed)
    inputs, outputs = _lengths(block, len(times), seed)
    rows = [TraceRow(float(t), int(i), int(o)) for t, i, o in zip(times, inputs, outputs, strict=True)]
    return _Draft(rows, duration, len(rows), Counter(), [])


def _lengths(block: WorkloadBlock, count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    lengths = block.lengths or next(kind.lengths for kind in block.classes if kind.lengths is not None)
    return (
        draw_counts(lengths.input, count, stream(seed, "input lengths")),
        draw_counts(lengths.output, count, stream(seed, "output lengths")),
    )


def _conversations(starts: list[float], block: WorkloadBlock, duration: float, seed: int) -> _Draft:
    """Let each arrival begin a session; a turn's prompt is all that was said before, and the new question."""
    sessions = block.sessions
    assert sessions is not None
    turns = draw_counts(sessions.turns, len(starts), stream(seed, "turns"))
    total = int(turns.sum())
    inputs, outputs = _lengths(block, total, seed)
    thinks = draw(sessions.think_time, total, stream(seed, "think times"))
    rows: list[TraceRow] = []
    dropped: Counter[str] = Counter()
    place = 0
    for number, (start, num_turns) in enumerate(zip(starts, turns, strict=True)):
        span = slice(place, place + int(num_turns))
        rows += _conversation(
            number, start, inputs[span].tolist(), outputs[span].tolist(), thinks[span].tolist(), sessions
        )
        place = span.stop
    kept = [row for row in rows if row.at < duration]
    if len(kept) < len(rows):
        dropped["turn after the end"] = len(rows) - len(kept)
    kept.sort(key=lambda row: row.at)
    return _Draft(kept, duration, total, dropped, [])


def _conversation(
    number: int, start: float, inputs: list[int], outputs: list[int], thinks: list[float], sessions: Sessions
) -> list[TraceRow]:
    rows, at, history = [], start, ()
    for turn, (asked, answered, think) in enumerate(zip(inputs, outputs, thinks, strict=True)):
        key = _OWN_TEXT_KEYS + (number << 16) + 2 * turn
        prompt: tuple[PromptSegment, ...] = (*history, PromptSegment(key, asked))
        rows.append(TraceRow(at, sum(segment.tokens for segment in prompt), answered, prompt, f"session-{number}"))
        history = (*prompt, PromptSegment(key + 1, answered))  # type: ignore[assignment]
        at += answered * sessions.seconds_per_token + think
    return rows


def _cut(draft: _Draft, duration: float) -> None:
    kept = [row for row in draft.rows if row.at < duration]
    if len(kept) < len(draft.rows):
        draft.dropped["after the duration"] += len(draft.rows) - len(kept)
    draft.rows, draft.duration = kept, min(duration, draft.duration)


def _prepend_prefixes(draft: _Draft, shared: SharedPrefixes, seed: int) -> None:
    """Put a shared prefix before the prompts that have one; popularity falls as 1 / rank^zipf."""
    import numpy as np

    random = stream(seed, "shared prefixes")
    weights = 1.0 / np.arange(1, shared.count + 1) ** shared.zipf
    ranks = random.choice(shared.count, len(draft.rows), p=weights / weights.sum())
    has_one = random.random(len(draft.rows)) < shared.share
    chosen: dict[str, int] = {}
    rows = []
    for position, (row, rank, has) in enumerate(zip(draft.rows, ranks, has_one, strict=True)):
        number = chosen.setdefault(row.session, int(rank) if has else -1) if row.session else (int(rank) if has else -1)
        if number < 0:
            rows.append(row)
            continue
        own = row.prompt or (PromptSegment(_OWN_TEXT_KEYS + (1 << 39) + position, row.input_tokens),)
        prompt = (PromptSegment(_SHARED_PREFIX_KEYS + number, shared.tokens), *own)
        rows.append(replace(row, input_tokens=row.input_tokens + shared.tokens, prompt=prompt))
    draft.rows = rows


def _classify(draft: _Draft, scenario: Scenario, seed: int) -> tuple[WorkloadRequest, ...]:
    """Give each row its class, tenant and model, and drop what no replica could hold."""
    block = scenario.workload
    pools = {pool.model: pool for pool in scenario.cluster.pools}
    first_model = scenario.cluster.pools[0].model
    longest = {model: longest_context(pool) for model, pool in pools.items()}
    kinds = _assign([kind.share for kind in block.classes], draft.rows, stream(seed, "classes"))
    tenants = _assign([tenant.share for tenant in block.tenants], draft.rows, stream(seed, "tenants"))
    own_lengths = _own_lengths(block.classes, kinds, seed)
    requests: list[WorkloadRequest] = []
    for position, row in enumerate(draft.rows):
        kind = block.classes[kinds[position]]
        model = kind.model or first_model
        input_tokens, output_tokens = own_lengths.get(position, (row.input_tokens, row.output_tokens))
        limit = longest.get(model)
        if limit is not None and input_tokens + output_tokens > limit:
            draft.dropped[f"longer than the {limit} tokens that {model} takes"] += 1
            continue
        if block.max_requests is not None and len(requests) >= block.max_requests:
            draft.dropped["beyond max_requests"] += 1
            continue
        requests.append(
            WorkloadRequest(
                index=len(requests),
                # a microsecond is finer than any recording and the same on every machine
                scheduled=round(row.at, 6),
                input_tokens=input_tokens,
                output_tokens=output_tokens,
                model=model,
                traffic_class=kind.name,
                tenant=block.tenants[tenants[position]].name,
                priority=kind.priority,
                session=row.session,
                prompt=row.prompt if position not in own_lengths else (),
                deadline_seconds=kind.deadline,
            )
        )
    return tuple(requests)


def _assign(shares: list[float], rows: list[TraceRow], random: np.random.Generator) -> list[int]:
    """Draw a position by share for each row; the rows of one session share theirs."""
    import numpy as np

    if len(shares) == 1:
        return [0] * len(rows)
    weights = np.asarray(shares) / sum(shares)
    chosen: dict[str, int] = {}
    drawn = random.choice(len(shares), len(rows), p=weights).tolist()
    return [
        chosen.setdefault(row.session, place) if row.session else place for row, place in zip(rows, drawn, strict=True)
    ]


def _own_lengths(classes: tuple[TrafficClass, ...], kinds: list[int], seed: int) -> dict[int, tuple[int, int]]:
    """Draw the lengths of classes that have their own, by position of the row."""
    own: dict[int, tuple[int, int]] = {}
    for number, kind in enumerate(classes):
        if kind.lengths is None:
            continue
        positions = [position for position, chosen in enumerate(kinds) if chosen == number]
        inputs = draw_counts(kind.lengths.input, len(positions), stream(seed, f"input lengths of {kind.name}"))
        outputs = draw_counts(kind.lengths.output, len(positions), stream(seed, f"output lengths of {kind.name}"))
        own.update(zip(positions, zip(inputs.tolist(), outputs.tolist(), strict=True), strict=True))
    return own


def longest_context(pool: Pool) -> int | None:
    """Return the most tokens (prompt and answer) that a replica of a pool takes; None: no bound is known."""
    if pool.max_model_len is not None:
        return pool.max_model_len
    if pool.gpu is None:
        return None
    from sim.hardware import find_model

    return find_model(pool.model).max_model_len
