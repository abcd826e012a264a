"""The analyzer `lucene-english-1`: the tokens of Lucene's English analyzer, as Anserini and pyserini set it up.

Words by Lucene's StandardTokenizer; a possessive 's goes; lower case one code point at a time; 33 stop words go;
Porter's stemmer. One function serves passages and queries.

Source: Unicode Standard Annex #29 (word boundaries), as read off Lucene 9.9.1 (see `wordbreak`). Runs of Thai, Lao,
Khmer and Burmese are one token each, as there.
"""

import functools
import re
from collections.abc import Callable

from agentgym.retrieval.analyzer import STOP_WORDS
from agentgym.retrieval.lexical import wordbreak
from agentgym.retrieval.lexical.porter import stem

ANALYZER = "lucene-english-1"
"""Name of these rules. It is stored with every index; change it whenever a rule changes."""

MAX_TOKEN = 255
"""UTF-16 units: StandardTokenizer cuts longer tokens and goes on behind the cut."""

_JOINED = r"(?:(?<=[a-z])[:.'](?=[a-z])|(?<=[0-9])[,;.'](?=[0-9]))"
_ASCII = re.compile(rf"[a-z0-9_]++(?:{_JOINED}[a-z0-9_]+)*+")
"""Over lower-case text. A run of underscores alone matches too and is dropped later."""

_FOREIGN = re.compile(r"([^\x00-\x20]*[^\x00-\x7f][^\x00-\x20]*+)")
"""A piece between blanks that is not all ASCII."""


def _ranges(*names: str) -> str:
    """Return classes of `wordbreak` as the inside of a character class."""
    parts = " ".join(getattr(wordbreak, name) for name in names).split()
    spans = [part.partition("-") for part in parts]
    return "".join(f"\\U{int(a, 16):08x}" + (f"-\\U{int(b, 16):08x}" if b else "") for a, _, b in spans)


@functools.cache
def _unicode() -> re.Pattern[str]:
    """Return the pattern for any text, made on first use (some 100 ms)."""
    extend = _ranges("EXTEND", "SOUTHEAST_EXTEND", "MODIFIER")
    letter, numeric, katakana = _ranges("LETTER"), _ranges("NUMERIC"), _ranges("KATAKANA")
    hebrew = "\u05d0-\u05ea\u05f0-\u05f2\ufb1d\ufb1f-\ufb4f"
    x, under = f"[{extend}]*", f"(?:[{_ranges('UNDERSCORE')}][{extend}]*)"
    # A run begins with its own class; marks may follow every character of it.
    letters = f"[{letter}][{letter}{extend}]*"
    numbers = f"[{numeric}][{numeric}{extend}]*"
    mid_letter = f"[{_ranges('MID_LETTER', 'MID_NUM_LET')}]{x}"
    mid_number = f"[{_ranges('MID_NUM', 'MID_NUM_LET')}]{x}"
    # Looking back takes a fixed length: up to two marks after a Hebrew letter.
    behind = "(?:" + "|".join(f"(?<=[{hebrew}]{f'[{extend}]' * n})" for n in range(3)) + ")"
    quoted = f'{behind}"{x}(?=[{hebrew}])'
    words = f"(?:{letters}(?:(?:{mid_letter}|{quoted}){letters})*(?:{behind}'{x})?|{numbers}(?:{mid_number}{numbers})*)+"
    core = f"(?:{words}|(?:[{katakana}]{x})+)"
    south = _ranges("SOUTHEAST", "SOUTHEAST_EXTEND")
    pictured = f"(?:\u200d*[{_ranges('EMOJI')}]|[{_ranges('MODIFIER')}]){x}"
    regional = f"[{_ranges('REGIONAL')}]{x}"
    return re.compile(
        f"{under}*{core}(?:{under}+{core})*{under}*"
        f"|[{south}][{south}{extend}]*"
        f"|[{_ranges('HAN')}]{x}"
        f"|{pictured}(?:(?<=\u200d){pictured})*"
        f"|{regional}{regional}"
        "|[#*]\ufe0f?\u20e3"
    )




def _units(text: str) -> int:
    """Return the length in UTF-16 units."""
    return len(text) + sum(c > "\uffff" for c in text)


def _cut(text: str, pattern: re.Pattern[str]) -> list[str]:
    """Tokenize text that holds a token of more than MAX_TOKEN units."""
    found, place = [], 0
    while match := pattern.search(text, place):
        start, end = match.span()
        if _units(match[0]) > MAX_TOKEN:
            window = start + MAX_TOKEN
            while _units(text[start:window]) > MAX_TOKEN:
                window -= 1
            match = pattern.match(text, start, window)
            if match is None:
                place = start + 1
                continue
            end = match.end()
        found.append(match[0])
        place = end
    return found


def surfaces(text: str) -> list[str]:
    """Return the words of a text before possessives, stop words and stems; those of ASCII in lower case."""
    if text.isascii():
        return _matched(text.lower(), _ASCII)
    found: list[str] = []
    # No word holds a blank, so only what stands between blanks and is not ASCII needs the slow pattern.
    for i, piece in enumerate(_FOREIGN.split(text)):
        found += _matched(piece, _unicode()) if i % 2 else _matched(piece.lower(), _ASCII)
    return found


def _matched(text: str, pattern: re.Pattern[str]) -> list[str]:
    found = pattern.findall(text)
    long = MAX_TOKEN // 2  # a character has two units at most
    if found and len(text) > long and max(map(len, found)) > long and any(_units(w) > MAX_TOKEN for w in found):
        return _cut(text, pattern)
    return found


def term_of(surface: str) -> str:
    """Return the index term of a word, or an empty string where it has none."""
    if surface[-2:] in ("'s", "'S", "’s", "’S", "\uff07s", "\uff07S"):
        surface = surface[:-2]
    if surface.isascii():
        word = surface.lower()
        if not word.strip("_"):
            return ""
    else:
        word = "".join([c.lower()[0] for c in surface])
    return "" if word in STOP_WORDS else stem(word)


class TermMemo(dict[str, str]):
    """Surface -> term, worked out once a word; emptied when full, so that a stream of new words stays bounded."""

    def __init__(self, limit: int = 1 << 20) -> None:
        """Keep at most `limit` words."""
        super().__init__()
        self._limit = limit

    def __missing__(self, surface: str) -> str:
        if len(self) >= self._limit:
            self.clear()
        self[surface] = term = term_of(surface)
        return term


_MEMO = TermMemo(1 << 17)


def terms(text: str, memo: Callable[[str], str] = _MEMO.__getitem__) -> list[str]:
    """Return the index terms of a text in their order, repeats included."""
    return [term for term in map(memo, surfaces(text)) if term]
