"""Inversion: from the terms of each passage to the BM25 score of every (term, passage) pair.

bm25s computes all scores when it builds an index. This module computes the same numbers, bit for bit (the tests
compare them), with whole-array operations and in blocks that may be spilled to disk, so that neither a world of
90 passages nor a corpus of millions pays for a Python loop over documents.
"""

import math
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

K1 = 0.9
B = 0.4
BLOCK_TOKENS = 4_000_000
"""Terms held in memory before a block is inverted: about 100 MB of arrays."""


@dataclass(frozen=True, slots=True)
class Postings:
    """Scores by term in compressed columns: term t owns the slice `starts[t]:starts[t + 1]`."""

    scores: np.ndarray
    """[P] float32, above 0: what the term adds to the passage's score each time that a query names it."""
    docs: np.ndarray
    """[P] int32: passage positions, ascending inside a term."""
    starts: np.ndarray
    """[V + 1] int64."""
    n_docs: int


Allocate = Callable[[str, int, str], np.ndarray]
"""(name, length, dtype) -> array to fill; lets a builder write straight into mapped files."""


def _in_memory(name: str, length: int, dtype: str) -> np.ndarray:
    return np.empty(length, dtype)


class PostingsBuilder:
    """Collects the terms of passages in corpus order, then `finish` scores them."""

    def __init__(self, spill: Path | None = None, block_tokens: int = BLOCK_TOKENS) -> None:
        """Keep inverted blocks in memory, or under the folder `spill`."""
        self.vocabulary: dict[str, int] = {}
        """Term -> number, in the order of first use."""
        self.lengths = array("q")
        """Number of terms of each passage."""
        self._block_tokens = block_tokens
        self._spill = spill
        self._block = array("i")
        self._block_first = 0
        self._blocks: list[np.ndarray | Path] = []

    def add(self, passage_terms: Sequence[str]) -> None:
        """Add the terms of the next passage."""
        numbers = self.vocabulary
        self._block.extend([numbers.setdefault(term, len(numbers)) for term in passage_terms])
        self.lengths.append(len(passage_terms))
        if len(self._block) >= self._block_tokens:
            self._close_block()

    def finish(self, allocate: Allocate = _in_memory, progress: Callable[[int, int], None] | None = None) -> Postings:
        """Score all pairs. `progress` gets (blocks done, blocks in all)."""
        self._close_block()
        n_docs, n_terms = len(self.lengths), len(self.vocabulary)
        lengths = np.frombuffer(self.lengths, np.int64) if n_docs else np.zeros(0, np.int64)
        df = np.zeros(n_terms, np.int64)
        for block in self._open_blocks():
            df += np.bincount(block[0], minlength=n_terms)
        starts = allocate("starts", n_terms + 1, "int64")
        starts[0] = 0
        np.cumsum(df, out=starts[1:])
        scores = allocate("scores", int(starts[-1]), "float32")
        docs = allocate("docs", int(starts[-1]), "int32")
        idf = _idf(df, n_docs)
        mean_length = lengths.mean() if n_docs else 0.0
        cursor = np.array(starts[:-1])
        for done, (term, doc, tf) in enumerate(self._open_blocks(), start=1):
            # Inside a block a term's passages are adjacent: their rank is the distance to the first of them.
            count = np.bincount(term, minlength=n_terms)
            first = np.cumsum(count) - count
            place = np.arange(len(term)) + (cursor - first)[term]
            cursor += count
            norm = K1 * ((1 - B) + B * lengths[doc] / mean_length)
            docs[place] = doc
            scores[place] = idf[term] * (tf / (norm + tf))
            if progress:
                progress(done, len(self._blocks))
        return Postings(scores, docs, starts, n_docs)

    def _close_block(self) -> None:
        """Invert the pending terms into rows (term, passage, count), sorted by term, then passage."""
        first, self._block_first = self._block_first, len(self.lengths)
        tokens = np.array(self._block, np.int64)
        self._block = array("i")
        if not len(tokens):
            return
        n_docs = self._block_first - first
        lengths = np.frombuffer(self.lengths, np.int64)[first:]
        key = tokens * n_docs + np.repeat(np.arange(n_docs), lengths)
        key.sort()
        edge = np.concatenate(([True], key[1:] != key[:-1])).nonzero()[0]
        tf = np.diff(edge, append=len(key))
        key = key[edge]
        term = key // n_docs
        rows = np.stack([term, key - term * n_docs + first, tf]).astype(np.int32)
        if self._spill is None:
            self._blocks.append(rows)
            return
        path = self._spill / f"block-{len(self._blocks)}.npy"
        np.save(path, rows)
        self._blocks.append(path)

    def _open_blocks(self) -> Iterator[np.ndarray]:
        for block in self._blocks:
            yield block if isinstance(block, np.ndarray) else np.load(block)


def _idf(df: np.ndarray, n_docs: int) -> np.ndarray:
    """Lucene's inverse document frequency ln(1 + (N - df + 0.5) / (df + 0.5)) as [V] float32."""
    distinct, which = np.unique(df, return_inverse=True)
    table = [math.log(1 + (n_docs - n + 0.5) / (n + 0.5)) for n in distinct.tolist()]
    return np.array(table, np.float32)[which] if table else np.zeros(0, np.float32)
