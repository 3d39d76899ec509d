"""The measured rows of one replica that come with the package, and which of them cannot be flown, by reason.

The rows are those of `silicon_sample.csv` in the PyPI package aiconfigurator-core 0.12.0 (Apache-2.0) for vLLM and
TensorRT-LLM on H100 and H200. Each is the mean TTFT and TPOT of one benchmark run in closed loop.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections import Counter
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Final

PUBLISHED: Final = "published"
"""The harness is public (InferenceMAX): lengths, requests per client and budget are known."""
UNPUBLISHED: Final = "unpublished"
"""Only concurrency and nominal lengths are known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One benchmark run of one replica, as measured, and as AIConfigurator predicts it. Times in seconds."""

    id: str
    engine: str
    version: str
    gpu: str
    model: str
    weights: str
    tensor_parallel: int
    data_parallel: int
    expert_tensor: int
    expert_parallel: int
    concurrency: int
    """Of one data-parallel rank."""
    input_tokens: int
    output_tokens: int
    harness: str
    """PUBLISHED or UNPUBLISHED."""
    ttft: float
    tpot: float
    peer_ttft: float | None
    peer_tpot: float | None

    @property
    def num_gpus(self) -> int:
        """GPUs of the replica."""
        return self.tensor_parallel * self.data_parallel

    @property
    def family(self) -> str:
        """The model's architecture: checkpoints of one shape were fitted and are held out together."""
        return family_of(self.model)

    @property
    def group(self) -> tuple[str, str, str, str]:
        """What is held out as a whole: engine, GPU, family, harness."""
        return self.engine, self.gpu, self.family, self.harness

    @property
    def layout(self) -> tuple[int, int, int, int]:
        """How the model is spread over the GPUs."""
        return self.tensor_parallel, self.data_parallel, self.expert_tensor, self.expert_parallel


_SAME_SHAPE: Final = {
    "DeepSeek-V3": "DeepSeek-R1",
    "Llama-3.1-8B-Instruct-FP8": "Llama-3.1-8B",
    "Llama-3.1-8B-Instruct": "Llama-3.1-8B",
}


def family_of(model: str) -> str:
    """Give the architecture of a checkpoint."""
    name = model.split("/")[-1]
    return _SAME_SHAPE.get(name, name)


def fields_of_rows(*, disaggregated: bool) -> list[dict[str, str]]:
    """Read the file's rows of one replica each, or those of prefill and decode on replicas of their own."""
    packed = resources.files(__package__).joinpath("data/silicon.csv.gz").read_bytes()
    rows = csv.DictReader(io.StringIO(gzip.decompress(packed).decode("utf-8")))
    return [fields for fields in rows if (fields["mode"] == "disagg") == disaggregated]


@cache
def read_rows() -> tuple[tuple[Row, ...], dict[str, int]]:
    """Read the rows of one replica that can be flown, and count those that cannot by reason."""
    rows: list[Row] = []
    left_out: Counter[str] = Counter()
    seen: set[tuple[object, ...]] = set()
    for fields in fields_of_rows(disaggregated=False):
        reason = why_not(fields)
        if reason is None:
            row = row_from(fields)
            key = (*row.group, row.input_tokens, row.output_tokens, row.concurrency, row.ttft, row.tpot)
            if key in seen:
                reason = "the same run under a second name"
            seen.add(key)
        if reason is not None:
            left_out[reason] += 1
            continue
        rows.append(row)
    return tuple(rows), dict(sorted(left_out.items()))


def why_not(fields: dict[str, str]) -> str | None:
    """Say why a row cannot be flown; None when it can."""
    gpus = int(fields["tp_size"]) * int(fields["attention_dp_size"] or 1)
    if gpus > _GPUS_OF_A_NODE:
        return "more GPUs than a node has, with the times of a run on one node"
    experts = max(1, int(fields["moe_tp_size"] or 1)) * max(1, int(fields["moe_ep_size"] or 1))
    if not _is_dense(fields["model_path"]) and experts != gpus:
        return "its expert split contradicts its number of GPUs"
    return None


def row_from(fields: dict[str, str]) -> Row:
    """Read one row of the file."""
    dense = _is_dense(fields["model_path"])

    def peer(name: str) -> float | None:
        return float(fields[name]) * 1e-3 if fields[name] else None

    return Row(
        id=fields["id"],
        engine={"trtllm": "trt"}.get(fields["backend"], fields["backend"]),
        version=fields["backend_version"],
        gpu=fields["system"].replace("_", "-"),
        model=fields["model_path"],
        weights=fields["precision"] or "bf16",
        tensor_parallel=int(fields["tp_size"]),
        data_parallel=int(fields["attention_dp_size"] or 1),
        expert_tensor=1 if dense else max(1, int(fields["moe_tp_size"] or 1)),
        expert_parallel=1 if dense else max(1, int(fields["moe_ep_size"] or 1)),
        concurrency=int(fields["batch_size"]),
        input_tokens=int(fields["isl"]),
        output_tokens=int(fields["osl"]),
        harness=fields["harness"],
        ttft=float(fields["silicon_ttft_ms"]) * 1e-3,
        tpot=float(fields["silicon_tpot_ms"]) * 1e-3,
        peer_ttft=peer("peer_ttft_ms"),
        peer_tpot=peer("peer_tpot_ms"),
    )


def _is_dense(model: str) -> bool:
    return "Llama" in model or "Qwen3-32B" in model


_GPUS_OF_A_NODE: Final = 8
