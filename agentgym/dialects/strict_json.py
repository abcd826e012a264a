"""JSON from untrusted hands: linear time, bounded depth, no duplicate keys, finite numbers only."""

import json
import math
import re
from typing import Any

from agentgym.sanitize import sanitize
from agentgym.types import JSON

MAX_DEPTH = 64
MAX_INT_DIGITS = 100

# Strings match to the end of the text when they are not closed, so no character is looked at twice.
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*(?:"|\\?\Z)|[\[\]{}]', re.DOTALL)


class JsonRefusedError(ValueError):
    """Raised when a text is not JSON that we accept; the message says why and where."""


def value_end(text: str, start: int = 0) -> int:
    """Return the index after the first object or array at or after `start`.

    Looks at brackets and strings only. One pass, no recursion.

    Raises:
        JsonRefusedError: it is not closed, or nested deeper than 64.
    """
    depth = 0
    for token in _TOKEN.finditer(text, start):
        opened = token.group()[0]
        if opened in "[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise JsonRefusedError(f"the JSON is nested deeper than {MAX_DEPTH} levels")
        elif opened in "]}":
            depth -= 1
            if depth <= 0:
                return token.end()
    raise JsonRefusedError("the JSON is not closed")


def loads(text: str) -> JSON:
    """Read one JSON value. Strings and keys are sanitised after decoding; raw line ends in strings are accepted.

    Raises:
        JsonRefusedError: bad syntax, a duplicate key, NaN or an infinite number, an integer of more than 100
            digits, or nesting deeper than 64.
    """
    text = text.strip(" \n\t\r")
    if text.startswith(("[", "{")):
        value_end(text)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        near = text[error.pos : error.pos + 20]
        raise JsonRefusedError(f"{error.msg} at character {error.pos}" + (f" near {near!r}" if near else "")) from None
    return clean(value) if "\\" in text else value


def clean(value: JSON) -> JSON:
    """Return the value with every string and key sanitised. Depth is at most 64 for what `loads` gives.

    Raises:
        JsonRefusedError: two keys become equal.
    """
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, dict):
        return _unique([(sanitize(key), clean(item)) for key, item in value.items()])
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise JsonRefusedError(f"the key {key[:80]!r} is given twice in one object")
            seen.add(key)
    return table


def _integer(digits: str) -> int:
    if len(digits) > MAX_INT_DIGITS:
        raise JsonRefusedError(f"an integer of {len(digits)} digits; at most {MAX_INT_DIGITS} are read")
    return int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise JsonRefusedError(f"the number {digits[:40]} is not finite")
    return value


def _constant(name: str) -> float:
    raise JsonRefusedError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_integer, parse_float=_number, parse_constant=_constant, strict=False
)
