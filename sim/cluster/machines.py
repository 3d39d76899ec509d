"""A pool of the scenario as machines: engine settings, step cost, KV blocks and price.

The one place where the scenario's pool block meets the engine and the hardware models.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from reference.engine.engine import Engine
from reference.engine.settings import EngineSettings
from reference.engine.step_cost import StepCost
from sim.cluster.speculation import with_speculation
from sim.experiment.profiles import keys_of
from sim.experiment.schema import Pool
from sim.hardware.profile import SHIPPED

DEFAULT_NUM_BLOCKS = 16_384
"""KV blocks of a replica whose step cost is given outright and whose memory is not: some 262,000 tokens."""

DEFAULT_MAX_MODEL_LEN = 131_072
"""Where neither the scenario nor the model's shape gives one: as long as current models allow."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What one replica of a pool is made of."""

    settings: EngineSettings
    cost: StepCost
    price_per_hour: float | None
    """US dollars; None when the pool names no GPU."""
    request_seconds: float = 0.0
    """What a request waits before the engine has it: parsing, tokenising."""

    def make_engine(self, *, with_steps: bool = False) -> Callable[[], Engine]:
        """Give what makes an empty engine, each time a new one, that notes its steps or does not."""

        def make() -> Engine:
            engine = Engine(self.settings, self.cost)
            engine.spans = [] if with_steps else None
            return engine

        return make


def machine_for(pool: Pool, *, leaping: bool = True) -> Machine:
    """Work out what a replica of `pool` is.

    Raises:
        HardwareError: a name is unknown, or the model does not fit the GPU.
        EngineError: the settings exclude each other.
    """
    request_seconds = 0.0
    if pool.step_cost is not None:
        cost, num_blocks = _explicit(pool), DEFAULT_NUM_BLOCKS
    elif pool.profile is not None:
        cost, num_blocks, request_seconds = _of_profile(pool)
    else:
        cost, num_blocks = _of_gpu(pool), _blocks_of_gpu(pool)
    if pool.speculative is not None:
        given = pool.speculative
        cost = with_speculation(cost, given.tokens, given.acceptance, given.draft)
    settings = EngineSettings(
        max_num_seqs=pool.max_num_seqs,
        max_num_batched_tokens=max(pool.max_num_batched_tokens, pool.max_num_seqs),
        max_model_len=pool.max_model_len or _longest(pool),
        block_size=pool.block_size,
        num_blocks=pool.num_gpu_blocks or num_blocks,
        prefix_caching=pool.prefix_caching,
        rules=pool.engine,
        leaping=leaping,
    )
    return Machine(settings=settings, cost=cost, price_per_hour=_price(pool), request_seconds=request_seconds)


def _explicit(pool: Pool) -> StepCost:
    given = pool.step_cost
    assert given is not None
    return StepCost.linear(given.base, given.per_prefill_token, given.per_sequence, given.per_context_token)


def _of_profile(pool: Pool) -> tuple[StepCost, int, float]:
    from sim.hardware.profile import find_profile, read_profile

    assert pool.profile is not None
    profile = find_profile(**keys_of(pool)) if pool.profile == SHIPPED else read_profile(Path(pool.profile))
    if pool.gpu is not None:
        num_blocks = _blocks_of_gpu(pool)
    else:
        num_blocks = profile.kv_tokens // pool.block_size if profile.kv_tokens else DEFAULT_NUM_BLOCKS
    return profile.cost, num_blocks, profile.request_seconds


def _of_gpu(pool: Pool) -> StepCost:
    from sim.hardware import HardwareError, step_cost_for

    if pool.gpu is None:
        raise HardwareError(f"pool of {pool.model}: name a gpu, or give a step_cost")
    return step_cost_for(
        pool.gpu,
        pool.model,
        **pool.layout,
        weights=pool.weights,
        kv_cache=pool.kv_cache,
        engine=pool.engine,
    )


def _blocks_of_gpu(pool: Pool) -> int:
    from sim.hardware import kv_blocks_for

    assert pool.gpu is not None
    return pool.num_gpu_blocks or kv_blocks_for(
        pool.gpu,
        pool.model,
        **pool.layout,
        weights=pool.weights,
        kv_cache=pool.kv_cache,
        block_size=pool.block_size,
        gpu_memory_utilization=pool.gpu_memory_utilization,
        max_num_batched_tokens=pool.max_num_batched_tokens,
        max_num_seqs=pool.max_num_seqs,
    )


def _longest(pool: Pool) -> int:
    if pool.gpu is None:
        return DEFAULT_MAX_MODEL_LEN
    from sim.hardware import find_model

    return find_model(pool.model).max_model_len


def _price(pool: Pool) -> float | None:
    if pool.gpu is None:
        return None
    from sim.hardware import price_per_hour_usd

    return price_per_hour_usd(pool.gpu, pool.num_gpus)
