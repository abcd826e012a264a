"""Encoders: texts -> unit vectors. The protocol, the conventions of model families, and static token tables."""

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from agentgym.errors import ConfigError, DataError, MissingExtraError, suggestion
from agentgym.types import JSON, Passage

INSTALL = 'pip install "agentic-gym[dense]"'
POOLINGS = ("mean", "cls")


@runtime_checkable
class Encoder(Protocol):
    """Turns texts into vectors whose inner product says how near they are. Shared; safe to call from threads."""

    name: str
    """The spec that opens it again."""
    dim: int

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        """Return [n, dim] float32 rows of length 1 (length 0 for a text without tokens)."""
        ...

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray:
        """Return [n, dim] float32 rows of length 1 (length 0 for a text without tokens)."""
        ...

    def describe(self) -> dict[str, JSON]:
        """Return what decides the vectors: weights (as a fingerprint), prefixes, pooling. Equal means interchangeable."""
        ...


@dataclass(frozen=True, slots=True)
class Convention:
    """How a family of models wants its texts, and how a text's vector is read off its tokens."""

    query_prefix: str = ""
    passage_prefix: str = ""
    pooling: str = "mean"
    """"mean" over all tokens, or "cls": the first token."""
    max_tokens: int = 512
    """Longer texts are cut."""

    def __post_init__(self) -> None:
        """Raise ConfigError for a value out of range."""
        if self.pooling not in POOLINGS:
            raise ConfigError(f"pooling is {self.pooling!r}; allowed: {', '.join(POOLINGS)}{suggestion(self.pooling, POOLINGS)}")
        if self.max_tokens < 8:
            raise ConfigError(f"max_tokens is {self.max_tokens}; allowed: 8 or more")


CONVENTIONS: dict[str, Convention] = {
    "e5": Convention("query: ", "passage: "),
    "bge": Convention("Represent this sentence for searching relevant passages: ", "", "cls"),
    "minilm": Convention(max_tokens=256),
    "plain": Convention(),
}
"""Families by the word that their models' names hold. "plain" is taken only where asked for."""


class StaticEncoder:
    """A vector per token, averaged: some hundred times cheaper than a transformer, and a weaker retriever.

    Reads model2vec's layout: tokenizer.json and model.safetensors with "embeddings" [V, d], optionally "weights" [V]
    and "mapping" [V] (row of each token).
    """

    def __init__(self, folder: str | Path) -> None:
        """Read the table. Raises DataError for a folder that holds none, MissingExtraError without `tokenizers`."""
        self._folder = Path(folder)
        self.name = f"static:{folder}"
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise MissingExtraError(f"encoder {self.name!r}", "tokenizers", INSTALL) from None
        arrays = read_safetensors(self._folder / "model.safetensors")
        if "embeddings" not in arrays or arrays["embeddings"].ndim != 2:
            raise DataError(f"{self._folder / 'model.safetensors'}: holds no table 'embeddings'; found {', '.join(arrays)}")
        table = arrays["embeddings"].astype(np.float32)
        if "mapping" in arrays:
            table = table[arrays["mapping"].astype(np.int64)]
        if "weights" in arrays:
            table = table * arrays["weights"].astype(np.float32)[:, None]
        self._table, self.dim = table, table.shape[1]
        path = self._folder / "tokenizer.json"
        try:
            self._tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # noqa: BLE001 (the library raises a bare Exception)
            raise DataError(f"{path}: cannot be read as a tokenizer: {error}") from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        unknown = self._tokenizer.token_to_id("[UNK]")
        self._skipped = -1 if unknown is None else unknown

    def encode_passages(self, passages: Sequence[Passage]) -> np.ndarray:
        """Return [n, dim] float32 rows of length 1."""
        return self.encode_queries([joined(passage) for passage in passages])

    def encode_queries(self, queries: Sequence[str]) -> np.ndarray:
        """Return [n, dim] float32 rows of length 1."""
        rows = np.zeros((len(queries), self.dim), np.float32)
        for i, encoding in enumerate(self._tokenizer.encode_batch(list(queries), add_special_tokens=False)):
            ids = [t for t in encoding.ids if t != self._skipped and t < len(self._table)]
            if ids:
                rows[i] = self._table[ids].mean(axis=0)
        return unit_rows(rows)

    def describe(self) -> dict[str, JSON]:
        """Return kind and fingerprint."""
        return {"kind": "static", "dim": self.dim, "fingerprint": fingerprint(self._folder)}


def described(convention: Convention) -> dict[str, JSON]:
    """Return a convention as the manifest keeps it."""
    return asdict(convention)


def joined(passage: Passage) -> str:
    """Return title and text as encoders read them: the title on a line of its own."""
    return f"{passage.title}\n{passage.text}" if passage.title else passage.text


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Return [n, d] float32 rows scaled to length 1; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.divide(rows, lengths, out=np.zeros_like(rows, np.float32), where=lengths > 0)


def fingerprint(folder: Path) -> str:
    """Return 16 hex characters that tell one model folder from another: names, sizes, and both ends of each file."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.suffix in (".safetensors", ".bin", ".json", ".txt", ".model")):
        size = path.stat().st_size
        digest.update(f"{path.name} {size}\n".encode())
        with path.open("rb") as file:
            digest.update(file.read(1 << 20))
            file.seek(max(0, size - (1 << 20)))
            digest.update(file.read())
    return digest.hexdigest()[:16]


_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file in the safetensors format (a JSON header, then raw little-endian data).

    Raises:
        DataError: the file is missing, cut short, or holds a type that numpy has not.
    """
    try:
        data = path.read_bytes()
        (length,) = struct.unpack_from("<Q", data)
        header = json.loads(data[8 : 8 + length])
        body = memoryview(data)[8 + length :]
        arrays = {}
        for name, entry in header.items():
            if name != "__metadata__":
                start, end = entry["data_offsets"]
                arrays[name] = np.frombuffer(body[start:end], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
        return arrays
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, struct.error) as error:
        raise DataError(f"{path}: not a whole safetensors file: {type(error).__name__}: {error}") from None
