"""The tools of SearchQA: search, open, find, answer. They see the corpus, never gold."""

import re
from collections.abc import Iterator

from agentgym.errors import ToolError
from agentgym.retrieval import Retriever
from agentgym.retrieval.wave import search_in_wave
from agentgym.tools import Tool, ToolContext, ToolOutput, tool
from agentgym.tools.waiting import joins, may_wait
from agentgym.types import Passage

MAX_K = 10
PAGE_CHARS = 2_000
FIND_HITS = 3
CITATION = re.compile(r"\s*\[doc:([^\[\]\s]{1,200})\]\s*$")


def search_tools(k: int) -> tuple[Tool, ...]:
    """Return the four tools; `k` is how many passages a search returns unless the call says otherwise.

    Environments that step together search together (`agentgym.retrieval.wave`); a plain `step` searches at once.
    """

    @joins
    async def search(query: str, ctx: ToolContext, k: int = k) -> ToolOutput:  # noqa: D417 (policies never see ctx)
        """Search the corpus for passages.

        Args:
            query: what to look for.
            k: how many passages to return, 1 to 10.
        """
        if not query.strip():
            raise ToolError("search: 'query' is empty; write what to look for")
        if not 1 <= k <= MAX_K:
            raise ToolError(f"search: 'k' is {k}; allowed: 1 to {MAX_K}")
        corpus = _corpus(ctx)
        hits = await search_in_wave(corpus, query, k) if may_wait() else corpus.search(query, k)
        scores = tuple(h.score for h in hits)
        return ToolOutput([h.passage.id for h in hits], tuple(h.passage for h in hits), scores)

    return tool(search), tool(name="open")(open_), tool(find), tool(final=True)(answer)


def open_(doc_id: str, ctx: ToolContext, page: int = 1) -> ToolOutput:  # noqa: D417
    """Open a passage by its id and read it whole.

    Args:
        doc_id: the id shown after the title, without "doc:".
        page: which page of a long passage, from 1.
    """
    passage = _corpus(ctx).passage(doc_id.removeprefix("doc:"))
    if passage is None:
        raise ToolError(f"open: no passage has the id {doc_id[:80]!r}; use an id that a search showed")
    pages = max(1, -(-len(passage.text) // PAGE_CHARS))
    if not 1 <= page <= pages:
        raise ToolError(f"open: 'page' is {page}; {passage.id} has pages 1 to {pages}")
    text = passage.text[(page - 1) * PAGE_CHARS : page * PAGE_CHARS]
    return ToolOutput({"id": passage.id, "page": page, "pages": pages}, (Passage(passage.id, passage.title, text),))


def find(pattern: str, ctx: ToolContext) -> ToolOutput:  # noqa: D417
    """Find text in the passage opened last.

    Args:
        pattern: plain text to look for; upper and lower case are the same.
    """
    opened = ctx.state.get("opened")
    passage = _corpus(ctx).passage(opened) if opened else None
    if passage is None:
        raise ToolError("find: no passage is open; call open first")
    if not pattern.strip():
        raise ToolError("find: 'pattern' is empty; write the text to look for")
    found = list(_sentences_with(passage.text, pattern.strip()))
    documents = (Passage(passage.id, passage.title, " … ".join(found[:FIND_HITS])),) if found else ()
    return ToolOutput({"id": passage.id, "found": len(found)}, documents)


def answer(text: str, citations: list[str] = []) -> dict:  # noqa: B006 (read only; shown in the schema)
    """Give the final answer and end the episode.

    Args:
        text: the answer alone, as short as possible.
        citations: ids of the passages that support it.
    """
    cited = [c.removeprefix("doc:") for c in citations]
    marks: list[str] = []
    while mark := CITATION.search(text):
        marks.insert(0, mark.group(1))
        text = text[: mark.start()]
    return {"answer": text.strip(), "citations": list(dict.fromkeys([*cited, *marks]))}


def _corpus(ctx: ToolContext) -> Retriever:
    return ctx.services["corpus"]


def _sentences_with(text: str, pattern: str) -> Iterator[str]:
    wanted = pattern.casefold()
    for sentence in re.split(r"(?<=[.!?])\s+", text):
        if wanted in sentence.casefold():
            yield sentence
