"""Our simulator and two peers on the same load in the same run: `python -m e2e.bench.simulator_peers [COUNT]`.

The peers are the offline replay of NVIDIA Dynamo (PyPI `ai-dynamo`, Rust) and Vidur (PyPI `vidur`); each is installed
into a home of its own on first use. 512 input and 128 output tokens, 8/s per replica, rows kept; CPU seconds, best of
three (Vidur flies once, a tenth of the requests: each costs it the same), each in a process of its own.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from e2e.bench.peer_homes import NotHere, Peer

COUNT = 20_000
ROUNDS = 3
VIDUR_SHARE = 10
DYNAMO = Peer(name="ai-dynamo", alone=("ai-dynamo==1.6.1", "ai-dynamo-runtime==1.6.1"), script="dynamo_peer.py")
VIDUR = Peer(
    name="vidur",
    alone=("vidur==0.0.26",),
    needs=("numpy", "pandas", "scikit-learn", "fasteners", "huggingface_hub", "plotly_express", "wandb", "ddsketch"),
    script="vidur_peer.py",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One load: replicas, our policy, and Dynamo's router; None: Vidur has none like it."""

    replicas: int
    policy: str
    dynamo: str
    vidur: str | None


ROWS = {
    "one replica, round robin": Row(1, "round_robin", "round_robin", "round_robin"),
    "sixteen, KV aware": Row(16, "prefix_aware", "kv_router", None),
}


def of_ours(workers: int, policy: str, count: int) -> float:
    """Return our requests per CPU second, in this process."""
    from e2e.bench import simulator
    from sim.cluster import fly

    loaded, workload = simulator.build(simulator.Row(replicas=workers, policy=policy), count)
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.process_time()
        record = fly(loaded, workload)
        best = min(best, time.process_time() - began)
        if set(record.requests["status"]) != {"ok"}:
            raise AssertionError("not every request was answered")
    return count / best


def main(arguments: Sequence[str]) -> None:
    """Print ours, the peers', and the ratios; or why a peer is not there."""
    count = int(arguments[0]) if arguments else COUNT
    missing: dict[str, str] = {}
    print(f"{'requests per CPU second':28}{'ours':>10}{'ai-dynamo':>12}{'ratio':>8}{'vidur':>10}{'ratio':>8}")
    for name, row in ROWS.items():
        ours = _ours(name, count)
        dynamo = _peer(DYNAMO, missing, row.replicas, row.dynamo, count)
        vidur = row.vidur and _peer(VIDUR, missing, row.replicas, row.vidur, max(1, count // VIDUR_SHARE))
        print(f"{name:28}{ours:>10,.0f}{_cells(ours, dynamo, 12)}{_cells(ours, vidur or None, 10)}", flush=True)
    for name, why in missing.items():
        print(f"{name}: not run here, because {why}")


def _cells(ours: float, peer: float | None, width: int) -> str:
    return f"{'–':>{width}}{'–':>8}" if peer is None else f"{peer:>{width},.0f}{ours / peer:>8.2f}"


def _peer(peer: Peer, missing: dict[str, str], *arguments: object) -> float | None:
    if peer.name not in missing:
        try:
            return peer.flown(*arguments)
        except NotHere as why:
            missing[peer.name] = str(why)
    return None


def _ours(name: str, count: int) -> float:
    command = [sys.executable, "-m", "e2e.bench.simulator_peers", "--row", name, str(count)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    return float(done.stdout.split()[-1])


if __name__ == "__main__":
    if sys.argv[1:2] == ["--row"]:
        print(of_ours(ROWS[sys.argv[2]].replicas, ROWS[sys.argv[2]].policy, int(sys.argv[3])))
    else:
        main(sys.argv[1:])
