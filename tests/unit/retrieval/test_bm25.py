import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import bm25s
import numpy as np
import pytest
from bm25s.stopwords import STOPWORDS_EN

from agentgym.errors import DataError
from agentgym.retrieval import BM25Retriever, Retriever
from agentgym.retrieval.analyzer import STOP_WORDS, terms
from agentgym.retrieval.bm25 import _top
from agentgym.retrieval.postings import PostingsBuilder
from agentgym.seeding import stream
from agentgym.types import Passage


def corpus(n: int, seed: int = 0, vocabulary: int = 40) -> list[Passage]:
    """Passages of Zipf-distributed words, some empty."""
    rng = stream("bm25", seed)
    weights = 1 / np.arange(1, vocabulary + 1)
    words = [f"w{i}" for i in range(vocabulary)]
    sizes = rng.integers(0, 12, n)
    return [
        Passage(f"d{i}", f"t{i % 7}", " ".join(rng.choice(words, size, p=weights / weights.sum())))
        for i, size in enumerate(sizes)
    ]


def reference(passages: list[Passage], query: str) -> np.ndarray:
    """The scores of bm25s called directly."""
    index = bm25s.BM25(k1=0.9, b=0.4, method="lucene")
    index.index([terms(f"{p.title} {p.text}") for p in passages], show_progress=False)
    return index.get_scores(terms(query))


def test_scores_equal_those_of_bm25s_bit_for_bit() -> None:
    passages = corpus(60)
    retriever = BM25Retriever.from_passages(passages)
    for query in ("w0 w3 t1", "w0 w0 w5", "w39", "t6 w12 unknown"):
        expected = reference(passages, query)
        hits = retriever.search(query, 60)
        assert {h.passage.id: np.float32(h.score) for h in hits} == {
            p.id: s for p, s in zip(passages, expected, strict=True) if s > 0
        }


def test_stop_words_are_those_of_bm25s() -> None:
    assert frozenset(STOPWORDS_EN) == STOP_WORDS


def test_hits_are_sorted_and_ties_stand_in_corpus_order() -> None:
    passages = [Passage(name, "", text) for name, text in (("z", "moon sun"), ("m", "sun moon"), ("a", "sun sun moon"))]
    hits = BM25Retriever.from_passages(passages).search("sun", 3)
    assert [h.passage.id for h in hits] == ["a", "z", "m"]
    assert hits[1].score == hits[2].score > 0


def test_k_bounds_the_hits_and_passages_without_a_query_term_never_appear() -> None:
    retriever = BM25Retriever.from_passages(corpus(30))
    everything = retriever.search("w0", 30)
    assert 0 < len(everything) < 30
    assert retriever.search("w0", 3) == everything[:3]
    assert retriever.search("w0", 0) == retriever.search("w0", -1) == []
    assert all("w0" in h.passage.text for h in everything)


@pytest.mark.parametrize("query", ["", "   ", "the of and", "unheard", "\ud800", "\x00?!"])
def test_queries_without_known_terms_find_nothing(query: str) -> None:
    assert BM25Retriever.from_passages(corpus(5)).search(query, 3) == []


def test_the_title_is_indexed() -> None:
    retriever = BM25Retriever.from_passages([Passage("a", "Chad", "A country."), Passage("b", "Mali", "A country.")])
    assert [h.passage.id for h in retriever.search("chad", 2)] == ["a"]


def test_a_corpus_of_stop_words_can_be_searched() -> None:
    retriever = BM25Retriever.from_passages([Passage("a", "The", "of and")])
    assert retriever.search("the of anything", 5) == []
    assert len(retriever) == 1


def test_search_many_equals_search_also_from_threads() -> None:
    retriever = BM25Retriever.from_passages(corpus(200))
    queries = [f"w{i} w{i // 2} t{i % 7}" for i in range(40)] * 5
    one_by_one = [retriever.search(q, 5) for q in queries]
    assert retriever.search_many(queries, 5) == one_by_one
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda q: retriever.search(q, 5), queries)) == one_by_one


def test_copies_are_the_object_itself_and_pickles_are_equal() -> None:
    retriever = BM25Retriever.from_passages(corpus(20))
    assert isinstance(retriever, Retriever)
    assert copy.deepcopy({"r": retriever})["r"] is copy.copy(retriever) is retriever
    again = pickle.loads(pickle.dumps(retriever))
    assert again.search("w1 w2", 9) == retriever.search("w1 w2", 9)


def test_passages_are_found_by_id() -> None:
    passages = corpus(5)
    retriever = BM25Retriever.from_passages(iter(passages))
    assert retriever.passage("d3") == passages[3]
    assert retriever.passage("nowhere") is None
    assert len(retriever) == 5


def test_broken_corpora_are_refused() -> None:
    with pytest.raises(DataError, match="no passages"):
        BM25Retriever.from_passages([])
    with pytest.raises(DataError, match=r"passages 0 and 2 .* same id 'x'"):
        BM25Retriever.from_passages([Passage(i, "", "") for i in ("x", "y", "x")])


@pytest.mark.parametrize("levels", [2, 5, 1000])
@pytest.mark.parametrize("n", [1, 50, 4096, 4097, 10_007])
def test_top_k_equals_a_full_sort(n: int, levels: int) -> None:
    rng = stream("top", n, levels)
    scores = (rng.integers(0, levels, n) * (rng.random(n) < 0.3)).astype(np.float32)
    full = [(int(i), float(scores[i])) for i in np.argsort(-scores, kind="stable") if scores[i] > 0]
    for k in (1, 2, 4, 9, 10, n):
        assert _top(scores, k) == full[:k]


def test_top_k_of_scores_that_fill_fewer_blocks_than_k() -> None:
    scores = np.zeros(9000, np.float32)
    scores[[8999, 10, 11]] = [1, 2, 2]
    assert _top(scores, 5) == [(10, 2.0), (11, 2.0), (8999, 1.0)]


@pytest.mark.parametrize("block_tokens", [1, 17, 100])
def test_blocks_do_not_change_the_postings(block_tokens: int, tmp_path: Path) -> None:
    texts = [terms(f"{p.title} {p.text}") for p in corpus(50)]
    builders = PostingsBuilder(), PostingsBuilder(tmp_path, block_tokens)
    for builder in builders:
        for text in texts:
            builder.add(text)
    whole, blocks = (builder.finish() for builder in builders)
    assert len(list(tmp_path.iterdir())) > 1
    for name in ("scores", "docs", "starts"):
        np.testing.assert_array_equal(getattr(whole, name), getattr(blocks, name))
