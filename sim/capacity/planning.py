"""A plan: the search over a scenario's space, down to its answer. Start at `plan`."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

from sim.capacity.answer import Answer
from sim.capacity.crew import Crew, Fly, Hands
from sim.capacity.headroom import headroom
from sim.capacity.journal import Journal
from sim.capacity.price import Prices, catalogue_prices
from sim.capacity.probing import Flyer, Prober
from sim.capacity.search import Candidate, Probe, Search
from sim.capacity.space import NO_SPARE, Spare, space_of
from sim.capacity.together import Choice, cheapest, verified
from sim.experiment.errors import InputError
from sim.experiment.generate import build_workload
from sim.experiment.scenario import LoadedScenario

SEARCH_SEEDS = (0, 1, 2)
FRESH_SEEDS = (1001, 1002)


def plan(
    loaded: LoadedScenario,
    *,
    spare: Spare = NO_SPARE,
    prices: Prices | None = None,
    journal_path: Path | None = None,
    told: Callable[[Candidate, Probe, int], None] = lambda candidate, probe, flights: None,
    call: Callable[[Fly], Hands] | None = None,
    within: float = 1.0,
    with_headroom: bool = False,
) -> Answer:
    """Search the scenario's space for the cheapest cluster that meets every SLO without what must be dispensable.

    `told(candidate, probe, flights so far)` hears of every flight; `call` gets hands to fly several at a time, and
    changes nothing but the time it takes. Options are followed up to `within` times the price of the best one.

    Raises:
        InputError: the space is not one, or no class has an SLO.
    """
    scenario = loaded.scenario
    if not any(v is not None for k in scenario.workload.classes for v in (k.slo.ttft, k.slo.tpot, k.slo.e2e)):
        raise InputError(f"{loaded.path}: no class has an SLO; a plan needs one to meet, such as slo: {{ttft: 500ms}}")
    workload = build_workload(loaded)
    prices = prices or catalogue_prices()
    space = space_of(loaded, workload, prices, spare)
    # a flight does not depend on what else is in the space
    flown = f"{workload.content_hash}{scenario.model_dump_json(exclude={'plan'})}"
    fingerprint = sha256(flown.encode()).hexdigest()[:16]
    journal = Journal(journal_path, fingerprint) if journal_path is not None else None

    def flight(candidate: Candidate, seed: int) -> Probe:
        probe = prober(candidate, seed)
        told(candidate, probe, prober.num_flights)
        return probe

    first = scenario.seed
    fresh = [first + seed for seed in FRESH_SEEDS]
    flyer = Flyer(loaded, workload, spare)
    with Crew(flyer, call) as crew:
        prober = Prober(crew, flyer, journal)
        search = Search(flight, [first + seed for seed in SEARCH_SEEDS], fresh, prober.expect)
        choice: Choice | None = cheapest(space.ways, search, within)
        if choice is not None and len(scenario.cluster.pools) > 1:
            choice = verified(choice, flyer.together, fresh, search)
    answer = Answer(
        loaded=loaded,
        choice=choice,
        flown=list(search.flown.values()),
        skipped=[*space.skipped, *search.skipped],
        spare=spare,
        prices=prices,
        num_flights=prober.num_flights,
        minimise=scenario.plan.minimise if scenario.plan else "cost_per_hour",
    )
    if choice is not None and with_headroom:
        candidates = choice.candidates
        answer.headroom = headroom(lambda factor: flyer.at_rate(candidates, factor))
    return answer
