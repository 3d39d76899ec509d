"""Parts are lost while traffic flows: new requests see nothing of it, those in flight end whole or say why not."""

import json
import time

import pytest

from e2e.cluster.stack import MODEL
from e2e.suites.traffic import ask, flowing

BEFORE, AFTER = 3, 5
"""Seconds of traffic around what is done."""


@pytest.fixture(autouse=True)
def whole(settled):
    """Each test finds the stack whole."""
    settled()


def pods(kubectl, name, namespace="llm"):
    told = kubectl("get", "pods", "-l", f"app.kubernetes.io/name={name}", "-o", "json", namespace=namespace)
    return [
        one["metadata"]["name"]
        for one in json.loads(told)["items"]
        if one["status"]["phase"] == "Running" and "deletionTimestamp" not in one["metadata"]
    ]


@pytest.mark.parametrize(
    ("name", "namespace"), [("llm-api", "llm"), ("router", "llm"), ("ingress-nginx", "ingress-nginx")]
)
def test_a_pod_is_deleted(door, kubectl, settled, flown, name, namespace) -> None:
    with flowing(door) as traffic:
        time.sleep(BEFORE)
        traffic.mark(f"delete a pod of {name}")
        kubectl("delete", "pod", pods(kubectl, name, namespace)[0], "--wait=false", namespace=namespace)
        settled()
        traffic.mark("whole again")
        time.sleep(AFTER)
    flown(traffic)

    assert not traffic.errors, str(traffic)


def test_a_worker_is_killed_without_grace(door, kubectl, settled, flown) -> None:
    with flowing(door, max_tokens=40) as traffic:
        time.sleep(BEFORE)
        traffic.mark("kill a worker")
        kubectl("delete", "pod", pods(kubectl, "vllm-worker")[0], "--grace-period=0", "--force")
        settled()
        traffic.mark("whole again")
        time.sleep(AFTER)
    flown(traffic)

    # what it had under way is lost, and says so
    assert not traffic.errors, str(traffic)


@pytest.mark.parametrize("name", ["llm-api", "router", "vllm-worker"])
def test_a_rolling_update(door, kubectl, settled, flown, name) -> None:
    with flowing(door) as traffic:
        time.sleep(BEFORE)
        traffic.mark(f"roll out {name}")
        kubectl("rollout", "restart", f"deployment/{name}")
        kubectl("rollout", "status", f"deployment/{name}", "--timeout=170s", seconds=180)
        traffic.mark("rolled out")
        time.sleep(AFTER)
    flown(traffic)

    assert not traffic.errors, str(traffic)


def test_a_node_is_drained(door, kubectl, settled, flown) -> None:
    node = json.loads(kubectl("get", "pod", pods(kubectl, "router")[0], "-o", "json"))["spec"]["nodeName"]
    try:
        with flowing(door) as traffic:
            time.sleep(BEFORE)
            traffic.mark(f"drain {node}")
            kubectl("drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=280s", seconds=290)
            traffic.mark("drained")
            time.sleep(AFTER)
        flown(traffic)
    finally:
        kubectl("uncordon", node)

    assert not traffic.errors, str(traffic)


def test_all_workers_are_gone_and_come_back(door, kubectl, settled, flown, figure) -> None:
    before = json.loads(kubectl("get", "deployment", "vllm-worker", "-o", "json"))["spec"]["replicas"]
    with flowing(door, per_second=2) as traffic:
        time.sleep(BEFORE)
        traffic.mark("scale to 0")
        kubectl("scale", "deployment/vllm-worker", "--replicas=0")
        deadline = time.monotonic() + 90
        while (answer := ask(door))[0] != 503:
            assert time.monotonic() < deadline, f"with no worker left the answer is {answer}"
            time.sleep(0.5)
        traffic.mark("503")
        kubectl("scale", "deployment/vllm-worker", f"--replicas={before}")
        came_back = time.monotonic()
        deadline = came_back + 120
        while ask(door)[0] != 200:
            assert time.monotonic() < deadline, f"{MODEL} has not come back after 120 s"
            time.sleep(0.5)
        traffic.mark("back")
        figure(f"from 0 to {before} workers: first answer after {time.monotonic() - came_back:.0f} s")
        time.sleep(AFTER)
    flown(traffic)

    assert answer[2] == "no_endpoint", answer
    back = traffic.marks[-1][0]
    scaled = traffic.marks[0][0]
    outside = [one for one in traffic.errors if one.sent_at < scaled - 1 or one.sent_at > back + 1]
    assert not outside, str(traffic)
    # whoever is refused is told so in a way that a client can act on
    assert {one.status for one in traffic.errors} <= {503}, str(traffic)
