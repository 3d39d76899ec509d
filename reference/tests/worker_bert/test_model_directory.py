"""What a directory says of its model is read whole; what cannot be served is told by file, value and expectation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from reference.worker.bert.layout import Layout, LayoutError, read_layout

CONFIG = {"architectures": ["BertModel"], "max_position_embeddings": 512}


def directory(path: Path, files: dict[str, Any]) -> Path:
    base = {"config.json": CONFIG, "tokenizer.json": {}, "model.safetensors": ""}
    for name, content in (base | files).items():
        if content is not None:
            (path / name).parent.mkdir(exist_ok=True)
            (path / name).write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def sentence_transformer(pooling: dict[str, Any], *kinds: str) -> dict[str, Any]:
    paths = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": paths.get(kind, kind)} for kind in kinds]
    return {
        "modules.json": modules,
        "1_Pooling/config.json": pooling,
        "sentence_bert_config.json": {"max_seq_length": 256},
    }


def test_a_plain_encoder_is_pooled_by_its_mean_and_normalised(tmp_path: Path) -> None:
    assert read_layout(directory(tmp_path, {})) == Layout(tmp_path, 512, "mean", True)


@pytest.mark.parametrize(
    ("pooling", "expected"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}, "mean"),
        ({"pooling_mode_mean_tokens": False, "pooling_mode_cls_token": True}, "cls"),
        ({"pooling_mode_max_tokens": True}, "max"),
        ({"pooling_mode": "cls"}, "cls"),
    ],
)
def test_pooling_and_normalisation_are_the_models_own(tmp_path: Path, pooling: dict[str, Any], expected: str) -> None:
    files = sentence_transformer(pooling, "Transformer", "Pooling")

    assert read_layout(directory(tmp_path, files)) == Layout(tmp_path, 256, expected, False)  # type: ignore[arg-type]


def test_labels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    config = CONFIG | {"architectures": ["BertForSequenceClassification"], "id2label": {"1": "calm", "0": "gust"}}

    layout = read_layout(directory(tmp_path, {"config.json": config}))

    assert (layout.labels, layout.activation) == (("gust", "calm"), "softmax")


def test_labels_that_exclude_each_other_not_are_scored_one_by_one(tmp_path: Path) -> None:
    config = CONFIG | {
        "architectures": ["BertForSequenceClassification"],
        "id2label": {"0": "gust", "1": "calm"},
        "problem_type": "multi_label_classification",
    }

    assert read_layout(directory(tmp_path, {"config.json": config})).activation == "sigmoid"


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ({"config.json": None}, "config.json: cannot be read: No such file"),
        ({"config.json": "{"}, "config.json: is not JSON"),
        ({"config.json": "[]"}, "holds a JSON list; expected dict"),
        ({"model.safetensors": None}, "holds no *.safetensors"),
        ({"model.safetensors": None, "pytorch_model.bin": ""}, "pytorch_model.bin is pickle"),
        ({"tokenizer.json": None}, "tokenizer.json: is not there"),
        ({"config.json": {"architectures": ["BertModel"]}}, "max_position_embeddings"),
        (sentence_transformer({"pooling_mode_lasttoken": True}, "Transformer", "Pooling"), "pooling_mode_lasttoken"),
        (sentence_transformer({}, "Transformer", "Pooling"), "the pooling is None"),
        (
            sentence_transformer(
                {"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, "Transformer", "Pooling"
            ),
            "the pooling is 'cls and max'",
        ),
        (sentence_transformer({}, "Transformer", "Dense"), "has the module Dense"),
        (
            {"config.json": CONFIG | {"architectures": ["XForSequenceClassification"], "problem_type": "regression"}},
            "problem_type is 'regression'",
        ),
    ],
)
def test_what_cannot_be_served_is_said_in_one_line(tmp_path: Path, files: dict[str, Any], told: str) -> None:
    with pytest.raises(LayoutError) as refusal:
        read_layout(directory(tmp_path, files))

    assert told in str(refusal.value)
    assert "\n" not in str(refusal.value)
