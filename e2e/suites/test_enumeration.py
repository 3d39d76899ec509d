"""The enumeration of policies on the live network: after every step of every case the matrix is as predicted."""

import pytest

from e2e.suites.enumeration import cases
from e2e.suites.field import pitched
from e2e.suites.policies import NAMESPACES, PODS

ADDRESS = "10.244.0.1"
"""Of no pod: only to know the cases' names before there is a cluster."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "number" in metafunc.fixturenames:
        every = int(metafunc.config.getoption("--enumeration"))
        chosen = [*enumerate(cases(ADDRESS))][::every]
        metafunc.parametrize("number", [number for number, _ in chosen], ids=[str(case) for _, case in chosen])


@pytest.fixture(scope="module")
def field(place):
    """Three namespaces of three pods."""
    with pitched(["kubectl", "--kubeconfig", str(place.kubeconfig)], NAMESPACES, PODS) as field:
        yield field


@pytest.fixture(scope="module")
def tally(figure):
    """How many cases and connections were tried."""
    counts = {"cases": 0, "connections": 0}
    yield counts
    figure(f"enumeration of policies: {counts['cases']} cases, {counts['connections']} connections, all as predicted")


def test_the_network_does_as_predicted(field, tally, number) -> None:
    case = cases(field.address)[number]

    matrices = field.fly(case)

    wrong = [f"step {step}: {one}" for step, matrix in enumerate(matrices, 1) for one in matrix.wrong]
    assert not wrong, "\n".join([str(case), *wrong])
    assert all(matrix.num_tried >= 9 * 8 * 4 for matrix in matrices)
    tally["cases"] += 1
    tally["connections"] += sum(matrix.num_tried for matrix in matrices)
