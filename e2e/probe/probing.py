"""A probe from start to end: gets to know the endpoint, says what it will send, sends it, gives what it saw."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from pathlib import Path
from secrets import randbits
from typing import Final

from e2e.probe.engine_page import look
from e2e.probe.ladder import Budget, cost_of, ladder
from e2e.probe.prober import Answer, Endpoint, Prober
from e2e.progress import shown
from e2e.replay.address import address_of
from e2e.replay.preflight import get_to_know, max_model_len, models_for, served_models
from e2e.replay.prompts import Prompter
from sim.experiment.errors import InputError
from sim.fidelity.observed import Recording
from sim.fidelity.recordings.request_rows import RequestRow, observed, tpot_of

ROOM: Final = 128
"""Tokens of the longest context that are left for an answer and a chat template."""
LEAST_INSTANTS: Final = 0.5
"""A token: of an answer in lumps, or of tokens that have no text, one does not know when its tokens came."""


def probe(
    url: str,
    budget: Budget,
    longest: int,
    say: Callable[[str], None],
    *,
    model: str | None = None,
    api_key: str | None = None,
    verify_tls: bool = True,
) -> Recording:
    """Probe an endpoint; `say` is told what it will send before it does.

    Raises:
        InputError: nobody answers there, or hardly anything came back.
    """
    served = served_models(url, api_key, verify_tls=verify_tls)
    wanted = models_for([model or (served[0] if served else "")], served, None, url)
    name = next(iter(wanted))
    context = max_model_len(url, name, api_key, verify_tls=verify_tls)
    if context is not None and longest > context - ROOM:
        longest = max(2 * ROOM, context - ROOM)
        say(f"{name} takes {context} tokens: prompts of up to {longest}")
    stages = ladder(longest, budget)
    requests, tokens = cost_of(stages)
    say(
        f"probing {name}: at most {requests + len(stages)} requests of {tokens} tokens in {len(stages)} stages, "
        f"{budget.max_streams} at a time at most; ends after {budget.max_seconds:g} s"
    )
    known = get_to_know(url, name, api_key, verify_tls=verify_tls)
    page = look(url, verify_tls=verify_tls)
    endpoint = Endpoint(
        url=f"{address_of(url).url}/v1/chat/completions",
        model=name,
        # prompts that no earlier run has sent: a warm prefix cache would answer for the engine
        prompter=Prompter(known.wording, randbits(40)),
        takes_exact_lengths=known.takes_exact_lengths,
        api_key=api_key,
        verify_tls=verify_tls,
        look=partial(look, url, verify_tls=verify_tls),
    )
    with shown("calibration") as progress:
        prober = Prober(endpoint, budget, progress)
        asyncio.run(prober.climb(stages))
    notes = list(prober.notes)
    told = [answer for answer in prober.answers if answer.num_instants >= LEAST_INSTANTS * answer.output_tokens]
    if len(told) < len(prober.answers):
        left_out = len(prober.answers) - len(told)
        notes.append(f"{left_out} answers came in lumps of tokens, held up on their way, and are left out")
    if page is not None and page.num_engines > 1:
        notes.append(f"{page.num_engines} engines answer there; the fit takes them for one, so it is of no use")
    if len(prober.answers) < len(stages) and notes:
        raise InputError(f"{url}: {len(prober.answers)} answers came; {'; '.join(notes)}")
    return Recording(
        what=f"{len(told)} requests to {name}",
        measured=observed([_row(answer) for answer in told], Path(url)),
        kv_tokens=page.kv_tokens if page else None,
        notes=tuple(notes),
    )


def _row(answer: Answer) -> RequestRow:
    ttft, e2e = answer.first_token - answer.sent, answer.last_token - answer.sent
    return RequestRow(
        sent=answer.sent,
        input_tokens=answer.input_tokens,
        output_tokens=answer.output_tokens,
        ttft=ttft,
        tpot=tpot_of(e2e, ttft, answer.output_tokens),
        cached_tokens=answer.cached_tokens,
    )
