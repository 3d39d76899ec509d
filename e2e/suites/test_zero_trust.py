"""Who can reach whom: as the policies predict, on every pair of pods and port; and a check that could fail."""

import json

import pytest

from e2e.reach.measure.canary import fly_canary
from e2e.reach.measure.live import measure_live
from e2e.reach.measure.probing import NodeProber

ONLY = {"llm", "ingress-nginx"}


@pytest.fixture(scope="module")
def kubectl_words(place):
    return ["kubectl", "--kubeconfig", str(place.kubeconfig)]


def test_the_clusters_network_enforces_policies(kubectl_words) -> None:
    canary = fly_canary(kubectl_words, NodeProber())

    assert not canary.trouble, canary


def test_every_connection_is_as_predicted(place, figure) -> None:
    measured = measure_live([], place.kubeconfig, None, NodeProber(), settle_seconds=30, only=ONLY)
    figure(f"zero trust: {str(measured).splitlines()[-1]}")

    assert measured.num_tried > 200
    assert 0 < measured.num_open < measured.num_tried / 3
    assert not measured.wrong, str(measured)


def test_a_policy_that_is_gone_is_noticed(place, kubectl, figure) -> None:
    """Deleting default deny opens ways that the manifests' policies keep closed: the measured matrix says which."""
    names = [
        one["metadata"]["name"]
        for one in json.loads(kubectl("get", "networkpolicy", "-o", "json"))["items"]
        if one["spec"]["podSelector"] == {} and not one["spec"].get("ingress") and not one["spec"].get("egress")
    ]
    assert names, "no default deny found"
    kept = kubectl("get", "networkpolicy", *names, "-o", "json")
    try:
        kubectl("delete", "networkpolicy", *names)
        measured = measure_live(
            ["manifests/llm/overlays/kind"], place.kubeconfig, None, NodeProber(), settle_seconds=8, only=ONLY
        )
    finally:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", given=_as_made(kept))
    figure(f"without default deny: {len(measured.wrong)} connections not as the manifests say")

    assert measured.wrong
    assert all(not one.is_predicted_open for one in measured.wrong)


def _as_made(told: str) -> str:
    """What the server added is not to be applied again."""
    found = json.loads(told)
    items = found.get("items", [found])
    for one in items:
        meta = one["metadata"]
        one["metadata"] = {key: meta[key] for key in ("name", "namespace", "labels") if key in meta}
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
