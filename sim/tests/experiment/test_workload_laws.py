"""Workloads: accounted for, the same for a seed wherever they are made, and changed by each knob in its way only."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.experiment.generate import build_workload, content_hash
from sim.experiment.scenario import LoadedScenario, parse
from sim.experiment.streams import stream
from sim.experiment.workload import PromptSegment, Workload, WorkloadRequest

Read = Callable[..., LoadedScenario]
quiet = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)

SESSIONS = (
    "  duration: 1m",
    "  duration: 1m\n  sessions: {turns: {kind: uniform, min: 1, max: 6}, think_time: {kind: exponential, mean: 3s}}",
)
PREFIXES = ("  duration: 1m", "  duration: 1m\n  shared_prefixes: {count: 5, tokens: 64, share: 0.7}")


def trace_of(rows: list[tuple[int, int]], tmp_path: Path, text: str, about: str = "", more: str = "") -> LoadedScenario:
    """A scenario that flies (tenths of a second, session) rows; a session's id is also its prompt length."""
    head = "Timestamp,Session ID,Model,Request tokens,Response tokens\n"
    lines = [f"{at / 10},{session},m,{session + 1},5\n" for at, session in rows]
    (tmp_path / "trace.csv").write_text(head + "".join(lines))
    drawn = text[text.index("  arrivals:") : text.index("  classes:")]
    changed = text.replace(drawn, f"  trace: {{file: trace.csv, format: burstgpt{about}}}\n")
    return parse(changed + more, "s.yaml", tmp_path)


rows = st.lists(st.tuples(st.integers(0, 600), st.integers(0, 20)), min_size=2, max_size=80)


def texts(workload: Workload) -> list[str]:
    """The prompts as texts in which each segment is a run of its own letter."""
    return ["".join(f"<{s.key}:{s.tokens}>" for s in request.prompt) for request in workload.requests]


@quiet
@given(st.integers(0, 2**32), st.sampled_from([(), (SESSIONS,), (PREFIXES,), (SESSIONS, PREFIXES)]))
def test_the_same_seed_makes_the_same_workload_and_another_makes_another(
    read: Read, seed: int, changes: tuple[tuple[str, str], ...]
) -> None:
    loaded = read(*changes[:1])

    first, again, other = (build_workload(loaded, seed=s) for s in (seed, seed, seed + 1))

    assert first == again
    assert first.content_hash != other.content_hash


@quiet
@given(st.integers(0, 99), st.booleans(), st.booleans(), st.integers(1, 300))
def test_rows_are_emitted_or_dropped_and_requests_come_in_order(
    read: Read, seed: int, talks: bool, shares: bool, most: int
) -> None:
    changes = [SESSIONS] if talks else []
    more = f"\n  max_requests: {most}" + ("\n  shared_prefixes: {count: 5, tokens: 64}" if shares else "")
    workload = build_workload(read(*changes, ("{input: 100, output: 10}", "{input: 100, output: 10}" + more)), seed)

    assert workload.rows_read == len(workload.requests) + sum(workload.dropped.values())
    assert len(workload.requests) <= most
    assert [request.index for request in workload.requests] == list(range(len(workload.requests)))
    assert all(a.scheduled <= b.scheduled for a, b in pairwise(workload.requests))
    for request in workload.requests:
        assert 0 <= request.scheduled < workload.duration_seconds
        assert not request.prompt or sum(s.tokens for s in request.prompt) == request.input_tokens


def test_the_hash_does_not_depend_on_the_process_or_on_its_hash_seed(read: Read, tmp_path: Path) -> None:
    loaded = read(SESSIONS)
    (tmp_path / "s.yaml").write_text(loaded.yaml_text)
    script = (
        "from pathlib import Path; from sim.experiment.scenario import load\n"
        "from sim.experiment.generate import build_workload\n"
        "print(build_workload(load(Path('s.yaml'))).content_hash)"
    )

    hashes = [
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env={"PYTHONHASHSEED": seed},
            timeout=60,
        ).stdout.strip()
        for seed in ("1", "2")
    ]

    assert set(hashes) == {build_workload(loaded).content_hash}


def test_the_hash_of_a_known_workload_is_known() -> None:
    """What is hashed is a promise: a workload flown years ago can be recognised."""
    request = WorkloadRequest(0, 1.5, 10, 5, "m", prompt=(PromptSegment(3, 10),), session="s")

    assert content_hash([request]) == "b8785e42ca3ffc8d1be80b00f0b5c74f4dd59c56a6faebe70f146b5111b8e2ce"


@pytest.mark.parametrize(
    "change",
    [
        {"scheduled": 1.6},
        {"input_tokens": 11},
        {"output_tokens": 6},
        {"model": "n"},
        {"traffic_class": "x"},
        {"tenant": "x"},
        {"priority": 1},
        {"session": "x"},
        {"prompt": (PromptSegment(4, 10),)},
        {"deadline_seconds": 3.0},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_field_of_a_request_is_in_the_hash(change: dict[str, object]) -> None:
    request = WorkloadRequest(0, 1.5, 10, 5, "m", prompt=(PromptSegment(3, 10),), session="s")

    assert content_hash([request]) != content_hash([replace(request, **change)])


def test_the_order_of_keys_in_the_file_means_nothing(read: Read) -> None:
    plain = read(SESSIONS)
    swapped = read(
        SESSIONS,
        ("{process: poisson, rate: 5/s}", "{rate: 5/s, process: poisson}"),
        ("{input: 100, output: 10}", "{output: 10, input: 100}"),
        ("seed: 7\n", ""),
        more="seed: 7\n",
    )

    assert build_workload(plain).content_hash == build_workload(swapped).content_hash


def test_a_draw_more_in_one_stream_moves_no_other(read: Read) -> None:
    plain, random_lengths = read(), read(("output: 10", "output: {kind: exponential, mean: 10}"))
    tenants = read(("  classes:", "  tenants: [{name: a}, {name: b}]\n  classes:"))

    at = [[r.scheduled for r in build_workload(loaded).requests] for loaded in (plain, random_lengths, tenants)]
    assert at[0] == at[1] == at[2]
    assert stream(1, "a").random() != stream(1, "b").random() != stream(2, "b").random()


@quiet
@given(rows, st.floats(0.1, 20))
def test_scaling_the_rate_keeps_the_shape(
    tmp_path: Path, text: str, given_rows: list[tuple[int, int]], scale: float
) -> None:
    plain = build_workload(trace_of(given_rows, tmp_path, text))
    scaled = build_workload(trace_of(given_rows, tmp_path, text, f", rate_scale: {scale!r}"))

    times = [np.asarray([r.scheduled for r in w.requests]) for w in (plain, scaled)]
    assert times[1] * scale == pytest.approx(times[0], abs=1e-5 * max(1, scale))
    assert scaled.duration_seconds * scale == pytest.approx(plain.duration_seconds)
    assert [r.input_tokens for r in scaled.requests] == [r.input_tokens for r in plain.requests]


@quiet
@given(rows, st.floats(0.2, 0.9), st.integers(0, 99))
def test_thinning_keeps_sessions_whole_and_loses_nothing_unaccounted(
    tmp_path: Path, text: str, given_rows: list[tuple[int, int]], share: float, seed: int
) -> None:
    padded = [(0, 21), *given_rows, *[(600, 100 + n) for n in range(100)]]
    whole = build_workload(trace_of(padded, tmp_path, text), seed)
    thinned = build_workload(trace_of(padded, tmp_path, text, f", thin: {share!r}"), seed)

    before, after = (Counter(r.session for r in w.requests) for w in (whole, thinned))
    assert all(after[session] == before[session] for session in after)
    assert thinned.rows_read == len(thinned.requests) + thinned.dropped.get("thinned", 0) == len(padded)


def test_thinning_keeps_about_its_share_of_the_requests(tmp_path: Path, text: str) -> None:
    lone = [(n, n) for n in range(2000)]

    kept = build_workload(trace_of(lone, tmp_path, text, ", thin: 0.3"))

    assert len(kept.requests) == pytest.approx(600, abs=6 * (2000 * 0.3 * 0.7) ** 0.5)
    assert kept.notes == ("thinned: each session kept with probability 0.3",)


@quiet
@given(rows, st.integers(0, 50), st.integers(1, 50))
def test_windows_that_meet_divide_the_requests_between_them(
    tmp_path: Path, text: str, given_rows: list[tuple[int, int]], first: int, length: int
) -> None:
    everywhere = [(tenth, 30) for tenth in range(0, 1100, 5)] + given_rows
    cuts = [(0, first + 1), (first + 1, first + 1 + length)]
    whole = build_workload(trace_of(everywhere, tmp_path, text, f", window: [0s, {first + 1 + length}s]"))
    parts = [build_workload(trace_of(everywhere, tmp_path, text, f", window: [{a}s, {b}s]")) for a, b in cuts]

    assert sum(len(part.requests) for part in parts) == len(whole.requests)
    joined = [r.scheduled + cut[0] for part, cut in zip(parts, cuts, strict=True) for r in part.requests]
    assert joined == pytest.approx([r.scheduled for r in whole.requests])
    assert all(part.duration_seconds == b - a for part, (a, b) in zip(parts, cuts, strict=True))


@quiet
@given(st.integers(0, 99))
def test_the_prompt_of_a_turn_begins_with_the_prompt_before_and_its_answer(read: Read, seed: int) -> None:
    workload = build_workload(read(SESSIONS, ("output: 10", "output: {kind: uniform, min: 1, max: 30}")), seed)
    last: dict[str, WorkloadRequest] = {}

    for request in workload.requests:
        if request.session in last:
            before = last[request.session]
            assert request.prompt[: len(before.prompt)] == before.prompt
            assert request.input_tokens == before.input_tokens + before.output_tokens + 100
            # the answer takes 20 ms a token, as estimated, before anybody can think about it
            assert request.scheduled >= before.scheduled + before.output_tokens * 0.02 - 1e-6
        last[request.session] = request


def test_prompts_of_different_sessions_share_nothing(read: Read) -> None:
    workload = build_workload(read(SESSIONS))
    owner: dict[int, str] = {}

    for request in workload.requests:
        for segment in request.prompt:
            assert owner.setdefault(segment.key, request.session) == request.session
    assert len(set(owner.values())) > 50


def test_turns_have_as_much_time_between_them_as_asked(read: Read) -> None:
    workload = build_workload(
        read(
            ("  duration: 1m", "  duration: 10m\n  sessions: {turns: 3, think_time: 4s, seconds_per_token: 0s}"),
            ("process: poisson", "process: constant"),
            ("rate: 5/s", "rate: 1/s"),
        )
    )
    at: dict[str, list[float]] = {}
    for request in workload.requests:
        at.setdefault(request.session, []).append(request.scheduled)

    assert all(gaps == pytest.approx(4.0) for times in at.values() for gaps in np.diff(times))
    assert workload.dropped == {"turn after the end": 4 * 2 + 4}


def test_popular_prefixes_are_popular_by_zipf_and_each_is_counted_in_its_prompt(read: Read) -> None:
    popular = ("  duration: 1m", "  duration: 50m\n  shared_prefixes: {count: 4, tokens: 64, share: 0.5, zipf: 1.0}")

    workload = build_workload(read(popular))

    prefixed = [r for r in workload.requests if r.prompt]
    counts = Counter(r.prompt[0].key for r in prefixed)
    assert len(prefixed) / len(workload.requests) == pytest.approx(0.5, abs=0.02)
    shares = [number / len(prefixed) for _, number in counts.most_common()]
    assert shares == pytest.approx([12 / 25, 6 / 25, 4 / 25, 3 / 25], abs=0.02)
    assert {r.input_tokens for r in prefixed} == {164}
    assert {r.input_tokens for r in workload.requests if not r.prompt} == {100}
    assert len({r.prompt[1].key for r in prefixed}) == len(prefixed)
    assert f"{len(prefixed):,} prompts begin with one of 4 shared prefixes of 64 tokens" in workload.notes


def test_a_session_keeps_its_prefix_its_class_and_its_tenant(read: Read) -> None:
    loaded = read(
        (
            "  duration: 1m",
            "  duration: 2m\n  sessions: {turns: 4, think_time: 1s}\n  tenants: [{name: a}, {name: b, share: 2}]\n"
            "  shared_prefixes: {count: 5, tokens: 64, share: 0.7}",
        ),
        ("name: chat\n", "name: chat\n    - name: other\n"),
    )
    traits: dict[str, set[tuple[str, str, int]]] = {}

    for r in build_workload(loaded).requests:
        traits.setdefault(r.session, set()).add((r.traffic_class, r.tenant, r.prompt[0].key if r.prompt else 0))

    assert all(len(found) == 1 for found in traits.values())
    assert len(set.union(*({(c, t) for c, t, _ in found} for found in traits.values()))) == 4


def test_classes_and_tenants_come_by_share(read: Read) -> None:
    loaded = read(
        ("  duration: 1m", "  duration: 30m\n  tenants: [{name: a, share: 3}, {name: b}]"),
        ("    - name: chat\n", "    - {name: batch, share: 0.25, priority: -5, deadline: 9s}\n    - name: chat\n"),
    )

    requests = build_workload(loaded).requests

    assert sum(r.tenant == "a" for r in requests) / len(requests) == pytest.approx(0.75, abs=0.02)
    batch = [r for r in requests if r.traffic_class == "batch"]
    assert len(batch) / len(requests) == pytest.approx(0.2, abs=0.02)
    assert {(r.priority, r.deadline_seconds) for r in batch} == {(-5, 9.0)}


def test_a_class_has_its_own_lengths_inside_sessions_and_behind_prefixes(read: Read) -> None:
    loaded = read(
        SESSIONS,
        ("    - name: chat\n", "    - {name: batch, lengths: {input: 7, output: 3}}\n    - name: chat\n"),
        ("{input: 100, output: 10}", "{input: 100, output: 10}\n  shared_prefixes: {count: 2, tokens: 64}"),
    )

    for request in build_workload(loaded).requests:
        asked = 7 if request.traffic_class == "batch" else 100
        assert request.prompt[0].tokens == 64
        assert {segment.tokens for segment in request.prompt[1::2]} == {asked}
        assert request.output_tokens == (3 if request.traffic_class == "batch" else 10)


def test_lengths_of_a_class_replace_recorded_ones_and_that_is_said(tmp_path: Path, text: str) -> None:
    own = text.replace("    - name: chat\n", "    - name: chat\n      lengths: {input: 7, output: 3}\n")

    workload = build_workload(trace_of([(n, 30) for n in range(50)], tmp_path, own))

    assert {(r.input_tokens, r.output_tokens) for r in workload.requests} == {(7, 3)}
    assert workload.notes == ("lengths of chat are drawn, not recorded",)


def test_requests_longer_than_the_context_are_dropped_by_that_reason(read: Read) -> None:
    short = ("gpu: l40s", "gpu: l40s, max_model_len: 110")

    workload = build_workload(read(short, ("output: 10", "output: {kind: uniform, min: 1, max: 20}")))

    assert max(r.input_tokens + r.output_tokens for r in workload.requests) == 110
    (reason,) = workload.dropped
    assert reason == "longer than the 110 tokens that meta-llama/Llama-3.1-8B-Instruct takes"


def test_a_workload_does_not_depend_on_what_it_flies_through(read: Read) -> None:
    hashes = {
        build_workload(read(*changes)).content_hash
        for changes in (
            (),
            (("replicas: 2", "replicas: 9"),),
            (("l40s", "h100-sxm"),),
            (("least_in_flight", "round_robin"),),
        )
    }

    assert len(hashes) == 1
