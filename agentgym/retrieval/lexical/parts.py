"""A part: one tile of an index, made from the passages of one chunk by one process."""

from array import array
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from agentgym.errors import DataError
from agentgym.retrieval.lexical.layout import FILES, LENGTH_PAD, TILE, length_code, smallest
from agentgym.retrieval.lexical.store import BlockWriter
from agentgym.retrieval.lexical.tokens import TermMemo, surfaces
from agentgym.retrieval.passages import TextWriter, sorted_keys, string_key
from agentgym.types import Passage


class _Numbers(dict[str, int]):
    """Surface -> number of its term in this part, -1 where it has none."""

    def __init__(self, memo: TermMemo) -> None:
        super().__init__()
        self._memo = memo
        self.terms: dict[str, int] = {}

    def __missing__(self, surface: str) -> int:
        term = self._memo[surface]
        self[surface] = number = self.terms.setdefault(term, len(self.terms)) if term else -1
        return number


def write_part(passages: Iterable[Passage], folder: Path, memo: TermMemo) -> dict[str, int]:
    """Write the arrays of one tile (see `layout`) and return its counts: passages, tokens, filled.

    Raises:
        DataError: more passages than a tile holds, or two terms with one key.
    """
    numbers, tokens, ends = _Numbers(memo), array("i"), array("q", [0])
    id_keys = array("Q")
    with (folder / FILES["blocks"]).open("wb") as block_file, (folder / FILES["id_text"]).open("wb") as id_file:
        blocks, ids = BlockWriter(block_file), TextWriter(id_file)
        for passage in passages:
            tokens.extend(map(numbers.__getitem__, surfaces(f"{passage.title}\n{passage.text}")))
            ends.append(len(tokens))
            blocks.write(passage.title, passage.text)
            ids.write(passage.id)
            id_keys.append(string_key(passage.id))
        blocks.close_block()
    n = len(ends) - 1
    if n > TILE:
        raise DataError(f"{folder}: {n:,} passages do not fit into a tile of {TILE:,}")
    keys, order = sorted_keys(id_keys)
    arrays = {
        "block_bounds": blocks.bounds, "block_firsts": blocks.firsts, "id_bounds": smallest(np.array(ids.bounds)),
        "id_keys": keys, "id_numbers": order, "tile_bases": np.array([0, n], np.int64),
    }  # fmt: skip
    lengths = _write_postings(numbers.terms, tokens, ends, folder)
    for name, values in arrays.items():
        np.save(folder / FILES[name], np.asarray(values))
    return {"passages": n, "tokens": int(lengths.sum()), "filled": int(np.count_nonzero(lengths))}


def _write_postings(terms: dict[str, int], tokens: array, ends: array, folder: Path) -> np.ndarray:
    """Invert the tokens of a part; return the number of terms of each passage."""
    numbers = np.array(tokens, np.int32)
    n = len(ends) - 1
    doc = np.repeat(np.arange(n), np.diff(np.array(ends, np.int64)))
    kept = numbers >= 0
    numbers, doc = numbers[kept], doc[kept]
    lengths = np.bincount(doc, minlength=n)
    names = list(terms)
    keys = np.array([string_key(name) for name in names], np.uint64)
    order = np.argsort(keys, kind="stable")
    keys = keys[order]
    twin = np.flatnonzero(keys[1:] == keys[:-1])
    if len(twin):
        raise same_key(names[order[twin[0]]], names[order[twin[0] + 1]])
    rank = np.empty(len(names), np.int64)
    rank[order] = np.arange(len(names))
    pair = rank[numbers] * TILE + doc
    pair.sort()
    edge = np.flatnonzero(np.diff(pair, prepend=-1))
    tf = np.diff(edge, append=len(pair))
    pair = pair[edge]
    df = np.bincount(pair // TILE, minlength=len(names))
    big = np.flatnonzero(tf >= 255)
    with (folder / FILES["term_text"]).open("wb") as file:
        writer = TextWriter(file)
        for i in order:
            writer.write(names[i])
    arrays = {
        "term_keys": keys, "term_bounds": smallest(np.array(writer.bounds)), "starts": smallest(np.append(0, np.cumsum(df))),
        "run_starts": np.arange(len(names) + 1, dtype=np.uint32), "run_tiles": np.zeros(len(names), np.uint32),
        "run_firsts": np.zeros(len(names), np.uint32), "docs": (pair % TILE).astype(np.uint16),
        "tfs": np.minimum(tf, 255).astype(np.uint8), "big_at": big, "big_tfs": tf[big],
        "lengths": np.append(length_code(lengths), np.zeros(LENGTH_PAD, np.uint8)),
    }  # fmt: skip
    for name, values in arrays.items():
        np.save(folder / FILES[name], values)
    return lengths


def same_key(first: str, second: str) -> DataError:
    """Return the error for two terms with one 64-bit key (of 5 million terms, one set in a million has such a pair)."""
    return DataError(
        f"terms {first!r:.60} and {second!r:.60} have the same 64-bit key, so they cannot stand in one index; change "
        "one of them in the passages"
    )
