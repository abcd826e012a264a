"""The extractive policy: the question as query, then the span of what was found that fits the question's form.

It never sees gold and reads no model: the floor that a search agent has to beat, and a check that the
environment's retrieval equals the retriever called directly.
"""

import re
from collections.abc import Iterable, Iterator, Sequence

from agentgym.errors import ConfigError
from agentgym.rollout.policy import Request
from agentgym.types import Completion, Message, ToolCall

MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
CAPITAL = "".join(c for c in map(chr, range(0x2000)) if c.isupper())
"""The capital letters of Latin, Greek, Cyrillic and their neighbours: Ä, Ž and Ω begin names as A does."""
NAME = re.compile(rf"[{CAPITAL}][\w'’.&-]*(?:\s+(?:(?:of|the|de|la|van|von|and)\s+){{0,2}}[{CAPITAL}\d][\w'’.&-]*)*")
DATE = re.compile(rf"\b(?:\d{{1,2}}\s+)?(?:{'|'.join(MONTHS)})(?:\s+\d{{1,2}},?)?\s+\d{{4}}\b")
YEAR = re.compile(r"\b1\d{3}\b|\b20\d{2}\b")
NUMBER = re.compile(r"\b\d[\d,.]*\b")
FORMS = (
    (re.compile(r"\bhow (?:many|much|old|long|far)\b"), NUMBER),
    (re.compile(r"\b(?:what|which) year\b"), YEAR),
    (re.compile(r"\bwhen\b|\bdate of\b|\bwhat date\b"), DATE),
)
"""What a question says -> what its answer looks like; all others ask for a name."""
WORD = re.compile(r"\w+")
CHOICE = re.compile(r"(?:,|:|\bbetween|\bis|\bwas)\s+((?:[^,]|,(?!\s))+?),?\s+or\s+([^?,]+)", re.IGNORECASE)
HEADING = re.compile(r"^\[\d+\] (.*) \(doc:[^()]*\)$", re.MULTILINE)
MARKUP = re.compile(r"</?information>|^\[budget\].*$|^… \[\d+ characters cut\] …$", re.MULTILINE)
SENTENCE_END = re.compile(r"(?<=[.!?]['\")])\s+|(?<=[^A-Z.][.!?])\s+|\n+|\s\|\s")
YES_NO = frozenset({"is", "are", "was", "were", "do", "does", "did", "has", "have", "can"})
EMPTY = YES_NO | frozenset(WORD.findall("""
    a after also although an and as at both but by for from had he her his how however if in into it its many much name
    of on one or our same she some that the their these they this to two we what when where which while who whom whose
    why with year you
"""))  # fmt: skip
"""Words that say nothing about what a question is after, and start sentences without being names."""
EARLY = 8
"""How slowly a later sentence loses weight: sentence n counts 1 / (EARLY + n)."""


class ExtractivePolicy:
    """Searches the question once, then answers from the sentence that shares most with the question."""

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
    """Return the span of the found text that fits the question best; "unknown" where none fits.

    Of "…, A or B?" it takes the alternative that the text names first; a yes-no question gets "yes". Any other asks
    for a number, a year, a date or a name: each such span that shares no word with the question counts as many words
    of the question as its sentence and passage title hold, earlier sentences more; the highest count wins.
    """
    if options := _options(question):
        text = found.text.casefold()
        places = [place if (place := text.find(option.casefold())) >= 0 else len(text) for option in options]
        return options[places.index(min(places))]
    if next(iter(WORD.findall(question)), "").casefold() in YES_NO:
        return "yes"
    words, pattern = _words(question), _pattern(question)
    best, answer = 0.0, "unknown"
    for n, (title, sentence) in enumerate(_sentences(found.text)):
        weight = len(words & (_words(sentence) | _words(title))) / (EARLY + n)
        if weight <= best:
            continue
        for span in _spans(sentence, pattern):
            if _words(span) and not _words(span) & words:
                best, answer = weight, span
                break
    return answer


def _words(text: str) -> set[str]:
    """Return the words of a text that say something."""
    return {w for w in WORD.findall(text.casefold()) if w not in EMPTY and (len(w) > 1 or w.isdigit())}


def _pattern(question: str) -> re.Pattern[str]:
    """Return what the answer must look like."""
    asked = question.casefold()
    return next((form for words, form in FORMS if words.search(asked)), NAME)


def _options(question: str) -> tuple[str, ...]:
    """Return A and B of a question that ends in "A or B?"."""
    match = CHOICE.search(question)
    return tuple(part.strip(" .\"'") for part in match.groups()) if match else ()


def _sentences(text: str) -> Iterator[tuple[str, str]]:
    """Yield (title of the passage, sentence); the title itself is the passage's first sentence."""
    title = ""
    heads = HEADING.split(MARKUP.sub("", text))
    for i, part in enumerate(heads):
        if i % 2:
            title = part
            yield title, title
            continue
        for sentence in SENTENCE_END.split(part):
            if sentence.strip():
                yield title, sentence.strip()


def _spans(sentence: str, pattern: re.Pattern[str]) -> Iterator[str]:
    """Yield what a sentence holds of the form that is asked for; a year where a date is asked for and none is there."""
    found = list(pattern.finditer(sentence))
    if pattern is DATE and not found:
        found = list(YEAR.finditer(sentence))
    for match in found:
        span = match.group().strip(" .,'")
        first, _, rest = span.partition(" ")
        # The first word of a sentence is a name only where other words of the name follow.
        starts = pattern is NAME and match.start() == 0 and match.end() < len(sentence)
        if starts and (not rest or first.casefold() in EMPTY):
            span = rest if rest[:1].isupper() else ""
        if span and not (pattern is NAME and first in MONTHS):
            yield span
