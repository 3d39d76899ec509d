"""Processes come up or say why not, and nothing is left of them, however their starter ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from e2e.rungs.processes import Crew, ProcessFailed, free_port, is_free, state_of

WORKER = {
    "model": "tiny",
    "step_cost": {"overhead": 0.01},
    "engine": {"max_num_seqs": 4, "num_blocks": 100},
}

STARTER = """
import sys, time
from pathlib import Path
from e2e.rungs.processes import Crew
with Crew(Path(sys.argv[1])) as crew:
    worker = crew.add("worker", "reference.worker.emulated", {worker!r})
    crew.start(worker)
    crew.wait_until_ready([worker])
    print(worker.handle.pid, flush=True)
    time.sleep(60)
"""


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z" if Path("/proc/self").exists() else True


def gone_within(pid: int, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while is_alive(pid):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_a_process_is_ready_and_then_gone_and_can_come_back_on_its_port(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        worker = crew.add("worker", "reference.worker.emulated", WORKER)
        crew.start(worker)
        crew.wait_until_ready([worker])
        first = worker.handle.pid

        crew.kill(worker)
        assert not worker.is_running
        assert "refused" in state_of(worker)

        crew.start(worker)
        crew.wait_until_ready([worker])
        assert worker.handle.pid != first
    assert not is_alive(worker.handle.pid)
    assert is_free(worker.port)


def test_a_process_that_ends_at_once_is_told_with_its_last_words(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        worker = crew.add("worker", "reference.worker.emulated", {**WORKER, "modle": "tiny"})
        crew.start(worker)
        with pytest.raises(ProcessFailed, match=r"(?s)worker ended with code 2 before it was ready.*modle.*Extra"):
            crew.wait_until_ready([worker])


def test_a_process_that_is_never_ready_is_told_with_its_last_state(tmp_path: Path) -> None:
    with Crew(tmp_path) as crew:
        worker = crew.add("worker", "reference.worker.emulated", {**WORKER, "start_seconds": 1000.0})
        crew.start(worker)
        with pytest.raises(ProcessFailed, match=r"not ready after 4 s \(last state: status 503\)"):
            crew.wait_until_ready([worker], 4)
    assert not is_alive(worker.handle.pid)


def test_a_failure_in_the_flight_leaves_nothing(tmp_path: Path) -> None:
    crew = Crew(tmp_path)

    with pytest.raises(ZeroDivisionError):
        _start_and_fail(crew)

    assert not is_alive(crew.processes["worker"].handle.pid)


def _start_and_fail(crew: Crew) -> None:
    with crew:
        crew.start(crew.add("worker", "reference.worker.emulated", WORKER))
        raise ZeroDivisionError


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL], ids=lambda s: s.name)
def test_nothing_outlives_its_starter(tmp_path: Path, number: signal.Signals) -> None:
    script = STARTER.format(worker=WORKER)
    with subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as starter:
        assert starter.stdout is not None
        pid = int(starter.stdout.readline())
        assert is_alive(pid)

        starter.send_signal(number)
        starter.wait(15)

    assert gone_within(pid, 5)


def test_ports_are_not_those_that_outgoing_connections_get(tmp_path: Path) -> None:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    lowest = int(given.read_text().split()[0]) if given.exists() else 32_768

    ports = [free_port() for _ in range(20)]

    assert max(ports) < max(lowest, 32_000)
    assert free_port(taken=ports) not in ports
