"""Every shipped scenario flies, and flies as it did when its golden was committed."""

import json

import pytest

from e2e import goldens

SCENARIOS_OF_THE_CHECKOUT = goldens.SCENARIOS if goldens.SCENARIOS.exists() else goldens.Path.cwd() / "scenarios"


def checkout_scenarios() -> list[goldens.Path]:
    return sorted(SCENARIOS_OF_THE_CHECKOUT.glob("*.yaml"))


@pytest.mark.parametrize("path", checkout_scenarios(), ids=lambda path: path.stem)
def test_a_scenario_flies_as_its_golden_says(path: goldens.Path) -> None:
    golden = path.parent / "golden" / f"{path.stem}.json"

    moved = list(goldens.differences(json.loads(golden.read_text()), goldens.fly(path)))

    assert not moved, "\n".join(moved[:30])


def test_there_are_at_least_nine_scenarios_and_each_says_what_it_teaches() -> None:
    paths = checkout_scenarios()

    assert len(paths) >= 9
    assert all("about:" in path.read_text() for path in paths)


def test_a_changed_leaf_is_named_with_both_values() -> None:
    assert list(goldens.differences({"a": {"b": [1, 2.0]}}, {"a": {"b": [1, 2.5]}})) == ["a.b[1]: 2.0 became 2.5"]
