"""Who reaches whom among hundreds of pods under a hundred policies: seconds, and how they grow with pods.

`python -m e2e.bench.reach`. The bar: 200 pods and 100 policies in under two seconds. The whole command is timed, from
the manifests' text to its last line, beside Python's own start and the reading of the same text alone.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

SIZES = ((50, 25), (200, 100), (400, 200))
ROUNDS = 3


def manifests(num_pods: int, num_policies: int) -> list[dict[str, Any]]:
    """Return ten namespaces, pods of twenty applications over them, and policies with two rules each way."""
    chance = random.Random(num_pods)
    spaces = [f"team-{number}" for number in range(10)]
    found: list[dict[str, Any]] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"team": name}}}
        for name in spaces
    ]

    def selector() -> dict[str, Any]:
        return {"matchLabels": {"app": f"app-{chance.randrange(20)}"}}

    for number in range(num_pods):
        about: dict[str, Any] = {"name": f"pod-{number}", "namespace": chance.choice(spaces)}
        about |= {"labels": {"app": f"app-{number % 20}", "tier": chance.choice("abc")}}
        container = {"name": "main", "image": "none", "ports": [{"name": "http", "containerPort": 8080}]}
        found.append({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": {"containers": [container]}})
    for number in range(num_policies):
        rules = {}
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            peer = {"podSelector": selector(), "namespaceSelector": {"matchLabels": {"team": chance.choice(spaces)}}}
            ports = [{"protocol": "TCP", "port": chance.choice([80, 8080, "http"])}]
            block = {"ipBlock": {"cidr": f"10.{chance.randrange(200)}.0.0/16"}}
            rules[direction] = [{peers: [peer], "ports": ports}, {peers: [block]}]
        about = {"name": f"policy-{number}", "namespace": chance.choice(spaces)}
        spec = {"podSelector": selector(), "policyTypes": ["Ingress", "Egress"], **rules}
        found.append({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": about, "spec": spec})
    return found


def seconds_of(*command: str) -> float:
    """Run a command and return how long it took, the best of some."""
    best = float("inf")
    for _ in range(ROUNDS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        best = min(best, time.perf_counter() - began)
    return best


def main() -> None:
    """Time every size."""
    with tempfile.TemporaryDirectory() as scratch:
        start = seconds_of(sys.executable, "-c", "import yaml")
        print(f"Python's own start {start:.2f} s")
        for num_pods, num_policies in SIZES:
            path = Path(scratch) / f"{num_pods}.yaml"
            objects = manifests(num_pods, num_policies)
            path.write_text(yaml.safe_dump_all(json.loads(json.dumps(objects))))
            took = seconds_of(sys.executable, "-m", "e2e.cli", "reach", str(path), "--format", "connlist")
            look = (
                f"import yaml; list(yaml.load_all(open({str(path)!r}), getattr(yaml, 'CSafeLoader', yaml.SafeLoader)))"
            )
            reading = seconds_of(sys.executable, "-c", look)
            print(f"{num_pods} pods, {num_policies} policies: {took:.2f} s, of which reading the YAML {reading:.2f} s")


if __name__ == "__main__":
    main()
