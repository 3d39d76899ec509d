"""The URL rung: a workload flown at any OpenAI-compatible endpoint, be it one vLLM or a whole production entry point.

What stands there is taken as it is: it is asked which models it serves and how words become tokens, and then measured.
"""

from __future__ import annotations

from pathlib import Path
from secrets import randbits
from typing import TYPE_CHECKING

from e2e.progress import Progress
from sim.experiment.record import RunRecord
from sim.experiment.resending import rules_of
from sim.experiment.samples import Samples
from sim.experiment.scenario import LoadedScenario
from sim.experiment.schema import Scenario
from sim.experiment.workload import Workload

if TYPE_CHECKING:
    from e2e.rungs import Target

RUNG = "url"


def fly(
    loaded: LoadedScenario,
    workload: Workload,
    url: str,
    out_dir: Path,
    progress: Progress | None,
    target: Target,
) -> RunRecord:
    """Fly a workload at an endpoint; the senders' logs go to `out_dir`.

    Raises:
        InputError: nobody answers there, or it does not serve the model, or wants a key.
    """
    from e2e.replay import fill, get_to_know, models_for, replay, served_models
    from e2e.rungs.endpoint_watch import EndpointWatch

    scenario, key = loaded.scenario, target.api_key
    asked = sorted({request.model for request in workload.requests})
    served = served_models(url, key, verify_tls=target.verify_tls)
    models = models_for(asked, served, target.model, url)
    known = get_to_know(url, next(iter(models.values())), key, verify_tls=target.verify_tls)
    record = RunRecord(
        scenario_name=scenario.name,
        scenario_yaml=loaded.yaml_text,
        rung=RUNG,
        seed=scenario.seed,
        workload_hash=workload.content_hash,
        warm_up_seconds=scenario.measure.warm_up,
        duration_seconds=workload.duration_seconds,
        left_out=left_out(scenario, takes_exact_lengths=known.takes_exact_lengths),
    )
    # prompts that no earlier run has sent: a warm prefix cache would answer for the endpoint
    salt = randbits(40)
    with EndpointWatch(url, scenario.measure.sample_interval, verify_tls=target.verify_tls) as watch:
        result = replay(
            workload,
            url,
            api_keys={tenant: key for tenant in {request.tenant for request in workload.requests} if key},
            models=models,
            wording=known.wording,
            salt=salt,
            exact_lengths=known.takes_exact_lengths,
            out_dir=out_dir,
            progress=progress,
            verify_tls=target.verify_tls,
            on_start=watch.start,
            retries=rules_of(scenario),
        )
    fill(record, result)
    record.samples = Samples(watch.samples)
    record.facts |= {"url": url, "models": models}
    record.facts["notes"] += _notes(models, known.wording.tokens_per_word)
    record.diagnostics |= {"salt": salt, "tokens_per_word": known.wording.tokens_per_word}
    return record


def left_out(scenario: Scenario, *, takes_exact_lengths: bool) -> list[str]:
    """Say what cannot be done from outside of what a scenario asks."""
    sentences = ["The scenario's cluster was not built: requests went to the endpoint as it is."]
    if any(pool.disaggregated is not None for pool in scenario.cluster.pools):
        sentences.append("Disaggregation: whether prompts and answers are computed apart there cannot be seen.")
    kinds = sorted({fault.kind for fault in scenario.faults})
    if kinds:
        sentences.append(f"Faults ({', '.join(kinds)}): nothing can be broken from outside.")
    if len(scenario.workload.tenants) > 1:
        sentences.append("Tenants: all requests carried one API key.")
    if scenario.cluster.gateway.rate_limits:
        sentences.append("Rate limits: the endpoint's own apply.")
    if not takes_exact_lengths:
        sentences.append(
            "Exact answer lengths: the endpoint refuses min_tokens and ignore_eos, so answers may be shorter."
        )
    return sentences


def _notes(models: dict[str, str], tokens_per_word: float) -> list[str]:
    notes = [f"{wanted} was asked for as {served}" for wanted, served in models.items() if wanted != served]
    if tokens_per_word != 1:
        notes.append(f"a word of the prompts is {tokens_per_word:.3g} tokens there; prompts were shortened by that")
    return notes
