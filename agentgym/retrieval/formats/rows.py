"""Rows of JSON or parquet: our own, Search-R1's and Pyserini's, BEIR's, FlashRAG's."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentgym.errors import DataError, MissingExtraError
from agentgym.jsonl import json_type, open_bytes, parse_json
from agentgym.retrieval.passages import passage_of
from agentgym.types import JSON, Passage

MAX_ARRAY_BYTES = 1 << 30
"""A JSON file that is one array must be held in memory whole."""
BATCH_ROWS = 1024


def units(path: Path, digest: Any) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file that are not blank; of a file that is one array, its rows.

    Raises:
        DataError: it cannot be read.
    """
    line = 0
    with open_bytes(path, digest=digest) as file:
        try:
            for line, raw in enumerate(file, start=1):
                text = raw.removeprefix(b"\xef\xbb\xbf").strip() if line == 1 else raw.strip()
                if line == 1 and _several_lines(text):
                    yield from _whole(raw + file.read(MAX_ARRAY_BYTES), path, bool(file.read(1)))
                    return
                if text:
                    yield line, text
        except (EOFError, OSError, ValueError) as error:
            raise DataError(f"{path}: cannot be read past line {line}: {error}") from error
        except Exception as error:  # zlib.error has no other base
            if type(error).__module__ != "zlib":
                raise
            raise DataError(f"{path}: cannot be read past line {line}: {error}") from error


def _several_lines(first: bytes) -> bool:
    """Tell whether a first line begins a JSON document that goes on below, or an array."""
    return first.startswith(b"[") or first == b"{"


def _whole(raw: bytes, path: Path, longer: bool) -> Iterator[tuple[int, bytes]]:
    if longer:
        raise DataError(f"{path}: a JSON array of more than {MAX_ARRAY_BYTES:,} bytes; write one object a line")
    value = parse_json(_text(raw.removeprefix(b"\xef\xbb\xbf"), str(path)), str(path))
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        yield number, json.dumps(row).encode()


def _text(raw: bytes, where: str) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 ({error.reason} at byte {error.start} of the line)") from error


def passages(unit: bytes, where: str) -> Iterable[Passage]:
    """Make the passage of one line."""
    row = parse_json(_text(unit, where), where)
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is needed, found {json_type(row)}")
    return (passage_of(row, where),)


def parquet_units(path: Path, digest: Any) -> Iterator[tuple[int, list[dict[str, JSON]]]]:
    """Yield batches of rows with the number of their first row, from 1.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: no parquet file.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("reading parquet", "pyarrow", 'pip install "agentic-gym[parquet]"') from None
    hash_file(path, digest)
    row = 1
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                yield row, batch.to_pylist()
                row += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read past row {row}: {error}") from error


def parquet_passages(unit: list[dict[str, JSON]], where: str) -> Iterable[Passage]:
    """Make the passages of a batch of rows."""
    path, _, first = where.rpartition(":")
    for number, row in enumerate(unit, start=int(first)):
        yield passage_of(row, f"{path}:{number}")


def hash_file(path: Path, digest: Any) -> None:
    """Show all bytes of a file to a digest, for readers that take the file by its name."""
    if digest is None:
        return
    with open_raw(path) as file:
        while data := file.read(1 << 22):
            digest.update(data)


def open_raw(path: Path) -> Any:
    """Open a file as it is stored.

    Raises:
        DataError: it cannot be opened.
    """
    try:
        return path.open("rb")
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
