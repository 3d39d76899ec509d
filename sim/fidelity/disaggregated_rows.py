"""The measured rows of prefill and decode on replicas of their own, and which of them cannot be flown, by reason.

Out of the same file as `sim.fidelity.rows`. A row says how many workers of which layout computed prompts and answers,
and how many requests each of them batched; not what the KV went over, nor what the router between them took.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from functools import cache
from typing import Final

from sim.fidelity.correction import Group
from sim.fidelity.rows import family_of, fields_of_rows
from sim.hardware import HardwareError
from sim.hardware.profile import Profile, shipped_profiles


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """The workers that compute prompts, or those that decode."""

    num_workers: int
    tensor_parallel: int
    data_parallel: int
    expert_tensor: int
    expert_parallel: int
    batch_size: int
    """Most requests at a time, of one data-parallel rank."""

    @property
    def num_ranks(self) -> int:
        """Schedulers: each data-parallel rank of a worker has one."""
        return self.num_workers * self.data_parallel

    @property
    def name(self) -> str:
        """Such as `9 x TP8` or `1 x DP8`."""
        return f"{self.num_workers} x {self.layout}"

    @property
    def layout(self) -> str:
        """Such as `TP8` or `DP8`."""
        return f"DP{self.data_parallel}" if self.data_parallel > 1 else f"TP{self.tensor_parallel}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DisaggregatedRow:
    """One benchmark run, as measured. Times in seconds, means over the requests."""

    id: str
    engine: str
    gpu: str
    model: str
    weights: str
    harness: str
    prefill: Side
    decode: Side
    input_tokens: int
    output_tokens: int
    ttft: float
    tpot: float

    @property
    def concurrency(self) -> int:
        """Clients, all together: as many as the decode side has seats."""
        return self.decode.batch_size * self.decode.num_ranks

    @property
    def group(self) -> Group:
        """Of which group of aggregated rows it would be: what is known of that group's relatives is used for it."""
        return self.engine, self.gpu, family_of(self.model), self.harness


@cache
def read_disaggregated() -> tuple[tuple[DisaggregatedRow, ...], dict[str, int]]:
    """Read the rows that can be flown, and count those that cannot by reason."""
    rows: list[DisaggregatedRow] = []
    left_out: Counter[str] = Counter()
    measured: set[tuple[str, str]] = set()
    # the rows that say how many workers there were come first, so that of two names of a run theirs is kept
    for fields in sorted(fields_of_rows(disaggregated=True), key=lambda fields: not fields["prefill_num_workers"]):
        times = fields["silicon_ttft_ms"], fields["silicon_tpot_ms"]
        reason = "the same run under a second name" if times in measured else _why_not(fields)
        measured.add(times)
        if reason is None:
            rows.append(_row_from(fields))
        else:
            left_out[reason] += 1
    return tuple(rows), dict(sorted(left_out.items()))


def profile_of(row: DisaggregatedRow, side: Side) -> Profile:
    """Find the operator times of one side, of whichever checkpoint of the model's shape.

    Raises:
        HardwareError: there are none.
    """
    layout = (side.tensor_parallel, side.data_parallel, side.expert_tensor, side.expert_parallel)
    for profile in shipped_profiles():
        keys = profile.keys
        found = (keys["engine"], keys["gpu"], family_of(keys["model"]), keys["weights"])
        spread = tuple(keys.get(name, 1) for name in LAYOUT)
        if (*found, spread) == (row.engine, row.gpu, family_of(row.model), row.weights, layout):
            return profile
    raise HardwareError(f"row {row.id}: no operator times of {side.name} with {row.model} on {row.gpu}")


LAYOUT: Final = ("tensor_parallel", "data_parallel", "expert_tensor", "expert_parallel")


def _why_not(fields: dict[str, str]) -> str | None:
    if not fields["prefill_num_workers"]:
        return "the number of workers is not in the row"
    row = _row_from(fields)
    try:
        profile_of(row, row.prefill)
        profile_of(row, row.decode)
    except HardwareError:
        return "no operator times of such a layout"
    return None


def _row_from(fields: dict[str, str]) -> DisaggregatedRow:
    def side(which: str) -> Side:
        def number(name: str) -> int:
            return max(1, int(fields[f"{which}_{name}"] or 1))

        return Side(
            num_workers=number("num_workers"),
            tensor_parallel=number("tp_size"),
            data_parallel=number("attention_dp_size"),
            expert_tensor=number("moe_tp_size"),
            expert_parallel=number("moe_ep_size"),
            batch_size=number("batch_size"),
        )

    return DisaggregatedRow(
        id=fields["id"],
        engine={"trtllm": "trt"}.get(fields["backend"], fields["backend"]),
        gpu=fields["system"].replace("_", "-"),
        model=fields["model_path"],
        weights=fields["precision"],
        harness=fields["harness"],
        prefill=side("prefill"),
        decode=side("decode"),
        input_tokens=int(fields["isl"]),
        output_tokens=int(fields["osl"]),
        ttft=float(fields["silicon_ttft_ms"]) * 1e-3,
        tpot=float(fields["silicon_tpot_ms"]) * 1e-3,
    )
