"""From text to index terms: one function for passages and queries alike.

Words are runs of letters, digits and underscores. Words of one character are kept ("vitamin C", "Apollo 7",
"J. R. Smith"), a possessive 's is dropped, 33 English stop words are dropped. Case and diacritics are folded, so
that "Beyonce" finds "Beyoncé". A Han or Hiragana character is a term of its own, since those scripts write no
spaces. Words are not stemmed: the terms must not depend on which optional packages are installed.
"""

import re
import unicodedata

ANALYZER = "words-1"
"""Name of these rules. It is stored with every index; change it whenever a rule changes."""

_STOP_WORDS = (
    "a an and are as at be but by for if in into is it no not of on or such "
    "that the their then there these they this to was will with"
)
STOP_WORDS = frozenset(_STOP_WORDS.split())
"""Lucene's list of English stop words."""

_DROPPED = STOP_WORDS | {""}
# A possessive matches outside the group, so findall gives an empty string for it.
_ASCII = re.compile(r"'s\b|(\w+)", re.ASCII)
_UNICODE = re.compile(
    r"['’]s\b|([\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff]|[^\W\u3041-\u309f\u3400-\u4dbf\u4e00-\u9fff]+)"
)
_MARKS = re.compile("[\u0300-\u036f]+")


def terms(text: str) -> list[str]:
    """Return the index terms of a text in their order, repeats included."""
    if text.isascii():
        words = _ASCII.findall(text.lower())
    else:
        words = _UNICODE.findall(_MARKS.sub("", unicodedata.normalize("NFKD", text)).casefold())
    return [word for word in words if word not in _DROPPED]
