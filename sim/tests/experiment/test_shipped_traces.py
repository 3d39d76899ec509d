"""The shipped traces, read whole, against what their README and their publishers say of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sim.experiment.arrivals import read_curve
from sim.experiment.traces import read_trace

TRACES = Path(__file__).resolve().parents[3] / "scenarios" / "traces"


@pytest.mark.parametrize(
    ("file", "trace_format", "num_rows", "num_dropped", "seconds", "mean_input", "mean_output"),
    [
        ("azure2023/conversation.csv.gz", "azure", 19366, 0, 3501.7, 1154.7, 211.1),
        ("azure2023/code.csv.gz", "azure", 8819, 0, 3435.9, 2047.8, 27.9),
        ("mooncake/conversation.jsonl.gz", "mooncake", 12031, 0, 3537, 12035, 342.6),
        ("burstgpt/first400.csv", "burstgpt", 400, 17, 37269, 543.6, 288.8),
    ],
)
def test_a_shipped_trace_has_the_published_figures(
    file: str, trace_format: str, num_rows: int, num_dropped: int, seconds: float, mean_input: float, mean_output: float
) -> None:
    found = read_trace(TRACES / file, trace_format)

    assert (found.num_read, sum(found.dropped.values())) == (num_rows, num_dropped)
    assert found.at[-1] == pytest.approx(seconds, rel=1e-3)
    assert np.mean(found.input_tokens) == pytest.approx(mean_input, rel=1e-3)
    assert np.mean(found.output_tokens) == pytest.approx(mean_output, rel=2e-3)


def test_more_than_a_third_of_mooncake_s_blocks_were_seen_before() -> None:
    """The publisher's ideal prefix hit rate of 36.6 %, from the keys of the segments."""
    found = read_trace(TRACES / "mooncake/conversation.jsonl.gz", "mooncake")
    seen: set[int] = set()
    hits = total = 0
    for prompt in found.prompts:
        keys = [segment.key for segment in prompt]
        hits += sum(key in seen for key in keys)
        total += len(keys)
        seen.update(keys)

    assert found.tick_seconds == 3.0
    assert hits / total == pytest.approx(0.366, abs=0.002)


def test_a_servegen_hour_is_two_thirds_of_a_tenth_of_its_curve() -> None:
    """The rest are clients whose lengths are not in the published snapshot."""
    found = read_trace(TRACES / "servegen/m-large_evening_hour_tenth.csv.gz", "servegen")
    times, rates = read_curve(TRACES / "servegen/m-large_rate_10min.csv")

    evening = [rate for at, rate in zip(times, rates, strict=True) if 72_000 <= at < 75_600]
    assert len(times) == 14 * 144
    assert len(found.at) / 3600 / (np.mean(evening) / 10) == pytest.approx(2 / 3, abs=0.02)


def test_every_shipped_trace_has_its_licence_beside_it() -> None:
    for folder in TRACES.iterdir():
        if folder.is_dir():
            assert list(folder.glob("LICENSE*")), folder.name
