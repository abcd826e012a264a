"""Many parts or indexes into one index: sequential reads and writes, memory bounded by a range of terms."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agentgym.errors import DataError
from agentgym.retrieval.lexical.layout import FILES, LENGTH_PAD, LENGTHS, MAXIMA, load, smallest
from agentgym.retrieval.lexical.parts import same_key

RANGE_POSTINGS = 8_000_000
"""Postings that are put in order at a time: about 200 MB of arrays."""
_FAN_IN = 16
_TERM_ARRAYS = (
    "term_keys", "term_text", "term_bounds", "starts", "run_starts", "run_tiles", "run_firsts", "docs", "tfs", "big_at",
    "big_tfs", "lengths",
)  # fmt: skip


def inverse_norms(k1: float, b: float, tokens: int, filled: int) -> np.ndarray:
    """Return [256] float32: for each length code 1 / (k1 (1 - b + b length / mean length)), rounded as Lucene does.

    The mean is over passages that have a term at all.
    """
    if not filled:
        return np.ones(256, np.float32)
    one, k, share = np.float32(1), np.float32(k1), np.float32(b)
    mean = np.float32(tokens / filled)
    with np.errstate(divide="ignore"):  # k1 = 0: the frequency does not matter
        return one / (k * ((one - share) + share * LENGTHS.astype(np.float32) / mean))


class _Appender:
    """Writes one array piece by piece; its header is written last, when its length is known."""

    def __init__(self, path: Path, dtype: type) -> None:
        self._path, self._dtype, self.n = path, np.dtype(dtype), 0
        self._file = path.open("wb")
        self._file.write(b"\0" * 128)

    def write(self, values: np.ndarray) -> None:
        self.n += len(values)
        self._file.write(np.ascontiguousarray(values, self._dtype).data)

    def close(self) -> None:
        header = f"{{'descr': '{self._dtype.str}', 'fortran_order': False, 'shape': ({self.n},), }}"
        self._file.seek(0)
        self._file.write(b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117).encode() + b"\n")
        self._file.close()


class _Source:
    """One part or index that is merged, with where its passages and tiles come to stand."""

    def __init__(self, folder: Path, first_doc: int, first_tile: int) -> None:
        self.folder, self.first_doc, self.first_tile = folder, first_doc, first_tile
        self.bases = np.array(load(folder, FILES["tile_bases"]))
        self.n_docs, self.n_tiles = int(self.bases[-1]), len(self.bases) - 1
        arrays = {name: load(folder, FILES[name]) for name in _TERM_ARRAYS}
        self.term_keys, self.starts, self.term_bounds = arrays["term_keys"], arrays["starts"], arrays["term_bounds"]
        self.term_text, self.docs, self.tfs = arrays["term_text"], arrays["docs"], arrays["tfs"]
        self.run_starts, self.run_tiles, self.run_firsts = arrays["run_starts"], arrays["run_tiles"], arrays["run_firsts"]
        self.big_at, self.big_tfs, self.lengths = arrays["big_at"], arrays["big_tfs"], arrays["lengths"]


def merge(
    folders: Sequence[Path], out: Path, norms: np.ndarray, progress: Callable[[int, int], None] | None = None
) -> dict[str, int]:
    """Write the arrays of all folders, in their order, as one index to `out`; return terms, postings, passages, tiles.

    Args:
        folders: parts or finished indexes.
        out: an existing folder.
        norms: [256] float32 of `inverse_norms` over all of them, for the bounds of runs.
        progress: gets (postings written, postings in all).

    Raises:
        DataError: a broken part; two terms with one key.
    """
    sources, doc, tile = [], 0, 0
    for folder in folders:
        sources.append(_Source(folder, doc, tile))
        doc, tile = doc + sources[-1].n_docs, tile + sources[-1].n_tiles
    keys = _union([s.term_keys for s in sources])
    df, runs = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
    for s in sources:
        at = keys.searchsorted(s.term_keys)
        df[at] += np.diff(s.starts.astype(np.int64))
        runs[at] += np.diff(s.run_starts.astype(np.int64))
    np.save(out / FILES["term_keys"], keys)
    np.save(out / FILES["starts"], smallest(_from_zero(df)))
    np.save(out / FILES["run_starts"], smallest(_from_zero(runs)))
    _write_ranges(sources, out, keys, df, runs, norms, progress or (lambda done, total: None))
    _write_documents(sources, out)
    return {"terms": len(keys), "postings": int(df.sum()), "passages": doc, "tiles": tile}


def _from_zero(counts: np.ndarray) -> np.ndarray:
    return np.append(0, np.cumsum(counts))


def _union(arrays: list[np.ndarray]) -> np.ndarray:
    """Return the sorted union, a few arrays at a time."""
    while len(arrays) > 1:
        arrays = [np.unique(np.concatenate(arrays[i : i + _FAN_IN])) for i in range(0, len(arrays), _FAN_IN)]
    return np.array(arrays[0])


def _write_ranges(
    sources: list[_Source],
    out: Path,
    keys: np.ndarray,
    df: np.ndarray,
    runs: np.ndarray,
    norms: np.ndarray,
    progress: Callable[[int, int], None],
) -> None:
    """Write postings, runs and term texts, one range of terms after the other."""
    ends = np.cumsum(df)
    total = int(ends[-1]) if len(ends) else 0
    docs, tfs = _Appender(out / FILES["docs"], np.uint16), _Appender(out / FILES["tfs"], np.uint8)
    tiles, firsts = _Appender(out / FILES["run_tiles"], np.uint32), _Appender(out / FILES["run_firsts"], np.uint32)
    best = _Appender(out / MAXIMA, np.uint8)
    big: list[tuple[np.ndarray, np.ndarray]] = []
    text_sizes = []
    low, done = 0, 0
    with (out / FILES["term_text"]).open("wb") as text_file:
        while low < len(keys):
            high = max(low + 1, int(ends.searchsorted(done + RANGE_POSTINGS, side="right")))
            piece = _Range(keys[low:high], df[low:high], runs[low:high])
            for s in sources:
                piece.add(s, norms)
            for appender, values in ((docs, piece.docs), (tfs, piece.tfs), (tiles, piece.tiles), (firsts, piece.firsts), (best, piece.best)):
                appender.write(values)
            if piece.big:
                at = np.concatenate([a for a, _ in piece.big])
                order = np.argsort(at)
                big.append((at[order] + done, np.concatenate([t for _, t in piece.big])[order]))
            text, sizes = piece.text()
            text_file.write(text.data)
            text_sizes.append(sizes)
            low, done = high, int(ends[high - 1])
            progress(done, total)
    for appender in (docs, tfs, tiles, firsts, best):
        appender.close()
    empty = np.zeros(0, np.int64)
    np.save(out / FILES["big_at"], np.concatenate([a for a, _ in big] or [empty]))
    np.save(out / FILES["big_tfs"], np.concatenate([t for _, t in big] or [empty]))
    np.save(out / FILES["term_bounds"], smallest(_from_zero(np.concatenate(text_sizes or [empty]))))


class _Range:
    """Postings and runs of consecutive terms, filled source by source in the order of passages."""

    def __init__(self, keys: np.ndarray, df: np.ndarray, runs: np.ndarray) -> None:
        self.keys = keys
        self.docs, self.tfs = np.empty(df.sum(), np.uint16), np.empty(df.sum(), np.uint8)
        n_runs = int(runs.sum())
        self.tiles, self.firsts, self.best = np.empty(n_runs, np.uint32), np.empty(n_runs, np.uint32), np.empty(n_runs, np.uint8)
        self.big: list[tuple[np.ndarray, np.ndarray]] = []
        self._starts, self._run_starts = _from_zero(df)[:-1], _from_zero(runs)[:-1]
        self._filled, self._filled_runs = np.zeros(len(keys), np.int64), np.zeros(len(keys), np.int64)
        self._texts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, s: _Source, norms: np.ndarray) -> None:
        """Take the slice of one source."""
        a, b = int(s.term_keys.searchsorted(self.keys[0])), int(s.term_keys.searchsorted(self.keys[-1], side="right"))
        if b <= a:
            return
        at = self.keys.searchsorted(s.term_keys[a:b])
        starts = s.starts[a : b + 1].astype(np.int64)
        run_starts = s.run_starts[a : b + 1].astype(np.int64)
        df, runs = np.diff(starts), np.diff(run_starts)
        p, q, r, t = int(starts[0]), int(starts[-1]), int(run_starts[0]), int(run_starts[-1])
        if q > len(s.docs) or t > len(s.run_tiles) or df.min() < 0 or runs.min() < 1:
            raise DataError(f"{s.folder}: its arrays do not fit together; build it again")
        place = _slots(self._starts[at] + self._filled[at], df)
        docs, tfs = s.docs[p:q], s.tfs[p:q]
        self.docs[place], self.tfs[place] = docs, tfs
        lo, hi = s.big_at.searchsorted([p, q])
        if hi > lo:
            self.big.append((place[s.big_at[lo:hi] - p], s.big_tfs[lo:hi]))
        run_place = _slots(self._run_starts[at] + self._filled_runs[at], runs)
        tiles, firsts = s.run_tiles[r:t], s.run_firsts[r:t].astype(np.int64)
        self.tiles[run_place] = tiles + np.uint32(s.first_tile)
        self.firsts[run_place] = firsts + np.repeat(self._filled[at], runs)
        first = firsts + np.repeat(starts[:-1] - p, runs)
        self.best[run_place] = _best(docs, tfs, first, s.bases[tiles], s.lengths, norms)
        self._filled[at] += df
        self._filled_runs[at] += runs
        bounds = s.term_bounds[a : b + 1].astype(np.int64)
        self._texts.append((at, np.diff(bounds), s.term_text[bounds[0] : bounds[-1]]))

    def text(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the bytes of the terms, one after the other, and the size of each; equal keys must have equal texts."""
        sizes = np.zeros(len(self.keys), np.int64)
        for at, counts, _ in reversed(self._texts):
            sizes[at] = counts
        starts = _from_zero(sizes)[:-1]
        blob, known = np.empty(int(sizes.sum()), np.uint8), np.zeros(len(self.keys), bool)
        for at, counts, text in self._texts:
            again = known[at]
            wrong = np.flatnonzero(sizes[at] != counts)
            if not len(wrong):
                place = _slots(starts[at], counts)
                old = np.repeat(again, counts)
                blob[place[~old]] = text[~old]
                wrong = np.repeat(np.arange(len(at)), counts)[blob[place] != text]
            if len(wrong):
                i = int(wrong[0])
                mine = blob[starts[at[i]] : starts[at[i]] + sizes[at[i]]].tobytes()
                theirs = text[counts[:i].sum() : counts[: i + 1].sum()].tobytes()
                raise same_key(mine.decode(errors="replace"), theirs.decode(errors="replace"))
            known[at] = True
        return blob, sizes


def _slots(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Return starts[0], starts[0] + 1, … (counts[0] of them), then the same from starts[1], and so on."""
    ends = np.cumsum(counts)
    return np.repeat(starts - ends + counts, counts) + np.arange(int(ends[-1]) if len(ends) else 0)


def _best(
    docs: np.ndarray, tfs: np.ndarray, firsts: np.ndarray, bases: np.ndarray, lengths: np.ndarray, norms: np.ndarray
) -> np.ndarray:
    """Return for each run 255ths of the weight that its best posting gets, rounded up."""
    where = np.repeat(bases, np.diff(firsts, append=len(docs))) + docs
    value = tfs * norms[lengths[where]].astype(np.float64)
    value[tfs == 255] = np.inf  # or more: the bound need not be exact
    best = np.maximum.reduceat(value, firsts)
    with np.errstate(invalid="ignore"):
        share = np.where(np.isinf(best), 1.0, best / (1.0 + best))
    return np.minimum(np.ceil(share * 255), 255).astype(np.uint8)


def _write_documents(sources: list[_Source], out: Path) -> None:
    """Write everything that stands in the order of passages: lengths, tiles, blocks, ids."""
    lengths = _Appender(out / FILES["lengths"], np.uint8)
    for s in sources:
        lengths.write(s.lengths[: s.n_docs])
    lengths.write(np.zeros(LENGTH_PAD, np.uint8))
    lengths.close()
    np.save(out / FILES["tile_bases"], _joined([s.bases for s in sources], [s.first_doc for s in sources]))
    for text, bounds in (("blocks", "block_bounds"), ("id_text", "id_bounds")):
        offsets, at = [], 0
        with (out / FILES[text]).open("wb") as file:
            for s in sources:
                with (s.folder / FILES[text]).open("rb") as piece:
                    shutil.copyfileobj(piece, file, 1 << 22)
                offsets.append(at)
                at = file.tell()
        values = _joined([load(s.folder, FILES[bounds]) for s in sources], offsets)
        np.save(out / FILES[bounds], values if text == "blocks" else smallest(values))
    np.save(out / FILES["block_firsts"], _joined([load(s.folder, FILES["block_firsts"]) for s in sources], [s.first_doc for s in sources]))
    keys = np.concatenate([load(s.folder, FILES["id_keys"]) for s in sources])
    numbers = np.concatenate([load(s.folder, FILES["id_numbers"]).astype(np.int64) + s.first_doc for s in sources])
    # Equal keys keep the order of passages: the first of two equal ids is found first.
    order = np.lexsort((numbers, keys))
    np.save(out / FILES["id_keys"], keys[order])
    np.save(out / FILES["id_numbers"], smallest(numbers[order]))


def _joined(bounds: list[np.ndarray], offsets: list[int]) -> np.ndarray:
    """Return bounds of several files as those of one."""
    pieces = [b[:-1].astype(np.int64) + o for b, o in zip(bounds, offsets, strict=True)]
    return np.concatenate([*pieces, [int(bounds[-1][-1]) + offsets[-1]]]).astype(np.int64)
