"""The virtual address answers, and moves when the node that announces it no longer does."""

import json
import re
import time

from e2e.suites.traffic import flowing


def announcer(kubectl):
    """The node that announced the address last."""
    events = json.loads(kubectl("get", "events", "-o", "json", namespace="ingress-nginx"))["items"]
    announced = [one for one in events if one.get("reason") == "nodeAssigned"]
    newest = max(announced, key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "")
    return re.search(r'node "([^"]+)"', newest["message"])[1]


def test_the_address_is_one_of_the_pool(door, kubectl) -> None:
    told = kubectl("get", "ipaddresspool", "virtual-addresses", "-o", "json", namespace="metallb-system")
    first, last = json.loads(told)["spec"]["addresses"][0].split("-")

    def number(address):
        return tuple(map(int, address.split(".")))

    assert number(first) <= number(door.address) <= number(last)
    assert door.first_token() == ""


def test_the_address_moves_when_its_speaker_dies(door, kubectl, flown, figure) -> None:
    node = announcer(kubectl)
    told = kubectl("get", "pods", "-l", "component=speaker", "-o", "json", namespace="metallb-system")
    speaker = next(one["metadata"]["name"] for one in json.loads(told)["items"] if one["spec"]["nodeName"] == node)
    with flowing(door, per_second=10, max_tokens=2) as traffic:
        time.sleep(2)
        traffic.mark("the announcing speaker dies")
        killed = time.monotonic() - traffic.began
        kubectl("delete", "pod", speaker, "--grace-period=0", "--force", namespace="metallb-system")
        time.sleep(15)
        kubectl("rollout", "status", "daemonset/speaker", "--timeout=90s", namespace="metallb-system")
    flown(traffic)

    slow = [one.sent_at + one.seconds - killed for one in traffic.answered if not one.is_good]
    figure(f"speaker dies: {len(slow)} requests lost, the last {max(slow, default=0.0):.1f} s after")
    assert all(one.is_good for one in traffic.answered if one.sent_at > killed + 10), str(traffic)
