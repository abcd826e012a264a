"""Quotes that must be there: a verdict counts only as far as its quote occurs in the text that was judged.

A model that is talked into passing a text has nothing to quote; a quote of nothing but punctuation is none.
"""

import re
import unicodedata
from dataclasses import replace

from agentgym.judges.protocol import JudgeRequest, Verdict

_QUOTES = str.maketrans(dict.fromkeys("‘’‚‛′`´", "'") | dict.fromkeys("“”„‟″«»", '"') | dict.fromkeys("‐‑‒–—―−", "-"))
_ELLIPSIS = re.compile(r"\s*(?:\.\.\.|…)\s*")
_EDGES = " \t\n\"'`.,;:!?…"


def locate(quote: str, text: str) -> tuple[int, int] | None:
    """Return [start, end) of the first occurrence of a quote in a text, or None.

    Compared are compatibility forms without case, invisible characters and differences of quotes and dashes; runs
    of blanks are one blank. Punctuation around the quote is ignored. A quote without a letter or digit is nowhere.
    """
    needle, _ = _normal(quote)
    needle = needle.strip(_EDGES)
    if not any(character.isalnum() for character in needle):
        return None
    haystack, places = _normal(text)
    at = haystack.find(needle)
    if at < 0:
        return None
    return places[at], places[at + len(needle) - 1] + 1


def ground(request: JudgeRequest, verdict: Verdict) -> Verdict:
    """Return the verdict as far as its quote carries it.

    Present: a pass, and any label above the worst, needs a quote from the text; without it the verdict is a fail
    with code "ungrounded". Absent: a fail needs a quote of what should not be there; without it the verdict is a
    pass with that code.
    """
    if verdict.abstained or not request.grounded:
        return verdict
    span = _span(verdict.quote, request.text)
    if span is not None:
        return replace(verdict, span=span, quote=request.text[span[0] : span[1]])
    if request.polarity == "absent":
        return verdict if verdict.passed else replace(verdict, passed=True, score=1.0, code="ungrounded")
    if not verdict.passed and verdict.score <= 0.0:
        return verdict
    return replace(verdict, passed=False, score=0.0, code="ungrounded")


def _span(quote: str, text: str) -> tuple[int, int] | None:
    """Locate a quote; one with an ellipsis is located by its parts, in order, and spans all of them."""
    whole = locate(quote, text)
    if whole is not None:
        return whole
    parts = [part for part in _ELLIPSIS.split(quote) if part.strip(_EDGES)]
    if len(parts) < 2:
        return None
    start, end = -1, 0
    for part in parts:
        found = locate(part, text[end:])
        if found is None:
            return None
        start = found[0] if start < 0 else start
        end += found[1]
    return start, end


def _normal(text: str) -> tuple[str, list[int]]:
    """Return the comparable form of a text, and for each of its characters the place it came from."""
    characters: list[str] = []
    places: list[int] = []
    for place, raw in enumerate(text.translate(_QUOTES)):
        if raw.isspace():
            if characters and characters[-1] == " ":
                continue
            characters.append(" ")
            places.append(place)
            continue
        if not raw.isascii() and unicodedata.category(raw) == "Cf":
            continue
        for character in raw.lower() if raw.isascii() else unicodedata.normalize("NFKC", raw).casefold():
            characters.append(character)
            places.append(place)
    return "".join(characters), places
