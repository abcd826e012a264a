"""Wikipedia XML dumps: articles without redirects, wikitext to plain text, passages of 100 words (extra `wiki`)."""

import bz2
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from agentgym.errors import DataError, MissingExtraError
from agentgym.jsonl import open_bytes
from agentgym.retrieval.formats.cutting import passages_of
from agentgym.types import Passage

_DROPPED_TAGS = frozenset({"ref", "table", "gallery", "math", "timeline", "imagemap", "score", "syntaxhighlight", "source"})
_MEDIA = re.compile(r"\s*(?:file|image|media|category)\s*:", re.IGNORECASE)
_MAGIC = re.compile(r"__[A-Z]+__")
_LINE_START = re.compile(r"^[*#:;]+\s*", re.MULTILINE)
_LAST_SECTIONS = re.compile(
    r"^==\s*(?:references|external links|see also|further reading|notes|bibliography|sources)\s*==.*",
    re.IGNORECASE | re.MULTILINE | re.DOTALL,
)

Page = tuple[int, str, str]
"""Page number, title, wikitext."""


def units(path: Path, digest: Any) -> Iterator[tuple[int, Page]]:
    """Yield (page number, page) of every article; redirects and other namespaces are passed over.

    Raises:
        MissingExtraError: mwxml is not installed.
        DataError: not readable, or no dump.
    """
    mwxml = _package("mwxml")
    _package("mwparserfromhell")
    last = "its beginning"
    with open_bytes(path, digest=digest) as file:
        try:
            unpacked: Any = bz2.BZ2File(file) if path.name.endswith(".bz2") else file
            for page in mwxml.Dump.from_file(unpacked):
                if page.namespace not in (0, None) or page.redirect:
                    continue
                last = f"page {page.id}"
                for revision in page:  # a dump of current pages has one
                    yield int(page.id), (int(page.id), str(page.title), revision.text or "")
                    break
        except Exception as error:
            # the XML reader raises its own and several of the standard library's
            raise DataError(f"{path}: cannot be read past {last}: {type(error).__name__}: {error}") from error


def passages(unit: Page, where: str) -> Iterable[Passage]:
    """Make the passages of one article."""
    number, title, wikitext = unit
    yield from passages_of(str(number), title, plain_text(wikitext))


def plain_text(wikitext: str) -> str:
    """Return the running text of an article: no templates, tables, notes, files, categories, headings, last sections."""
    parser = _package("mwparserfromhell")
    code = parser.parse(_LAST_SECTIONS.sub("", wikitext), skip_style_tags=True)
    nodes = parser.nodes
    for node in code.ifilter(
        recursive=True, matches=lambda n: isinstance(n, nodes.Tag | nodes.Wikilink | nodes.Template | nodes.Comment | nodes.Heading)
    ):
        if isinstance(node, nodes.Tag):
            drop = str(node.tag).strip().lower() in _DROPPED_TAGS
        elif isinstance(node, nodes.Wikilink):
            drop = _MEDIA.match(str(node.title)) is not None
        else:
            drop = True
        if drop:
            try:
                code.remove(node)
            except ValueError:  # it went with the node around it
                continue
    text = code.strip_code(normalize=True, collapse=True)
    for pattern in (_MAGIC, _LINE_START):
        text = pattern.sub("", text)
    return text.replace("'''", "").replace("''", "")


def _package(name: str) -> Any:
    try:
        return __import__(name)
    except ImportError:
        raise MissingExtraError("reading Wikipedia dumps", name, 'pip install "agentic-gym[wiki]"') from None
