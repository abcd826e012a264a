"""The extractive policy: the question as query, then the best-looking name from what was found.

It never sees gold and reads no model: the floor that a search agent has to beat, and a check that the
environment's retrieval equals the retriever called directly.
"""

import re
from collections.abc import Iterable, Sequence

from agentgym.errors import ConfigError
from agentgym.rollout.policy import Request
from agentgym.types import Completion, Message, ToolCall

NAME = re.compile(r"(?:[A-Z][\w'’.-]*|\d{3,4})(?:\s+(?:of|the|de|and|von)\s+(?=[A-Z])|\s+(?=[A-Z])|)(?:[A-Z][\w'’.-]*)?")
WORD = re.compile(r"\w+")
YES_NO = frozenset({"is", "are", "was", "were", "do", "does", "did", "has", "have", "can"})


class ExtractivePolicy:
    """Searches the question once, then answers with the name that is new, early and frequent."""

    privileged = False
    served = False

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Return the search at the first turn, the answer at the second."""
        return [Completion(text=_action(request)) for request in requests]

    def release(self, episodes: Iterable[str]) -> None:
        """Keep nothing."""


def _action(request: Request) -> str:
    if request.dialect is None:
        raise ConfigError("the extractive policy needs a driver that says how calls are written (Request.dialect)")
    question = next(m.text for m in request.messages if m.role == "user")
    answered = [m for m in request.messages if m.role == "assistant"]
    if not answered:
        return request.dialect.render([ToolCall("search", {"query": question})], request.tools)
    return request.dialect.render([ToolCall("answer", {"text": extract(question, request.messages[-1])})], request.tools)


def extract(question: str, found: Message) -> str:
    """Return the candidate span of the found text with the highest score; "yes" for yes-no questions."""
    asked = {w.casefold() for w in WORD.findall(question)}
    first = next(iter(WORD.findall(question)), "").casefold()
    if first in YES_NO:
        return "yes"
    scores: dict[str, float] = {}
    for position, match in enumerate(NAME.finditer(found.text)):
        span = match.group().strip(" .")
        words = {w.casefold() for w in WORD.findall(span)}
        if not words or words & asked or "budget" in words:
            continue
        scores[span] = scores.get(span, 0.0) + 1.0 / (2 + position)
    return max(scores, key=lambda s: scores[s]) if scores else "unknown"
