"""The split: what is scored was never fitted, whole groups at a time; and what a correction does to a step cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.engine import StepCost
from sim.fidelity.carrying import carried
from sim.fidelity.correction import GRAPHED_TOKENS, Carried, Correction, Drive, Fit, Fits, inherited
from sim.fidelity.fitting import by_group, shipped
from sim.fidelity.rows import read_rows
from sim.hardware.profile import Profile, shipped_profiles

names = st.sampled_from(["a", "b", "c"])
groups = st.tuples(st.sampled_from(["vllm", "trt"]), names, names, st.sampled_from(["published", "unpublished"]))
corrections = st.builds(Correction, decode=st.floats(0.5, 2), prefill=st.floats(0.5, 2), overhead=st.floats(0, 0.01))
fits = st.lists(
    st.builds(Fit, correction=corrections, drive=st.sampled_from([Drive(), Drive(6, 4096)]), misfit=st.floats(0, 1)),
    min_size=1,
    max_size=2,
    unique_by=lambda fit: fit.drive,
)


@given(groups, st.dictionaries(groups, fits, max_size=12), fits)
def test_a_groups_own_fit_has_no_say_in_its_prediction(group, fitted, own) -> None:
    without = {other: fits for other, fits in fitted.items() if other != group}
    try:
        expected = inherited(group, Fits(without))
    except KeyError:
        with pytest.raises(KeyError, match="no other group of this engine"):
            inherited(group, Fits({**without, group: own}))
        return

    found = inherited(group, Fits({**without, group: own}))

    assert found == expected
    assert group not in found.relatives
    for engine, gpu, family, harness in found.relatives:
        assert engine == group[0]
        # either the same model on another GPU, or other models only: never the same model on the same GPU
        assert (family == group[2]) == (found.held_out == "GPU")
        assert (family, harness, gpu) != (group[2], group[3], group[1])


def test_an_unknown_harness_is_taken_to_drive_as_fits_the_relatives_best() -> None:
    def fitted(decode: float, misfits: tuple[float, float]) -> tuple[Fit, Fit]:
        return (
            Fit(correction=Correction(decode=decode), drive=Drive(10, 8192), misfit=misfits[0]),
            Fit(correction=Correction(decode=decode + 1), drive=Drive(6, 4096), misfit=misfits[1]),
        )

    held_out = ("trt", "h100", "a", "unpublished")
    others = {("trt", "h100", name, "unpublished"): fitted(1.0, (0.5, 0.1)) for name in ("b", "c")}
    found = inherited(held_out, Fits({**others, held_out: fitted(0.5, (0.0, 9.0))}))

    assert found.drive == Drive(6, 4096), "the group's own misfit would have chosen the other"
    assert found.correction.decode == 2.0


def test_scales_that_are_not_carried_are_those_of_the_tables_and_host_time_is_always_carried() -> None:
    fit = Fit(correction=Correction(decode=2.0, prefill=3.0, overhead=0.004))
    fitted = {("trt", "h100", "b", "published"): (fit,)}
    held_out = ("trt", "h100", "a", "published")

    found = inherited(held_out, Fits(fitted, {held_out: Carried(decode=True, prefill=False)}))

    assert found.correction == Correction(decode=2.0, prefill=1.0, overhead=0.004)


def test_what_is_carried_is_told_by_relatives_alone() -> None:
    fits = shipped()
    group = ("vllm", "h100-sxm", "Qwen3-32B", "unpublished")
    others = {other: members for other, members in by_group(read_rows()[0]).items() if other != group}

    assert carried(group, fits, others) == fits.carried[group]


def test_every_shipped_row_is_predicted_by_others() -> None:
    rows, left_out = read_rows()
    fitted = shipped()

    assert len(rows) > 300
    assert sum(left_out.values()) > 0
    for group in {row.group for row in rows}:
        assert group not in inherited(group, fitted).relatives


def test_no_correction_leaves_the_step_cost_of_every_shipped_profile_as_it_is() -> None:
    for profile in shipped_profiles():
        assert Correction().applied_to(profile) == profile.cost


@given(st.floats(0.5, 2), st.floats(0.5, 2), st.floats(0, 0.01))
def test_scales_are_those_of_decode_and_of_the_rest(decode: float, prefill: float, overhead: float) -> None:
    knots = ((1.0, 0.010), (float(GRAPHED_TOKENS), 0.011), (4096.0, 0.5))
    cost = StepCost(token_seconds=knots, per_context_token=1e-7, per_prefill_pair=1e-9)
    profile = Profile(name="p", source="a test", cost=cost)

    found = Correction(decode=decode, prefill=prefill, overhead=overhead).applied_to(profile)

    assert found.overhead == overhead
    assert found.per_context_token == pytest.approx(1e-7 * decode)
    assert found.per_prefill_pair == pytest.approx(1e-9 * prefill)
    expected = [0.010 * decode, 0.011 * decode, 0.5 * prefill]
    assert [seconds for _, seconds in found.token_seconds] == pytest.approx(expected)
