"""`python -m e2e.bench [NAME ...]`: every benchmark in turn, or those named."""

from __future__ import annotations

import subprocess
import sys

BENCHMARKS = {
    "engine": "the engine alone, leaping and stepping",
    "simulator": "the whole simulator, by tokens, replicas and prefixes",
    "simulator_peers": "the simulator beside two others on the same load",
    "serving": "gateway and router, beside a relay in 20 lines",
    "serving_latency": "what they add to the time to first token",
    "reach": "who reaches whom, by pods and policies",
    "serving_memory": "what they keep of 50,000 requests, a fifth of them left early",
}


def main(names: list[str]) -> int:
    """Run benchmarks one after the other, each in its own process; return 1 when one could not run."""
    unknown = [name for name in names if name not in BENCHMARKS]
    if unknown:
        print(f"error: there is no benchmark {unknown[0]!r}; there are {', '.join(BENCHMARKS)}", file=sys.stderr)
        return 2
    failed = 0
    for name in names or BENCHMARKS:
        print(f"== {name}: {BENCHMARKS[name]}", flush=True)
        failed |= subprocess.run([sys.executable, "-m", f"e2e.bench.{name}"]).returncode
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
