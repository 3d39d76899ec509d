"""What a directory says its model is: embeddings or labels, pooling, normalisation, longest text. Reads JSON only.

Follows transformers' `config.json` and, where they are there, the files that sentence-transformers adds:
`modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

Pooling = Literal["mean", "cls", "max"]
Activation = Literal["softmax", "sigmoid"]

_POOLING_KEYS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
}
_NO_LIMIT = 10**6
"""Tokenizers without a limit write a number beyond this."""


class LayoutError(ValueError):
    """A directory that cannot be served; the message names the file, what it holds and what was expected."""


@dataclass(frozen=True, slots=True)
class Layout:
    """A model's directory, read. `labels` is empty for a model that embeds."""

    path: Path
    max_tokens: int
    """The longest text, special tokens included."""
    pooling: Pooling = "mean"
    is_normalised: bool = True
    labels: tuple[str, ...] = ()
    activation: Activation = "softmax"

    @property
    def classifies(self) -> bool:
        """Whether it gives labels instead of embeddings."""
        return bool(self.labels)


def read_layout(path: Path) -> Layout:
    """Read a model's directory.

    Raises:
        LayoutError: a file is missing or says something that cannot be served.
    """
    config = _json(path / "config.json")
    if not list(path.glob("*.safetensors")):
        others = sorted(found.name for found in path.glob("*.bin"))
        hint = f" ({', '.join(others)} is pickle, which can run code; convert it)" if others else ""
        raise LayoutError(f"{path}: holds no *.safetensors{hint}")
    if not (path / "tokenizer.json").is_file():
        raise LayoutError(
            f"{path / 'tokenizer.json'}: is not there; expected the tokenizer that the model was trained with"
        )
    max_tokens = _max_tokens(path, config)
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith("ForSequenceClassification"):
        return _classifier(path, config, max_tokens)
    return _embedder(path, max_tokens)


def _classifier(path: Path, config: dict[str, Any], max_tokens: int) -> Layout:
    named = config.get("id2label") or {}
    count = len(named) or int(config.get("num_labels", 2))
    labels = tuple(str(named.get(str(number), f"LABEL_{number}")) for number in range(count))
    problem = config.get("problem_type")
    if problem == "regression":
        raise LayoutError(f"{path / 'config.json'}: problem_type is 'regression'; expected a model that gives labels")
    several = problem == "multi_label_classification" or count == 1
    return Layout(path, max_tokens, labels=labels, activation="sigmoid" if several else "softmax")


def _embedder(path: Path, max_tokens: int) -> Layout:
    modules_file = path / "modules.json"
    if not modules_file.is_file():
        return Layout(path, max_tokens)
    modules = _json(modules_file, list)
    kinds = {str(module.get("type", "")).rpartition(".")[2]: str(module.get("path", "")) for module in modules}
    unknown = sorted(kinds.keys() - {"Transformer", "Pooling", "Normalize"})
    if unknown:
        raise LayoutError(f"{modules_file}: has the module {unknown[0]}; expected Transformer, Pooling and Normalize")
    pooling_file = path / kinds.get("Pooling", "1_Pooling") / "config.json"
    pooling = _pooling(pooling_file) if "Pooling" in kinds else "mean"
    return Layout(path, max_tokens, pooling, "Normalize" in kinds)


def _pooling(path: Path) -> Pooling:
    config = _json(path)
    # newer files name it, older ones have a flag for each
    chosen = [key for key, value in config.items() if key.startswith("pooling_mode_") and value is True]
    named = config.get("pooling_mode", " and ".join(_POOLING_KEYS.get(key, key) for key in chosen))
    if named not in _POOLING_KEYS.values():
        raise LayoutError(f"{path}: the pooling is {named or None!r}; expected one of mean, cls and max")
    mode: Pooling = named
    return mode


def _max_tokens(path: Path, config: dict[str, Any]) -> int:
    limits = [config.get("max_position_embeddings")]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        if (path / name).is_file():
            limits.append(_json(path / name).get(key))
    known = [int(limit) for limit in limits if isinstance(limit, int | float) and 0 < limit < _NO_LIMIT]
    if not known:
        raise LayoutError(
            f"{path / 'config.json'}: has no max_position_embeddings, and no tokenizer file says how long a text may be"
        )
    return min(known)


def _json(path: Path, expected: type = dict) -> Any:
    try:
        found = json.loads(path.read_bytes())
    except OSError as error:
        raise LayoutError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise LayoutError(f"{path}: is not JSON: {error}") from error
    if not isinstance(found, expected):
        raise LayoutError(f"{path}: holds a JSON {type(found).__name__}; expected {expected.__name__}")
    return found
