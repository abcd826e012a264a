"""DPR's `psgs_w100.tsv`: a header line `id text title`, then tab-separated rows with quotes as in CSV."""

import csv
import io
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from agentgym.jsonl import open_bytes
from agentgym.types import Passage

HEADER = ["id", "text", "title"]
_LIMIT = 1 << 30


def units(path: Path, digest: Any) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, fields) of every row below the header.

    Raises:
        DataError: unreadable, not UTF-8, not tab-separated rows of id, text, title.
    """
    csv.field_size_limit(_LIMIT)
    with open_bytes(path, digest=digest) as file:
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        reader = csv.reader(text, delimiter="\t")
        try:
            for fields in reader:
                if reader.line_num == 1 and fields == HEADER:
                    continue
                if fields:
                    yield reader.line_num, fields
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{reader.line_num + 1}: not UTF-8 at or below this line ({error.reason})") from error
        except (csv.Error, EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path}: cannot be read past line {reader.line_num}: {error}") from error
        finally:
            text.detach()


def passages(unit: list[str], where: str) -> Iterable[Passage]:
    """Make the passage of one row."""
    if len(unit) != len(HEADER):
        raise DataError(f"{where}: {len(unit)} fields between tabs where 3 are needed: {', '.join(HEADER)}")
    doc_id, text, title = unit
    if not doc_id:
        raise DataError(f"{where}: field 'id' is empty")
    return (Passage(doc_id, title, text),)
