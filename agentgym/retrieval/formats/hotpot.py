"""HotpotQA's processed Wikipedia: folders of .bz2 files, one JSON object a line; or the .tar.bz2 that holds them.

A row has id, title and text: a list of sentences (introductions) or of paragraphs of sentences (whole articles).
Links are dropped, their words stay.
"""

import bz2
import re
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from agentgym.jsonl import json_type, parse_json
from agentgym.retrieval.formats.rows import hash_file, open_raw
from agentgym.retrieval.passages import check_row
from agentgym.types import JSON, Passage

_LINK = re.compile(r"</?a\b[^>]*>")


def units(path: Path, digest: Any) -> Iterator[tuple[int, tuple[str, bytes]]]:
    """Yield (number, (name, packed bytes)) of each file of JSON lines.

    Raises:
        DataError: it cannot be read.
    """
    hash_file(path, digest)
    if not path.name.endswith(".tar.bz2"):
        with open_raw(path) as file:
            yield 1, (path.name, file.read())
        return
    try:
        with tarfile.open(path, "r:bz2") as archive:
            number = 0
            for member in archive:
                if member.isfile() and member.name.endswith(".bz2"):
                    number += 1
                    file = archive.extractfile(member)
                    yield number, (member.name, file.read() if file else b"")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def passages(unit: tuple[str, bytes], where: str) -> Iterable[Passage]:
    """Make the passages of one file of JSON lines."""
    name, packed = unit
    path = where.rpartition(":")[0]
    inside = path if path.endswith(name) else f"{path}!{name}"
    try:
        lines = bz2.decompress(packed).split(b"\n")
    except (OSError, ValueError) as error:
        raise DataError(f"{inside}: no readable bzip2 file: {error}") from error
    for number, raw in enumerate(lines, start=1):
        if raw.strip():
            yield _passage(raw, f"{inside}:{number}")


def _passage(raw: bytes, where: str) -> Passage:
    try:
        row = parse_json(raw.decode(), where)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: not UTF-8 ({error.reason})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: a JSON object is needed, found {json_type(row)}")
    text = _joined(row.get("text"))
    flat: dict[str, JSON] = {"id": str(row.get("id", "")), "title": row.get("title"), "text": text}
    check_row(flat, ("id", "title", "text"), where)
    return Passage(str(flat["id"]), str(row["title"]), str(text))


def _joined(text: JSON) -> JSON:
    """Return sentences, or paragraphs of sentences, as one text; anything else as it is."""
    if not isinstance(text, list):
        return text
    joined = "\n".join("".join(map(str, part)) for part in text) if text and isinstance(text[0], list) else "".join(map(str, text))
    return _LINK.sub("", joined).strip()
