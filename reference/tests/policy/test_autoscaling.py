"""Target tracking as the HorizontalPodAutoscaler does it."""

from hypothesis import given
from hypothesis import strategies as st

from reference.policy.autoscaling import AutoscalerSettings, HorizontalAutoscaler


def autoscaler(**changes: float) -> HorizontalAutoscaler:
    return HorizontalAutoscaler(
        AutoscalerSettings(**{"min_replicas": 1, "max_replicas": 20, "target": 10.0, **changes})
    )


@given(replicas=st.integers(1, 20), mean=st.floats(0, 100), target=st.floats(1, 50))
def test_a_decision_stays_within_its_bounds_and_moves_towards_the_target(
    replicas: int, mean: float, target: float
) -> None:
    decided = autoscaler(target=target, stabilisation_seconds=0).decide(
        replicas=replicas, readings=[mean] * replicas, now=0.0
    )

    assert 1 <= decided.replicas <= 20
    if mean > target * 1.1:
        assert decided.replicas >= replicas
    if mean < target * 0.9:
        assert decided.replicas <= replicas


def test_the_formula_is_that_of_the_documentation() -> None:
    assert autoscaler().decide(replicas=3, readings=[20.0] * 3, now=0.0).replicas == 6
    assert autoscaler().decide(replicas=3, readings=[10.9] * 3, now=0.0).replicas == 3, "within the tolerance"
    assert autoscaler().decide(replicas=3, readings=[40 / 3] * 3, now=0.0).replicas == 4, (
        "no float's last bit rounds up"
    )


def test_scaling_down_waits_for_the_highest_recommendation_of_the_window() -> None:
    scaler = autoscaler(stabilisation_seconds=60.0)
    assert scaler.decide(replicas=4, readings=[10.0] * 4, now=0.0).replicas == 4
    assert scaler.decide(replicas=4, readings=[1.0] * 4, now=30.0).replicas == 4
    assert scaler.decide(replicas=4, readings=[1.0] * 4, now=61.0).replicas == 1


def test_replicas_that_start_up_are_not_asked_for_twice() -> None:
    scaler = autoscaler()

    assert scaler.decide(replicas=4, readings=[20.0, 20.0], now=0.0).replicas == 4


def test_without_any_reading_nothing_changes() -> None:
    assert autoscaler().decide(replicas=5, readings=[], now=0.0).replicas == 5
