"""Endpoints from DNS, from a name server on a real socket: its word is believed, and its silence changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from pydantic import ValidationError

from reference.router.settings import DnsBlock, EndpointBlock
from reference.router.sources.dns import DnsName

HOST = "vllm.serving.svc.cluster.local"


class NameServer(asyncio.DatagramProtocol):
    """A name server over UDP. `records` by name and kind; a test may set what it fails with."""

    def __init__(self) -> None:
        self.records: dict[tuple[str, str], list[str]] = {}
        self.fails_with: dns.rcode.Rcode | None = None
        self.is_silent = False
        self.num_asked = 0

    def connection_made(self, transport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, address) -> None:
        self.num_asked += 1
        if self.is_silent:
            return
        query = dns.message.from_wire(data)
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype)
        answer = dns.message.make_response(query)
        answer.flags |= dns.flags.RA
        found = self.records.get((name, kind))
        if self.fails_with is not None:
            answer.set_rcode(self.fails_with)
        elif found:
            answer.answer.append(dns.rrset.from_text(question.name, 5, "IN", kind, *found))
        elif not any(known == name for known, _ in self.records):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(answer.to_wire(), address)


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(NameServer, local_addr=("127.0.0.1", 0))
    yield protocol
    transport.close()


@asynccontextmanager
async def following(server: NameServer, **fields) -> AsyncIterator[list[dict[str, EndpointBlock]]]:
    told: list[dict[str, EndpointBlock]] = []
    address = "{}:{}".format(*server.transport.get_extra_info("sockname"))
    block = DnsBlock(**{"host": HOST, "port": 8000, "interval_seconds": 0.02, "nameserver": address, **fields})
    source = DnsName("llama", block)
    take = lambda listing: told.append({block.name: block for block in listing["llama"]})  # noqa: E731
    task = asyncio.create_task(source.follow(take))
    try:
        yield told
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while not holds():
        assert loop.time() < end, "it never came to hold"
        await asyncio.sleep(0.002)


@pytest.mark.parametrize(
    ("record", "addresses", "urls"),
    [
        ("A", ["10.0.0.2", "10.0.0.1"], ["http://10.0.0.1:8000", "http://10.0.0.2:8000"]),
        ("AAAA", ["fd00::1"], ["http://[fd00::1]:8000"]),
    ],
)
async def test_each_address_is_an_endpoint(server, record, addresses, urls) -> None:
    server.records[HOST, record] = addresses
    async with following(server, record=record, version="2", weight=0.5) as told:
        await until(lambda: bool(told))

    assert [block.url for block in told[0].values()] == urls
    assert {(block.version, block.weight) for block in told[0].values()} == {("2", 0.5)}


async def test_srv_records_name_their_ports_and_those_of_lower_priority_wait(server) -> None:
    name = f"_http._tcp.{HOST}"
    server.records[name, "SRV"] = [
        f"0 50 8001 vllm-1.{HOST}.",
        f"0 50 8000 vllm-0.{HOST}.",
        f"10 50 9000 spare.{HOST}.",
    ]
    server.records[f"vllm-0.{HOST}", "A"] = ["10.0.0.1"]
    server.records[f"vllm-1.{HOST}", "AAAA"] = ["fd00::2"]
    async with following(server, host=name, record="SRV", port=None) as told:
        await until(lambda: bool(told))

    assert {name: block.url for name, block in told[0].items()} == {
        f"vllm-0.{HOST}:8000": "http://10.0.0.1:8000",
        f"vllm-1.{HOST}:8001": "http://[fd00::2]:8001",
    }


async def test_changes_are_told_and_sameness_is_not(server) -> None:
    server.records[HOST, "A"] = ["10.0.0.1", "10.0.0.2"]
    async with following(server) as told:
        await until(lambda: server.num_asked >= 3)
        server.records[HOST, "A"] = ["10.0.0.2", "10.0.0.1"]
        await until(lambda asked=server.num_asked: server.num_asked >= asked + 3)
        assert len(told) == 1
        server.records[HOST, "A"] = ["10.0.0.3"]
        await until(lambda: len(told) == 2)

    assert list(told[1]) == ["10.0.0.3:8000"]


@pytest.mark.parametrize("gone", [True, False])
async def test_a_service_without_pods_has_no_endpoints(server, gone) -> None:
    """CoreDNS answers a headless Service without pods with no records, or that there is no such name."""
    server.records[HOST, "A"] = ["10.0.0.1"]
    async with following(server) as told:
        await until(lambda: bool(told))
        server.records[HOST, "A"] = []
        if gone:
            server.records.clear()
        await until(lambda: len(told) == 2)

    assert told[1] == {}


async def test_a_name_server_that_fails_changes_nothing(server, caplog) -> None:
    server.records[HOST, "A"] = ["10.0.0.1"]
    async with following(server) as told:
        await until(lambda: bool(told))
        server.fails_with = dns.rcode.SERVFAIL
        await until(lambda asked=server.num_asked: server.num_asked >= asked + 5)
        assert len(told) == 1
        server.records[HOST, "A"] = ["10.0.0.2"]
        server.fails_with = None
        await until(lambda: len(told) == 2)

    assert caplog.text.count("its endpoints stay as they are") == 1


async def test_a_silent_name_server_changes_nothing(server, monkeypatch, caplog) -> None:
    monkeypatch.setattr("reference.router.sources.dns.TIMEOUT_SECONDS", 0.1)
    server.records[HOST, "A"] = ["10.0.0.1"]
    async with following(server) as told:
        await until(lambda: bool(told))
        server.is_silent = True
        await until(lambda: "its endpoints stay as they are" in caplog.text)
        server.is_silent = False
        server.records[HOST, "A"] = ["10.0.0.2"]
        await until(lambda: len(told) == 2)


def test_addresses_need_a_port() -> None:
    with pytest.raises(ValidationError, match="expected `port`"):
        DnsBlock(host=HOST)
    with pytest.raises(ValidationError, match="nameserver"):
        DnsBlock(host=HOST, port=1, nameserver="10.0.0.1")
