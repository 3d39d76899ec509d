"""The program that asks from inside a pod, run as it is there: by its text alone."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from e2e.rungs.kind import asker


class Answers(BaseHTTPRequestHandler):
    """Echoes what is posted; `/broken` is 500."""

    def do_GET(self) -> None:
        self._tell(200, "a page")

    def do_POST(self) -> None:
        said = self.rfile.read(int(self.headers["content-length"])).decode()
        self._tell(500 if self.path == "/broken" else 200, said)

    def _tell(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_every_question_is_answered_whatever_comes_of_it(server: str) -> None:
    asked = [
        {"id": 1, "method": "GET", "url": f"{server}/metrics"},
        {"id": 2, "method": "POST", "url": f"{server}/control/slow", "body": {"factor": 2}},
        {"id": 3, "method": "POST", "url": f"{server}/broken", "body": {}},
        {"id": 4, "method": "GET", "url": "http://127.0.0.1:9/metrics"},
        {"id": 5, "method": "GET", "url": "unknown://x"},
    ]
    command = [sys.executable, "-I", "-c", Path(asker.__file__).read_text()]
    lines = "".join(json.dumps(one) + "\n" for one in asked)

    done = subprocess.run(command, input=lines, capture_output=True, text=True, timeout=30, check=True)

    told = {one["id"]: (one["status"], one["text"]) for one in map(json.loads, done.stdout.splitlines())}
    assert told[1] == (200, "a page")
    assert told[2] == (200, '{"factor": 2}')
    assert told[3] == (500, "{}")
    assert told[4][0] == 0
    assert "refused" in told[4][1]
    assert told[5][0] == 0
