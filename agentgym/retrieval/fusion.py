"""Several retrievers as one: reciprocal rank fusion, and a second stage that reads the candidates."""

import math
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, TypeVar

from agentgym.errors import ConfigError
from agentgym.retrieval.bm25 import BM25Retriever
from agentgym.retrieval.dense import DEFAULT_ENCODER, DenseRetriever, passages_of
from agentgym.retrieval.encoders import Encoder
from agentgym.retrieval.protocol import Hit, Retriever
from agentgym.types import Passage

T = TypeVar("T", bound=Hashable)
RRF_K = 60
"""The constant of the paper: how slowly a rank loses worth."""
DEPTH = 100
"""Candidates that each part gives."""

Reranker = Callable[[str, Sequence[Passage]], Sequence[float]]
"""(query, passages) -> a score for each, higher is better; any finite numbers."""


def fuse(rankings: Sequence[Sequence[T]], weights: Sequence[float] = (), k: int = RRF_K) -> list[tuple[T, float]]:
    """Return (item, score) of all items, best first; ties by first appearance, ranking by ranking.

    An item's score is the sum over rankings of weight / (k + rank), rank from 1.

    Args:
        rankings: items, best first, each at most once in a ranking.
        weights: one a ranking; 1 each without them.
        k: see RRF_K.

    Source: Cormack, Clarke and Büttcher, "Reciprocal Rank Fusion outperforms Condorcet and individual Rank Learning
    Methods"; the weights are an addition.
    """
    scores: dict[T, float] = {}
    for ranking, weight in zip(rankings, weights or [1.0] * len(rankings), strict=True):
        for rank, item in enumerate(ranking, 1):
            scores[item] = scores.get(item, 0.0) + weight / (k + rank)
    return sorted(scores.items(), key=lambda pair: -pair[1])


class _Stage:
    """What retrievers over other retrievers share: single searches, look-up and size are those of the batch and the first."""

    first: Any

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first."""
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch."""
        raise NotImplementedError

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        return self.first.passage(doc_id)

    def __len__(self) -> int:
        return len(self.first)

    def __copy__(self) -> Any:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


class HybridRetriever(_Stage):
    """Fuses the rankings of retrievers over one corpus, usually a lexical and a dense one."""

    def __init__(
        self, parts: Sequence[Retriever], *, weights: Sequence[float] = (), depth: int = DEPTH, k: int = RRF_K
    ) -> None:
        """Join parts.

        Args:
            parts: two or more retrievers; passages are looked up in the first.
            weights: one a part, above 0; 1 each without them.
            depth: candidates that each part gives.
            k: the constant of `fuse`.

        Raises:
            ConfigError: fewer than two parts, or weights that do not fit them.
        """
        if len(parts) < 2:
            raise ConfigError(f"a hybrid retriever fuses two or more, got {len(parts)}")
        if weights and (len(weights) != len(parts) or not all(w > 0 and math.isfinite(w) for w in weights)):
            raise ConfigError(f"weights={list(weights)}: give one number above 0 for each of the {len(parts)} parts")
        self.parts, self.weights, self.depth, self.k = tuple(parts), tuple(weights), depth, k
        self.first = parts[0]
        # Positions where all parts rank the same passages: texts are then read for the best k alone.
        self._by_position = all(hasattr(p, "rank") for p in parts) and len({len(p) for p in parts}) == 1

    @classmethod
    def from_passages(cls, passages: Iterable[Passage], encoder: str | Encoder = DEFAULT_ENCODER) -> "HybridRetriever":
        """Fuse BM25 and dense search of passages in memory."""
        kept = list(passages)
        return cls([BM25Retriever.from_passages(kept), DenseRetriever.from_passages(kept, encoder)])

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch: one batch in each part."""
        if k < 1:
            return [[] for _ in queries]
        depth = max(k, self.depth)
        if self._by_position:
            passages = passages_of(self.first)
            ranked: list[Any] = [part.rank(queries, depth) for part in self.parts]  # pyright: ignore
            found = [[places.tolist() for places, _ in rows] for rows in ranked]
            return [[Hit(passages[p], s) for p, s in fuse(rows, self.weights, self.k)[:k]] for rows in zip(*found, strict=True)]
        results = [part.search_many(queries, depth) for part in self.parts]
        merged = []
        for rows in zip(*results, strict=True):
            texts = {hit.passage.id: hit.passage for row in rows for hit in row}
            order = fuse([list(dict.fromkeys(hit.passage.id for hit in row)) for row in rows], self.weights, self.k)
            merged.append([Hit(texts[doc_id], score) for doc_id, score in order[:k]])
        return merged

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _hybrid, (self.parts, self.weights, self.depth, self.k)


class RerankedRetriever(_Stage):
    """Orders the candidates of a first stage by what a reranker (a cross-encoder, a model, a rule) says of them."""

    def __init__(
        self, first: Retriever, reranker: Reranker, *, depth: int = 30, budget_s: float = 0.0, batch: int = 8
    ) -> None:
        """Join the stages.

        Args:
            first: gives the candidates.
            reranker: scores them.
            depth: candidates of a query.
            budget_s: seconds that a query's reranking may take; a query that runs out keeps the first stage's order
                and is counted in `fallbacks`. 0: no limit.
            batch: candidates that the reranker is given at once.
        """
        if depth < 1 or batch < 1:
            raise ConfigError(f"depth={depth}, batch={batch}: allowed: 1 or more")
        self.first, self.reranker, self.depth, self.budget_s, self.batch = first, reranker, depth, budget_s, batch
        self.fallbacks = 0
        """Queries that ran out of time."""

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch in the first stage, then rerank query by query."""
        if k < 1:
            return [[] for _ in queries]
        candidates = self.first.search_many(queries, max(k, self.depth))
        return [self._reranked(query, hits)[:k] for query, hits in zip(queries, candidates, strict=True)]

    def _reranked(self, query: str, hits: list[Hit]) -> list[Hit]:
        started, scores = time.monotonic(), []
        for start in range(0, len(hits), self.batch):
            if self.budget_s and time.monotonic() - started > self.budget_s:
                self.fallbacks += 1
                return hits
            scores += [float(s) for s in self.reranker(query, [h.passage for h in hits[start : start + self.batch]])]
        order = sorted(range(len(hits)), key=lambda i: -scores[i])
        return [Hit(hits[i].passage, _positive(scores[i])) for i in order]

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return _reranked, (self.first, self.reranker, self.depth, self.budget_s, self.batch)


def _positive(score: float) -> float:
    """Return the logistic function of a score: the same order, and positive as scores of hits are."""
    return 1.0 / (1.0 + math.exp(-max(-60.0, min(60.0, score))))


def _hybrid(parts: Sequence[Retriever], weights: Sequence[float], depth: int, k: int) -> HybridRetriever:
    return HybridRetriever(parts, weights=weights, depth=depth, k=k)


def _reranked(first: Retriever, reranker: Reranker, depth: int, budget_s: float, batch: int) -> RerankedRetriever:
    return RerankedRetriever(first, reranker, depth=depth, budget_s=budget_s, batch=batch)
