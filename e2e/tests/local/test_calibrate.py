"""`windtunnel calibrate` on a worker whose step cost is known, and what it says to bad input."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from e2e import cli
from e2e.rungs.processes import Crew
from reference.engine import StepCost
from sim.hardware.profile import read_profile

TRUE = StepCost.linear(0.01, 1e-4, 1e-3)
ENGINE = {"max_num_seqs": 64, "max_num_batched_tokens": 2048, "max_model_len": 8192, "num_blocks": 4000}


@pytest.fixture
def calibrate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = cli.run(["calibrate", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of an emulated worker of the true cost."""
    with Crew(tmp_path_factory.mktemp("crew")) as crew:
        started = crew.add(
            "vllm-0", "reference.worker.emulated", {"model": "tiny", "step_cost": TRUE.to_dict(), "engine": ENGINE}
        )
        crew.start(started)
        crew.wait_until_ready([started])
        yield started.url


def test_a_worker_tells_its_step_cost(worker: str, tmp_path: Path) -> None:
    options = ("--max-requests", "60", "--max-streams", "4", "--longest", "800", "--out", "worker.yaml")
    command = [sys.executable, "-m", "e2e.cli", "calibrate", worker, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=90)
    code, said, complained = done.returncode, done.stdout, done.stderr

    assert code == 0, complained
    profile = read_profile(tmp_path / "worker.yaml")
    assert profile.cost.overhead == pytest.approx(TRUE.overhead, rel=0.15)
    assert profile.cost.per_prefill_token == pytest.approx(TRUE.per_prefill_token, rel=0.3)
    assert profile.cost.per_sequence == pytest.approx(TRUE.per_sequence, rel=0.5)
    assert profile.residuals["tpot_held_out"] < 0.1
    assert profile.kv_tokens == 4000 * 16
    assert "4 at a time at most" in complained
    assert "held out" in said
    assert "step_cost: {base:" in said
    # the comment on top can be pasted into a scenario
    assert "step_cost" in yaml.safe_load((tmp_path / "worker.yaml").read_text().splitlines()[0].lstrip("# "))


def test_tensorrt_llms_iterations_tell_the_step_cost_without_a_probe(calibrate, tmp_path: Path) -> None:
    with Crew(tmp_path / "crew") as crew:
        facts = {
            "model": "tiny",
            "step_cost": TRUE.to_dict(),
            "engine": ENGINE,
            "persona": "trt",
            "perf_metrics": False,
        }
        started = crew.add("trt-0", "reference.worker.emulated", facts)
        crew.start(started)
        crew.wait_until_ready([started])
        with ThreadPoolExecutor(8) as clients:
            answers = [clients.submit(_ask, started.url, 40 + 97 * n % 700, 5 + 7 * n % 20) for n in range(60)]
        assert [answer.result() for answer in answers] == [200] * 60
        with urllib.request.urlopen(f"{started.url}/metrics", timeout=5) as page:
            (tmp_path / "iterations.json").write_bytes(page.read())

    code, said, complained = calibrate("iterations.json", "--out", "trt.yaml")

    assert code == 0, complained
    assert "iterations of TensorRT-LLM" in said
    profile = read_profile(tmp_path / "trt.yaml")
    assert profile.kv_tokens == 4000 * 16
    # the iterations hold times as the engine decided them, not as a client's clock has them
    assert profile.cost.overhead == pytest.approx(TRUE.overhead, rel=0.01)
    assert profile.cost.per_prefill_token == pytest.approx(TRUE.per_prefill_token, rel=0.01)
    assert profile.cost.per_sequence == pytest.approx(TRUE.per_sequence, rel=0.03)


def _ask(url: str, input_tokens: int, output_tokens: int) -> int:
    body = {"model": "tiny", "prompt": "word " * input_tokens, "max_tokens": output_tokens}
    headers = {"content-type": "application/json"}
    asked = urllib.request.Request(f"{url}/v1/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=30) as answer:
        status: int = answer.status
        return status


def test_ctrl_c_leaves_nothing_half_written(worker: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "e2e.cli", "calibrate", worker, "--out", "worker.yaml"]
    probing = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert probing.stderr is not None
    while "probing tiny" not in (line := probing.stderr.readline()):
        assert line, "it ended before it began"
    time.sleep(0.5)

    probing.send_signal(signal.SIGINT)

    assert probing.wait(10) == 130
    assert "nothing half-written was left" in probing.stderr.read()
    assert list(tmp_path.iterdir()) == []
    probing.stderr.close()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["http://127.0.0.1:9"], "connection refused"),
        (["nowhere"], "nowhere: there is no such run directory"),
        (["http://127.0.0.1:9", "--out", "no/where.yaml"], "--out no/where.yaml: there is no directory no"),
        (["http://127.0.0.1:9", "--max-requests", "3"], "--max-requests"),
        (["x.csv", "--max-num-seqs", "64", "--max-num-batched-tokens", "32"], "x.csv: there is no such run directory"),
    ],
)
def test_bad_input_is_one_message(calibrate, arguments, said) -> None:
    code, _, complained = calibrate(*arguments)

    assert code == 2
    assert said in complained
    assert "Traceback" not in complained
