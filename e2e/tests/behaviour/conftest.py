"""Gateway, router and workers as processes, chained as deployed; and a worker that says what a test tells it."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import sha256
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from e2e.rungs.processes import Crew, Process, post

KEY = "wt-behaviour-secret"
ENGINE = {"max_num_seqs": 8, "max_num_batched_tokens": 512, "max_model_len": 8192, "num_blocks": 4000}
WORKER = {"step_cost": {"overhead": 0.004}, "engine": ENGINE, "control": True}
CHAT = "/v1/chat/completions"


class Scripted(threading.Thread):
    """A worker on a raw socket: it answers `/health` and keeps what it was asked; to a POST it says `answer`."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.answer = b""
        self.asked: list[bytes] = []

    def run(self) -> None:
        """Answer each connection once, in a thread of its own."""
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            raw = b""
            while b"\r\n\r\n" not in raw or (raw.startswith(b"POST") and not _is_whole(raw)):
                part = connection.recv(65536)
                if not part:
                    return
                raw += part
            if raw.startswith(b"POST"):
                self.asked.append(raw)
                connection.sendall(self.answer)
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")


def _is_whole(raw: bytes) -> bool:
    head, _, body = raw.partition(b"\r\n\r\n")
    return len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])


@dataclass
class Said:
    """An answer as it came."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> dict[str, Any]:
        """The error object."""
        return json.loads(self.body)["error"]

    @property
    def events(self) -> list[str]:
        """What stands in the events of a stream."""
        return [line.removeprefix("data: ") for line in self.body.decode().splitlines() if line.startswith("data: ")]


@dataclass
class Stack:
    """The chain under test. Models: `tiny` on two workers, `narrow` on one that takes one request, `scripted`."""

    crew: Crew
    gateway: Process
    router: Process
    workers: dict[str, Process]
    scripted: Scripted
    headers: dict[str, str] = field(default_factory=lambda: {"authorization": f"Bearer {KEY}"})

    def body(self, **more: Any) -> dict[str, Any]:
        """Return a chat completion of eight tokens, with fields over it."""
        messages = [{"role": "user", "content": "how does lift come about"}]
        return {"model": "tiny", "messages": messages, "max_tokens": 8, "ignore_eos": True, **more}

    def ask(self, at: Process | None = None, headers: dict[str, str] | None = None, **body: Any) -> Said:
        """Ask for a chat completion and read the answer whole."""
        return self.send("POST", CHAT, json.dumps(self.body(**body)).encode(), at, headers)

    def send(
        self,
        method: str,
        path: str,
        raw: bytes | None = None,
        at: Process | None = None,
        headers: dict[str, str] | None = None,
    ) -> Said:
        """Send a request and read the answer whole."""
        with closing(HTTPConnection("127.0.0.1", (at or self.gateway).port, timeout=20)) as connection:
            told = {"content-type": "application/json", **self.headers, **(headers or {})}
            connection.request(method, path, raw, told)
            answer = connection.getresponse()
            return Said(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def leave_after(self, holds: Callable[[], bool], **body: Any) -> float:
        """Ask, leave as soon as something holds; return the moment of leaving, on the monotonic clock."""
        raw = json.dumps(self.body(**body)).encode()
        with socket.create_connection(("127.0.0.1", self.gateway.port)) as client:
            head = (
                f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\nauthorization: Bearer {KEY}\r\n"
            )
            client.sendall(head.encode() + b"content-length: %d\r\n\r\n" % len(raw) + raw)
            until(holds)
        return time.monotonic()

    def inject(self, worker: str, **fault: Any) -> None:
        """Let a worker do something wrong."""
        post(f"{self.workers[worker].url}/control/inject", fault)

    def heal(self) -> None:
        """End all faults."""
        for process in self.workers.values():
            self.send("DELETE", "/control/inject", at=process)

    def load(self, worker: str) -> int:
        """Return how many sequences a worker has, running and waiting."""
        return int(json.loads(self.send("GET", "/load", at=self.workers[worker]).body)["server_load"])

    def gauge(self, name: str, **labels: str) -> float:
        """Return the sum of a metric of the router over all series with these labels."""
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        lines = self.send("GET", "/metrics", at=self.router).body.decode().splitlines()
        found = [line for line in lines if line.startswith((name + "{", name + " ")) and all(w in line for w in wanted)]
        return sum(float(line.rpartition(" ")[2]) for line in found)


def until(holds: Callable[[], bool], seconds: float = 10.0) -> float:
    """Wait until something holds; return how long it took."""
    began = time.monotonic()
    while not holds():
        assert time.monotonic() - began < seconds, "it never came to hold"
        time.sleep(0.002)
    return time.monotonic() - began


@pytest.fixture(scope="package")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Run the chain for all tests of this folder."""
    scripted = Scripted()
    scripted.start()
    directory: Path = tmp_path_factory.mktemp("chain")
    with Crew(directory) as crew:
        models = {"one": "tiny", "two": "tiny", "narrow": "narrow"}
        workers = {
            name: crew.add(name, "reference.worker.emulated", {"model": model, **WORKER})
            for name, model in models.items()
        }
        pools = [
            _pool("tiny", [workers["one"], workers["two"]], retry_min_per_second=100.0, ejection_base_seconds=0.1),
            _pool("narrow", [workers["narrow"]], max_in_flight_per_endpoint=1, retry_budget_ratio=0.0),
            {"model": "scripted", "endpoints": [{"name": "scripted", "url": scripted.url}], "max_attempts": 1},
        ]
        settings = {"pools": pools, "health_interval_seconds": 0.25, "decision_header": "always"}
        router = crew.add("router", "reference.router", settings, ready_path="/readyz")
        keys = [{"sha256": sha256(KEY.encode()).hexdigest(), "tenant": "red"}]
        told = {"router_url": router.url, "keys": keys, "max_body_bytes": 100_000, "access_log": ""}
        gateway = crew.add("gateway", "reference.gateway", told, ready_path="/readyz")
        everybody = [*workers.values(), router, gateway]
        for process in everybody:
            crew.start(process)
        crew.wait_until_ready(everybody)
        stack = Stack(crew, gateway, router, workers, scripted)
        until(lambda: stack.gauge("windtunnel_router_endpoints", state="available") == 4)
        yield stack
    scripted.listener.close()


def _pool(model: str, workers: list[Process], **more: Any) -> dict[str, Any]:
    endpoints = [{"name": worker.name, "url": worker.url} for worker in workers]
    return {"model": model, "endpoints": endpoints, "policy": "round_robin", **more}


@pytest.fixture(autouse=True)
def _healed(stack: Stack) -> Iterator[None]:
    yield
    stack.heal()
    # who was ejected is taken back by the first request after its time
    until(lambda: stack.ask().status == 200 and not stack.gauge("windtunnel_router_endpoints", state="ejected"))
