"""Statements about JSON: a path, an operator and a value, e.g. `contacts[name=Ana Reyes].phone digits_eq "5550142"`.

A path is keys joined by points; `[3]` is a list position, `[name=Ana]` the first item (of a list, or of a table's
values) whose field has that value, `["a.b"]` a key that holds points or brackets. A list in a table of records is
read with `[*]`: the values of all items.
"""

import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any

from agentgym import typed
from agentgym.errors import ConfigError, suggestion
from agentgym.types import JSON

MISSING: Any = object()
"""What `find` returns where the state has no such place; not the same as null."""
MAX_WORDS = 2_000
"""Longer texts are cut before they are compared word by word."""

_STEP = re.compile(r"""\["((?:[^"\\]|\\.)*)"\]|\[([^\[\]]*)\]|([^.\[\]]+)|(\.)""")
_WORD = re.compile(r"\w+")


def find(state: JSON, path: str) -> Any:
    """Return the value at a path, or MISSING.

    Raises:
        ConfigError: the path cannot be read.
    """
    for kind, key in _steps(path):
        state = _step(state, kind, key)
        if state is MISSING:
            return MISSING
    return state


def similarity(state: JSON, path: str, op: str, value: JSON) -> float:
    """Return how far a statement holds, 0..1: 0 or 1 but for the operator `rouge`.

    Raises:
        ConfigError: the path or the operator cannot be read.
    """
    found = find(state, path)
    if op == "rouge":
        return rouge_l(found, value) if isinstance(found, str) and isinstance(value, str) else 0.0
    return float(_operator(op)(found, value))


def holds(state: JSON, path: str, op: str, value: JSON = None) -> bool:
    """Whether a statement holds. Raises ConfigError for a path or operator that cannot be read."""
    return similarity(state, path, op, value) >= 1.0


def check(path: str, op: str) -> None:
    """Refuse a path or an operator that cannot be read. Raises ConfigError."""
    _steps(path)
    if op != "rouge":
        _operator(op)


def rouge_l(a: str, b: str) -> float:
    """Return ROUGE-L, the F1 of the longest common subsequence of words; 1 for two texts without words.

    Source: ROUGE (Lin 2004), β = 1, lower case, words as runs of letters, digits and underscores, no stemming.
    """
    one, two = (_WORD.findall(text[: 40 * MAX_WORDS].lower())[:MAX_WORDS] for text in (a, b))
    if not one or not two:
        return float(a.strip() == b.strip())
    return 2.0 * lcs_length(one, two) / (len(one) + len(two))


def lcs_length(a: list[str], b: list[str]) -> int:
    """Return the length of the longest common subsequence."""
    row = [0] * (len(b) + 1)
    for item in a:
        before = 0
        for j, other in enumerate(b, 1):
            kept = row[j]
            row[j] = before + 1 if item == other else max(kept, row[j - 1])
            before = kept
    return row[-1]


# ---- paths


@lru_cache(maxsize=4096)
def _steps(path: str) -> tuple[tuple[str, str], ...]:
    """Return (kind, key) per step: key, item (a position, a star, or field=value)."""
    steps: list[tuple[str, str]] = []
    at, point = 0, True
    while at < len(path):
        step = _STEP.match(path, at)
        if step is None:
            raise ConfigError(f"path {path!r} cannot be read at {path[at:]!r}; write keys with points: orders.W23.items[0]")
        at = step.end()
        quoted, item, key, is_point = step.groups()
        if is_point:
            if point:
                raise ConfigError(f"path {path!r} has an empty key; write keys with points: orders.W23.items[0]")
            point = True
            continue
        if key is not None and not point:
            raise ConfigError(f"path {path!r}: a point is missing before {key!r}")
        if quoted is not None:
            steps.append(("key", re.sub(r"\\(.)", r"\1", quoted)))
        elif item is not None:
            steps.append(("item", item))
        else:
            steps.append(("key", key or ""))
        point = False
    if point and steps:
        raise ConfigError(f"path {path!r} ends in a point")
    return tuple(steps)


def _step(state: JSON, kind: str, key: str) -> Any:
    if kind == "key":
        if isinstance(state, list):
            return state[int(key)] if key.isdecimal() and int(key) < len(state) else MISSING
        return state.get(key, MISSING) if isinstance(state, dict) else MISSING
    items = list(_items(state))
    if key == "*":
        return items
    name, equals, wanted = key.partition("=")
    if equals:
        return next((item for item in items if isinstance(item, dict) and _as_text(item.get(name, MISSING)) == wanted), MISSING)
    if not re.fullmatch(r"-?\d{1,9}", key):
        return MISSING
    index = int(key)
    return items[index] if isinstance(state, list) and -len(items) <= index < len(items) else MISSING


def _items(state: JSON) -> Iterator[JSON]:
    if isinstance(state, dict):
        yield from state.values()
    elif isinstance(state, list):
        yield from state


def _as_text(value: Any) -> str | None:
    return None if value is MISSING else value if isinstance(value, str) else typed.canonical(value)


# ---- operators


@lru_cache(maxsize=1024)
def _operator(op: str) -> Callable[[Any, JSON], bool]:
    if op in OPERATORS:
        return OPERATORS[op]
    name = op.partition("(")[0]
    if name not in typed.MODES:
        known = (*OPERATORS, "rouge", *typed.MODES)
        raise ConfigError(f"operator {op!r} is not known; allowed: {', '.join(known)}{suggestion(name, known)}")
    compare = typed.comparison(op)
    return lambda found, value: found is not MISSING and compare(found, value)


def _ordered(compare: Callable[[Any, Any], bool]) -> Callable[[Any, JSON], bool]:
    def check(found: Any, value: JSON) -> bool:
        if isinstance(found, str) and isinstance(value, str):  # dates and times in ISO form
            return compare(found, value)
        return typed.is_number(found) and typed.is_number(value) and compare(found, value)

    return check


def _contains(found: Any, value: JSON) -> bool:
    if isinstance(found, str):
        return isinstance(value, str) and bool(value) and value.casefold() in found.casefold()
    if isinstance(found, dict):
        return isinstance(value, str) and value in found
    return isinstance(found, list) and any(typed.equal(item, value) for item in found)


def _digits(value: Any) -> str:
    return "".join(c for c in str(value) if c.isdecimal()) if isinstance(value, (str, int)) else ""


OPERATORS: dict[str, Callable[[Any, JSON], bool]] = {
    "eq": lambda found, value: found is not MISSING and typed.equal(found, value),
    "ne": lambda found, value: found is not MISSING and not typed.equal(found, value),
    "exists": lambda found, value: found is not MISSING,
    "absent": lambda found, value: found is MISSING,
    "contains": _contains,
    "lacks": lambda found, value: found is not MISSING and not _contains(found, value),
    "lt": _ordered(lambda a, b: a < b),
    "le": _ordered(lambda a, b: a <= b),
    "gt": _ordered(lambda a, b: a > b),
    "ge": _ordered(lambda a, b: a >= b),
    "count": lambda found, value: isinstance(found, (list, dict)) and typed.equal(len(found), value),
    "digits_eq": lambda found, value: bool(_digits(value)) and _digits(found) == _digits(value),
}
"""Beside them: the modes of `typed` (number(0.01), ci, set, regex(…)) and `rouge` (graded, for milestones)."""
