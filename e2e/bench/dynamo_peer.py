"""The offline replay of NVIDIA Dynamo with its polynomial timing model, on the benchmark's load.

Run by a Python that has `ai-dynamo`: `dynamo_peer.py REPLICAS ROUTER COUNT` prints requests per CPU second. 512 input
and 128 output tokens, 8/s per replica, rows kept, best of three.
"""

from __future__ import annotations

import sys
import time

ROUNDS = 3


def main(workers: int, mode: str, count: int) -> None:
    """Fly and print."""
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
    print(count / best)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
