"""The front door: hosts and paths, our certificate and its renewal, bodies too large, tokens as they come."""

import http.client
import json
import ssl
import time

import pytest

from e2e.cluster.place import API_HOST, PAGE_HOST
from e2e.cluster.stack import MODEL, Stack
from e2e.suites.traffic import flowing


@pytest.mark.parametrize("host", [API_HOST, PAGE_HOST])
def test_the_certificate_is_ours(door, host) -> None:
    # a handshake that succeeds has checked the name and the authority
    connection = door.connect(host)
    connection.connect()
    certificate = connection.sock.getpeercert()
    connection.close()

    assert ("DNS", host) in certificate["subjectAltName"]


def test_another_host_is_not_ours(door) -> None:
    connection = door.connect("other.windtunnel.test")
    with pytest.raises(ssl.SSLCertVerificationError):
        connection.connect()
    connection.close()


def test_plain_http_is_sent_to_https(door) -> None:
    connection = http.client.HTTPConnection(door.address, 80, timeout=10)
    connection.request("GET", "/", headers={"host": PAGE_HOST})
    answer = connection.getresponse()
    connection.close()

    assert answer.status == 308
    assert answer.getheader("location") == f"https://{PAGE_HOST}"


def test_only_the_api_is_below_the_apis_host(door) -> None:
    connection = door.connect(API_HOST)
    connection.request("GET", "/metrics")
    status = connection.getresponse().status
    connection.close()

    assert status == 404


def test_a_body_that_is_too_large_is_413(door) -> None:
    connection = door.connect(timeout=60)
    connection.putrequest("POST", "/v1/chat/completions")
    connection.putheader("authorization", f"Bearer {door.place.api_key}")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", str(64 * 2**20))
    connection.endheaders(b"{")
    status = connection.getresponse().status
    connection.close()

    assert status == 413


def test_tokens_come_as_they_are_made(door) -> None:
    body = {"model": MODEL, "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 60}
    headers = {"authorization": f"Bearer {door.place.api_key}", "content-type": "application/json"}
    connection = door.connect()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    began = time.monotonic()
    answer = connection.getresponse()
    came = []
    while answer.readline():
        came.append(time.monotonic() - began)
    connection.close()

    # a token takes some 20 ms; one that buffers gives the first when it has the last
    assert came[0] < came[-1] / 3
    assert came[-1] > 0.8


def test_a_new_certificate_is_served_without_a_request_lost(door, place, flown) -> None:
    def serial() -> str:
        connection = door.connect()
        connection.connect()
        found = connection.sock.getpeercert()["serialNumber"]
        connection.close()
        return found

    before = serial()
    with flowing(door) as traffic:
        time.sleep(2)
        traffic.mark("new certificate")
        Stack(place, {}).renew_certificate()
        deadline = time.monotonic() + 90
        while serial() == before:
            assert time.monotonic() < deadline, "the old certificate is still served after 90 s"
            time.sleep(0.5)
        traffic.mark("it is served")
        time.sleep(2)
    flown(traffic)

    assert not traffic.errors
