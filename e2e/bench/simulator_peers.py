"""Our simulator and a peer's on the same load in the same run: `python -m e2e.bench.simulator_peers [COUNT]`.

The peer is the offline replay of NVIDIA Dynamo with its polynomial timing model (PyPI `ai-dynamo`, Rust). Its own
requirements cannot be installed everywhere and are not needed for this: `pip install --no-deps ai-dynamo
ai-dynamo-runtime`. 512 input and 128 output tokens, 8/s per replica, rows kept; CPU seconds, best of three, each in a
process of its own.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Sequence

COUNT = 20_000
ROUNDS = 3
ROWS = {
    "one replica, round robin": (1, "round_robin", "round_robin"),
    "sixteen, KV aware": (16, "kv_router", "prefix_aware"),
}
MISSING = "not run here, because ai-dynamo is not installed: pip install --no-deps ai-dynamo ai-dynamo-runtime"


def of_peer(workers: int, mode: str, count: int) -> float:
    """Return the peer's requests per CPU second, in this process."""
    from dynamo._core import run_mocker_synthetic_trace_replay

    engine = {"num_gpu_blocks": 16_384, "max_num_seqs": 256, "max_num_batched_tokens": 2048}
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        done = run_mocker_synthetic_trace_replay(
            512,
            128,
            count,
            num_workers=workers,
            router_mode=mode,
            request_rate=8.0 * workers,
            capture_per_request=True,
            extra_engine_args={"engine": engine},
        )
        best = min(best, time.process_time() - began)
        if done.summary["completed_requests"] != count:
            raise AssertionError(f"the peer answered {done.summary['completed_requests']} of {count} requests")
    return count / best


def of_ours(workers: int, policy: str, count: int) -> float:
    """Return our requests per CPU second, in this process."""
    from e2e.bench.simulator import Row, build
    from sim.cluster import fly

    loaded, workload = build(Row(replicas=workers, policy=policy), count)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        record = fly(loaded, workload)
        best = min(best, time.process_time() - began)
        if set(record.requests["status"]) != {"ok"}:
            raise AssertionError("not every request was answered")
    return count / best


def main(arguments: Sequence[str]) -> None:
    """Print both and the ratio."""
    count = int(arguments[0]) if arguments else COUNT
    if importlib.util.find_spec("dynamo") is None:
        print(f"simulator peers: {MISSING}")
        return
    print(f"{'requests per CPU second':34}{'ours':>10}{'ai-dynamo':>12}{'ratio':>8}")
    for name in ROWS:
        ours, peer = _alone("ours", name, count), _alone("peer", name, count)
        print(f"{name:34}{ours:>10,.0f}{peer:>12,.0f}{ours / peer:>8.2f}", flush=True)


def _alone(whose: str, name: str, count: int) -> float:
    command = [sys.executable, "-m", "e2e.bench.simulator_peers", "--row", whose, name, str(count)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=True, env=os.environ | {"DYN_LOG": "off"}
    )
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        workers, theirs, policy = ROWS[sys.argv[3]]
        number = int(sys.argv[4])
        print(of_peer(workers, theirs, number) if sys.argv[2] == "peer" else of_ours(workers, policy, number))
    else:
        main(sys.argv[1:])
