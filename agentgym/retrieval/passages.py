"""Passages: read from JSON lines, stored in two memory-mapped files, found again by position or id."""

import hashlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from agentgym.errors import DataError
from agentgym.jsonl import id_text, json_type, read_objects
from agentgym.types import JSON, Passage

FORMATS = '{"id": "…", "title": "…", "text": "…"} or {"id": "…", "contents": "\\"title\\"\\ntext"}'


def read_passages(*paths: str | Path) -> Iterator[Passage]:
    """Read passages from JSON lines, `.gz` included, one at a time; blank lines are skipped.

    A row is {"id", "title", "text"}, or {"id", "contents"} whose first line is the title, as in the corpora of
    Search-R1. Other fields are ignored.

    Raises:
        DataError: bad JSON, a field that is missing or no string, an id used before, no passage at all.
    """
    seen: dict[str, str] = {}
    for path in map(Path, paths):
        for line, passage in read_rows(path):
            where = f"{path}:{line}"
            if passage.id in seen:
                raise same_id(passage.id, seen[passage.id], where)
            seen[passage.id] = where
            yield passage
    if not seen:
        raise no_passages(paths)


def read_rows(path: Path, *, digest: Any = None) -> Iterator[tuple[int, Passage]]:
    """Yield (line, passage) of one file without looking for repeated ids."""
    for line, row in read_objects(path, digest=digest):
        yield line, passage_of(row, f"{path}:{line}")


def same_id(doc_id: str, first: str, second: str) -> DataError:
    """Return the error for an id that two passages have."""
    return DataError(f"{second}: id {doc_id!r} is used already at {first}: ids must be unique within a corpus")


def no_passages(paths: Iterable[str | Path]) -> DataError:
    """Return the error for a corpus without passages."""
    names = ", ".join(str(p) for p in paths) or "no file"
    return DataError(f"{names}: no passages found; write one JSON object a line: {FORMATS}")


def passage_of(row: dict[str, JSON], where: str) -> Passage:
    """Make the passage of a row: {"id", "title", "text"}, {"id", "contents"}, or with "_id" for "id" as BEIR writes it.

    An id may be a whole number.

    Raises:
        DataError: a field is missing, is no string or cannot be written as UTF-8.
    """
    key = "_id" if "_id" in row and "id" not in row else "id"
    if type(row.get(key)) is int:
        row = {**row, key: id_text(row[key])}
    if "contents" in row and "text" not in row:
        check_row(row, (key, "contents"), where)
        title, _, text = row["contents"].partition("\n")
        return Passage(row[key], title.strip().strip('"'), text)
    check_row(row, (key, "title", "text"), where)
    return Passage(row[key], row["title"], row["text"])


def check_row(row: dict[str, JSON], fields: tuple[str, ...], where: str) -> None:
    """Refuse a row whose fields are not strings, or whose id (the first field) is empty."""
    for name in fields:
        value = row.get(name)
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError:
                raise DataError(f"{where}: field {name!r} holds half of a surrogate pair (\\ud800-\\udfff)") from None
        elif name not in row:
            raise DataError(f"{where}: field {name!r} is missing; found {', '.join(row) or 'none'}; a row is {FORMATS}")
        else:
            raise DataError(f"{where}: field {name!r} must be a string, found {json_type(value)}: {value!r:.60}")
    if not row[fields[0]]:
        raise DataError(f"{where}: field {fields[0]!r} is empty")


def string_key(text: str) -> int:
    """Return 64 bits that stand for a string in sorted tables."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")


class KeyTable:
    """From a string to its number by binary search over sorted 64-bit keys: mapped, no dictionary to load."""

    def __init__(self, keys: np.ndarray, numbers: np.ndarray | None, string_at: Callable[[int], str]) -> None:
        """Take ascending keys [N] uint64, the number of each [N] (None: their place), and the string of a number."""
        self._keys, self._numbers, self._string_at = keys, numbers, string_at

    def find(self, text: str) -> int | None:
        """Return the number of a string, or None."""
        key = np.uint64(string_key(text))
        place = int(self._keys.searchsorted(key))
        while place < len(self._keys) and self._keys[place] == key:
            number = place if self._numbers is None else int(self._numbers[place])
            if self._string_at(number) == text:
                return number
            place += 1
        return None


def sorted_keys(keys: array) -> tuple[np.ndarray, np.ndarray]:
    """Return the two arrays of a KeyTable for strings whose keys are given in order of their numbers."""
    values = np.frombuffer(keys, np.uint64) if len(keys) else np.zeros(0, np.uint64)
    order = np.argsort(values, kind="stable")
    return values[order], order.astype(np.uint32)


def refuse_repeated_ids(
    keys: np.ndarray, numbers: np.ndarray, id_at: Callable[[int], str], where: Callable[[int], str]
) -> None:
    """Refuse a corpus in which two passages have one id.

    Args:
        keys: ascending keys of all ids, as `sorted_keys` gives them, [N] uint64.
        numbers: the passage of each [N]; ascending where keys are equal.
        id_at: the id of a passage.
        where: where a passage stands, for the message.

    Raises:
        DataError: names the first passage whose id an earlier one has, and that one.
    """
    equal = np.flatnonzero(keys[1:] == keys[:-1])
    table = KeyTable(keys, numbers, id_at)
    for second in sorted(numbers[equal + 1].tolist()):
        first = table.find(id_at(second))
        if first is not None and first != second:
            raise same_id(id_at(second), where(first), where(second))


class TextWriter:
    """Writes strings one after the other and remembers where each ends."""

    def __init__(self, file: BinaryIO) -> None:
        """Write to an open file."""
        self._file = file
        self._end = 0
        self.bounds = array("q", [0])
        """String i owns the bytes bounds[i]:bounds[i + 1]."""

    def write(self, text: str) -> None:
        """Append one string."""
        self._end += self._file.write(text.encode())
        self.bounds.append(self._end)


class PassageStore:
    """Passages of an index: UTF-8 in one mapped file, three strings (id, title, text) a passage."""

    def __init__(self, blob: np.ndarray, bounds: np.ndarray, keys: np.ndarray, numbers: np.ndarray) -> None:
        """Take the bytes [*] uint8, bounds [3N + 1] int64, and the key table of the ids."""
        self._blob, self._bounds = blob.data, bounds
        self._ids = KeyTable(keys, numbers, lambda i: self._string(3 * i))

    def __len__(self) -> int:
        return len(self._bounds) // 3

    def __getitem__(self, position: int) -> Passage:
        if not 0 <= position < len(self):
            raise IndexError(position)
        a, b, c, d = self._bounds[3 * position : 3 * position + 4].tolist()
        blob = self._blob
        return Passage(str(blob[a:b], "utf-8"), str(blob[b:c], "utf-8"), str(blob[c:d], "utf-8"))

    def position(self, doc_id: str) -> int | None:
        """Return the position of an id, or None."""
        return self._ids.find(doc_id)

    def _string(self, i: int) -> str:
        start, end = self._bounds[i : i + 2].tolist()
        return str(self._blob[start:end], "utf-8")
