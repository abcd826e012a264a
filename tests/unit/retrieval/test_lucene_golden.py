"""The engine lucene against what Lucene itself said (tests/golden/lucene.json, made by benchmarks/lucene_golden.py)."""

import json
from pathlib import Path
from typing import Any

import pytest
from lucene_corpus import passages, queries

from agentgym.retrieval.index import open_index
from agentgym.retrieval.lexical.build import build_lexical
from agentgym.retrieval.lexical.retriever import LexicalRetriever
from agentgym.retrieval.lexical.tokens import terms
from agentgym.retrieval.pyserini_backend import write_collection

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "lucene.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("lucene")
    write_collection(passages(), place / "json")
    build_lexical([place / "json"], place / "index")
    return place / "index"


def test_tokens_are_those_of_lucene() -> None:
    assert len(GOLDEN["tokens"]) > 300
    assert [text for text, expected in GOLDEN["tokens"] if terms(text) != expected] == []


def test_statistics_are_those_of_lucene(folder: Path) -> None:
    counts = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["counts"]
    names = {"total_terms": "tokens", "unique_terms": "terms", "non_empty_documents": "filled"}
    assert {n: counts[names[n]] for n in GOLDEN["statistics"]} == GOLDEN["statistics"]


@pytest.mark.parametrize("compiled", [True, False], ids=["numba", "numpy"])
@pytest.mark.parametrize("setting", GOLDEN["scores"], ids=lambda s: f"k1={s['k1']},b={s['b']}")
def test_score_lists_are_those_of_lucene(setting: dict[str, Any], compiled: bool, folder: Path) -> None:
    if compiled:
        pytest.importorskip("numba")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    retriever = LexicalRetriever(
        folder, manifest["counts"], manifest["parameters"], k1=setting["k1"], b=setting["b"], numba=compiled
    )
    found = retriever.rank(queries(), GOLDEN["k"])
    expected = [[score for _, score in hits] for hits in setting["hits"]]
    assert [pytest.approx(row, abs=1.01e-4) for row in expected] == [scores.tolist() for _, scores in found]
    # Anserini orders equal scores by the ids as strings, which here is the order of the corpus.
    same = sum([h[0] for h in hits] == [retriever.passages.id_at(i) for i in docs.tolist()]
               for hits, (docs, _) in zip(setting["hits"], found, strict=True))  # fmt: skip
    assert same >= 0.9 * len(expected)


def test_an_index_remembers_its_own_parameters(folder: Path) -> None:
    assert (open_index(folder).k1, open_index(folder).b) == (0.9, 0.4)  # pyright: ignore[reportAttributeAccessIssue]
