"""BM25 over one corpus: exact scores of bm25s, top k with ties in corpus order."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import bm25s
import numpy as np

from agentgym.errors import DataError
from agentgym.retrieval.analyzer import terms
from agentgym.retrieval.postings import K1, B, Postings, PostingsBuilder
from agentgym.retrieval.protocol import Hit
from agentgym.types import Passage

_BLOCK = 1024
"""Passages per block when the top k of a long score array is searched."""


class Passages(Protocol):
    """Random access to the passages of a corpus, by position and by id."""

    def __len__(self) -> int:
        """Return the number of passages."""
        ...

    def __getitem__(self, position: int) -> Passage:
        """Return the passage at a position of the corpus."""
        ...

    def position(self, doc_id: str) -> int | None:
        """Return the position of an id, or None."""
        ...


class _PassageList:
    """Passages in memory."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        self.items = list(passages)
        self._positions: dict[str, int] = {}
        for i, passage in enumerate(self.items):
            first = self._positions.setdefault(passage.id, i)
            if first != i:
                raise DataError(
                    f"passages {first} and {i} (counted from 0) have the same id {passage.id!r}: ids must be unique"
                )
        if not self.items:
            raise DataError("no passages were given: a corpus needs at least one")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, position: int) -> Passage:
        return self.items[position]

    def position(self, doc_id: str) -> int | None:
        return self._positions.get(doc_id)


def passage_list(passages: Iterable[Passage]) -> _PassageList:
    """Hold passages in memory, with their positions by id.

    Raises:
        DataError: no passages, or two with one id.
    """
    return _PassageList(passages)


class BM25Retriever:
    """Lucene's BM25 (k1 0.9, b 0.4) over title and text of each passage.

    It never changes after construction, so threads may share it; copies are the object itself. A query term that
    occurs twice counts twice. Scores are float32, summed in the order of the query's terms.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond"; the Lucene variant of
    Kamphuis et al., "Which BM25 Do You Mean?", with exact instead of rounded passage lengths.
    """

    def __init__(
        self,
        passages: Passages,
        postings: Postings,
        term_number: Callable[[str], int | None],
        origin: tuple[Callable[..., Any], tuple[Any, ...]],
    ) -> None:
        """Join the parts of an index; use `from_passages` or `open_index` instead of calling this.

        `term_number` gives a term's row in `postings`, or None; `origin` is what pickle calls to make it again.
        """
        self._passages = passages
        self._term_number = term_number
        self._origin = origin
        self._scorer = bm25s.BM25(k1=K1, b=B, method="lucene")
        self._scorer.nonoccurrence_array = None
        self._scorer.scores = {
            "data": postings.scores,
            "indices": postings.docs,
            "indptr": postings.starts,
            "num_docs": postings.n_docs,
        }

    @classmethod
    def from_passages(cls, passages: Iterable[Passage]) -> "BM25Retriever":
        """Index passages in memory; their order is the order of ties.

        Raises:
            DataError: no passages, or two with one id.
        """
        kept = _PassageList(passages)
        builder = PostingsBuilder()
        for passage in kept.items:
            builder.add(terms(f"{passage.title} {passage.text}"))
        return cls(kept, builder.finish(), builder.vocabulary.get, (cls.from_passages, (kept.items,)))

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first; ties by corpus order."""
        lookup = self._term_number
        numbers = [number for number in map(lookup, terms(query)) if number is not None]
        if not numbers or k < 1:
            return []
        scores = self._scorer.get_scores_from_ids(numbers)
        passages = self._passages
        return [Hit(passages[i], score) for i, score in _top(scores, k)]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch: the same results as `search` on each."""
        return [self.search(query, k) for query in queries]

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        position = self._passages.position(doc_id)
        return None if position is None else self._passages[position]

    def __len__(self) -> int:
        return len(self._passages)

    def __copy__(self) -> "BM25Retriever":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "BM25Retriever":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._origin


def _top(scores: np.ndarray, k: int) -> list[tuple[int, float]]:
    """Return (position, score) of the k best positive scores, best first, ties by position."""
    if len(scores) > 4 * _BLOCK and k <= len(scores) // _BLOCK:
        # The k best block maxima are k scores, so the k-th of them bounds the k-th best score from below.
        whole = len(scores) // _BLOCK * _BLOCK
        best = scores[:whole].reshape(-1, _BLOCK).max(axis=1)
        bound = np.partition(best, len(best) - k)[len(best) - k]
        found = np.flatnonzero(scores >= bound if bound > 0 else scores > 0)
    else:
        found = np.flatnonzero(scores)
    values = scores[found]
    order = np.argsort(-values, kind="stable")[:k]
    return list(zip(found[order].tolist(), values[order].tolist(), strict=True))
