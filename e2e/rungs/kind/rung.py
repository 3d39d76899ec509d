"""Flying on a cluster: through the load balancer's address and the ingress, with TLS; then all of it is taken away."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from e2e.cluster.diagnostics import bundle
from e2e.cluster.nodes import Nodes
from e2e.cluster.place import Place
from e2e.cluster.platform import rendered
from e2e.cluster.programs import StageFailed
from e2e.cluster.stack import OVERLAY, Stack
from e2e.cluster.stages import Clock, run
from e2e.components import read_components
from e2e.progress import Progress
from e2e.rungs.kind.camp import Camp
from e2e.rungs.kind.manifests import FlightManifests
from sim.experiment.disaggregation import not_disaggregated
from sim.experiment.errors import InputError
from sim.experiment.record import RunRecord
from sim.experiment.resending import rules_of
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from e2e.replay import ReplayResult
    from e2e.rungs import OnCluster

RUNG = "kind"
DOMAIN = "windtunnel.test"


def fly(
    loaded: LoadedScenario,
    workload: Workload,
    out_dir: Path,
    progress: Progress | None,
    cluster: OnCluster,
    *,
    seed: int | None = None,
) -> RunRecord:
    """Fly a workload at the scenario's cluster as pods; logs go to `out_dir`.

    Raises:
        InputError: the cluster, or the flight's stack on it, did not come up.
    """
    from e2e.replay import replay
    from e2e.rungs.configuration import keys_of
    from e2e.rungs.deployed_flight import fill_decisions, fly_deployed

    scenario = loaded.scenario
    _require_emulated(scenario)
    record = RunRecord(
        scenario_name=scenario.name,
        scenario_yaml=loaded.yaml_text,
        rung=RUNG,
        seed=scenario.seed if seed is None else seed,
        workload_hash=workload.content_hash,
        warm_up_seconds=scenario.measure.warm_up,
        duration_seconds=workload.duration_seconds,
        left_out=left_out(scenario),
    )
    with ExitStack() as stack:
        place = stack.enter_context(_ground(cluster))
        camp = stack.enter_context(_camp(loaded, place, cluster, out_dir))
        starting_seconds = camp.pitch()
        address = Stack(place, {}).front_door(Clock(time.monotonic() + 30)).address

        def send(on_start: Callable[[float], None]) -> ReplayResult:
            return replay(
                workload,
                f"https://{camp.manifests.host}",
                api_keys=keys_of(scenario),
                out_dir=out_dir,
                progress=progress,
                on_start=on_start,
                retries=rules_of(scenario),
                authority=place.authority,
                connect_to=address,
            )

        is_here = cluster.kubeconfig is None
        result = fly_deployed(record, scenario, camp, camp.hands, starting_seconds, send, is_on_this_machine=is_here)
        (out_dir / "decisions.jsonl").write_bytes(camp.decisions())
        fill_decisions(record, out_dir / "decisions.jsonl", result.zero)
        record.facts["notes"] += _notes(scenario, starting_seconds)
        record.facts["url"] = f"https://{camp.manifests.host} at {address}"
    return record


def left_out(scenario: Scenario) -> list[str]:
    """Say what such a cluster cannot do of what a scenario asks."""
    sentences = []
    gpus = sorted({pool.gpu for pool in scenario.cluster.pools if pool.gpu})
    if gpus:
        sentences.append(f"No {', '.join(gpus)} on these nodes: each worker is the emulated engine, timed as one.")
    sentences += not_disaggregated(scenario)
    gateway = scenario.cluster.gateway
    if gateway.replicas > 1 and gateway.rate_limits:
        sentences.append(
            f"One gateway instead of {gateway.replicas}: no Redis is there that they could share limits by."
        )
    if any(fault.kind == "node_loss" for fault in scenario.faults):
        sentences.append("Nodes: those of the scenario are groups of pods; a lost one falls silent and is replaced.")
    return sentences


def _notes(scenario: Scenario, starting_seconds: float) -> list[str]:
    from sim.cluster.cold_start import cold_start_of

    wanted = min(cold_start_of(pool).seconds(has_image=True) for pool in scenario.cluster.pools)
    if wanted >= starting_seconds:
        return []
    return [f"a pod takes {starting_seconds:.0f} s to start here, longer than the scenario's cold start"]


def _require_emulated(scenario: Scenario) -> None:
    for number, pool in enumerate(scenario.cluster.pools):
        if pool.worker is not None:
            raise InputError(
                f"cluster.pools[{number}].worker: {pool.worker.kind}: a flight on kind has emulated engines only; "
                "expected a pool without `worker`, or --on local"
            )


@contextmanager
def _ground(cluster: OnCluster) -> Iterator[Place]:
    """Give the cluster: as it is, or brought up as far as a flight needs it; one that was made goes again."""
    from e2e.cluster.ascent import stages_of

    place = Place.of(cluster.name, cluster.kubeconfig)
    components = read_components(cluster.components)
    nodes = Nodes(place, f"kindest/node:{components['kubernetes'].version}")
    was_there, has_failed = True, True
    begun: list[str] = []
    try:
        if not cluster.reuse:
            was_there = cluster.kubeconfig is not None or _exists(nodes)
            stages = [one for one in stages_of(place, nodes, components) if one.name not in ("stack", "first token")]
            run(stages, on_begin=begun.append)
        elif cluster.kubeconfig is None and not _exists(nodes):
            raise InputError(f"--reuse: there is no cluster {cluster.name}; without it one is made")
        yield place
        has_failed = False
    except StageFailed as error:
        raise InputError(f"--on kind: {error}") from error
    finally:
        if not was_there and len(begun) > 1 and not cluster.keeps(has_failed=has_failed):
            nodes.delete()


def _exists(nodes: Nodes) -> bool:
    try:
        return nodes.exists()
    except StageFailed:
        # no kind, or no Docker: preflight says it better
        return False


@contextmanager
def _camp(loaded: LoadedScenario, place: Place, cluster: OnCluster, out_dir: Path) -> Iterator[Camp]:
    """Give a namespace for the flight; when something fails, a bundle of what it says of itself is kept."""
    name = f"flight-{secrets.token_hex(3)}"
    text = rendered(OVERLAY, read_components(cluster.components), Clock(time.monotonic() + 120))
    manifests = FlightManifests.of(loaded, name, f"{name}.{DOMAIN}", text)
    with Camp(place, manifests) as camp:
        try:
            yield camp
        except BaseException:
            camp.is_kept = cluster.keeps(has_failed=True)
            bundle(place, out_dir / "cluster.tar.gz", (name,))
            raise
        camp.is_kept = cluster.keeps(has_failed=False)
