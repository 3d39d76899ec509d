"""The nodes: a kind cluster made, found again, deleted; its network's addresses; GPUs that are said to be there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from e2e.cluster.place import Place
from e2e.cluster.programs import StageFailed
from e2e.cluster.stages import Clock

NUM_ADDRESSES = 31
GPUS_A_NODE = 8


@dataclass(frozen=True, slots=True)
class Nodes:
    """The machines of a cluster of ours."""

    place: Place
    image: str
    num_workers: int = 2
    api_port: int | None = None

    def exists(self) -> bool:
        """Say whether kind knows the cluster."""
        return self.place.name in self.place.programs.must("kind", "get", "clusters", seconds=30).split()

    def make(self, clock: Clock) -> str:
        """Make the cluster, or take it as it is."""
        programs = self.place.programs
        if self.exists():
            programs.must("kind", "export", "kubeconfig", "--name", self.place.name, seconds=60)
            told = "was there"
        else:
            programs.must(
                *("kind", "create", "cluster", "--name", self.place.name, "--image", self.image, "--config", "-"),
                *("--wait", "0s"),
                seconds=clock.left,
                given=self.config(),
            )
            told = f"{self.num_workers + 1} nodes of {self.image}"
        clock.until(self._missing)
        self._say_gpus()
        return told

    def config(self) -> str:
        """Return kind's configuration: an ordinary one."""
        networking = {"apiServerPort": self.api_port} if self.api_port else {}
        return json.dumps(
            {
                "kind": "Cluster",
                "apiVersion": "kind.x-k8s.io/v1alpha4",
                "networking": networking,
                "nodes": [{"role": "control-plane"}, *({"role": "worker"} for _ in range(self.num_workers))],
            }
        )

    def delete(self) -> None:
        """Delete the cluster, if it is there."""
        self.place.programs.must("kind", "delete", "cluster", "--name", self.place.name, seconds=180)

    def _missing(self) -> str:
        answer = self.place.programs.ask("kubectl", "get", "nodes", "-o", "json", seconds=30)
        if answer.code:
            return answer.last_words
        nodes = json.loads(answer.out)["items"]
        waiting = [
            node["metadata"]["name"]
            for node in nodes
            if not any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])
        ]
        return f"not ready: {', '.join(waiting)}" if waiting else ""

    def _say_gpus(self) -> None:
        """Let workers say that they have GPUs, so that manifests which ask for some are scheduled; there are none."""
        programs = self.place.programs
        workers = programs.must(
            *("kubectl", "get", "nodes", "-l", "!node-role.kubernetes.io/control-plane", "-o", "name"), seconds=30
        ).split()
        patch = [{"op": "add", "path": "/status/capacity/nvidia.com~1gpu", "value": str(GPUS_A_NODE)}]
        for worker in workers:
            programs.must(
                *("kubectl", "patch", worker, "--subresource=status", "--type=json", "-p", json.dumps(patch)),
                seconds=30,
            )


def virtual_addresses(network: IPv4Network) -> str:
    """Return a range of addresses for load balancers, at the end of a network, where Docker gives none to nodes."""
    last = network.num_addresses - 26
    first = last - NUM_ADDRESSES + 1
    if first <= 32:
        raise StageFailed(f"the nodes' network {network} is too small for {NUM_ADDRESSES} virtual addresses")
    return f"{network[first]}-{network[last]}"


def nodes_network(place: Place) -> IPv4Network:
    """Return the IPv4 network that kind's nodes are in.

    Raises:
        StageFailed: Docker knows no such network.
    """
    told = place.programs.must("docker", "network", "inspect", "kind", "--format", "{{json .IPAM.Config}}", seconds=30)
    for config in json.loads(told) or []:
        network = ip_network(config["Subnet"])
        if isinstance(network, IPv4Network):
            return network
    raise StageFailed("Docker's network `kind` has no IPv4 addresses")
