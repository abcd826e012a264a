"""Lucene indexes made by pyserini or Anserini, opened as they are (needs pyserini 1.x and a Java runtime of 21 or newer).

It is the oracle of the engine lucene: docs/retrieval.md has a recipe that installs it, Java included, with pip alone.
"""

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agentgym.errors import DataError, MissingExtraError, ServiceError
from agentgym.jsonl import parse_json
from agentgym.retrieval.passages import passage_of
from agentgym.retrieval.protocol import Hit
from agentgym.types import Passage

INSTALL = "pip install pyserini==1.6.0 arcadedb-embedded"


def is_lucene_index(folder: Path) -> bool:
    """Tell whether a folder holds an index of Lucene itself."""
    return folder.is_dir() and any(folder.glob("segments_*"))


class PyseriniRetriever:
    """Lucene's own search over an index with stored documents (`-storeRaw`); copies are the object itself."""

    def __init__(self, folder: str | Path, k1: float = 0.9, b: float = 0.4) -> None:
        """Open an index.

        Raises:
            MissingExtraError: pyserini or Java is not installed.
            DataError: no Lucene index there, or one without stored documents.
        """
        self._folder, self._k1, self._b = Path(folder), k1, b
        if not is_lucene_index(self._folder):
            raise DataError(f"{folder}: no Lucene index (a folder with a file segments_N)")
        self._searcher = _searcher_class()(str(folder))
        self._searcher.set_bm25(k1, b)
        self._n = int(self._searcher.num_docs)

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first; Anserini breaks ties by the ids as strings."""
        if k < 1 or not query.strip():
            return []
        return self._hits(self._searcher.search(query, k=min(k, self._n)))

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch: the same results as `search` on each."""
        asked = [i for i, query in enumerate(queries) if query.strip()] if k > 0 else []
        found = (
            self._searcher.batch_search([queries[i] for i in asked], [str(i) for i in asked], k=min(k, self._n), threads=1)
            if asked
            else {}
        )
        return [self._hits(found.get(str(i), [])) for i in range(len(queries))]

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        document = self._searcher.doc(doc_id)
        return None if document is None else self._passage(document.raw(), doc_id)

    def __len__(self) -> int:
        return self._n

    def __deepcopy__(self, memo: dict[int, Any]) -> "PyseriniRetriever":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return PyseriniRetriever, (self._folder, self._k1, self._b)

    def _hits(self, found: Any) -> list[Hit]:
        return [Hit(self._passage(h.lucene_document.get("raw"), h.docid), float(h.score)) for h in found if h.score > 0]

    def _passage(self, raw: str | None, doc_id: str) -> Passage:
        if not raw:
            raise DataError(f"{self._folder}: document {doc_id!r} has no stored text; build the index with -storeRaw")
        row = parse_json(raw, f"{self._folder}: document {doc_id!r}")
        return passage_of({**row, "id": doc_id} if isinstance(row, dict) else {"id": doc_id, "contents": raw}, str(self._folder))


def use_bundled_java() -> None:
    """Point JAVA_HOME to the runtime inside the package arcadedb-embedded, unless one is set."""
    with contextlib.suppress(ImportError):
        import importlib.util

        spec = importlib.util.find_spec("arcadedb_embedded")
        if spec is None or not spec.submodule_search_locations or "JVM_PATH" in os.environ:
            return
        home = Path(next(iter(spec.submodule_search_locations))) / "jre"
        library = home / "lib" / "server" / "libjvm.so"
        if library.is_file():
            os.environ["JAVA_HOME"], os.environ["JVM_PATH"] = str(home), str(library)


def _searcher_class() -> Any:
    use_bundled_java()
    os.environ.setdefault("OPENAI_API_KEY", "unused")  # pyserini 1.6 makes a client of it at import, and never calls it
    try:
        from pyserini.search.lucene import LuceneSearcher  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("opening a Lucene index", "pyserini", INSTALL) from error
    except Exception as error:
        # what pyjnius raises where it finds no Java is of no type of its own
        raise ServiceError(f"pyserini cannot start Java: {error}. Run: {INSTALL}") from error
    return LuceneSearcher


def write_collection(passages: Any, folder: Path) -> None:
    """Write passages as a JsonCollection, the input of Anserini's IndexCollection."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "passages.jsonl").open("w", encoding="utf-8") as file:
        for passage in passages:
            file.write(json.dumps({"id": passage.id, "contents": f'"{passage.title}"\n{passage.text}'}, ensure_ascii=False) + "\n")
