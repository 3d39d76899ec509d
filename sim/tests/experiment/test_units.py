"""Units: whatever is written is read back, and nothing is a duration or a rate that does not say so."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.experiment.schema import json_schema
from sim.experiment.units import PER_SECOND, SECONDS, per_second, seconds, written

amounts = st.floats(1e-3, 1e6, allow_nan=False)


@given(amounts, st.sampled_from(sorted(SECONDS)))
def test_a_duration_means_its_number_times_its_unit(amount: float, unit: str) -> None:
    assert seconds(f"{amount!r}{unit}") == amount * SECONDS[unit]


@given(amounts, st.sampled_from(sorted(PER_SECOND)))
def test_a_rate_means_its_number_per_unit_of_time(amount: float, unit: str) -> None:
    assert per_second(f"{amount!r}/{unit}") == amount / PER_SECOND[unit]


@given(st.integers(0, 400), st.integers(0, 23), st.integers(0, 59), st.integers(1, 59))
def test_parts_of_a_duration_add_up(days: int, hours: int, minutes: int, rest: int) -> None:
    assert seconds(f"{days}d{hours}h{minutes}m{rest}s") == days * 86400 + hours * 3600 + minutes * 60 + rest


@given(st.floats(0, 1e8, allow_nan=False).map(lambda value: round(value, 3)))
def test_a_written_duration_is_read_back(duration: float) -> None:
    assert seconds(written(duration)) == pytest.approx(duration, abs=1e-6)


@pytest.mark.parametrize(
    ("duration", "text"), [(0, "0s"), (0.08, "80ms"), (2.5, "2.5s"), (3502, "58m22s"), (90000, "1d1h")]
)
def test_durations_are_written_as_people_do(duration: float, text: str) -> None:
    assert written(duration) == text


@pytest.mark.parametrize("given", [10, "10", "ten s", "-5s", "5 sec", "5/s", "", None, True, [1], "1e400x", "nans"])
def test_a_duration_without_its_unit_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="expected a duration with its unit, such as 500ms"):
        seconds(given)


@pytest.mark.parametrize("given", [10, "10", "10s", "/s", "-1/s", "5/week", None, False])
def test_a_rate_without_its_time_is_refused(given: object) -> None:
    with pytest.raises(ValueError, match="expected a rate, a number per unit of time, such as 12/s"):
        per_second(given)


def test_a_bare_number_is_answered_with_what_was_probably_meant() -> None:
    with pytest.raises(ValueError, match=re.escape("(did you mean 10s?)")):
        seconds(10)
    with pytest.raises(ValueError, match=re.escape("(did you mean 10/s?)")):
        per_second(10)


def patterns_in(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["pattern"]} if isinstance(node.get("pattern"), str) else set()
        return own.union(*(patterns_in(value) for value in node.values()))
    return set().union(*(patterns_in(value) for value in node)) if isinstance(node, list) else set()


def test_the_json_schema_shows_editors_the_same_units() -> None:
    schema = json_schema()
    duration, rate = (next(p for p in patterns_in(schema) if sign in p) for sign in ("us|ms", "/"))

    assert re.fullmatch(duration, "1h30m")
    assert not re.fullmatch(duration, "90")
    assert re.fullmatch(rate, "12/s")
    assert not re.fullmatch(rate, "12")
    assert schema["$defs"]["Router"]["properties"]["scrape_interval"]["default"] == "1s"


def test_every_key_of_a_workload_has_a_meaning_in_the_json_schema() -> None:
    blocks = json_schema()["$defs"]

    described = {key for key, about in blocks["Trace"]["properties"].items() if about.get("description")}
    assert described >= {"file", "window", "rate_scale", "thin", "dequantise"}
    assert json.dumps(blocks["Policy"]).count('"type": "string"') >= 2, "a policy may be a bare name"
