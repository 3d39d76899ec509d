"""The Helm chart renders what kustomize builds, and its values change what they name and nothing else."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

Objects = dict[tuple[str, str], dict[str, Any]]
Built = Callable[[str], list[dict[str, Any]]]
Render = Callable[..., Objects]


def by_name(objects: list[dict[str, Any]]) -> Objects:
    return {(one["kind"], one["metadata"]["name"]): one for one in objects}


@pytest.fixture(scope="module")
def render(manifests: Path) -> Render:
    """Renders the chart with `--set` of each value."""
    helm = os.environ.get("WINDTUNNEL_HELM") or shutil.which("helm")
    if helm is None:
        pytest.skip("helm is not installed (or name it in WINDTUNNEL_HELM)")

    def rendered(*values: str, namespace: str = "llm") -> Objects:
        command = [helm, "template", "stack", str(manifests / "llm/chart"), "--namespace", namespace]
        command += ["--kube-version", "1.36.0", *(word for value in values for word in ("--set", value))]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return by_name([one for one in YAML(typ="safe", pure=True).load_all(done.stdout) if one])

    return rendered


def test_the_chart_equals_the_base(render: Render, built: Built) -> None:
    base = by_name(built("llm/base"))

    assert render("namespace.create=true") == base
    assert render() == {key: one for key, one in base.items() if key[0] != "Namespace"}


def test_a_release_lives_in_its_own_namespace(render: Render) -> None:
    rendered = render("namespace.create=true", namespace="elsewhere")

    assert ("Namespace", "elsewhere") in rendered
    assert {one["metadata"].get("namespace") for one in rendered.values()} == {"elsewhere", None}
    assert rendered["RoleBinding", "router"]["subjects"][0]["namespace"] == "elsewhere"


def test_images_come_from_where_values_say(render: Render) -> None:
    rendered = render("images.prefix=registry.example.org/llm", "images.tag=7")
    pods = [one["spec"]["template"]["spec"] for key, one in rendered.items() if key[0] == "Deployment"]
    images = {container["image"] for pod in pods for container in [*pod["containers"], *pod.get("initContainers", [])]}

    assert all(image.startswith("registry.example.org/llm/") and image.endswith(":7") for image in images)
    assert len(images) == 7


def test_a_workload_that_is_not_wanted_leaves_nothing_behind(render: Render) -> None:
    gone = set(render()) - set(render("workloads.bert-worker.enabled=false"))

    assert {name for _, name in gone} == {"bert-worker", "bert-worker-service"}
    assert {kind for kind, _ in gone} >= {"Deployment", "Service", "ServiceAccount", "PodDisruptionBudget"}


def test_values_change_what_they_name(render: Render) -> None:
    rendered = render(
        "workloads.vllm-worker.replicas=5", "workloads.llm-api.env.A=1", "autoscalers.router.maxReplicas=9"
    )
    before = render()

    assert rendered["Deployment", "vllm-worker"]["spec"]["replicas"] == 5
    (container,) = rendered["Deployment", "llm-api"]["spec"]["template"]["spec"]["containers"]
    assert {"name": "A", "value": "1"} in container["env"]
    assert rendered["HorizontalPodAutoscaler", "router"]["spec"]["maxReplicas"] == 9
    changed = {name for (_, name), one in rendered.items() if one != before[_, name]}
    assert changed == {"vllm-worker", "llm-api", "router"}


def test_hosts_and_the_certificate_come_from_values(render: Render) -> None:
    rendered = render("ingress.apiHost=api.example.org", "ingress.pageHost=example.org", "ingress.tlsSecret=mine")
    ingresses = [one["spec"] for key, one in rendered.items() if key[0] == "Ingress"]

    assert {rule["host"] for one in ingresses for rule in one["rules"]} == {"api.example.org", "example.org"}
    assert {host for one in ingresses for tls in one["tls"] for host in tls["hosts"]} == {
        "api.example.org",
        "example.org",
    }
    assert {tls["secretName"] for one in ingresses for tls in one["tls"]} == {"mine"}
