"""Lucene itself, where it is installed: the golden file anew, and its indexes through our protocol."""

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from lucene_corpus import passages, queries

from agentgym.errors import MissingExtraError
from agentgym.retrieval import build_index, open_index, open_retriever
from agentgym.retrieval.pyserini_backend import PyseriniRetriever, write_collection

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def maker() -> Any:
    spec = importlib.util.spec_from_file_location("lucene_golden", ROOT / "benchmarks" / "lucene_golden.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    path = list(sys.path)
    spec.loader.exec_module(module)
    sys.path[:] = path
    return module


@pytest.mark.pyserini
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_lucene_says_what_the_golden_file_says(maker: Any) -> None:
    kept = json.loads((ROOT / "tests" / "golden" / "lucene.json").read_text(encoding="utf-8"))
    said = json.loads(json.dumps(maker.golden()))
    assert {k: v for k, v in said.items() if k != "pyserini"} == {k: v for k, v in kept.items() if k != "pyserini"}


@pytest.mark.pyserini
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_an_index_of_lucene_is_a_retriever(maker: Any, tmp_path: Path) -> None:
    lucene = open_retriever(maker.lucene_index(tmp_path / "lucene"))
    assert isinstance(lucene, PyseriniRetriever)
    write_collection(passages(), tmp_path / "ours")
    build_index(tmp_path / "ours", tmp_path / "index")
    ours = open_index(tmp_path / "index")
    assert len(lucene) == len(ours) == 1500
    for query, found, expected in zip(queries(), lucene.search_many(queries(), 5), ours.search_many(queries(), 5), strict=True):
        assert [h.score for h in found] == pytest.approx([h.score for h in expected], abs=1.01e-4), query
    assert lucene.passage("p0003") == ours.passage("p0003")
    assert lucene.passage("nowhere") is None
    assert lucene.search("", 3) == lucene.search("capital", 0) == []


def test_without_pyserini_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "segments_1").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "pyserini", None)
    monkeypatch.setitem(sys.modules, "pyserini.search", None)
    monkeypatch.setitem(sys.modules, "pyserini.search.lucene", None)
    with pytest.raises(MissingExtraError, match=r"pip install pyserini==1\.6\.0 arcadedb-embedded"):
        open_retriever(tmp_path)
