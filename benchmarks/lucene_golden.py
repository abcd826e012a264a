"""What Lucene itself says of a fixed corpus: tokens, statistics and score lists, for tests that need no Java.

    python benchmarks/lucene_golden.py          # writes tests/golden/lucene.json; needs pyserini and Java 21 or newer

docs/retrieval.md has a recipe that installs both with pip alone. The corpus is `tests/support/lucene_corpus.py`.
"""

import json
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "support")]

from lucene_corpus import passages, queries, strings  # noqa: E402

from agentgym.retrieval.pyserini_backend import _searcher_class, use_bundled_java, write_collection  # noqa: E402

OUT = ROOT / "tests" / "golden" / "lucene.json"
PARAMETERS = ((0.9, 0.4), (1.2, 0.75), (0.0, 0.0), (2.5, 1.0))
K = 10


def lucene_index(folder: Path) -> Path:
    """Index the corpus with Anserini and return the folder of the index."""
    import os

    use_bundled_java()
    import pyserini

    jar = next((Path(pyserini.__file__).parent / "resources" / "jars").glob("anserini-*-fatjar.jar"))
    write_collection(passages(), folder / "json")
    java = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if "JAVA_HOME" in os.environ else Path("java")
    subprocess.run(
        [str(java), "-cp", str(jar), "io.anserini.index.IndexCollection", "-collection", "JsonCollection",
         "-input", str(folder / "json"), "-index", str(folder / "index"), "-generator", "DefaultLuceneDocumentGenerator",
         "-threads", "1", "-storeRaw"],
        check=True, capture_output=True,
    )  # fmt: skip
    return folder / "index"


def golden() -> dict[str, Any]:
    """Return everything that the tests compare."""
    searcher_class = _searcher_class()
    from pyserini.analysis import Analyzer, get_lucene_analyzer
    from pyserini.index.lucene import LuceneIndexReader

    analyzer = Analyzer(get_lucene_analyzer())
    out: dict[str, Any] = {"pyserini": version("pyserini"), "k": K}
    out["tokens"] = [[text, list(analyzer.analyze(text))] for text in strings()]
    with tempfile.TemporaryDirectory() as folder:
        index = lucene_index(Path(folder))
        stats = LuceneIndexReader(str(index)).stats()
        out["statistics"] = {name: int(stats[name]) for name in ("total_terms", "unique_terms", "non_empty_documents") if name in stats}
        searcher = searcher_class(str(index))
        out["scores"] = []
        for k1, b in PARAMETERS:
            searcher.set_bm25(k1, b)
            hits = [[[h.docid, round(float(h.score), 4)] for h in searcher.search(q, k=K)] for q in queries()]
            out["scores"].append({"k1": k1, "b": b, "hits": hits})
    return out


if __name__ == "__main__":
    body = golden()
    OUT.write_text(json.dumps(body, ensure_ascii=True, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{OUT}: {len(body['tokens'])} texts, {len(queries())} queries, {len(PARAMETERS)} settings", file=sys.stderr)
