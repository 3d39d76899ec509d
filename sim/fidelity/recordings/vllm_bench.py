"""The result file of `vllm bench serve --save-result --save-detailed`.

Source: `vllm/benchmarks/serve.py` and `lib/endpoint_request_func.py` of vLLM 0.12 to 0.19. Lists with an entry a
request: `input_lens`, `output_lens`, `start_times` (seconds by time.perf_counter), `ttfts` (seconds, 0 for a failure),
`itls` (seconds between chunks, a list a request), `errors` (empty where there was none). Without --save-detailed they
are taken out before the file is written; versions before 0.12 have no `start_times`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from sim.experiment.errors import InputError
from sim.fidelity.observed import Recording
from sim.fidelity.recordings.request_rows import RequestRow, observed, tpot_of

LISTS: Final = ("input_lens", "output_lens", "start_times", "ttfts", "itls")


def is_one(value: dict[str, Any]) -> bool:
    """Say whether a JSON object is such a result."""
    return "input_lens" in value or {"request_throughput", "total_input_tokens"} <= value.keys()


def read(value: dict[str, Any], path: Path) -> Recording:
    """Read one.

    Raises:
        InputError: it has no lists of requests, or they do not fit each other.
    """
    missing = [name for name in LISTS if not isinstance(value.get(name), list)]
    if "input_lens" in missing or "ttfts" in missing:
        raise InputError(f"{path}: has no {missing[0]}; expected a result saved with --save-detailed")
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; expected what `vllm bench serve` of vLLM 0.12 saves")
    counts = {name: len(value[name]) for name in LISTS}
    if len(set(counts.values())) > 1:
        raise InputError(f"{path}: lists of different lengths ({counts}); expected an entry a request in each")
    errors = value.get("errors") or [""] * counts["ttfts"]
    rows = [
        RequestRow(
            sent=start, input_tokens=given, output_tokens=got, ttft=ttft, tpot=tpot_of(ttft + sum(gaps), ttft, got)
        )
        for given, got, start, ttft, gaps, error in zip(*(value[name] for name in LISTS), errors, strict=True)
        if not error and ttft > 0 and got >= 1
    ]
    failed = counts["ttfts"] - len(rows)
    what = f"{len(rows)} requests of `vllm bench serve` ({value.get('model_id') or 'model not named'})"
    notes = (f"{failed} of {counts['ttfts']} requests failed and are left out",) if failed else ()
    return Recording(what=what, measured=observed(rows, path), notes=notes)
