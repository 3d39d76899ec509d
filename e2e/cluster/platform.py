"""What the stack stands on: addresses (MetalLB), a front door (ingress-nginx), and resource metrics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from e2e.cluster.nodes import nodes_network, virtual_addresses
from e2e.cluster.place import Place
from e2e.cluster.programs import StageFailed
from e2e.cluster.stages import Clock
from e2e.components import Component, render
from sim.experiment.errors import InputError

_POOL = re.compile(r"\b\d+(?:\.\d+){3}-\d+(?:\.\d+){3}\b")
WAITED_FOR = (
    ("metallb-system", "deployment/controller"),
    ("metallb-system", "daemonset/speaker"),
    ("ingress-nginx", "deployment/ingress-nginx-controller"),
    ("kube-system", "deployment/metrics-server"),
)


@dataclass(frozen=True, slots=True)
class Platform:
    """The platform's components, in the versions that are wanted."""

    place: Place
    components: Mapping[str, Component]

    def install(self, clock: Clock) -> str:
        """Apply the controllers, wait for them, then apply the configuration that their webhooks check."""
        components = dict(self.components)
        metrics = components["metrics-server"]
        if "--kubelet-insecure-tls" not in metrics.args:
            # kind's kubelets sign their own certificates
            components["metrics-server"] = _with_argument(metrics, "--kubelet-insecure-tls")
        for folder in ("metallb/controller", "ingress/nginx", "metrics_server"):
            clock.seen = f"applying {folder}"
            self.place_apply(rendered(f"platform/{folder}", components, clock), clock)
        for namespace, what in WAITED_FOR:
            rolled_out(self.place, namespace, what, clock)
        pool = rendered("platform/metallb/config", components, clock)
        addresses = virtual_addresses(nodes_network(self.place))

        def missing() -> str:
            answer = self.place.programs.ask(*APPLY, seconds=60, given=_POOL.sub(addresses, pool))
            return answer.last_words if answer.code else ""

        # the webhook answers some time after its pod is ready
        clock.until(missing)
        return f"MetalLB with {addresses}, ingress-nginx, metrics-server"

    def place_apply(self, text: str, clock: Clock) -> None:
        """Apply manifests."""
        self.place.programs.must(*APPLY, seconds=min(180, clock.left), given=text)


APPLY = ("kubectl", "apply", "--server-side", "--force-conflicts", "-f", "-")


def rendered(folder: str, components: Mapping[str, Component], clock: Clock) -> str:
    """Return the manifests of a folder.

    Raises:
        StageFailed: kustomize cannot build them.
    """
    try:
        return render(folder, components, seconds=min(180, clock.left))
    except InputError as error:
        raise StageFailed(str(error)) from error


def rolled_out(place: Place, namespace: str, what: str, clock: Clock) -> None:
    """Wait until all pods of a workload are new and available.

    Raises:
        StageFailed: they are not within the stage's time; with what its pods say.
    """

    def missing() -> str:
        answer = place.programs.ask("kubectl", "-n", namespace, "rollout", "status", what, "--watch=false", seconds=30)
        return "" if answer.code == 0 and "success" in answer.out else f"{namespace}/{what}: {answer.last_words}"

    try:
        clock.until(missing)
    except StageFailed as error:
        raise StageFailed(f"{error}; {_pods(place, namespace)}") from error


def _pods(place: Place, namespace: str) -> str:
    columns = "custom-columns=N:.metadata.name,P:.status.phase,R:.status.containerStatuses[*].state.waiting.reason"
    answer = place.programs.ask("kubectl", "-n", namespace, "get", "pods", "--no-headers", "-o", columns, seconds=30)
    return "pods: " + "; ".join(" ".join(line.split()) for line in answer.out.strip().splitlines())


def _with_argument(component: Component, argument: str) -> Component:
    from dataclasses import replace

    return replace(component, args=(*component.args, argument))
