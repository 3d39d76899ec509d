"""Profiles as files: what is written is read again, and what is wrong is told with its field."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reference.engine import StepCost
from sim.hardware import HardwareError
from sim.hardware.profile import Profile, profile_from, read_profile, shipped_profiles, write_profile

seconds = st.floats(0, 1, allow_subnormal=False)
knots = st.lists(st.integers(1, 100_000), unique=True, min_size=1, max_size=5).map(sorted)
costs = st.builds(
    StepCost,
    overhead=seconds,
    per_context_token=seconds,
    token_seconds=knots.flatmap(
        lambda at: st.lists(seconds, min_size=len(at), max_size=len(at)).map(
            lambda found: tuple((float(token), value) for token, value in zip(at, found, strict=True))
        )
    ),
)
profiles = st.builds(
    Profile,
    name=st.text("abc-", min_size=1, max_size=9),
    source=st.just("a test"),
    cost=costs,
    keys=st.fixed_dictionaries({}, optional={"gpu": st.just("h100"), "tensor_parallel": st.integers(1, 8)}),
    kv_tokens=st.none() | st.integers(1, 10**7),
    request_seconds=seconds,
    residuals=st.dictionaries(st.just("tpot"), seconds),
    uncertainty=st.dictionaries(st.just("overhead"), seconds),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(profiles)
def test_what_is_written_is_read_again(tmp_path: Path, profile: Profile) -> None:
    write_profile(profile, tmp_path / "p.yaml")

    assert read_profile(tmp_path / "p.yaml") == profile


def test_those_that_come_with_the_package_are_whole() -> None:
    shipped = shipped_profiles()

    assert len(shipped) > 30
    for profile in shipped:
        assert {"gpu", "model", "engine", "weights", "tensor_parallel"} <= profile.keys.keys()
        assert profile.residuals
        assert profile.cost.token_seconds


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ("text", "expected a profile"),
        ({"name": "p", "source": "s"}, "step_cost is missing"),
        ({"name": 3, "source": "s", "step_cost": {}}, "name is 3"),
        ({"name": "p", "source": "s", "step_cost": {"overhed": 1.0}}, "overhed"),
        ({"name": "p", "source": "s", "step_cost": {"overhead": -1.0}}, "overhead is -1.0"),
        ({"name": "p", "source": "s", "step_cost": {}, "kv_tokens": 0}, "kv_tokens is 0"),
        ({"name": "p", "source": "s", "step_cost": {}, "request_seconds": -1}, "request_seconds is -1"),
    ],
)
def test_a_wrong_field_is_told(fields: object, said: str) -> None:
    with pytest.raises(HardwareError, match=said):
        profile_from(fields, "p.yaml")


def test_a_file_that_is_no_yaml_is_told_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "broken.yaml").write_text("name: [")

    with pytest.raises(HardwareError, match=r"broken\.yaml"):
        read_profile(tmp_path / "broken.yaml")
    with pytest.raises(HardwareError, match=r"none\.yaml"):
        read_profile(tmp_path / "none.yaml")
