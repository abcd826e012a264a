"""The passages of an index: compressed blocks and a table of ids, all memory-mapped."""

import struct
import zlib
from array import array
from pathlib import Path
from typing import BinaryIO, Generic, TypeVar

import numpy as np

from agentgym.errors import DataError
from agentgym.retrieval.passages import KeyTable, string_key
from agentgym.types import Passage

T = TypeVar("T")
BLOCK_BYTES = 4_000
"""Text of a block before compression: a search result unpacks one a passage. 12,000 would save 7 % of the disk space
and take two and a half times as long to unpack."""
LEVEL = 5
_RECENT_BYTES = 8 << 20
"""Text that is kept unpacked: of blocks, and as much again of single passages."""
_OBJECT_BYTES = 400
"""What a passage takes besides its text."""


class Recent(Generic[T]):
    """What was looked up last, up to a size in all; a hit costs one look-up in a dictionary.

    Two generations stand for an order of use: when the young one is full, it becomes the old one, and the old one goes.
    Threads may share it: where two of them change generations at once, entries are forgotten, never mixed up.
    """

    def __init__(self, limit: int) -> None:
        """Keep at most about `limit` bytes."""
        self._young: dict[int, tuple[T, int]] = {}
        self._old: dict[int, tuple[T, int]] = {}
        self._size, self._half = 0, limit // 2

    def find(self, key: int) -> T | None:
        """Return what was kept under a number, or None."""
        found = self._young.get(key)
        if found is None:
            found = self._old.get(key)
            if found is None:
                return None
            self.keep(key, *found)
        return found[0]

    def keep(self, key: int, value: T, size: int) -> None:
        """Keep a value of so many bytes; one that alone exceeds the limit is not kept."""
        if size > self._half:
            return
        if self._size + size > self._half:
            self._old, self._young, self._size = self._young, {}, 0
        self._young[key] = value, size
        self._size += size


class BlockWriter:
    """Packs passages into compressed blocks, one after the other."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to an open file."""
        self._file = file
        self._sizes, self._texts, self._pending = array("I"), [], 0
        self.bounds, self.firsts = array("q", [0]), array("q", [0])
        """Block i owns the bytes bounds[i]:bounds[i + 1] and the passages firsts[i]:firsts[i + 1]."""

    def write(self, title: str, text: str) -> None:
        """Add the next passage."""
        for part in (title.encode(), text.encode()):
            self._sizes.append(len(part))
            self._texts.append(part)
            self._pending += len(part)
        if self._pending >= BLOCK_BYTES:
            self.close_block()

    def close_block(self) -> None:
        """Write what is pending."""
        if not self._texts:
            return
        sizes = np.array(self._sizes, "<u4").tobytes()
        packed = zlib.compress(b"".join((sizes, *self._texts)), LEVEL)
        self._file.write(packed)
        self.bounds.append(self.bounds[-1] + len(packed))
        self.firsts.append(self.firsts[-1] + len(self._texts) // 2)
        self._sizes, self._texts, self._pending = array("I"), [], 0


class BlockStore:
    """Random access to passages by position and by id; threads may share it."""

    def __init__(self, folder: Path, arrays: dict[str, np.ndarray]) -> None:
        """Take the mapped arrays of an index (see `agentgym.retrieval.lexical.layout`); `folder` is for messages."""
        self._folder = folder
        arrays = {name: np.asarray(array) for name, array in arrays.items()}  # a slice of a memmap costs three times as much
        self._blob, self._bounds, self._firsts = arrays["blocks"].data, arrays["block_bounds"], arrays["block_firsts"]
        self._id_text, self._id_bounds = arrays["id_text"].data, arrays["id_bounds"]
        self._ids = KeyTable(arrays["id_keys"], arrays["id_numbers"], self.id_at)
        self._n = len(arrays["id_numbers"])
        self._passages: Recent[Passage] = Recent(_RECENT_BYTES)
        self._blocks: Recent[tuple[list[int], bytes]] = Recent(_RECENT_BYTES)

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, position: int) -> Passage:
        if not 0 <= position < self._n:
            raise IndexError(position)
        found = self._passages.find(position)
        if found is None:
            found = self._read(position)
            self._passages.keep(position, found, len(found.title) + len(found.text) + _OBJECT_BYTES)
        return found

    def _read(self, position: int) -> Passage:
        number = int(self._firsts.searchsorted(position, side="right")) - 1
        ends, text = self._blocks.find(number) or self._unpack(number)
        i = 2 * (position - int(self._firsts[number]))
        try:
            a, b, c = ends[i], ends[i + 1], ends[i + 2]
            return Passage(self.id_at(position), str(text[a:b], "utf-8"), str(text[b:c], "utf-8"))
        except (IndexError, ValueError):
            raise self._damaged("blocks") from None

    def id_at(self, position: int) -> str:
        """Return the id of a passage without unpacking its text."""
        try:
            start, end = self._id_bounds[position : position + 2].tolist()
            return str(self._id_text[start:end], "utf-8")
        except ValueError:  # no UTF-8, or no such passage
            raise self._damaged("id_text") from None

    def position(self, doc_id: str) -> int | None:
        """Return the position of an id, or None."""
        return self._ids.find(doc_id)

    def _unpack(self, number: int) -> tuple[list[int], bytes]:
        try:
            start, end = self._bounds[number : number + 2].tolist()
            n = int(self._firsts[number + 1]) - int(self._firsts[number])
            raw = zlib.decompress(self._blob[start:end])
            sizes = struct.unpack_from(f"<{2 * n}I", raw)
        except (zlib.error, struct.error, ValueError, IndexError, OverflowError):
            raise self._damaged("blocks") from None
        ends, at = [8 * n], 8 * n
        for size in sizes:
            at += size
            ends.append(at)
        self._blocks.keep(number, (ends, raw), len(raw) + 40 * n)
        return ends, raw

    def _damaged(self, name: str) -> DataError:
        return DataError(f"{self._folder}: {name} is damaged. Run `agentgym index verify {self._folder}`, and build it again")


def id_key(doc_id: str) -> int:
    """Return the 64 bits that stand for an id."""
    return string_key(doc_id)
