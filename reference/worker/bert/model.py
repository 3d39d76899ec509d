"""The model itself: token ids in, vectors or scores out. The only file that imports torch.

Weights come from safetensors in a directory; nothing is downloaded and no pickle is read.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from reference.worker.bert.layout import Layout

Rows = npt.NDArray[np.float32]
"""One row a text: a vector of the model's size, or a score for each label."""

WARM_UP_TEXT = "is everything there?"


class Encoder:
    """A loaded model and its tokenizer. `tokenize` and `compute` block; each is for one thread at a time."""

    def __init__(self, layout: Layout, device: str, threads: int) -> None:
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        import torch
        from tokenizers import Tokenizer
        from transformers import AutoModel, AutoModelForSequenceClassification, logging

        logging.disable_progress_bar()
        self._torch: Any = torch
        if threads:
            torch.set_num_threads(threads)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.layout = layout
        self.device = device
        kind = AutoModelForSequenceClassification if layout.classifies else AutoModel
        model = kind.from_pretrained(layout.path, local_files_only=True, use_safetensors=True, dtype=torch.float32)
        self._model: Any = model.to(device).eval()
        self._tokenizer = Tokenizer.from_file(str(layout.path / "tokenizer.json"))
        # the file may say to cut and pad; texts are never cut here, and a batch is padded when it is made
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._pad = int(getattr(model.config, "pad_token_id", None) or 0)
        self.vocabulary_size = int(model.config.vocab_size)
        self.size = len(layout.labels) or int(model.config.hidden_size)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of texts, special tokens included."""
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]

    def frame(self, tokens: Sequence[int]) -> list[int]:
        """Put special tokens around ids that a client has made itself."""
        before, _, after = self._frame()
        return [*before, *tokens, *after]

    def compute(self, batch: Sequence[Sequence[int]]) -> Rows:
        """Return a row for each text; what shares the batch makes no difference beyond rounding."""
        torch = self._torch
        longest = max(map(len, batch))
        ids = np.full((len(batch), longest), self._pad, dtype=np.int64)
        mask = np.zeros((len(batch), longest), dtype=np.int64)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        given = torch.from_numpy(ids).to(self.device)
        seen = torch.from_numpy(mask).to(self.device)
        with torch.inference_mode():
            answer = self._model(input_ids=given, attention_mask=seen)
            rows = self._scores(answer.logits) if self.layout.classifies else self._pooled(answer[0], seen)
        found: Rows = rows.float().cpu().numpy()
        return found

    def warm_up(self) -> None:
        """Compute one real batch of one text.

        Raises:
            ValueError: what came out is no row of finite numbers.
        """
        rows = self.compute(self.tokenize([WARM_UP_TEXT]))
        if rows.shape != (1, self.size) or not np.isfinite(rows).all():
            raise ValueError(f"{self.layout.path}: a first text gave {rows.shape} numbers, not all of them finite")

    def _scores(self, logits: Any) -> Any:
        return logits.sigmoid() if self.layout.activation == "sigmoid" else logits.softmax(dim=-1)

    def _pooled(self, hidden: Any, seen: Any) -> Any:
        """Make one vector of a text's token vectors (texts, tokens, size), as the model was trained to."""
        torch = self._torch
        weights = seen.unsqueeze(-1).to(hidden.dtype)
        match self.layout.pooling:
            case "mean":
                # 1e-9 as in sentence-transformers: no text is without tokens
                vectors = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1e-9)
            case "cls":
                vectors = hidden[:, 0]
            case "max":
                vectors = hidden.masked_fill(weights == 0, float("-inf")).max(dim=1).values
        return torch.nn.functional.normalize(vectors, dim=1) if self.layout.is_normalised else vectors

    def _frame(self) -> tuple[list[int], list[int], list[int]]:
        """Split the ids of a one-token text into what stands before it, it, and what stands after."""
        bare = self._tokenizer.encode(WARM_UP_TEXT, add_special_tokens=False).ids
        framed = self._tokenizer.encode(WARM_UP_TEXT).ids
        start = next(at for at in range(len(framed)) if framed[at : at + len(bare)] == bare)
        return framed[:start], bare, framed[start + len(bare) :]
