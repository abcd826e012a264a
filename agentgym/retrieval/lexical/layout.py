"""The arrays of a lexical index, and of the parts that it is merged from: names, types, meaning.

N passages stand in T tiles of at most 65,536, so that a posting needs 16 bits for its passage. Terms are in ascending
order of a 64-bit key of their text. The postings of a term are a slice; those of them inside one tile are a run.
Files are little-endian `.npy` arrays, or bytes without a header (`.bin`); all can be mapped.
"""

import re
from pathlib import Path

import numpy as np

from agentgym.errors import DataError

TILE = 1 << 16
"""Passages in a tile, at most."""
LENGTH_PAD = TILE
"""Zeros behind the length codes: a damaged posting then reads a wrong length, never foreign memory."""

FILES = {
    "term_keys": "term_keys.npy",  # [V] uint64, ascending: agentgym.retrieval.passages.string_key of the term
    "term_text": "term_text.bin",  # UTF-8, one term after the other
    "term_bounds": "term_bounds.npy",  # [V + 1]
    "starts": "starts.npy",  # [V + 1] first posting of each term
    "run_starts": "run_starts.npy",  # [V + 1] first run of each term
    "run_tiles": "run_tiles.npy",  # [R] uint32 tile of a run, ascending inside a term
    "run_firsts": "run_firsts.npy",  # [R] uint32 first posting of a run, from the first posting of its term
    "docs": "docs.npy",  # [P] uint16 passage inside its tile, ascending inside a run
    "tfs": "tfs.npy",  # [P] uint8 occurrences; 255 stands for 255 or more, see big_tfs
    "big_at": "big_at.npy",  # [X] int64 postings of 255 occurrences or more, ascending
    "big_tfs": "big_tfs.npy",  # [X] int64 their occurrences
    "lengths": "lengths.npy",  # [N + LENGTH_PAD] uint8 number of terms in Lucene's one-byte code
    "tile_bases": "tile_bases.npy",  # [T + 1] int64 first passage of each tile
    "blocks": "blocks.bin",  # compressed passages
    "block_bounds": "block_bounds.npy",  # [blocks + 1] int64
    "block_firsts": "block_firsts.npy",  # [blocks + 1] int64
    "id_text": "id_text.bin",  # UTF-8
    "id_bounds": "id_bounds.npy",  # [N + 1]
    "id_keys": "id_keys.npy",  # [N] uint64, ascending
    "id_numbers": "id_numbers.npy",  # [N] passage of each key
}
_AGAIN = "Build the index again with `agentgym index build`"
MAXIMA = "run_maxima.npy"
"""[R] uint8, in finished indexes only: 255ths of a term's weight that its best passage in the run gets, rounded up."""


_HEADER = re.compile(rb"\x93NUMPY\x01\x00v\x00\{'descr': '([<|][ui][1248])', 'fortran_order': False, 'shape': \((\d+),\), \} *\n")
_HEADER_BYTES = 128


def load(folder: Path, name: str) -> np.ndarray:
    """Map a file of an index or of a part, read-only.

    Raises:
        DataError: it is missing, or no array of one dimension.
    """
    path = folder / name
    kind, start = np.dtype(np.uint8), 0
    try:
        size = path.stat().st_size
        if path.suffix == ".npy":
            # numpy's own reader evaluates the header, and fails in many ways where that is damaged
            with path.open("rb") as file:
                found = _HEADER.fullmatch(file.read(_HEADER_BYTES))
            if found is None:
                raise DataError(f"{path}: damaged: no array of one dimension. {_AGAIN}")
            kind, start = np.dtype(found[1].decode()), _HEADER_BYTES
            if size != start + int(found[2]) * kind.itemsize:
                raise DataError(f"{path}: damaged: {size:,} bytes where its header needs another number. {_AGAIN}")
        if size == start:  # nothing to map
            return np.zeros(0, kind)
        return np.asarray(np.memmap(path, kind, "r", offset=start))  # plain: each use of a memmap costs three times as much
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read: {error}. {_AGAIN}") from error


def load_all(folder: Path) -> dict[str, np.ndarray]:
    """Map every array of a folder by its name in FILES."""
    return {key: load(folder, name) for key, name in FILES.items()}


def smallest(values: np.ndarray) -> np.ndarray:
    """Return non-negative whole numbers as uint32 where they fit, else as int64."""
    return values.astype(np.uint32 if not len(values) or int(values.max()) < 1 << 32 else np.int64)


def length_code(lengths: np.ndarray) -> np.ndarray:
    """Return Lucene's one-byte code of whole numbers: exact up to 40, then four significant bits."""
    return (np.searchsorted(LENGTHS, lengths, side="right") - 1).astype(np.uint8)


def _decoded() -> np.ndarray:
    """Return the 256 numbers that the codes stand for.

    Source: Lucene's SmallFloat.byte4ToInt. The first 24 codes are the numbers themselves; from there on the code
    is that of the number less 24, as a float of four significant bits.
    """
    free = 24
    table = list(range(free))
    for code in range(256 - free):
        bits, shift = code & 7, (code >> 3) - 1
        table.append(free + (bits if shift < 0 else (bits | 8) << shift))
    return np.array(table, np.int64)


LENGTHS = _decoded()
"""[256] int64: number of terms that each length code stands for."""
