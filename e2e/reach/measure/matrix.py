"""Predicted minus measured: every ordered pair of running pods, every port, tried until it is as predicted.

Canaries first (`e2e.reach.measure.canary`): without them a network that enforces nothing looks right wherever nothing
is predicted closed. Start at `measure`.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from e2e.reach.measure.grounds import until
from e2e.reach.measure.probing import REACHED, SUPPORTED, Prober, Source, Target
from e2e.reach.objects import Pod
from e2e.reach.parties import Party
from e2e.reach.reachability import Reach

UNLISTED_PORT = 47001
"""Tried on every pod besides its declared ports: a refusal shows that packets arrive where nothing listens."""
SETTLE_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Wrong:
    """A connection that is not as predicted."""

    source: str
    destination: str
    target: Target
    is_predicted_open: bool
    outcome: str

    def __str__(self) -> str:
        predicted = "open" if self.is_predicted_open else "closed"
        where = f"{self.target.protocol} {self.target.port}"
        return f"{self.source} => {self.destination} {where}: predicted {predicted}, measured {self.outcome}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A whole matrix: how many connections were tried, which are not as predicted, and what could not be counted."""

    num_tried: int
    num_open: int
    wrong: tuple[Wrong, ...]
    undecided: tuple[Wrong, ...]
    """UDP without any answer where it is predicted open: a silent server looks like a dropped packet."""
    left_out: tuple[str, ...]

    def __str__(self) -> str:
        lines = [*(str(one) for one in self.wrong), *(f"undecided: {one}" for one in self.undecided)]
        lines += [f"not counted: {one}" for one in self.left_out]
        num_agreed = self.num_tried - len(self.wrong) - len(self.undecided)
        said = f"{num_agreed} as predicted, {len(self.wrong)} not"
        lines.append(f"{self.num_tried} connections tried, {self.num_open} open: {said}")
        return "\n".join(lines)


def measure(
    reach: Reach,
    sources: Mapping[str, Source],
    prober: Prober,
    *,
    ports: Sequence[tuple[str, int]] | None = None,
    settle_seconds: float = SETTLE_SECONDS,
    silent_udp_is_closed: bool = False,
) -> Measured:
    """Try every ordered pair and port; what is not as predicted is tried again until `settle_seconds` have passed.

    `ports` are tried on every pod; without them each pod's declared ones and one that nobody listens on.
    """
    by_pod = {f"{pod.namespace}/{pod.name}": (party, pod) for party in reach.workloads for pod in party.pods}
    known = {name: by_pod[name] for name in sources if name in by_pod and by_pod[name][1].addresses}
    predicted, left_out = _predictions(reach, sources, known, ports)
    left_out += [f"{name}: not running on a network of its own" for name in sorted(by_pod.keys() - known.keys())]
    outcomes: dict[tuple[Source, Target], str] = {}
    deadline = until("the network to be as predicted", settle_seconds, 0.5)
    pending = set(predicted)
    while pending and deadline.again():
        wanted: dict[Source, list[Target]] = defaultdict(list)
        for source, target in sorted(pending, key=lambda one: (str(one[0]), str(one[1]))):
            wanted[source].append(target)
        outcomes.update(prober.probe(wanted))
        pending = {key for key in pending if is_open(outcomes[key]) != predicted[key]}
    names = {pod.addresses[0]: name for name, (_, pod) in known.items()}
    off = [
        Wrong(str(key[0]), names[key[1].address], key[1], predicted[key], outcomes[key])
        for key in sorted(pending, key=str)
    ]
    undecided = [one for one in off if _is_undecided(one) and not silent_udp_is_closed]
    return Measured(
        num_tried=len(predicted),
        num_open=sum(is_open(outcome) for outcome in outcomes.values()),
        wrong=tuple(one for one in off if one not in undecided),
        undecided=tuple(undecided),
        left_out=tuple(left_out),
    )


def is_open(outcome: str) -> bool:
    """Say whether packets arrived: an answer, or a refusal where nothing listens (the canary shows that it is one)."""
    return outcome in REACHED or outcome == "refused"


def _is_undecided(one: Wrong) -> bool:
    return one.target.protocol == "UDP" and one.outcome == "silent" and one.is_predicted_open


def _predictions(
    reach: Reach,
    sources: Mapping[str, Source],
    known: Mapping[str, tuple[Party, Pod]],
    ports: Sequence[tuple[str, int]] | None,
) -> tuple[dict[tuple[Source, Target], bool], list[str]]:
    found: dict[tuple[Source, Target], bool] = {}
    unsupported: Counter[str] = Counter()
    for name in sorted(known):
        for other in sorted(known):
            party, pod = known[other]
            if name == other:
                continue
            allowed = reach.between_pods(known[name][0], party)
            for protocol, port in ports or _ports(pod):
                if protocol not in SUPPORTED:
                    unsupported[protocol] += 1
                else:
                    found[sources[name], Target(pod.addresses[0], protocol, port)] = (protocol, port) in allowed
    return found, [f"{count} connections over {name}, which is not probed" for name, count in unsupported.items()]


def _ports(pod: Pod) -> list[tuple[str, int]]:
    declared = {(port.protocol, port.number) for port in pod.ports}
    return sorted(declared | {("TCP", UNLISTED_PORT)})
