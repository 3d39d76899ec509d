"""The enumeration of policies on the live network: after every step of every case the matrix is as predicted."""

import pytest

from e2e.suites.enumeration import cases
from e2e.suites.field import pitched
from e2e.suites.policies import NAMESPACES, PODS

CANARY = "ports: ingress: TCP serve-81-tcp"
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
def enforces_names(field, figure) -> bool:
    """Whether this network does anything about ports that a policy names; one that cannot may drop the whole policy."""
    [case] = [case for case in cases(field.address) if str(case) == CANARY]
    if not (wrong := [one for matrix in field.fly(case) for one in matrix.wrong]):
        return True
    figure(f"named ports are not enforced here: {len(wrong)} connections wrong in the canary, such as {wrong[0]}")
    return False


@pytest.fixture(scope="module")
def tally(figure):
    """How many cases and connections were tried."""
    counts = {"cases": 0, "connections": 0}
    yield counts
    figure(f"enumeration of policies: {counts['cases']} cases, {counts['connections']} connections, all as predicted")


def test_the_network_does_as_predicted(field, tally, enforces_names, number) -> None:
    case = cases(field.address)[number]
    if case.names_ports and not enforces_names:
        pytest.skip("not run here, because this network does not enforce ports that a policy names")

    matrices = field.fly(case)

    wrong = [f"step {step}: {one}" for step, matrix in enumerate(matrices, 1) for one in matrix.wrong]
    assert not wrong, "\n".join([str(case), *wrong])
    assert all(matrix.num_tried >= 9 * 8 * 4 for matrix in matrices)
    tally["cases"] += 1
    tally["connections"] += sum(matrix.num_tried for matrix in matrices)
