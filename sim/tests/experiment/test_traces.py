"""Traces: every row is emitted or dropped with a reason, and what is no row is refused with file, line and value."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.scenario import LoadedScenario
from sim.experiment.traces import TraceRows, read_trace

HEADERS = {
    "azure": "TIMESTAMP,ContextTokens,GeneratedTokens",
    "burstgpt": "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
    "servegen": "arrival_s,input_tokens,output_tokens,image_tokens,client_id",
    "mooncake": "",
}
rows = st.lists(
    st.tuples(st.integers(0, 50_000), st.integers(0, 2000), st.integers(0, 500)), min_size=1, max_size=40
).filter(lambda found: any(i and o for _, i, o in found))


def line(trace_format: str, at: int, inputs: int, outputs: int) -> str:
    """Write one row at `at` tenths of a second."""
    match trace_format:
        case "azure":
            hours, rest = divmod(at, 36_000)
            return f"2023-11-16 {hours:02}:{rest // 600:02}:{rest % 600 / 10:010.7f},{inputs},{outputs}"
        case "burstgpt":
            return f"{at / 10},ChatGPT,{inputs},{outputs},{inputs + outputs},Conversation log"
        case "servegen":
            return f"{at / 10},{inputs},{outputs},0,c1"
        case _:
            ids = list(range(-(-inputs // 512)))
            about = {"timestamp": at * 100, "input_length": inputs, "output_length": outputs, "hash_ids": ids}
            return json.dumps(about)


def write(path: Path, trace_format: str, lines: list[str], ending: str = "\n") -> Path:
    header = [HEADERS[trace_format]] if HEADERS[trace_format] else []
    path.write_bytes(ending.join([*header, *lines, ""]).encode())
    return path


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(sorted(HEADERS)), rows, st.sampled_from(["\n", "\r\n"]))
def test_rows_read_are_rows_emitted_plus_rows_dropped(
    tmp_path: Path, trace_format: str, given_rows: list[tuple[int, int, int]], ending: str
) -> None:
    lines = [line(trace_format, *row) for row in given_rows]
    found = read_trace(write(tmp_path / "trace", trace_format, lines, ending), trace_format)

    kept = sorted((at, i, o) for at, i, o in given_rows if i and o)
    assert found.num_read == len(given_rows) == len(found.at) + sum(found.dropped.values())
    assert sorted(zip(found.input_tokens, found.output_tokens, strict=True)) == sorted((i, o) for _, i, o in kept)
    assert found.at == pytest.approx([(at - kept[0][0]) / 10 for at, _, _ in kept], abs=1e-5)


def test_seven_digits_of_a_second_and_midnight_are_read(tmp_path: Path) -> None:
    lines = ["2023-11-16 23:59:59.9999999,5,5", "2023-11-17 00:00:00.0000001,5,5", "2024-03-01 00:00:00,5,5"]

    found = read_trace(write(tmp_path / "trace", "azure", lines), "azure")

    assert found.at == pytest.approx([0.0, 2e-7, 105 * 86400 + 1e-7], abs=1e-6)


def test_a_gzipped_trace_is_the_same_trace(tmp_path: Path) -> None:
    plain = write(tmp_path / "trace.csv", "azure", [line("azure", n, n + 1, 5) for n in range(20)])
    packed = tmp_path / "trace.csv.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))

    assert read_trace(plain, "azure") == read_trace(packed, "azure")


def test_rows_out_of_order_are_put_in_order_of_time(tmp_path: Path) -> None:
    lines = [line("azure", at, at + 1, 5) for at in (30, 10, 20, 10)]

    found = read_trace(write(tmp_path / "trace", "azure", lines), "azure")

    assert found.at == pytest.approx([0, 0, 1, 2])
    assert found.input_tokens == [11, 11, 21, 31]


def test_sessions_of_later_burstgpt_files_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    path.write_text("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens\n1,7,2,GPT-4,10,20\n")

    assert read_trace(path, "burstgpt").sessions == ["7"]


def test_image_tokens_are_input(tmp_path: Path) -> None:
    found = read_trace(write(tmp_path / "trace", "servegen", ["0.5,100,5,400,c"]), "servegen")

    assert found.input_tokens == [500]


def mooncake(tmp_path: Path, *given_rows: tuple[int, int, list[int]]) -> TraceRows:
    lines = [
        json.dumps({"timestamp": at, "input_length": inputs, "output_length": 5, "hash_ids": ids})
        for at, inputs, ids in given_rows
    ]
    return read_trace(write(tmp_path / "trace", "mooncake", lines), "mooncake")


def test_equal_leading_blocks_become_equal_leading_segments_that_cover_the_input(tmp_path: Path) -> None:
    found = mooncake(tmp_path, (0, 1100, [4, 5, 6]), (100, 1536, [4, 5, 9]), (200, 513, [4]))

    first, second = found.prompts
    assert [(s.key, s.tokens) for s in first] == [(4, 512), (5, 512), (6, 76)]
    assert first[:2] == second[:2]
    assert [sum(s.tokens for s in prompt) for prompt in found.prompts] == found.input_tokens == [1100, 1536]
    assert found.dropped == {"blocks do not cover the input": 1}


def test_coarse_ticks_are_found_even_when_they_jitter(tmp_path: Path) -> None:
    assert mooncake(tmp_path, (0, 5, [1]), (3007, 5, [2]), (5998, 5, [3])).tick_seconds == 3.0
    assert mooncake(tmp_path, (0, 5, [1]), (3007, 5, [2]), (4500, 5, [3])).tick_seconds == 0.0


@pytest.mark.parametrize(
    ("trace_format", "bad", "problem"),
    [
        (
            "azure",
            "2023-11-16 18:15:46.68,374,many",
            ":3: GeneratedTokens is 'many'; expected a whole number of tokens",
        ),
        ("azure", "2023-11-16 18:15:46.68,-1,44", ":3: ContextTokens is '-1'; expected a whole number of tokens"),
        ("azure", "yesterday,374,44", ":3: TIMESTAMP is 'yesterday'; expected such as 2023-11-16 18:15:46.6805900"),
        ("azure", "2023-11-16 25:15:46,374,44", ":3: TIMESTAMP is '2023-11-16 25:15:46'; expected such as"),
        ("azure", "2023-11-16 18:15", ":3: '2023-11-16 18:15' has 1 columns; expected 3: TIMESTAMP,ContextTokens"),
        ("burstgpt", "soon,ChatGPT,5,5,10,API log", ":3: Timestamp is 'soon'; expected seconds"),
        ("burstgpt", "inf,ChatGPT,5,5,10,API log", ":3: Timestamp is 'inf'; expected seconds"),
        ("servegen", "1.0,5,x,0,c", ":3: output_tokens is 'x'; expected a whole number of tokens"),
        ("mooncake", '{"timestamp": 1', ":2: '{\"timestamp\": 1' is not a JSON object"),
        ("mooncake", "[]", ":2: '[]' is not a JSON object"),
        ("mooncake", '{"timestamp": NaN}', ":2: timestamp is nan; expected milliseconds"),
        ("mooncake", '{"timestamp": 1, "input_length": "9"}', ":2: input_length is '9'; expected a whole number"),
        ("mooncake", '{"timestamp": 1, "input_length": 9}', ":2: output_length is None; expected a whole number"),
        (
            "mooncake",
            '{"timestamp": 1, "input_length": 9, "output_length": 1, "hash_ids": [1.5]}',
            ":2: hash_ids is [1.5]; expected a list of whole numbers",
        ),
    ],
)
def test_a_row_that_is_none_is_refused_with_file_line_and_value(
    tmp_path: Path, trace_format: str, bad: str, problem: str
) -> None:
    path = write(tmp_path / "trace", trace_format, [line(trace_format, 1, 5, 5), bad])

    with pytest.raises(InputError) as refused:
        read_trace(path, trace_format)

    assert str(refused.value).startswith(f"{path}{problem}")


def test_another_header_is_refused_with_the_columns_of_the_format(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", "burstgpt", [])

    with pytest.raises(InputError, match=r"trace:1: the header is 'Timestamp,Model.*; expected columns TIMESTAMP,Con"):
        read_trace(path, "azure")


def test_a_truncated_or_damaged_gzip_stream_is_refused(tmp_path: Path) -> None:
    whole = gzip.compress(write(tmp_path / "t", "azure", [line("azure", n, 9, 9) for n in range(900)]).read_bytes())
    truncated, damaged, other = tmp_path / "a.gz", tmp_path / "b.gz", tmp_path / "c.gz"
    truncated.write_bytes(whole[: len(whole) // 2])
    damaged.write_bytes(whole[:60] + bytes(200) + whole[260:])
    other.write_text("not gzip")

    for path, problem in ((truncated, "the file is truncated"), (damaged, "cannot be read"), (other, "Not a gzipped")):
        with pytest.raises(InputError, match=problem) as refused:
            read_trace(path, "azure")
        assert str(refused.value).startswith(f"{path}:")


def test_a_trace_without_any_request_says_what_became_of_its_rows(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", "burstgpt", ["1,ChatGPT,0,0,0,API log"])

    with pytest.raises(InputError, match=r"holds no request \(1 rows read, dropped: {'failed in the recording': 1}\)"):
        read_trace(path, "burstgpt")


TICKS = "".join(
    json.dumps({"timestamp": 3000 * tick, "input_length": n + 1, "output_length": 5, "hash_ids": [n]}) + "\n"
    for tick in range(20)
    for n in range(30)
)


def test_ticks_are_spread_evenly_in_the_order_of_the_recording(flying: Callable[..., LoadedScenario]) -> None:
    workload = build_workload(flying(TICKS, "format: mooncake", suffix="jsonl"))

    at = np.asarray([request.scheduled for request in workload.requests])
    assert [request.input_tokens for request in workload.requests] == [n + 1 for n in range(30)] * 20
    assert np.all(np.diff(at) >= 0)
    assert np.array_equal(at // 3, np.repeat(np.arange(20), 30))
    assert (at % 3).mean() == pytest.approx(1.5, abs=0.15)
    assert workload.duration_seconds == 60
    assert workload.notes == ("time stamps come in ticks of 3 s; requests were spread evenly over theirs",)


def test_ticks_may_be_left_as_they_are_and_that_is_said(flying: Callable[..., LoadedScenario]) -> None:
    workload = build_workload(flying(TICKS, "format: mooncake, dequantise: none", suffix="jsonl"))

    assert {request.scheduled for request in workload.requests} == {3.0 * tick for tick in range(20)}
    assert "requests come in volleys" in workload.notes[0]
