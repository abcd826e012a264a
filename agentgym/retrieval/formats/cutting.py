"""Articles into passages: DPR's way, and the text of a web page."""

from collections.abc import Iterator
from html.parser import HTMLParser

from agentgym.types import Passage

WORDS = 100


def passages_of(doc_id: str, title: str, text: str, words: int = WORDS) -> Iterator[Passage]:
    """Cut an article into passages of `words` words, the last one filled up from the article's beginning.

    Ids are "ID#0", "ID#1", …; an article without words gives none.

    Source: Karpukhin et al., "Dense Passage Retrieval for Open-Domain Question Answering" and its code: disjoint
    passages of 100 words, of which the last is completed with words from the beginning of the article.
    """
    found = text.split()
    for number, first in enumerate(range(0, len(found), words)):
        piece = found[first : first + words]
        if first and len(piece) < words:
            piece += found[: words - len(piece)]
        yield Passage(f"{doc_id}#{number}", title, " ".join(piece))


class _Text(HTMLParser):
    """Keeps what a reader sees of a page."""

    dropped = frozenset(
        {"script", "style", "head", "table", "sup", "nav", "footer", "noscript", "figure", "figcaption", "math", "svg"}
    )
    blocks = frozenset({"p", "div", "li", "br", "h1", "h2", "h3", "h4", "h5", "h6", "section", "ul", "ol", "dd", "dt"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self.title: list[str] = []
        self._inside: list[str] = []
        self._in_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_title = self._in_title or tag == "title"
        if tag in self.dropped:
            self._inside.append(tag)
        elif tag in self.blocks:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
        if tag in self._inside:  # an unclosed tag inside ends with it
            while self._inside.pop() != tag:
                pass
        elif tag in self.blocks:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)
        elif not self._inside:
            self.parts.append(data)


def text_of_html(html: str) -> tuple[str, str]:
    """Return the title of a page and its running text, without tables, notes, scripts and captions."""
    parser = _Text()
    parser.feed(html)
    parser.close()
    lines = (" ".join(line.split()) for line in "".join(parser.parts).splitlines())
    return " ".join("".join(parser.title).split()), "\n".join(line for line in lines if line)
