"""Arrivals: in order, inside their time, as many as the rate says, and as bursty as asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sim.experiment.arrivals import arrival_times, duration_of, read_curve
from sim.experiment.errors import InputError
from sim.experiment.schema import Arrivals
from sim.experiment.streams import stream

rates = st.floats(0.05, 50, allow_nan=False)


def times(duration: float, *, seed: int = 1, base_dir: Path | None = None, **fields: Any) -> NDArray[np.float64]:
    return arrival_times(Arrivals(**fields), duration, base_dir or Path(), stream(seed, "arrivals"))


stages = st.lists(
    st.fixed_dictionaries({"lasts": st.floats(0.5, 100), "rate": st.floats(0, 20), "to_rate": st.floats(0, 20)}),
    min_size=1,
    max_size=5,
)


@settings(max_examples=100)
@given(st.sampled_from(["constant", "poisson", "gamma"]), rates, st.floats(0.5, 300), st.integers(0, 9))
def test_arrivals_come_in_order_and_inside_their_time(process: str, rate: float, duration: float, seed: int) -> None:
    found = times(duration, seed=seed, process=process, rate=rate)

    assert np.all(np.diff(found) >= 0)
    assert np.all((found >= 0) & (found < duration))


@settings(max_examples=100)
@given(st.floats(0.5, 50), st.integers(1, 400))
def test_a_constant_process_has_exactly_the_requests_of_its_rate(rate: float, count: int) -> None:
    found = times(count / rate, process="constant", rate=rate)

    assert len(found) == count
    assert found == pytest.approx(np.arange(count) / rate)


@settings(max_examples=60)
@given(stages, st.integers(0, 9))
def test_stages_bring_as_many_requests_as_the_area_under_their_rate(parts: list[dict[str, float]], seed: int) -> None:
    arrivals = Arrivals(process="stages", stages=tuple(parts))  # type: ignore[arg-type]
    total = duration_of(arrivals, None) or 0.0
    expected = sum(part["lasts"] * (part["rate"] + part["to_rate"]) / 2 for part in parts)

    found = arrival_times(arrivals, total, Path(), stream(seed, "arrivals"))

    assert np.all((found >= 0) & (found <= total))
    # six standard deviations of a Poisson count
    assert len(found) == pytest.approx(expected, abs=6 * expected**0.5 + 3)


@settings(max_examples=40)
@given(stages, st.floats(0.1, 0.9))
def test_stages_cut_short_are_the_beginning_of_the_whole(parts: list[dict[str, float]], share: float) -> None:
    arrivals = Arrivals(process="stages", stages=tuple(parts), cv=1.0)  # type: ignore[arg-type]
    total = duration_of(arrivals, None) or 0.0
    whole = arrival_times(arrivals, total, Path(), stream(1, "arrivals"))
    cut = arrival_times(arrivals, total * share, Path(), stream(1, "arrivals"))

    assert np.all(cut < total * share + 1e-9)
    common = min(len(cut), len(whole), 60)
    assert cut[:common] == pytest.approx(whole[:common], abs=1e-6)


@pytest.mark.parametrize("cv", [0.5, 1.0, 3.0])
def test_gaps_of_a_gamma_process_have_its_mean_and_its_burstiness(cv: float) -> None:
    gaps = np.diff(times(40_000, process="gamma", rate=5.0, cv=cv))

    assert gaps.mean() == pytest.approx(1 / 5, rel=0.03)
    assert gaps.std() / gaps.mean() == pytest.approx(cv, rel=0.03)


def test_a_poisson_process_is_a_gamma_process_of_burstiness_one() -> None:
    assert np.array_equal(times(100, process="poisson", rate=7.0), times(100, process="gamma", rate=7.0, cv=1.0))


def test_gaps_of_a_poisson_process_are_exponential() -> None:
    from scipy.stats import kstest

    gaps = np.diff(times(4000, process="poisson", rate=5.0))

    assert kstest(gaps * 5.0, "expon").pvalue > 0.01


def test_burstiness_changes_when_requests_come_and_not_how_the_rate_goes() -> None:
    parts = ({"lasts": 500.0, "rate": 2.0}, {"lasts": 500.0, "rate": 20.0})
    calm, bursty = (times(1000, process="stages", stages=parts, cv=cv) for cv in (1.0, 3.0))

    for found in (calm, bursty):
        assert (found < 500).sum() == pytest.approx(1000, rel=0.2)
        assert (found >= 500).sum() == pytest.approx(10_000, rel=0.1)
    variance = [np.histogram(found, np.arange(500, 1001))[0].var() for found in (calm, bursty)]
    assert variance[1] > 4 * variance[0]


@pytest.fixture
def curve(tmp_path: Path) -> Path:
    rows = [f"{t},{2 + (t // 600) % 3}" for t in range(0, 6001, 600)]
    (tmp_path / "curve.csv").write_text("t_s,total_rate_rps\n" + "\n".join(rows) + "\n")
    return tmp_path


def test_a_compressed_curve_keeps_its_rates_and_has_a_fraction_of_the_requests(curve: Path) -> None:
    window = (600.0, 5400.0)
    whole = times(4800, base_dir=curve, process="diurnal", curve="curve.csv", window=window)
    fast = times(480, base_dir=curve, process="diurnal", curve="curve.csv", window=window, compress=10.0)

    assert len(whole) / 4800 == pytest.approx(3.0, rel=0.1)
    assert len(fast) / 480 == pytest.approx(len(whole) / 4800, rel=0.1)
    shapes = [np.histogram(t, 8, (0, end))[0] / len(t) for t, end in ((whole, 4800), (fast, 480))]
    assert shapes[1] == pytest.approx(shapes[0], abs=0.05)


def test_a_rate_scales_the_mean_of_the_curve_s_window(curve: Path) -> None:
    found = times(5400, base_dir=curve, process="diurnal", curve="curve.csv", window=(300.0, 5700.0), rate=1.0)

    assert len(found) / 5400 == pytest.approx(1.0, rel=0.06)


def test_a_window_between_two_points_of_the_curve_has_the_rates_between(curve: Path) -> None:
    found = times(200, base_dir=curve, process="diurnal", curve="curve.csv", window=(800.0, 1000.0))

    assert len(found) == pytest.approx(200 * 3.5, abs=100)


def test_a_window_outside_the_curve_is_refused_with_the_curve_s_ends(curve: Path) -> None:
    with pytest.raises(InputError, match="the curve goes from 0s to 1h40m; expected a part of that, not 1h to 3h"):
        times(7200, base_dir=curve, process="diurnal", curve="curve.csv", window=(3600.0, 10800.0))


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("time,rate\n0,1\n", "curve.csv:1: expected columns t_s and total_rate_rps, found ['time', 'rate']"),
        ("t_s,total_rate_rps\n0,1\n600,many\n", "curve.csv:3: t_s is '600' and total_rate_rps is 'many'; expected"),
        ("t_s,total_rate_rps\n0,1\n600,nan\n", "curve.csv:3: t_s is '600' and total_rate_rps is 'nan'; expected"),
        ("t_s,total_rate_rps\n600,1\n0,1\n", "curve.csv:3: t_s is '0'"),
        ("t_s,total_rate_rps\n0,1\n600\n", "curve.csv:3: t_s is '600' and total_rate_rps is None"),
        ("t_s,total_rate_rps\n0,1\n", "a rate curve needs at least 2 points, found 1"),
        ("", "curve.csv:1: expected columns t_s and total_rate_rps, found None"),
    ],
)
def test_a_curve_that_is_none_is_refused_with_file_line_and_value(tmp_path: Path, content: str, problem: str) -> None:
    path = tmp_path / "curve.csv"
    path.write_text(content)

    with pytest.raises(InputError) as refused:
        read_curve(path)

    assert problem in str(refused.value)
