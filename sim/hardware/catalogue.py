"""The GPUs, models and engines that come with the package, by name; and models read from a Hugging Face config.json.

The figures live in `gpus.yaml`, `models.yaml` and `engines.yaml` beside this file, with their sources.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any


class HardwareError(ValueError):
    """A GPU, model or engine is unknown, a file about one is unreadable, or a model does not fit.

    The base of every error of this package; the message says what would do instead.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """One GPU of a data sheet. Rates per second, dense; prices are an assumption (see `price_note`)."""

    name: str
    title: str
    bf16_flops: float
    fp8_flops: float | None
    """None: no FP8 units; FP8 weights are then multiplied in bf16."""
    hbm_bytes_per_second: float
    memory_bytes: float
    compute_ratio: float
    """Of the peak, reached by large matrix products."""
    memory_ratio: float
    """Of the peak, reached while weights are streamed."""
    link_bytes_per_second: float
    """One direction, to the other GPUs of the node."""
    all_reduce_seconds: float
    """Latency floor of one all-reduce."""
    price_per_hour_usd: float
    price_date: str
    price_note: str
    source: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The shape of a transformer, as far as it bears on cost."""

    name: str
    hidden_size: int
    intermediate_size: int
    """Of the dense MLP, or of one expert."""
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_model_len: int
    ties_embeddings: bool = False
    num_experts: int = 0
    """0: dense."""
    experts_per_token: int = 0

    @property
    def attention_parameters(self) -> int:
        """Of one layer."""
        return self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_kv_heads)

    @property
    def expert_parameters(self) -> int:
        """Of one MLP: the dense one, or one expert."""
        return 3 * self.hidden_size * self.intermediate_size

    @property
    def parameters(self) -> int:
        """All of them."""
        mlp = self.expert_parameters * max(1, self.num_experts) + self.hidden_size * self.num_experts
        embeddings = self.vocab_size * self.hidden_size * (1 if self.ties_embeddings else 2)
        return self.num_layers * (self.attention_parameters + mlp) + embeddings

    @property
    def active_parameters(self) -> int:
        """Those that one token is multiplied with, language-model head apart."""
        mlp = self.expert_parameters * max(1, self.experts_per_token) + self.hidden_size * self.num_experts
        return self.num_layers * (self.attention_parameters + mlp)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineEfficiency:
    """What an engine gets out of a GPU, and adds; the meaning of each is told in `engines.yaml`."""

    name: str
    attention_ratio: float
    kv_ratio: float
    step_overhead_seconds: float
    sequence_overhead_seconds: float
    layer_overhead_seconds: float


def gpu_names() -> tuple[str, ...]:
    """Give the GPUs that are known, sorted."""
    return tuple(sorted(_table("gpus.yaml")["gpus"]))


def model_names() -> tuple[str, ...]:
    """Give the models that are known, sorted."""
    return tuple(sorted(_table("models.yaml")["models"]))


def engine_names() -> tuple[str, ...]:
    """Give the engines that are known, sorted."""
    return tuple(sorted(_table("engines.yaml")["engines"]))


@cache
def find_gpu(name: str) -> Gpu:
    """Find a GPU by name or alias, capitals and underscores apart.

    Raises:
        HardwareError: the name is unknown.
    """
    table = _table("gpus.yaml")
    wanted = name.lower().replace("_", "-")
    by_alias = {alias: key for key, entry in table["gpus"].items() for alias in (key, *entry["aliases"])}
    key = by_alias.get(wanted)
    if key is None:
        raise HardwareError(_unknown("GPU", name, wanted, by_alias, gpu_names()))
    entry = table["gpus"][key]
    fp8 = entry["fp8_tflops"]
    return Gpu(
        name=key,
        title=entry["title"],
        bf16_flops=entry["bf16_tflops"] * 1e12,
        fp8_flops=None if fp8 is None else fp8 * 1e12,
        hbm_bytes_per_second=entry["hbm_gb_per_s"] * 1e9,
        memory_bytes=entry["memory_gb"] * 1e9,
        compute_ratio=entry["compute_ratio"],
        memory_ratio=entry["memory_ratio"],
        link_bytes_per_second=entry["link_gb_per_s"] * 1e9,
        all_reduce_seconds=entry["all_reduce_us"] * 1e-6,
        price_per_hour_usd=entry["price_per_hour_usd"],
        price_date=str(table["price_date"]),
        price_note=table["price_note"],
        source=entry["source"],
    )


def find_model(name: str) -> Model:
    """Find a model by name (its last part is enough), or read the config.json that `name` points to.

    Raises:
        HardwareError: the name is unknown, or the file is not a config this package understands.
    """
    if name.endswith(".json") or Path(name).is_dir():
        path = Path(name)
        return read_model(path / "config.json" if path.is_dir() else path)
    table = _table("models.yaml")["models"]
    by_alias = {key.lower(): key for key in table} | {key.split("/")[-1].lower(): key for key in table}
    key = by_alias.get(name.lower())
    if key is None:
        known = _unknown("model", name, name.lower(), by_alias, model_names())
        raise HardwareError(f"{known}; or give the path of a Hugging Face config.json")
    return _model_from(key, table[key])


def read_model(path: Path) -> Model:
    """Read a Hugging Face config.json.

    Raises:
        HardwareError: the file is missing, is not JSON, or lacks a field.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise HardwareError(f"model config {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise HardwareError(f"model config {path}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise HardwareError(f"model config {path}: expected an object of fields, found {type(fields).__name__}")
    text = fields.get("text_config")
    return _model_from(str(path), text if isinstance(text, dict) else fields)


@cache
def find_engine(name: str) -> EngineEfficiency:
    """Find an engine by name.

    Raises:
        HardwareError: the name is unknown.
    """
    table = _table("engines.yaml")["engines"]
    if name not in table:
        raise HardwareError(_unknown("engine", name, name.lower(), {key: key for key in table}, engine_names()))
    entry = table[name]
    return EngineEfficiency(
        name=name,
        attention_ratio=entry["attention_ratio"],
        kv_ratio=entry["kv_ratio"],
        step_overhead_seconds=entry["step_overhead_us"] * 1e-6,
        sequence_overhead_seconds=entry["sequence_overhead_us"] * 1e-6,
        layer_overhead_seconds=entry["layer_overhead_us"] * 1e-6,
    )


def _model_from(name: str, fields: Mapping[str, Any]) -> Model:
    def number(*keys: str, default: int | None = None) -> int:
        for key in keys:
            value = fields.get(key)
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
            if value is not None:
                raise HardwareError(f"model config {name}: {key} is {value!r}; expected a positive whole number")
        if default is None:
            raise HardwareError(f"model config {name}: {keys[0]} is missing")
        return default

    hidden = number("hidden_size")
    heads = number("num_attention_heads")
    head_dim = number("head_dim", default=hidden // heads or None)
    experts = number("num_experts", "num_local_experts", "n_routed_experts", default=0)
    expert_size = ("moe_intermediate_size", "intermediate_size") if experts else ("intermediate_size",)
    return Model(
        name=name,
        hidden_size=hidden,
        intermediate_size=number(*expert_size),
        num_layers=number("num_hidden_layers"),
        num_heads=heads,
        num_kv_heads=number("num_key_value_heads", default=heads),
        head_dim=head_dim,
        vocab_size=number("vocab_size"),
        max_model_len=number("max_position_embeddings"),
        ties_embeddings=bool(fields.get("tie_word_embeddings", False)),
        num_experts=experts,
        experts_per_token=number("num_experts_per_tok") if experts else 0,
    )


def _unknown(what: str, name: str, wanted: str, by_alias: Mapping[str, str], names: tuple[str, ...]) -> str:
    close = dict.fromkeys(by_alias[alias] for alias in get_close_matches(wanted, by_alias, n=4, cutoff=0.5))
    nearest = f"; nearest: {', '.join(close)}" if close else ""
    return f"unknown {what} {name!r}{nearest}; known: {', '.join(names)}"


@cache
def _table(file: str) -> dict[str, Any]:
    from ruamel.yaml import YAML

    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    table: dict[str, Any] = YAML(typ="safe", pure=True).load(text)
    return table
