"""SIGTERM: what is under way is finished, readiness is withdrawn first, and the process ends by itself."""

from __future__ import annotations

import json
import os
import signal
import time
import urllib.error
import urllib.request
from http.client import HTTPConnection
from pathlib import Path

from e2e.rungs.processes import Crew, Process, state_of

WORKER = {"model": "tiny", "step_cost": {"overhead": 0.03}, "engine": {"max_num_seqs": 4, "num_blocks": 200}}


def test_a_stream_outlives_sigterm_to_every_server_on_its_way(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        worker = crew.add("worker", "reference.worker.emulated", WORKER)
        pool = {"model": "tiny", "endpoints": [{"name": "worker", "url": worker.url}]}
        router = crew.add("router", "reference.router", {"pools": [pool]}, ready_path="/readyz")
        gateway = crew.add(
            "gateway", "reference.gateway", {"router_url": router.url, "drain_seconds": 1.0}, ready_path="/readyz"
        )
        for process in (worker, router, gateway):
            crew.start(process)
        crew.wait_until_ready([worker, router, gateway])
        body = {"model": "tiny", "stream": True, "max_tokens": 60, "ignore_eos": True}
        body["messages"] = [{"role": "user", "content": "hello"}]
        stream = HTTPConnection("127.0.0.1", gateway.port, timeout=20)
        stream.request("POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"})
        answer = stream.getresponse()
        answer.readline()

        for process in (gateway, router, worker):
            os.kill(process.handle.pid, signal.SIGTERM)
        time.sleep(0.2)

        assert state_of(gateway) == "status 503"
        assert urllib.request.urlopen(f"{gateway.url}/healthz", timeout=2).status == 200
        text = answer.read().decode()
        assert text.endswith("data: [DONE]\n\n")
        assert text.count('"content":') >= 59
        stream.close()
        assert all(_ends(process) for process in (gateway, router, worker))


def _ends(process: Process) -> bool:
    deadline = time.monotonic() + 10
    while process.is_running and time.monotonic() < deadline:
        time.sleep(0.05)
    return not process.is_running
