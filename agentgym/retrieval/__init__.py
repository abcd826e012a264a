"""Passages, BM25 indexes, and retrievers over them (names resolve on first use, so importing this stays cheap)."""

import importlib
from typing import TYPE_CHECKING, Any

from agentgym.retrieval.protocol import Hit, Retriever

if TYPE_CHECKING:
    from agentgym.retrieval.bm25 import BM25Retriever
    from agentgym.retrieval.build import build_index, merge_indexes
    from agentgym.retrieval.formats import read_corpus
    from agentgym.retrieval.index import index_info, open_index, open_retriever, verify
    from agentgym.retrieval.lexical.retriever import LexicalRetriever
    from agentgym.retrieval.passages import PassageStore, read_passages

_WHERE = {
    "BM25Retriever": "bm25",
    "PassageStore": "passages",
    "LexicalRetriever": "lexical.retriever",
    "build_index": "build",
    "index_info": "index",
    "merge_indexes": "build",
    "open_index": "index",
    "open_retriever": "index",
    "read_corpus": "formats",
    "read_passages": "passages",
    "verify": "index",
}

__all__ = [
    "BM25Retriever",
    "Hit",
    "LexicalRetriever",
    "PassageStore",
    "Retriever",
    "build_index",
    "index_info",
    "merge_indexes",
    "open_index",
    "open_retriever",
    "read_corpus",
    "read_passages",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Import the module that defines `name`; bm25s (which pulls in numba where installed) loads only then."""
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_WHERE[name]}"), name)
