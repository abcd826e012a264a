"""Vector indexes: exact in memory, or faiss on disk, of a kind that suits the size, with its recall measured."""

import hashlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from agentgym.errors import ConfigError, DataError, MissingExtraError, suggestion
from agentgym.seeding import stream
from agentgym.types import JSON

KINDS = ("flat", "hnsw", "ivfpq")
FLAT_UP_TO, HNSW_UP_TO = 200_000, 5_000_000
"""Vectors up to which each kind is chosen; above, ivfpq."""
RECALL_AT = 10
_CHUNK = 1 << 16
_GRIDS: dict[str, tuple[dict[str, int], ...]] = {
    "flat": ({},),
    "hnsw": tuple({"efSearch": ef} for ef in (16, 32, 64, 128, 256, 512)),
    "ivfpq": (
        *({"nprobe": n, "k_factor": 10} for n in (4, 8, 16, 32, 64)),
        *({"nprobe": n, "k_factor": 40} for n in (32, 64, 128, 256)),
        {"nprobe": 256, "k_factor": 160},
    ),
}
"""Settings of a search, cheapest first. k_factor: candidates of the 4-bit codes that are scored again with 8-bit ones,
per hit asked for."""


class Vectors(Protocol):
    """Finds the rows with the greatest inner product."""

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return ([m, k] float32 scores, best first, [m, k] int64 positions; -1 where there are fewer than k)."""
        ...

    def __len__(self) -> int:
        """Return the number of vectors."""
        ...


class ExactVectors:
    """All inner products, by numpy: for corpora of some tens of thousands, and the truth that recall is measured by."""

    def __init__(self, rows: np.ndarray) -> None:
        """Take [n, d] rows of any float type, in memory or mapped."""
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and positions, ties by position."""
        k_found = min(k, len(self._rows))
        scores = np.zeros((len(queries), 0), np.float32)
        places = np.zeros((len(queries), 0), np.int64)
        for start, rows in _chunks(self._rows):
            found = queries @ rows.T
            order = np.argsort(-found, axis=1, kind="stable")[:, :k_found]
            scores = np.concatenate([scores, np.take_along_axis(found, order, 1)], axis=1)
            places = np.concatenate([places, order + start], axis=1)
            order = np.argsort(-scores, axis=1, kind="stable")[:, :k_found]  # earlier chunks first: ties by position
            scores, places = np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)
        return _padded(scores, places, k)


@dataclass(frozen=True, slots=True)
class VectorPlan:
    """Which index is built."""

    kind: str
    """"flat" (exact), "hnsw" (a graph over 8-bit codes) or "ivfpq" (lists of 4-bit codes, refined by 8-bit ones)."""
    factory: str
    """In the language of faiss' index_factory."""
    n_training: int
    """Vectors that the codes and lists are fitted to; 0 for none."""


def plan_vectors(n: int, dim: int, kind: str = "auto") -> VectorPlan:
    """Return the plan for `n` vectors of a dimension.

    Raises:
        ConfigError: an unknown kind, or one that so few vectors cannot be fitted to.
    """
    if kind == "auto":
        kind = "flat" if n <= FLAT_UP_TO else "hnsw" if n <= HNSW_UP_TO else "ivfpq"
    if kind not in KINDS:
        raise ConfigError(f"kind={kind!r}: allowed: auto, {', '.join(KINDS)}{suggestion(kind, KINDS)}")
    if kind == "flat":
        return VectorPlan(kind, "Flat", 0)
    if kind == "hnsw":
        return VectorPlan(kind, "HNSW32,SQ8", min(n, 100_000))
    if n < 1_024:
        raise ConfigError(f"kind='ivfpq' needs 1,024 vectors or more, there are {n:,}; take flat")
    n_lists = 2 ** round(math.log2(4 * math.sqrt(n)))
    n_lists = max(16, min(n_lists, n // 40))
    codes = next((m for m in range(dim // 4, 0, -1) if dim % m == 0), 1)
    return VectorPlan(kind, f"IVF{n_lists},PQ{codes}x4fs,Refine(SQ8)", min(n, 128 * n_lists))


def build_vectors(
    rows: np.ndarray,
    queries: np.ndarray,
    path: Path,
    plan: VectorPlan,
    *,
    target_recall: float = 0.95,
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, JSON]:
    """Build an index, write it to `path`, and find the cheapest search that reaches a recall.

    Args:
        rows: [n, d] unit rows, any float type, in memory or mapped.
        queries: [m, d] float32 rows that stand for what will be asked.
        path: file to write.
        plan: what `plan_vectors` returned.
        target_recall: share of the exact ten best that a search should find, on average.
        progress: called with ("vectors", done, in all).

    Returns:
        What the manifest keeps: kind, factory, the settings of a search that were chosen, and all that was measured.

    Raises:
        MissingExtraError: faiss is not installed.
    """
    faiss = _faiss()
    index = faiss.index_factory(rows.shape[1], plan.factory, faiss.METRIC_INNER_PRODUCT)
    if plan.n_training:
        chosen = np.sort(stream("vectors", len(rows)).permutation(len(rows))[: plan.n_training])
        index.train(np.ascontiguousarray(rows[chosen], np.float32))
    for start, chunk in _chunks(rows):
        index.add(chunk)
        if progress is not None:
            progress("vectors", start + len(chunk), len(rows))
    measured = _measure(index, rows, queries, plan.kind, target_recall)
    faiss.write_index(index, str(path))
    described = {"kind": plan.kind, "factory": plan.factory, "n": len(rows), "dim": int(rows.shape[1])}
    return {**described, **measured, "bytes": path.stat().st_size, "ends": ends_digest(path)}


def ends_digest(path: Path) -> str:
    """Return a digest of the first and the last MiB of a file: enough to tell one that was cut or exchanged."""
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(1 << 20))
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        digest.update(file.read())
    return digest.hexdigest()


def _measure(index: Any, rows: np.ndarray, queries: np.ndarray, kind: str, target: float) -> dict[str, JSON]:
    k = min(RECALL_AT, len(rows))
    _, truth = ExactVectors(rows).search(queries, k)
    tried: list[dict[str, JSON]] = []
    for settings in _GRIDS[kind]:
        _set(index, kind, settings)
        _, found = _found(index, queries, k)
        hits = [len(set(a) & set(b)) for a, b in zip(truth.tolist(), found.tolist(), strict=True)]
        tried.append({**settings, "recall": round(sum(hits) / (k * len(queries)), 4)})
        if tried[-1]["recall"] >= target:
            break
    best = max(tried, key=lambda row: row["recall"])
    settings = {name: value for name, value in best.items() if name != "recall"}
    _set(index, kind, settings)
    return {
        "settings": settings,
        f"recall_at_{RECALL_AT}": best["recall"],
        "recall_queries": len(queries),
        "target_recall": target,
        "tried": tried,
    }


class FaissVectors:
    """A faiss index on disk, memory-mapped where its kind allows."""

    def __init__(self, path: Path, described: dict[str, JSON]) -> None:
        """Open what `build_vectors` wrote and set the settings that it chose.

        Raises:
            DataError: the file is missing, damaged, or not the one described.
            MissingExtraError: faiss is not installed.
        """
        faiss = _faiss()
        # faiss reads past the end of a mapped file that was cut, and dies of it: look before it does.
        if not path.is_file() or path.stat().st_size != described["bytes"] or ends_digest(path) != described["ends"]:
            raise DataError(f"{path}: missing or damaged: not the file that its manifest describes")
        try:
            try:
                self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC)
            except RuntimeError:  # kinds that cannot be mapped
                self._index = faiss.read_index(str(path))
        except RuntimeError as error:
            raise DataError(f"{path}: cannot be read as a vector index: {str(error).splitlines()[-1]:.200}") from None
        if self._index.ntotal != described["n"] or self._index.d != described["dim"]:
            raise DataError(
                f"{path}: holds {self._index.ntotal:,} vectors of {self._index.d}, the manifest says {described['n']:,} of {described['dim']}"
            )
        _set(self._index, described["kind"], described["settings"])

    def __len__(self) -> int:
        return self._index.ntotal

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Return scores and positions."""
        scores, places = _found(self._index, np.ascontiguousarray(queries, np.float32), min(k, len(self)))
        return _padded(scores, places, k)


def _found(index: Any, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    scores, places = index.search(queries, k)
    # Equal vectors come in no fixed order: sort by score, then by position.
    order = np.lexsort((places, -scores), axis=1)
    return np.take_along_axis(scores, order, 1), np.take_along_axis(places, order, 1)


def _set(index: Any, kind: str, settings: dict[str, int]) -> None:
    faiss = _faiss()
    if kind == "hnsw":
        index.hnsw.efSearch = settings["efSearch"]
    elif kind == "ivfpq":
        refine = faiss.downcast_index(index)
        refine.k_factor = settings["k_factor"]
        faiss.downcast_index(refine.base_index).nprobe = settings["nprobe"]


def _padded(scores: np.ndarray, places: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    missing = ((0, 0), (0, k - scores.shape[1]))
    return np.pad(scores, missing, constant_values=-np.inf), np.pad(places, missing, constant_values=-1)


def _chunks(rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    for start in range(0, len(rows), _CHUNK):
        yield start, np.ascontiguousarray(rows[start : start + _CHUNK], np.float32)


def _faiss() -> Any:
    try:
        import faiss
    except ImportError:
        raise MissingExtraError("a dense index on disk", "faiss-cpu", 'pip install "agentic-gym[dense]"') from None
    if faiss.omp_get_max_threads() != 1:
        faiss.omp_set_num_threads(1)  # on small machines the parallelism comes from processes and server threads
    return faiss
