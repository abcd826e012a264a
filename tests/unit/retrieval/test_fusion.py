"""Reciprocal rank fusion, hybrid retrievers, reranking."""

import copy
import itertools
import pickle
from collections.abc import Sequence
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieval_servers import TOPICS, Recording, passages, static_encoder

from agentgym.errors import ConfigError
from agentgym.retrieval import BM25Retriever, Retriever
from agentgym.retrieval.dense import DenseRetriever
from agentgym.retrieval.fusion import HybridRetriever, RerankedRetriever, fuse
from agentgym.types import Passage

rankings = st.lists(st.permutations(range(12)).flatmap(lambda p: st.integers(0, 12).map(lambda n: p[:n])), min_size=1, max_size=4)


def test_numbers_of_the_formula() -> None:
    assert fuse([["a", "b"], ["b", "c"]]) == [("b", 1 / 62 + 1 / 61), ("a", 1 / 61), ("c", 1 / 62)]
    assert fuse([["a"], ["b"]], weights=[1, 3])[0] == ("b", 3 / 61)
    assert fuse([["a"], ["b"]], k=0) == [("a", 1.0), ("b", 1.0)], "ties by first appearance"
    assert fuse([[], []]) == []


@given(rankings)
def test_fusion_orders_by_the_exact_sums(lists: list[list[int]]) -> None:
    fused = fuse(lists)
    exact = {i: sum(Fraction(1, 61 + row.index(i)) for row in lists if i in row) for row in lists for i in row}
    assert {i for i, _ in fused} == set(exact)
    values = [exact[i] for i, _ in fused]
    assert all(a >= b or float(a) == pytest.approx(float(b), rel=1e-12) for a, b in itertools.pairwise(values))


class Fixed:
    """A retriever with a ranking of its own."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = order

    def search_many(self, queries: Sequence[str], k: int) -> list:
        from agentgym.retrieval import Hit

        return [[Hit(passages()[i], 1.0) for i in self.order[:k]] for _ in queries]

    def search(self, query: str, k: int) -> list:
        return self.search_many([query], k)[0]

    def passage(self, doc_id: str) -> Passage | None:
        return Recording(passages()).passage(doc_id)

    def __len__(self) -> int:
        return 60


def test_a_hybrid_of_foreign_retrievers_fuses_by_id() -> None:
    hybrid = HybridRetriever([Fixed([1, 2, 3]), Fixed([3, 4])], depth=3)
    assert [hit.passage.id for hit in hybrid.search("x", 10)] == ["p3", "p1", "p2", "p4"]
    assert [hit.passage.id for hit in hybrid.search("x", 1)] == ["p3"]
    assert hybrid.search_many(["x", "y"], 0) == [[], []]
    weighted = HybridRetriever([Fixed([1, 2]), Fixed([3])], weights=[1, 5])
    assert weighted.search("x", 1)[0].passage.id == "p3"


def test_a_hybrid_of_our_own_equals_fusion_by_hand(tmp_path) -> None:
    encoder = f"static:{static_encoder(tmp_path / 'table', TOPICS)}"
    hybrid = HybridRetriever.from_passages(passages(), encoder)
    lexical, dense = BM25Retriever.from_passages(passages()), DenseRetriever.from_passages(passages(), encoder)
    queries = ["violin near the glacier", "neoharbour", "number7", "nothing known", ""]
    for query, hits in zip(queries, hybrid.search_many(queries, 5), strict=True):
        parts = [[hit.passage.id for hit in part.search(query, 100)] for part in (lexical, dense)]
        assert [(h.passage.id, h.score) for h in hits] == fuse(parts)[:5]
        assert hybrid.search(query, 5) == hits
    assert not lexical.search("neoglacier", 3)
    assert hybrid.search("neoglacier", 3)[0].passage.title.startswith("Glacier")
    assert isinstance(hybrid, Retriever)
    assert copy.deepcopy(hybrid) is hybrid
    assert pickle.loads(pickle.dumps(hybrid)).search("violin", 3) == hybrid.search("violin", 3)
    assert (len(hybrid), hybrid.passage("p3")) == (60, passages()[3])


@pytest.mark.parametrize(("n", "weights"), [(1, ()), (2, (1,)), (2, (1, 0)), (2, (1, float("nan")))])
def test_parts_and_weights_must_fit(n: int, weights: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"two or more|weights"):
        HybridRetriever([Fixed([1])] * n, weights=weights)


def test_a_reranker_orders_the_candidates_and_their_scores_stay_positive() -> None:
    asked: list[int] = []

    def rule(query: str, given: Sequence[Passage]) -> list[float]:
        asked.append(len(given))
        return [float(p.id[1:]) % 5 - 100 * (p.id == "p4") for p in given]

    reranked = RerankedRetriever(Fixed(range(20)), rule, depth=12, batch=5)
    assert [hit.passage.id for hit in reranked.search("x", 3)] == ["p9", "p3", "p8"]
    assert asked == [5, 5, 2]
    hits = reranked.search("x", 12)
    assert all(a.score >= b.score > 0 for a, b in itertools.pairwise(hits))


def test_a_reranker_without_time_leaves_the_first_order() -> None:
    import time

    def slow(query: str, given: Sequence[Passage]) -> list[float]:
        time.sleep(0.01)
        return [float(p.id[1:]) for p in given]

    reranked = RerankedRetriever(Fixed(range(20)), slow, depth=10, batch=2, budget_s=0.005)
    assert [hit.passage.id for hit in reranked.search("x", 3)] == ["p0", "p1", "p2"]
    assert reranked.fallbacks == 1
