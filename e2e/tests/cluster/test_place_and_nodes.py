"""A cluster's own files, its certificates, and the addresses that its load balancers get."""

from __future__ import annotations

import json
import ssl
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2e.cluster.certificates import certificate_for
from e2e.cluster.nodes import NUM_ADDRESSES, Nodes, virtual_addresses
from e2e.cluster.place import Place
from e2e.cluster.programs import StageFailed
from sim.experiment.errors import InputError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return Place.of("windtunnel")


@given(st.integers(16, 24), st.integers(0, 2**16 - 1))
def test_virtual_addresses_are_inside_the_network_and_far_from_its_nodes(prefix: int, at: int) -> None:
    network = ip_network((f"172.{at >> 8}.{at & 255}.0", prefix), strict=False)

    first, last = map(IPv4Address, virtual_addresses(network).split("-"))

    assert int(last) - int(first) + 1 == NUM_ADDRESSES
    assert first in network
    assert last in network
    assert last != network.broadcast_address
    # Docker gives addresses from the start
    assert int(first) - int(network.network_address) > 32


def test_a_network_without_room_is_told() -> None:
    with pytest.raises(StageFailed, match=r"172\.18\.0\.0/26 is too small for 31 virtual addresses"):
        virtual_addresses(ip_network("172.18.0.0/26"))


def test_kinds_configuration_is_an_ordinary_one(place: Place) -> None:
    config = json.loads(Nodes(place, "kindest/node:v1.36.3", num_workers=3, api_port=6443).config())

    assert config["apiVersion"] == "kind.x-k8s.io/v1alpha4"
    assert [node["role"] for node in config["nodes"]] == ["control-plane", "worker", "worker", "worker"]
    assert config["networking"] == {"apiServerPort": 6443}


@pytest.mark.parametrize("name", ["", "Upper", "with space", "-dash", "a" * 41, "../up"])
def test_a_name_that_kind_does_not_take_is_told(name: str) -> None:
    with pytest.raises(InputError, match="--name"):
        Place.of(name)


def test_a_kubeconfig_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no such file"):
        Place.of("windtunnel", tmp_path / "none")


def test_a_certificate_is_for_its_hosts_and_of_the_same_authority_ever_after(place: Place) -> None:
    first, key = certificate_for(["api.windtunnel.test", "chat.windtunnel.test"], place.authority)
    authority = place.authority.read_bytes()
    second, second_key = certificate_for(["api.windtunnel.test"], place.authority)

    assert place.authority.read_bytes() == authority
    assert first != second
    assert (place.authority.with_suffix(".key").stat().st_mode & 0o077) == 0
    assert _is_trusted(first, key, place, "api.windtunnel.test")
    assert _is_trusted(second, second_key, place, "api.windtunnel.test")
    assert not _is_trusted(first, key, place, "other.windtunnel.test")


def _is_trusted(certificate: bytes, key: bytes, place: Place, host: str) -> bool:
    """Shake hands in memory, as a client that trusts the authority and wants that host."""
    (place.directory / "chain.pem").write_bytes(certificate + key)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(place.directory / "chain.pem")
    asking = ssl.create_default_context(cafile=str(place.authority))
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    client = asking.wrap_bio(to_client, to_server, server_hostname=host)
    for _ in range(6):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            except ssl.SSLCertVerificationError:
                return False
    return client.version() is not None
