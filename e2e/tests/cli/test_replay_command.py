"""`windtunnel replay` from file to run directory, in simulated time and against a URL."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SERVER = Path(__file__).parents[1] / "replay" / "sse_server.py"


@pytest.fixture
def url():
    process = subprocess.Popen([sys.executable, str(SERVER)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
    process.stdin.close()
    process.wait(timeout=10)
    process.stdout.close()


def test_a_flight_leaves_a_run_that_a_browser_and_a_program_can_read(windtunnel, scenario):
    told = windtunnel("replay", scenario)
    assert told.returncode == 0, told.stderr
    run = scenario.parent / "runs" / "small-sim-1"
    names = {path.name for path in run.iterdir()}
    assert {"run.json", "requests.parquet", "report.html", "summary.json", "junit.xml"} <= names
    assert json.loads((run / "summary.json").read_text())["outcome"] == "pass"
    assert "simulated" in told.stdout
    assert "small-sim-1" in told.stdout


def test_the_same_seed_gives_the_same_bytes_and_runs_do_not_replace_each_other(windtunnel, scenario):
    for _ in range(2):
        assert windtunnel("replay", scenario).returncode == 0
    first, second = (scenario.parent / "runs" / f"small-sim-{number}" for number in (1, 2))
    for name in ("requests.parquet", "run.json", "summary.json"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_verdict_that_does_not_hold_is_exit_code_1(windtunnel, scenario):
    scenario.write_text(scenario.read_text().replace("chat.slo_attainment >= 0.5", "chat.ttft_p50 < 1us"))
    told = windtunnel("replay", scenario, "--out", "failed")
    assert told.returncode == 1, told.stderr + told.stdout
    assert (scenario.parent / "failed" / "report.html").exists()


def test_a_url_is_flown_at_with_its_own_model(windtunnel, scenario, url):
    told = windtunnel("replay", scenario, "--on", url, "--set", "workload.duration=2s", "--out", "at-url")
    run = scenario.parent / "at-url"
    assert run.exists(), told.stderr
    record = json.loads((run / "run.json").read_text())
    assert record["rung"] == "url"
    assert any("cluster was not built" in sentence for sentence in record["left_out"])
    assert (run / "logs" / "sender-0.log").exists()
    assert told.returncode in (0, 3), told.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_flight_that_is_interrupted_takes_its_sender_with_it(scenario, url, number, code):
    scratch = scenario.parent / "scratch"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "e2e.cli", "replay", str(scenario), "--on", url, "--out", "interrupted"],
        cwd=scenario.parent,
        env=os.environ | {"TMPDIR": str(scratch)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    deadline = time.monotonic() + 40
    while not (logs := list(scratch.glob("*/logs/windtunnel-replay-*/rows-*"))):
        assert time.monotonic() < deadline, f"no sender came up; {list(scratch.rglob('*'))}"
        time.sleep(0.05)
    sender = _reader_of(logs[0].parent)
    process.send_signal(number)
    assert process.wait(timeout=30) == code
    said = process.stderr.read()
    process.stderr.close()
    assert "Traceback" not in said
    assert not Path(f"/proc/{sender}").exists()
    assert list(scratch.iterdir()) == []
    assert not (scenario.parent / "interrupted").exists()


def _reader_of(plan: Path) -> int:
    """Return the process that was started with a plan (Linux)."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if str(plan).encode() in command:
            return int(process.name)
    raise AssertionError(f"no process flies {plan}")


def test_a_model_that_the_url_does_not_serve_is_told_with_the_nearest(windtunnel, scenario, url):
    told = windtunnel("replay", scenario, "--on", url, "--model", "stedy")
    assert told.returncode == 2
    assert "did you mean --model steady?" in told.stderr
