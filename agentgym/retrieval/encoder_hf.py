"""Encoders and cross-encoders that run in transformers. torch loads when one is opened, not before."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentgym.errors import ConfigError, DataError, MissingExtraError, suggestion
from agentgym.retrieval.encoders import Convention, described, fingerprint, joined, unit_rows
from agentgym.types import JSON, Passage

INSTALL = 'pip install "agentic-gym[dense,train]"'
DTYPES = ("float32", "bfloat16", "float16")
BATCH_TOKENS = 8_192
"""Tokens of one forward pass, padding included."""


class HFEncoder:
    """A transformer whose token states are pooled into one unit vector a text."""

    def __init__(self, place: str, convention: Convention, *, name: str = "", device: str = "", dtype: str = "float32") -> None:
        """Load tokenizer and weights.

        Args:
            place: a folder, or a name that transformers finds in its cache.
            convention: prefixes, pooling, longest text.
            name: the spec that opens it again.
            device: "cpu", "cuda" …; empty: a GPU where there is one.
            dtype: what the model computes in; pooling and vectors are float32 in any case.

        Raises:
            ConfigError: an unknown dtype.
            MissingExtraError: torch or transformers is not installed.
            DataError: the model cannot be loaded.
        """
        self._torch, transformers = _libraries(f"encoder {name or place!r}")
        self.name, self.convention, self._place = name or f"hf:{place}", convention, place
        self._tokenizer, self._model = _load(place, transformers, transformers.AutoModel)
        self._device = device or ("cuda" if self._torch.cuda.is_available() else "cpu")
        if dtype not in DTYPES:
            raise ConfigError(f"encoder {self.name!r}: dtype={dtype!r}; allowed: {', '.join(DTYPES)}{suggestion(dtype, DTYPES)}")
        self._model.to(self._device, getattr(self._torch, dtype)).eval()
        self.dim = int(self._model.config.hidden_size)

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        """Return [n, dim] float32 rows of length 1."""
        return self._encode([self.convention.passage_prefix + joined(passage) for passage in passages])

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray:
        """Return [n, dim] float32 rows of length 1."""
        return self._encode([self.convention.query_prefix + query for query in queries])

    def describe(self) -> dict[str, JSON]:
        """Return convention, size and fingerprint of the weights."""
        folder = Path(self._place)
        mark = fingerprint(folder) if folder.is_dir() else self._place
        return {"kind": "hf", "dim": self.dim, "fingerprint": mark, **described(self.convention)}

    def _encode(self, texts: Sequence[str]) -> np.ndarray:
        rows = np.zeros((len(texts), self.dim), np.float32)
        tokens = self._tokenizer(list(texts), truncation=True, max_length=self.convention.max_tokens)
        for batch in _batches([len(ids) for ids in tokens["input_ids"]]):
            padded = self._tokenizer.pad({k: [tokens[k][i] for i in batch] for k in tokens}, return_tensors="pt")
            padded = {k: v.to(self._device) for k, v in padded.items()}
            with self._torch.inference_mode():
                states = self._model(**padded).last_hidden_state.float()
                if self.convention.pooling == "cls":
                    pooled = states[:, 0]
                else:
                    mask = padded["attention_mask"].unsqueeze(-1).to(states.dtype)
                    pooled = (states * mask).sum(1) / mask.sum(1).clamp(min=1)
            rows[batch] = pooled.cpu().numpy()
        return unit_rows(rows)


class CrossEncoder:
    """Scores (query, passage) pairs with a sequence classifier of one output: the slow, sharp second stage."""

    def __init__(self, place: str, *, max_tokens: int = 512, device: str = "") -> None:
        """Load it. Raises MissingExtraError or DataError as `HFEncoder` does."""
        self._torch, transformers = _libraries(f"cross-encoder {place!r}")
        self._tokenizer, self._model = _load(place, transformers, transformers.AutoModelForSequenceClassification)
        if self._model.config.num_labels != 1:
            raise DataError(f"{place}: gives {self._model.config.num_labels} outputs a pair; a reranker gives 1")
        self._device = device or ("cuda" if self._torch.cuda.is_available() else "cpu")
        self._model.to(self._device).eval()
        self._max_tokens = max_tokens

    def __call__(self, query: str, passages: Sequence[Passage]) -> np.ndarray:
        """Return [n] float32 scores, higher is better."""
        scores = np.zeros(len(passages), np.float32)
        texts = [joined(passage) for passage in passages]
        tokens = self._tokenizer(
            [query] * len(texts), texts, truncation="longest_first", max_length=self._max_tokens
        )
        for batch in _batches([len(ids) for ids in tokens["input_ids"]]):
            padded = self._tokenizer.pad({k: [tokens[k][i] for i in batch] for k in tokens}, return_tensors="pt")
            with self._torch.inference_mode():
                logits = self._model(**{k: v.to(self._device) for k, v in padded.items()}).logits
            scores[batch] = logits[:, 0].float().cpu().numpy()
        return scores


def _libraries(feature: str) -> tuple[Any, Any]:
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingExtraError(feature, error.name or "torch", INSTALL) from None
    return torch, transformers


def _load(place: str, transformers: Any, kind: Any) -> tuple[Any, Any]:
    bars = transformers.utils.logging
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bar()
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(place)
        model = kind.from_pretrained(place)
    except (OSError, ValueError) as error:
        raise DataError(f"{place}: transformers cannot load it: {str(error).splitlines()[0]:.200}") from None
    finally:
        if shown:
            bars.enable_progress_bar()
    if tokenizer.pad_token_id is None:
        raise DataError(f"{place}: its tokenizer has no padding token, so texts cannot be batched")
    return tokenizer, model


def _batches(lengths: Sequence[int]) -> list[list[int]]:
    """Return positions grouped by length, each group at most BATCH_TOKENS padded."""
    groups: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= BATCH_TOKENS:
            groups[-1].append(i)
        else:
            groups.append([i])
    return groups
