"""The pruned search equals an exhaustive one; tiles, merges, threads and parameters change nothing else."""

import math
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgym.retrieval.lexical import build as building
from agentgym.retrieval.lexical.build import build_lexical, merge_indexes
from agentgym.retrieval.lexical.layout import LENGTHS, length_code
from agentgym.retrieval.lexical.retriever import LexicalRetriever
from agentgym.retrieval.lexical.tokens import terms
from agentgym.retrieval.manifest import read_manifest
from agentgym.retrieval.pyserini_backend import write_collection
from agentgym.types import Passage

WORDS = [f"w{i}" for i in range(12)]


def brute_force(passages: list[Passage], query: str, k: int, k1: float, b: float) -> list[tuple[int, np.float32]]:
    """BM25 as its formula stands, passage by passage."""
    counted = [Counter(terms(f"{p.title}\n{p.text}")) for p in passages]
    n = sum(bool(c) for c in counted)
    one, k1_, b_ = np.float32(1), np.float32(k1), np.float32(b)
    mean = np.float32(sum(map(Counter.total, counted)) / max(n, 1))
    found = []
    for i, counts in enumerate(counted):
        total = 0.0
        for term, repeats in Counter(terms(query)).items():
            df = sum(term in c for c in counted)
            if counts[term]:
                weight = np.float32(repeats) * np.float32(math.log(1 + (n - df + 0.5) / (df + 0.5)))
                length = np.float32(LENGTHS[length_code(np.array([counts.total()]))[0]])
                with np.errstate(divide="ignore"):
                    inverse = one / (k1_ * ((one - b_) + b_ * length / mean))
                total += float(weight - weight / (one + np.float32(counts[term]) * inverse))
        if total > 0:
            found.append((i, np.float32(total)))
    return sorted(found, key=lambda hit: (-hit[1], hit[0]))[:k]


def opened(folder: Path, **options: float | bool | None) -> LexicalRetriever:
    manifest = read_manifest(folder)
    return LexicalRetriever(folder, manifest["counts"], manifest["parameters"], **options)  # pyright: ignore[reportArgumentType]


def ranked(retriever: LexicalRetriever, queries: list[str], k: int, threads: int = 1) -> list[list[tuple[int, np.float32]]]:
    return [list(zip(d.tolist(), s, strict=True)) for d, s in retriever.rank(queries, k, threads=threads)]


texts = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
corpora = st.lists(texts, min_size=1, max_size=60).map(lambda found: [Passage(str(i), "", t) for i, t in enumerate(found)])


@pytest.mark.parametrize("compiled", [True, False], ids=["numba", "numpy"])
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    passages=corpora, queries=st.lists(texts, min_size=1, max_size=4), k=st.sampled_from([1, 2, 5, 1000]), tile=st.integers(1, 70),
    parameters=st.sampled_from([(0.9, 0.4), (1.2, 0.75), (0.0, 0.0), (3.0, 1.0)]),
)  # fmt: skip
def test_results_are_those_of_the_formula(
    passages: list[Passage], queries: list[str], k: int, tile: int, parameters: tuple[float, float], compiled: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if compiled:
        pytest.importorskip("numba")
    monkeypatch.setattr(building, "CHUNK_UNITS", tile)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_collection(passages, folder / "json")
        build_lexical([folder / "json"], folder / "index")
        k1, b = parameters
        retriever = opened(folder / "index", k1=k1, b=b, numba=compiled)
        assert ranked(retriever, queries, k) == [brute_force(passages, q, k, k1, b) for q in queries]


def test_large_tiles_are_searched_as_exactly_as_small_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles above the size where the first passages alone make the bar, and lists that fill a tile several times."""
    pytest.importorskip("numba")
    monkeypatch.setattr(building, "CHUNK_UNITS", 36_000)
    rng = np.random.default_rng(11)
    words = np.array([f"w{i}" for i in range(400)])
    ranks = np.minimum(rng.zipf(1.3, (72_000, 6)), 400) - 1  # w0 stands in most passages, the last ones in few
    ranks[:, :4] = np.where(rng.random((72_000, 1)) < 0.7, rng.integers(100, 124, (72_000, 4)), ranks[:, :4])
    with (tmp_path / "rows.jsonl").open("w") as file:
        file.writelines(f'{{"id": "{i}", "title": "", "text": "{" ".join(row[: 2 + i % 5])}"}}\n' for i, row in enumerate(words[ranks]))
    build_lexical([tmp_path / "rows.jsonl"], tmp_path / "index")
    pruned, whole = opened(tmp_path / "index"), opened(tmp_path / "index", numba=False)
    queries = [" ".join(words[np.minimum(rng.zipf(1.15, n), 400) - 1]) for n in rng.integers(1, 12, 60)]
    queries += ["w0 w1 w2 w3 w4", "w0 w0 w390", " ".join(words[:40]), " ".join(words[100:124])]
    for k in (1, 3, 60):
        assert ranked(pruned, queries, k) == ranked(whole, queries, k)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(passages=corpora.filter(lambda found: len(found) > 2), cut=st.floats(0.1, 0.9), tile=st.integers(1, 40))
def test_merged_indexes_are_as_one_built_of_all(
    passages: list[Passage], cut: float, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    middle = min(max(1, int(cut * len(passages))), len(passages) - 1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part, found in (("a", passages[:middle]), ("b", passages[middle:]), ("all", passages)):
            monkeypatch.setattr(building, "CHUNK_UNITS", tile if part != "all" else 1 << 16)
            write_collection(found, folder / part)
            build_lexical([folder / part], folder / f"{part}-index")
        merge_indexes([folder / "a-index", folder / "b-index"], folder / "merged")
        one, two = opened(folder / "all-index"), opened(folder / "merged")
        assert read_manifest(folder / "merged")["counts"]["terms"] == read_manifest(folder / "all-index")["counts"]["terms"]
        assert ranked(one, WORDS, 7) == ranked(two, WORDS, 7)
        assert [one.passages[i] for i in range(len(one))] == [two.passages[i] for i in range(len(two))] == passages
        assert two.passage("1") == passages[1]


def test_batches_and_threads_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "CHUNK_UNITS", 100)
    rng = np.random.default_rng(3)
    passages = [Passage(str(i), "t", " ".join(f"w{j}" for j in rng.geometric(0.05, 20))) for i in range(1000)]
    write_collection(passages, tmp_path / "json")
    build_lexical([tmp_path / "json"], tmp_path / "index")
    retriever = opened(tmp_path / "index")
    queries = [" ".join(f"w{j}" for j in rng.geometric(0.05, 4)) for _ in range(300)]
    one_by_one = [ranked(retriever, [q], 5)[0] for q in queries]
    assert ranked(retriever, queries, 5) == one_by_one
    assert ranked(retriever, queries, 5, threads=3) == one_by_one
    assert retriever.search_many(queries[:9], 3) == [retriever.search(q, 3) for q in queries[:9]]


@pytest.mark.parametrize("number", [0, 1, 23, 24, 40, 41, 42, 255, 1000, 10**6, 2**31 - 1])
def test_length_codes_round_down_to_four_significant_bits(number: int) -> None:
    decoded = int(LENGTHS[length_code(np.array([number]))[0]])
    assert decoded <= number
    assert number <= 40 or (number - 24) / (decoded - 24) < 1.126
    assert number > 40 or decoded == number
