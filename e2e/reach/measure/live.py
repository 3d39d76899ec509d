"""A live cluster's own pods, measured against what its policies (or those of manifests) predict."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from e2e.reach.measure.matrix import Measured, measure
from e2e.reach.measure.probing import Prober, sources_of
from e2e.reach.parsing import cluster_of
from e2e.reach.reachability import Reach
from e2e.reach.reading import read, read_live
from sim.experiment.errors import InputError


def measure_live(
    paths: list[str],
    kubeconfig: Path | None,
    context: str | None,
    prober: Prober,
    *,
    settle_seconds: float,
    only: Collection[str] | None = None,
) -> Measured:
    """Measure the running pods (of some namespaces only, if named); manifests' policies replace the cluster's.

    Raises:
        InputError: a namespace holds no running pod, or the cluster cannot be read.
    """
    manifests = read_live(kubeconfig, context)
    cluster = cluster_of(manifests)
    if paths:
        cluster = replace(cluster, policies=cluster_of(read(paths)).policies)
    sources = sources_of([one.content for one in manifests if one.kind == "Pod"])
    if only is not None:
        there = {source.namespace for source in sources.values()}
        if missing := sorted(set(only) - there):
            raise InputError(
                f"--namespaces: no running pod in {', '.join(missing)}; there are {', '.join(sorted(there))}"
            )
        sources = {name: source for name, source in sources.items() if source.namespace in only}
        cluster = replace(cluster, pods=tuple(pod for pod in cluster.pods if pod.namespace in only))
    reach = Reach.of(cluster, host_network_is_node=True, match_pod_addresses=True)
    return measure(reach, sources, prober, settle_seconds=settle_seconds)
