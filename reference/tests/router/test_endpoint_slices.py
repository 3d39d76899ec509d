"""What slices say together: each pod once, by the port that is wanted, in an order that nothing else decides."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.router.settings import SlicesBlock
from reference.router.sources.endpoint_slices import EndpointSlice, endpoints_of


def read(*slices: dict) -> list[EndpointSlice]:
    return [EndpointSlice.model_validate(one) for one in slices]


@given(
    pods=st.dictionaries(
        st.integers(0, 20), st.tuples(st.booleans() | st.none(), st.booleans() | st.none(), st.integers(0, 3))
    ),
    data=st.data(),
)
def test_pods_that_are_ready_and_stay_are_there_once_whatever_slices_they_are_in(pod, slice_of, pods, data) -> None:
    slices: dict[int, list[dict]] = {place: [] for place in range(4)}
    for number, (ready, terminating, place) in pods.items():
        made = pod(f"p-{number}", f"10.0.0.{number}", ready=ready, terminating=terminating)
        for home in {place, data.draw(st.integers(0, 3))}:
            slices[home].append(made)
    read_slices = read(*(slice_of(f"s-{place}", *inside) for place, inside in slices.items()))
    shuffled = data.draw(st.permutations(read_slices))

    found = endpoints_of(shuffled, SlicesBlock(service="llama"))

    expected = {number for number, (ready, terminating, _) in pods.items() if ready is not False and not terminating}
    assert [block.name for block in found] == sorted(f"p-{number}" for number in expected)
    assert {block.url for block in found} == {f"http://10.0.0.{number}:8000" for number in expected}


def test_a_pod_of_two_families_is_one_endpoint_at_its_ipv4(pod, slice_of) -> None:
    slices = read(
        slice_of("a-six", pod("p-0", "fd00::7"), pod("p-1", "fd00::8"), address_type="IPv6"),
        slice_of("b-four", pod("p-0", "10.0.0.7")),
    )
    found = endpoints_of(slices, SlicesBlock(service="llama", version="2", weight=3.0, scheme="https"))

    assert {block.name: block.url for block in found} == {
        "p-0": "https://10.0.0.7:8000",
        "p-1": "https://[fd00::8]:8000",
    }
    assert {(block.version, block.weight) for block in found} == {("2", 3.0)}


@pytest.mark.parametrize(
    ("wanted", "found"), [("http", 8000), ("metrics", 9000), (9000, 9000), ("grpc", None), (None, None)]
)
def test_a_port_is_wanted_by_name_or_number(pod, slice_of, wanted, found) -> None:
    ports = [{"name": "http", "port": 8000}, {"name": "metrics", "port": 9000}]
    slices = read(slice_of("a", pod("p-0", "10.0.0.1"), ports=ports))

    endpoints = endpoints_of(slices, SlicesBlock(service="llama", port=wanted))

    assert [block.url for block in endpoints] == ([f"http://10.0.0.1:{found}"] if found else [])


def test_the_only_port_needs_no_name_and_an_endpoint_without_a_pod_goes_by_its_address(slice_of) -> None:
    slices = read(
        slice_of("a", {"addresses": ["10.0.0.1"]}, ports=[{"port": 80}]),
        slice_of("b", {"addresses": []}),
        slice_of("c", {"addresses": ["10.0.0.2"]}, ports=[]),
    )

    assert [block.name for block in endpoints_of(slices, SlicesBlock(service="llama"))] == ["10.0.0.1:80"]
