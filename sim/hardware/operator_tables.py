"""Profiles out of the operator tables of the PyPI package `aiconfigurator-core` (extra `tables`).

Its tables hold kernel times of vLLM and TensorRT-LLM on many GPUs; its engine sums them to the time of a step. Asked on
a grid, the answers are fitted once to the closed form that our engine leaps with. The fits are shipped as
`operators.yaml`; this module is needed to make them again, or for a configuration that is not among them.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from reference.engine import StepCost
from sim.hardware.catalogue import HardwareError
from sim.hardware.closed_form import decode_form, prefill_attention_form, rising, thinned
from sim.hardware.profile import Profile

_BATCHES: Final = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)
_CONTEXTS: Final = (128, 512, 1024, 2048, 4096, 8192)
_TOKENS: Final = (320, 384, 512, 640, 768, 1024, 1280, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384)
_KNOT_TOLERANCE: Final = 0.005
_GRAPHED: Final = _BATCHES[-1]
"""Tokens up to which a step is taken for one of decodes, whose kernels are started as one graph."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """A replica as the tables know it: `system` and `backend` by their names there, `experts` as (tensor, expert)."""

    system: str
    backend: str
    model: str
    tensor_parallel: int = 1
    data_parallel: int = 1
    experts: tuple[int, int] = (1, 1)
    precision: tuple[tuple[str, str], ...] = ()
    """The package's `*_quant_mode` arguments; those not given are read from the model's checkpoint."""


def open_tables(wanted: Configuration) -> tuple[Any, Configuration]:
    """Open the tables for a configuration; where an expert split is not in them, the next one of the same width is.

    Raises:
        HardwareError: the package is missing, or it has no times for this configuration.
    """
    try:
        from aiconfigurator_core.sdk.engine import EngineHandle
    except ImportError as error:
        raise HardwareError(
            "operator tables need the package aiconfigurator-core: pip install 'windtunnel[tables]'"
        ) from error
    tensor, expert = wanted.experts
    reason: Exception | None = None
    logging.getLogger("aiconfigurator_core").setLevel(logging.ERROR)
    for split in dict.fromkeys([(tensor, expert), (1, tensor * expert), (tensor * expert, 1)]):
        try:
            handle = EngineHandle.compile(
                wanted.model,
                wanted.system,
                wanted.backend,
                tp_size=wanted.tensor_parallel,
                attention_dp_size=wanted.data_parallel,
                moe_tp_size=split[0],
                moe_ep_size=split[1],
                **dict(wanted.precision),
            )
            handle.predict_decode_latency(4, 128, 2)
        except (ValueError, RuntimeError, KeyError) as error:
            reason = error
            continue
        return handle, wanted if split == wanted.experts else _with_experts(wanted, split)
    raise HardwareError(f"operator tables: nothing for {wanted.model} on {wanted.system}: {reason}") from reason


def profile_of(handle: Any, name: str, source: str, **keys: Any) -> Profile:
    """Fit the closed form to what the tables say, and hold it against them on whole steps."""
    grid = [
        (batch, context, handle.predict_decode_latency(batch, context, 2) * 1e-3)
        for batch in _BATCHES
        for context in _CONTEXTS
    ]
    decode, per_context = decode_form(grid)
    parts = [(tokens, *handle.mixed_step_breakdown(tokens, 1, tokens, 2)) for tokens in _TOKENS]
    constant, per_token, per_pair = prefill_attention_form(
        [(tokens, attention * 1e-3) for tokens, _, _, attention, _ in parts],
        [whole * 1e-3 for _, whole, _, _, _ in parts],
    )
    dense = [(float(tokens), shared * 1e-3 + constant) for tokens, _, shared, _, _ in parts]
    cost = _rounded(
        StepCost(
            token_seconds=thinned(rising((*decode, *dense)), _KNOT_TOLERANCE),
            per_context_token=per_context,
            per_prefill_token=per_token,
            per_prefill_pair=per_pair,
        )
    )
    return Profile(name=name, cost=cost, source=source, keys=keys, residuals=_residuals(handle, cost, grid))


def _residuals(handle: Any, cost: StepCost, grid: list[tuple[int, int, float]]) -> dict[str, float]:
    def decoding(batch: int, context: int) -> float:
        fixed, slope = cost.decode_affine(batch)
        return fixed + slope * batch * context

    held = [(batch, context, told) for batch, context, told in grid if batch * context <= 1e6]
    decode = [abs(decoding(batch, context) / told - 1) for batch, context, told in held]
    prefill = [
        abs(
            cost.seconds(1, tokens, 0, tokens, tokens**2 / 2) / (handle.predict_prefill_latency(1, tokens, 0) * 1e-3)
            - 1
        )
        for tokens in (512, 1024, 2048, 4096, 8192)
    ]
    return {
        "decode_median": round(float(np.median(decode)), 4),
        "decode_worst": round(float(np.max(decode)), 4),
        "prefill_median": round(float(np.median(prefill)), 4),
        "prefill_worst": round(float(np.max(prefill)), 4),
    }


def _rounded(cost: StepCost) -> StepCost:
    """Keep four digits: more than the tables have, and a file that can be read."""

    def short(value: float) -> float:
        return float(f"{value:.4g}")

    fields = cost.to_dict()
    for name, value in fields.items():
        fields[name] = [[at, short(seconds)] for at, seconds in value] if isinstance(value, list) else short(value)
    return StepCost.from_dict(fields)


def _with_experts(wanted: Configuration, split: tuple[int, int]) -> Configuration:
    from dataclasses import replace

    return replace(wanted, experts=split)
