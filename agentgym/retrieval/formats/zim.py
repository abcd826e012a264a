"""Kiwix ZIM archives: the text of every article page, cut into passages of 100 words (extra `zim`)."""

import functools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentgym.errors import DataError, MissingExtraError
from agentgym.retrieval.formats.cutting import passages_of, text_of_html
from agentgym.retrieval.formats.rows import hash_file
from agentgym.types import Passage

BATCH = 64
"""Entries in a unit."""


def units(path: Path, digest: Any) -> Iterator[tuple[int, tuple[str, int, int]]]:
    """Yield ranges of entry numbers.

    Raises:
        MissingExtraError: libzim is not installed.
        DataError: no readable archive.
    """
    archive = _archive(str(path), path.stat().st_mtime_ns if path.exists() else 0)
    hash_file(path, digest)
    n = archive.all_entry_count
    for first in range(0, n, BATCH):
        yield first, (str(path), first, min(first + BATCH, n))


def passages(unit: tuple[str, int, int], where: str) -> Iterable[Passage]:
    """Make the passages of a range of entries; redirects and everything that is no HTML page are passed over."""
    name, first, last = unit
    archive = _archive(name, Path(name).stat().st_mtime_ns)
    for number in range(first, last):
        try:
            entry = archive._get_entry_by_id(number)  # the library offers no public way to walk all entries
            if entry.is_redirect:
                continue
            item = entry.get_item()
            if not item.mimetype.startswith("text/html"):
                continue
            html = bytes(item.content).decode("utf-8", "replace")
        except RuntimeError as error:
            raise DataError(f"{name}: entry {number}: cannot be read: {error}") from error
        title, text = text_of_html(html)
        yield from passages_of(entry.path, entry.title or title or entry.path, text)


@functools.lru_cache(maxsize=4)
def _archive(path: str, changed: int) -> Any:
    try:
        from libzim.reader import Archive
    except ImportError:
        raise MissingExtraError("reading ZIM archives", "libzim", 'pip install "agentic-gym[zim]"') from None
    try:
        return Archive(Path(path))
    except RuntimeError as error:
        raise DataError(f"{path}: no readable ZIM archive: {error}") from error
