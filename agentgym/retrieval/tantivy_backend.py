"""The search library tantivy behind our protocol, for comparison: its BM25 has fixed parameters (k1 1.2, b 0.75)."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from agentgym.errors import MissingExtraError
from agentgym.retrieval.bm25 import passage_list
from agentgym.retrieval.protocol import Hit
from agentgym.types import Passage

_WORDS = re.compile(r"\w+")
_MEMORY = 128 << 20


class TantivyRetriever:
    """An index in memory with tantivy's English stemmer; it keeps stop words."""

    def __init__(self, passages: Iterable[Passage]) -> None:
        """Index passages in memory.

        Raises:
            MissingExtraError: tantivy is not installed.
            DataError: no passages, or two with one id.
        """
        try:
            import tantivy  # pyright: ignore[reportMissingImports]
        except ImportError:
            raise MissingExtraError("the retriever tantivy", "tantivy", "pip install tantivy") from None
        self._kept = passage_list(passages)
        builder = tantivy.SchemaBuilder()
        builder.add_text_field("text", stored=False, tokenizer_name="en_stem")
        builder.add_unsigned_field("n", stored=True)
        self._index = tantivy.Index(builder.build())
        writer = self._index.writer(heap_size=_MEMORY, num_threads=1)
        for i in range(len(self._kept)):
            writer.add_document(tantivy.Document(text=f"{self._kept[i].title} {self._kept[i].text}", n=i))
        writer.commit()
        writer.wait_merging_threads()
        self._index.reload()
        self._searcher = self._index.searcher()

    @classmethod
    def from_passages(cls, passages: Iterable[Passage]) -> "TantivyRetriever":
        """Index passages in memory."""
        return cls(passages)

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first."""
        words = " ".join(_WORDS.findall(query))  # nothing of tantivy's query language
        if k < 1 or not words:
            return []
        parsed, _ = self._index.parse_query_lenient(words, ["text"])
        found = self._searcher.search(parsed, limit=min(k, len(self._kept)), count=False).hits
        ranked = sorted((-score, self._searcher.doc(address)["n"][0]) for score, address in found)
        return [Hit(self._kept[n], -score) for score, n in ranked if score < 0]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch: the same results as `search` on each."""
        return [self.search(query, k) for query in queries]

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        position = self._kept.position(doc_id)
        return None if position is None else self._kept[position]

    def __len__(self) -> int:
        return len(self._kept)

    def __deepcopy__(self, memo: dict[int, Any]) -> "TantivyRetriever":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return TantivyRetriever, (self._kept.items,)
