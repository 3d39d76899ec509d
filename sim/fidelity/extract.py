"""Makes `operators.yaml` and the measured rows again from aiconfigurator-core (extra `tables`).

    python -m sim.fidelity.extract

Writes sim/hardware/operators.yaml (closed forms of the tables for every configuration that a row was measured on) and
sim/fidelity/data/silicon.csv.gz (the rows, with AIConfigurator's own prediction of each beside it).
"""

from __future__ import annotations

import csv
import gzip
import io
from importlib import import_module, resources
from pathlib import Path
from typing import Any, Final

from sim.fidelity.rows import PUBLISHED, UNPUBLISHED, Row, row_from, why_not
from sim.hardware.catalogue import HardwareError
from sim.hardware.operator_tables import Configuration, open_tables, profile_of

PACKAGE: Final = "aiconfigurator-core 0.12.0"
VERSIONS: Final = {"vllm": "0.24.0", "trtllm": "1.3.0rc20"}
GPUS: Final = ("h100_sxm", "h200_sxm")

CHECKPOINTS: Final = {
    "nvidia/Llama-3.1-8B-Instruct-FP8": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-8B-Instruct": "meta-llama/Meta-Llama-3.1-8B",
    "meta-llama/Llama-3.1-70B": "meta-llama/Meta-Llama-3.1-70B",
}
"""The tables' names of shapes that the rows name otherwise."""

MEMORY: Final = {
    # weights in bytes; KV bytes per token of the whole model as served; KV heads (1: every GPU keeps all of it)
    "Llama-3.1-70B": (70.6e9, 163_840, 8),
    "Llama-3.1-8B": (8.03e9, 131_072, 8),
    "Qwen3-32B": (32.8e9, 262_144, 8),
    "Qwen3-235B": (235e9, 192_512, 4),
    "gpt-oss": (63e9, 40_550, 8),
    "MiniMax": (229e9, 253_952, 8),
    "DeepSeek": (671e9, 70_272, 1),
    "Kimi": (595e9, 70_272, 1),
}
RESERVED_BYTES: Final = 3.5e9
"""Per GPU: context, collectives and activations."""


def main() -> None:
    """Write both files."""
    package = import_module("aiconfigurator_core")
    table = Path(str(package.__file__)).parent / "systems" / "silicon_sample.csv"
    with table.open(newline="", encoding="utf-8") as file:
        entries = [row for row in csv.DictReader(file) if row["backend"] in VERSIONS and row["system"] in GPUS]
    profiles: dict[tuple[Any, ...], dict[str, Any] | None] = {}
    for entry in entries:
        source = entry.pop("silicon_data_source")
        is_public = "gap-analysis/" not in source and "dynamo_version" not in source
        entry["harness"] = PUBLISHED if is_public else UNPUBLISHED
        entry["peer_ttft_ms"] = entry["peer_tpot_ms"] = ""
        if why_not(entry) is not None:
            continue
        row = row_from(entry)
        key = (row.engine, row.gpu, row.model, row.layout, row.weights)
        try:
            handle, configuration = open_tables(_configuration(entry, row))
        except HardwareError as error:
            print(f"left out: {error}")
            continue
        if key not in profiles:
            profiles[key] = _profile(handle, configuration, row).to_dict()
        ttft, tpot = _peer(configuration, row)
        entry["peer_ttft_ms"], entry["peer_tpot_ms"] = f"{ttft:.4g}", f"{tpot:.4g}"
    _write(list(profiles.values()), entries)


def _configuration(entry: dict[str, str], row: Row) -> Configuration:
    backend = "vllm" if "gpt-oss" in row.model else entry["backend"]
    return Configuration(
        system=entry["system"],
        backend=backend,
        model=CHECKPOINTS.get(row.model, row.model),
        tensor_parallel=row.tensor_parallel,
        data_parallel=row.data_parallel,
        experts=(row.expert_tensor, row.expert_parallel),
        precision=tuple(_precision(row).items()),
    )


def _precision(row: Row) -> dict[str, str]:
    """How the checkpoint of this name is quantised: ModelOpt's FP8 per tensor with static scales, others in blocks."""
    if "gpt-oss" in row.model:
        return {"moe_quant_mode": "w4a16_mxfp4"}
    if "Kimi" in row.model or row.weights == "bf16":
        return {}
    if "Llama" in row.model or "Qwen3-32B" in row.model:
        return {"gemm_quant_mode": "fp8_static"}
    blocks = {"gemm_quant_mode": "fp8_block", "moe_quant_mode": "fp8_block"}
    if "DeepSeek" in row.model:
        blocks |= {"fmha_quant_mode": "bfloat16", "kvcache_quant_mode": "bfloat16"}
    return blocks


def _profile(handle: Any, configuration: Configuration, row: Row) -> Any:
    from dataclasses import replace

    spread = f"tp{row.tensor_parallel}" + (f"-dp{row.data_parallel}" if row.data_parallel > 1 else "")
    if row.expert_tensor * row.expert_parallel > 1:
        spread += f"-etp{row.expert_tensor}-ep{row.expert_parallel}"
    keys: dict[str, Any] = {
        "gpu": row.gpu,
        "model": row.model,
        "engine": row.engine,
        "weights": row.weights,
        "tensor_parallel": row.tensor_parallel,
    }
    if row.data_parallel > 1:
        keys["data_parallel"] = row.data_parallel
    if row.expert_tensor * row.expert_parallel > 1:
        keys |= {"expert_tensor": row.expert_tensor, "expert_parallel": row.expert_parallel}
    source = f"{PACKAGE}, operator times of {configuration.backend} {VERSIONS[configuration.backend]}"
    if configuration.experts != (row.expert_tensor, row.expert_parallel):
        source += ", experts split {} x {}".format(*configuration.experts)
    name = f"{row.engine} {row.model.split('/')[-1]} {row.weights} {row.gpu} {spread}"
    return replace(profile_of(handle, name, source, **keys), kv_tokens=_kv_tokens(row))


def _kv_tokens(row: Row) -> int:
    weights, kv, heads = next(value for name, value in MEMORY.items() if name in row.model)
    if row.weights == "bf16":
        weights *= 2
    memory = {"h100-sxm": 85.0e9, "h200-sxm": 150.1e9}[row.gpu]
    free = memory * 0.9 - RESERVED_BYTES - weights / row.num_gpus
    return max(16_384, int(free / (kv / min(row.tensor_parallel, heads))))


def _peer(configuration: Configuration, row: Row) -> tuple[float, float]:
    """AIConfigurator's TTFT and TPOT in milliseconds, with the context tokens of a step that it finds best."""
    config = import_module("aiconfigurator_core.sdk.config")
    builders = import_module("aiconfigurator_core.sdk.config_builders")
    backend = import_module("aiconfigurator_core.sdk.backends.factory").get_backend(configuration.backend)
    spread = (configuration.tensor_parallel, 1, configuration.data_parallel, *configuration.experts)
    settings = builders.build_model_config(*spread, **dict(configuration.precision))
    models = import_module("aiconfigurator_core.sdk.models")
    model = models.get_model(configuration.model, settings, configuration.backend)
    database = import_module("aiconfigurator_core.sdk.perf_database").get_database(
        configuration.system, configuration.backend, VERSIONS[configuration.backend]
    )
    load = config.RuntimeConfig(batch_size=row.concurrency, isl=row.input_tokens, osl=row.output_tokens)
    sizes = sorted({512, 1024, 2048, 4096, 8192, row.input_tokens, 2 * row.input_tokens})
    found = [backend.run_agg(model, database, load, ctx_tokens=size).get_summary_df().iloc[0] for size in sizes]
    best = max(found, key=lambda answer: float(answer["seq/s"]))
    return float(best["ttft"]), float(best["tpot"])


def _write(profiles: list[Any], entries: list[dict[str, str]]) -> None:
    import yaml

    head = (
        "# Closed forms of operator times, one per replica that a measured row is of. Made by `python -m\n"
        f"# sim.fidelity.extract` from {PACKAGE} (Apache-2.0); residuals are those of the closed form\n"
        "# against the sums of its tables, as shares. Host overhead is not in them (see corrections.yaml).\n"
    )
    text = yaml.dump({"profiles": profiles}, sort_keys=False, width=4000, default_flow_style=None)
    Path(str(resources.files("sim.hardware").joinpath("operators.yaml"))).write_text(head + text, encoding="utf-8")
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, list(entries[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(entries)
    packed = gzip.compress(buffer.getvalue().encode("utf-8"), 9, mtime=0)
    Path(str(resources.files("sim.fidelity").joinpath("data", "silicon.csv.gz"))).write_bytes(packed)


if __name__ == "__main__":
    main()
