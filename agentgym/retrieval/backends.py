"""From a name to a retriever: "bm25", "dense", "hybrid", a server's address, or whatever is registered.

    NAME[:ENCODER][+rerank:MODEL]

"hybrid:static:models/tiny+rerank:models/cross" fuses BM25 and vectors of a static table, and lets a cross-encoder order
the best of both. ENCODER (see `open_encoder`) is for passages in memory; a dense part on disk names its own.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from agentgym import hooks
from agentgym.errors import ConfigError
from agentgym.retrieval.client import is_address, remote_retriever
from agentgym.retrieval.dense import index_mark, passages_of, shared_dense
from agentgym.retrieval.encoder_hf import CrossEncoder
from agentgym.retrieval.fusion import HybridRetriever, RerankedRetriever
from agentgym.retrieval.index import open_retriever
from agentgym.retrieval.protocol import Retriever
from agentgym.types import Passage

DENSE = ("dense", "hybrid")


def check_name(spec: str) -> None:
    """Raise ConfigError or NotRegisteredError for a name that no retriever has, before anything is opened."""
    if is_address(spec):
        remote_retriever(spec)
        return
    name, encoder, _ = _parts(spec)
    if name not in hooks.RETRIEVERS:
        hooks.RETRIEVERS.resolve(name)  # raises with the nearest name
    if encoder and name not in DENSE:
        raise ConfigError(f"retriever {spec!r}: {name} takes no encoder")


def open_corpus(index: str | Path | Retriever, spec: str = "bm25") -> Retriever:
    """Return a retriever over an index, a file of passages, or an object that is a retriever already.

    Equal arguments give one shared retriever a process, until the files change.

    Raises:
        ConfigError: an unknown name, or a part of one that does not fit.
        DataError: the index cannot be used, or has no dense part.
        MissingExtraError: a package is needed.
    """
    check_name(spec)
    if is_address(spec):
        raise ConfigError(f"retriever {spec!r} searches a server's passages; give it or index=, not both")
    name, encoder, reranker = _parts(spec)
    opened = open_retriever(index)
    on_disk = isinstance(index, str | Path) and Path(index).expanduser().is_dir()
    if name == "bm25":
        return _reranking(opened, reranker)
    if on_disk and name in DENSE:
        folder = Path(index).expanduser().resolve()  # pyright: ignore[reportArgumentType]
        dense = shared_dense(str(folder), index_mark(folder), encoder or None)
        return _reranking(dense if name == "dense" else HybridRetriever([opened, dense]), reranker)
    key = (id(opened), spec)
    if key not in _built:
        passages = passages_of(opened)
        _built[key] = opened, retriever_factory(spec)(passages[i] for i in range(len(passages)))
        while len(_built) > 4:
            del _built[next(iter(_built))]
    return _built[key][1]


_built: dict[tuple[int, str], tuple[Retriever, Retriever]] = {}
"""What was made in memory of the passages of a retriever, which is kept with it so that its id stays its own."""


def retriever_factory(spec: str) -> Callable[[Iterable[Passage]], Retriever]:
    """Return what makes a retriever of passages in memory. Raises as `check_name` does."""
    check_name(spec)
    if is_address(spec):
        return lambda passages: remote_retriever(spec)
    name, encoder, reranker = _parts(spec)
    factory = hooks.RETRIEVERS.resolve(name)
    options: dict[str, Any] = {"encoder": encoder} if encoder else {}
    return lambda passages: _reranking(factory(passages, **options), reranker)


def _parts(spec: str) -> tuple[str, str, str]:
    """Return (name, encoder, reranker) of a spec; the last two empty where it has none."""
    body, _, tail = spec.partition("+rerank")
    if "+rerank" in spec and not tail.startswith(":"):
        raise ConfigError(f"retriever {spec!r}: name the cross-encoder, +rerank:FOLDER")
    name, _, encoder = body.partition(":")
    return name, encoder, tail[1:]


def _reranking(first: Retriever, place: str) -> Retriever:
    if not place:
        return first
    if place not in _rerankers:
        _rerankers[place] = CrossEncoder(place)
    return RerankedRetriever(first, _rerankers[place])


_rerankers: dict[str, Any] = {}
