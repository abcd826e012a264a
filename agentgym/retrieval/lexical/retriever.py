"""Search over a lexical index: Lucene's BM25, score for score, from memory-mapped arrays."""

import functools
import struct
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import accumulate
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from agentgym.errors import ConfigError, DataError
from agentgym.retrieval.lexical.layout import LENGTH_PAD, MAXIMA, TILE, load, load_all
from agentgym.retrieval.lexical.merge import inverse_norms
from agentgym.retrieval.lexical.scan import scan
from agentgym.retrieval.lexical.store import BlockStore
from agentgym.retrieval.lexical.tokens import terms
from agentgym.retrieval.manifest import LUCENE, check_files, read_manifest
from agentgym.retrieval.passages import KeyTable
from agentgym.retrieval.protocol import Hit
from agentgym.types import Passage

_CACHED_TERMS = 1 << 16
_SMALL_K = 1_000
"""Up to here a batch keeps room for k results a query, however few there are."""
_SLICE = 1 << 20
_ROOM = 256
"""Passages that a thread scores exactly at a time."""
_CHUNK = 64
"""Queries of a batch that one thread takes at a time."""


class TermSlice(NamedTuple):
    """Where the postings of a term are, and what it weighs."""

    start: int
    df: int
    run_from: int
    run_to: int
    weight: np.float32
    packed: tuple[bytes, bytes]
    """The four numbers as int64, and the weight as float32: joined, they become the arrays of a query."""

    @staticmethod
    def of(start: int, df: int, run_from: int, run_to: int, weight: np.float32) -> "TermSlice":
        """Return the slice with its packed form."""
        return TermSlice(start, df, run_from, run_to, weight, (struct.pack("=4q", start, df, run_from, run_to), weight.tobytes()))


class LexicalRetriever:
    """Lucene's BM25 over title and text of each passage, with the tokens of Lucene's English analyzer.

    Scores are Lucene's to the last bit of float32 (a term's share is float32, shares are added in float64, the sum is
    rounded once). A query term that occurs twice weighs twice. At equal scores the earlier passage stands first;
    Lucene's own order there is that of its internal numbers, Anserini's that of the ids as strings.

    It never changes after construction, so threads may share it; copies are the object itself. With numba (extra
    `fast`) the search skips what cannot enter the top k and releases the GIL; without it, every posting of every
    query term is scored with numpy. Both give the same results.

    Source: Robertson and Zaragoza, "The Probabilistic Relevance Framework: BM25 and Beyond"; Lucene's variant as in
    Kamphuis et al., "Which BM25 Do You Mean?", with Lucene's one-byte passage lengths.
    """

    def __init__(
        self, folder: Path, counts: dict[str, int], parameters: dict[str, float], *,
        k1: float | None = None, b: float | None = None, numba: bool | None = None,
    ) -> None:  # fmt: skip
        """Map the arrays of a finished index; use `agentgym.retrieval.open_index` instead of calling this.

        Args:
            folder: the index.
            counts: of its manifest (passages, tokens, filled).
            parameters: of its manifest (k1, b).
            k1: another value than the index was built for; the bounds of its runs are then worked out anew.
            b: likewise.
            numba: True or False to insist on a kind of search; None takes numba where it is installed.
        """
        self._folder, self._arrays = folder, load_all(folder)
        if not _fit_together(self._arrays, counts):
            raise self._damaged()
        self.k1, self.b = float(parameters["k1"] if k1 is None else k1), float(parameters["b"] if b is None else b)
        check_parameters(self.k1, self.b)
        self._reopen = (folder, k1, b, numba)
        self._n_filled = counts["filled"]
        self._norms = inverse_norms(self.k1, self.b, counts["tokens"], counts["filled"])
        self._store = BlockStore(folder, self._arrays)
        a = self._arrays
        self._table = KeyTable(a["term_keys"], None, self._term_at)
        self._slice = functools.lru_cache(maxsize=_CACHED_TERMS)(self._find)
        self._kernels = _kernels(numba)
        self._scratch = threading.local()
        self._views = tuple(_frozen(a[name]) for name in ("docs", "tfs", "lengths", "tile_bases", "run_tiles", "run_firsts"))
        self._big = _frozen(a["big_at"]), _frozen(a["big_tfs"])
        own = (self.k1, self.b) == (parameters["k1"], parameters["b"])
        if self._kernels:
            self._maxima = _frozen(load(folder, MAXIMA) if own else self._bounds())
            if self._maxima.shape != self._views[4].shape or self._maxima.dtype != np.uint8:
                raise self._damaged()
            self._mapped = (*self._views, self._maxima, *self._big)
            self._shares = _largest_shares(self._norms, self._views[2])

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first; ties by corpus order."""
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int, *, threads: int = 1) -> list[list[Hit]]:
        """Search a batch: the same results as `search` on each."""
        store = self._store
        return [
            [Hit(store[i], score) for i, score in zip(docs.tolist(), scores.tolist(), strict=True)]
            for docs, scores in self.rank(queries, k, threads=threads)
        ]

    def rank(self, queries: Sequence[str], k: int, *, threads: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each query positions [n] int64 and scores [n] float32, best first, n at most k.

        Args:
            queries: any texts.
            k: how many to return at most; any whole number.
            threads: how many chunks of 64 queries are searched at once (numba only; it holds no GIL meanwhile).

        Raises:
            DataError: the index is damaged.
        """
        k = min(int(k), len(self._store))
        if k < 1:
            return [_nothing() for _ in queries]
        slices = [self._slices(query) for query in queries]
        if not self._kernels:
            return [self._scan(found, k) for found in slices]
        chunks = [slices[i : i + _CHUNK] for i in range(0, len(slices), _CHUNK)]
        if threads > 1 and len(chunks) > 1:
            with ThreadPoolExecutor(threads) as pool:
                done = list(pool.map(lambda chunk: self._search(chunk, k), chunks))
        else:
            done = [self._search(chunk, k) for chunk in chunks]
        return [row for rows in done for row in rows]

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        position = self._store.position(doc_id)
        return None if position is None else self._store[position]

    @property
    def passages(self) -> BlockStore:
        """All passages: by position, by id, and ids alone (`id_at`), which unpacks no text."""
        return self._store

    def __len__(self) -> int:
        return len(self._store)

    def __copy__(self) -> "LexicalRetriever":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "LexicalRetriever":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return open_lexical, self._reopen

    def _slices(self, query: str) -> list[TermSlice]:
        """Return the known terms of a query, a repeated one once with its weight multiplied."""
        counted: dict[str, int] = {}
        for term in terms(query):
            counted[term] = counted.get(term, 0) + 1
        found = []
        for term, n in counted.items():
            piece = self._slice(term)
            if piece is not None:
                found.append(piece if n == 1 else TermSlice.of(*piece[:4], np.float32(n) * piece.weight))
        return found

    def _find(self, term: str) -> TermSlice | None:
        number = self._table.find(term)
        if number is None:
            return None
        a = self._arrays
        start, end = a["starts"][number : number + 2].tolist()
        run_from, run_to = a["run_starts"][number : number + 2].tolist()
        if not (0 <= start < end <= len(a["docs"]) and 0 <= run_from < run_to <= len(a["run_tiles"])):
            raise self._damaged()
        df = end - start
        idf = np.float32(np.log(1 + (self._n_filled - df + 0.5) / (df + 0.5)))
        return TermSlice.of(start, df, run_from, run_to, idf)

    def _term_at(self, number: int) -> str:
        start, end = self._arrays["term_bounds"][number : number + 2].tolist()
        return self._arrays["term_text"][start:end].tobytes().decode(errors="replace")

    def _search(self, queries: Sequence[list[TermSlice]], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Run the kernel over some queries."""
        packed = [piece.packed for pieces in queries for piece in pieces]
        where = np.frombuffer(b"".join([a for a, _ in packed]), np.int64).reshape(-1, 4)
        weights = np.frombuffer(b"".join([b for _, b in packed]), np.float32)
        bounds = np.array([0, *accumulate(map(len, queries))], np.int64)
        room = k if k <= _SMALL_K else min(k, max((sum([piece.df for piece in pieces]) for pieces in queries), default=0)) or 1
        docs, scores = np.empty((len(queries), room), np.int64), np.empty((len(queries), room), np.float32)
        found = np.zeros(len(queries), np.int64)
        scratch = self._room(room)
        self._kernels.search_batch(self._mapped, where, weights, bounds, self._norms, self._shares, room, scratch, docs, scores, found)
        rows = []
        for i, n in enumerate(found.tolist()):
            if n < 0:
                raise self._damaged()
            rows.append((docs[i, :n], scores[i, :n]) if room <= _SMALL_K else (docs[i, :n].copy(), scores[i, :n].copy()))
        return rows

    def _scan(self, slices: list[TermSlice], k: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            return scan(self._views, self._big, slices, self._norms, k)
        except (ValueError, IndexError):
            raise self._damaged() from None

    def _room(self, k: int) -> tuple[Any, ...]:
        """Return this thread's scratch arrays."""
        room = self._scratch
        if not hasattr(room, "sums"):
            room.sums, room.coarse, room.touched = np.zeros(TILE, np.float64), np.zeros(TILE, np.uint8), np.empty(TILE + 1, np.int32)
            room.whole, room.real, room.k = np.empty((2, _ROOM), np.int64), np.empty((2, _ROOM), np.float64), 0
        if room.k < k:
            room.kth, room.zeros, room.k = np.empty(k, np.float64), np.zeros(k, np.int64), k
        return room.sums, room.coarse, room.touched, room.kth, room.zeros, room.whole, room.real

    def _bounds(self) -> np.ndarray:
        """Work out the bounds of all runs for parameters that the index was not built for."""
        a = self._arrays
        starts, runs = a["starts"].astype(np.int64), a["run_starts"].astype(np.int64)
        for bounds, end in ((starts, len(a["docs"])), (runs, len(a["run_tiles"]))):
            if bounds[0] != 0 or bounds[-1] != end or (np.diff(bounds) <= 0).any():
                raise self._damaged()
        out = np.zeros(len(a["run_tiles"]), np.uint8)
        from agentgym.retrieval.lexical.bounds import maxima

        if not maxima((*self._views, *self._big), runs[:-1], runs[1:], starts[:-1], np.diff(starts), self._norms, out):
            raise self._damaged()
        return out

    def _damaged(self) -> DataError:
        return DataError(f"{self._folder}: damaged postings. Run `agentgym index verify {self._folder}`, and build it again")


def _fit_together(a: dict[str, np.ndarray], counts: dict[str, int]) -> bool:
    """Tell whether types and lengths are what the manifest's counts say: compiled code looks at neither."""
    n, n_terms, n_postings = counts["passages"], counts["terms"], counts["postings"]
    lengths = {
        "term_keys": n_terms, "term_bounds": n_terms + 1, "starts": n_terms + 1, "run_starts": n_terms + 1, "docs": n_postings,
        "tfs": n_postings, "lengths": n + LENGTH_PAD, "id_bounds": n + 1, "id_keys": n, "id_numbers": n,
        "tile_bases": counts["tiles"] + 1, "run_firsts": len(a["run_tiles"]), "big_tfs": len(a["big_at"]),
    }  # fmt: skip
    types = {"docs": "u2", "tfs": "u1", "lengths": "u1", "run_tiles": "u4", "run_firsts": "u4", "tile_bases": "i8", "term_keys": "u8"}
    return (
        all(a[name].shape == (length,) for name, length in lengths.items())
        and all(a[name].dtype == np.dtype(f"<{kind}") for name, kind in types.items())
        and int(a["tile_bases"][-1]) == n
    )


def open_lexical(
    folder: Path, k1: float | None = None, b: float | None = None, numba: bool | None = None, *, verify: bool = False
) -> LexicalRetriever:
    """Open the folder of a lexical index: see `agentgym.retrieval.open_index`; `numba` as in `LexicalRetriever`.

    Raises:
        ConfigError: parameters without meaning.
        DataError: no lexical index there, or a damaged one.
    """
    manifest = read_manifest(folder)
    if manifest["format"] != LUCENE:
        raise DataError(f"{folder}: an index of format {manifest['format']!r} where {LUCENE!r} is needed")
    check_files(folder, manifest, verify=verify)
    return LexicalRetriever(folder, manifest["counts"], manifest["parameters"], k1=k1, b=b, numba=numba)


def check_parameters(k1: float, b: float) -> None:
    """Refuse parameters that BM25 has no meaning for.

    Raises:
        ConfigError: k1 is negative or not finite, or b is outside [0, 1].
    """
    if not 0 <= k1 < float("inf"):
        raise ConfigError(f"k1={k1}: give a finite number of at least 0 (Anserini's default is 0.9, Lucene's 1.2)")
    if not 0 <= b <= 1:
        raise ConfigError(f"b={b}: give a number from 0 to 1 (Anserini's default is 0.4, Lucene's 0.75)")


def _largest_shares(norms: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return [256] float64: the largest share of its weight that a term can give, by its occurrences (255: any more).

    That of the shortest passage with a term at all, and a little: shares are rounded to float32.
    """
    codes = [int((lengths[i : i + _SLICE] - np.uint8(1)).min(initial=255)) for i in range(0, len(lengths), _SLICE)]  # 0 turns to 255
    with np.errstate(invalid="ignore"):
        shares = 1.0 - 1.0 / (1.0 + np.arange(256) * np.float64(norms[min(255, min(codes, default=255) + 1)]))
    shares += 1e-6
    shares[0], shares[255] = 0.0, 1.0 + 1e-6
    return shares


def _frozen(array: np.ndarray) -> np.ndarray:
    """Return a read-only plain array: one type for the compiler, mapped or not."""
    plain = np.asarray(array).view()
    plain.flags.writeable = False
    return plain


def _nothing() -> tuple[np.ndarray, np.ndarray]:
    return np.zeros(0, np.int64), np.zeros(0, np.float32)


def _kernels(wanted: bool | None) -> Any:
    """Return the compiled kernels, or None for numpy."""
    if wanted is False:
        return None
    try:
        from agentgym.retrieval.lexical import kernels
    except ImportError:
        if wanted:
            from agentgym.errors import MissingExtraError

            raise MissingExtraError("the compiled search", "numba", 'pip install "agentic-gym[fast]"') from None
        return None
    return kernels
