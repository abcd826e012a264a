"""Two ways to make answers comparable: the robust chain that rewards use, and SQuAD's own for reporting.

The robust chain differs where SQuAD's has been exploited or is unfair: it reads "Tokyo" in full-width letters
and behind zero-width characters, keeps what changes the meaning ("1.5", "-5", "C++"), and never lets an
article be the whole answer vanish. Accents are folded; look-alike letters of other scripts are not.
"""

import re
import string
import unicodedata
from functools import lru_cache

_SPACES = "\t\n\r\v\f\x1c\x1d\x1e\x1f"
_UNIFIED = str.maketrans(
    dict.fromkeys("‘’‚‛′ʼ´", "'")
    | dict.fromkeys("“”„‟″«»", '"')
    | dict.fromkeys("‐‑‒–—―−﹘﹣－", "-")
    | dict.fromkeys("\x85\u00a0\u2007\u202f\u2028\u2029", " ")
)
_TO_UNIFY = re.compile("[" + "".join(map(chr, _UNIFIED)) + "]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_SYMBOLS = str.maketrans(
    dict.fromkeys(map(chr, (*range(0x20), 0x7F, *b"',")))
    | dict.fromkeys(_SPACES, " ")
    | dict.fromkeys("!\"$%&()*/:;<=>?@[\\]^_`{|}~", " ")
)
"""What happens to ASCII symbols that need no look around them: deleted (None) or a space."""
_POINT = re.compile(r"\.(?:(?!\d)|(?<!\d\.))")
_PLUS = re.compile(r"(?<![^\W_])(?<![+#])[+#]+")
_HYPHEN = re.compile(r"-(?:(?!\d)|(?<=[^\W_]-)|(?<=[+#]-))")
_ARTICLES = frozenset(("a", "an", "the"))
_SQUAD_ARTICLES = re.compile(r"\b(a|an|the)\b")
_SQUAD_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=16_384)
def robust(text: str) -> str:
    """Return the robust normal form of a short text (an answer, a query); tokens are joined by one space.

    NFKC, quotes and dashes unified, invisible characters dropped, case and accents folded; kept are letters,
    digits, points between digits, + and # after a letter or digit, and the sign of a number at the start of
    a word; other quotes, points and commas are deleted, other symbols become spaces; then the words a, an, the
    are dropped unless nothing else is left.

    Source: the DPR/SQuAD chain; every step but articles and spaces deviates, for the reasons above. White-space
    controls count as spaces, so that a line break parts words.
    """
    return _robust(text)


@lru_cache(maxsize=4_096)
def robust_document(text: str) -> str:
    """Return `robust(text)` between two spaces, so that `f" {tokens} " in it` finds a run of tokens.

    Has a cache of its own: shown passages come back across the episodes of a group.
    """
    return f" {_robust(text)} "


def _robust(text: str) -> str:
    text = (text if text.isascii() else _fold(text)).lower().translate(_SYMBOLS)
    if "." in text:
        text = _POINT.sub("", text)
    if "+" in text or "#" in text:
        text = _PLUS.sub(" ", text)
    if "-" in text:
        text = _HYPHEN.sub(" ", text)
    words = text.split()
    kept = [w for w in words if w not in _ARTICLES]
    return " ".join(kept or words)


def _fold(text: str) -> str:
    """Return the text in base letters, with ASCII symbols only."""
    text = unicodedata.normalize("NFKC", _unify(text))
    text = unicodedata.normalize("NFKD", _unify(text).casefold())
    return _NOT_ASCII.sub(_fold_match, text)


def _unify(text: str) -> str:
    return text.translate(_UNIFIED) if _TO_UNIFY.search(text) else text


def _fold_match(match: re.Match[str]) -> str:
    return _fold_char(match.group())


@lru_cache(maxsize=4_096)
def _fold_char(char: str) -> str:
    category = unicodedata.category(char)
    if unicodedata.combining(char) or category in ("Cf", "Cc", "Co", "Cs"):
        return ""
    # Marks that are no accents (vowel signs of Indic scripts) belong to their word.
    return char if category[0] in "LNM" else " "


@lru_cache(maxsize=16_384)
def squad(text: str) -> str:
    """Return the classic normal form: lower case, no ASCII punctuation, no articles, single spaces.

    Source: SQuAD (2016) evaluation script, as used by DPR, Search-R1 and most search agents.
    """
    return " ".join(_SQUAD_ARTICLES.sub(" ", text.lower().translate(_SQUAD_PUNCTUATION)).split())


def mixed_script(text: str) -> bool:
    """Whether a word of the text mixes Latin with Cyrillic or Greek letters (a look-alike, never folded)."""
    if text.isascii():
        return False
    for word in text.split():
        scripts = {unicodedata.name(c, "").split(" ")[0] for c in word if c.isalpha()}
        if "LATIN" in scripts and scripts & {"CYRILLIC", "GREEK"}:
            return True
    return False
