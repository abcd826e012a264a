"""One comparison of JSON values for calls, states and actions, and the compare modes of gold arguments.

Python calls `True` and `1` equal, and the text "1" is what a careless dump makes of the number: both have been
paid as right values by released rewards. Here a value has a type: true is not 1, "1" is not 1, null is not a
missing key; 1 and 1.0 are the same number, and the order of keys says nothing.
"""

import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from functools import lru_cache

from agentgym.errors import ConfigError, suggestion
from agentgym.linear_regex import fullmatch
from agentgym.types import JSON

MODES = ("exact", "number", "ci", "loose", "accepted", "set", "any", "regex")
"""exact: `equal`; number(tol): numbers no further apart than tol; ci: text without regard to case and outer
spaces; loose: text without regard to case, spaces and , . / - _ * ^ (also inside a list); accepted: a table in which
each key of gold holds the list of its accepted values ("" among them: it may be missing), or a list of such tables,
texts as in loose; set: lists without regard to order; any: every value of a given key; regex(pattern): the whole text."""

_FILLING = re.compile(r"[ ,./\-_*^]")
_MODE = re.compile(r"(\w+)(?:\((.*)\))?\Z", re.DOTALL)


def equal(a: JSON, b: JSON) -> bool:
    """Whether two JSON values are the same: type for type, numbers by value, keys in any order."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (int, float)):
        return isinstance(b, (int, float)) and a == b
    if isinstance(a, str) or a is None:
        return type(a) is type(b) and a == b
    if isinstance(a, (list, tuple)):
        return isinstance(b, (list, tuple)) and len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(equal(value, b[key]) for key, value in a.items())
    return False


def canonical(value: JSON) -> str:
    """Return one text per value: two texts are the same exactly where `equal` says so."""
    return json.dumps(_plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def digest(value: JSON) -> str:
    """Return 16 hex characters that stand for `canonical(value)`."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=8).hexdigest()


def contains_all(have: Sequence[JSON], want: Sequence[JSON]) -> bool:
    """Whether every value of `want` is among `have`, as often as it is wanted, in any order."""
    left = [canonical(value) for value in have]
    for value in want:
        text = canonical(value)
        if text not in left:
            return False
        left.remove(text)
    return True


def matches(given: JSON, gold: JSON, mode: str = "exact") -> bool:
    """Whether a given value fits a gold value under a compare mode (see `MODES`).

    Raises:
        ConfigError: the mode is not known or its argument cannot be read.
    """
    return comparison(mode)(given, gold)


@lru_cache(maxsize=1024)
def comparison(mode: str) -> Callable[[JSON, JSON], bool]:
    """Return the function (given, gold) of a compare mode. Raises ConfigError for a mode that cannot be read."""
    found = _MODE.match(mode)
    name, argument = (found.group(1), found.group(2)) if found else (mode, None)
    if name == "exact" and argument is None:
        return equal
    if name == "number":
        return _number(_tolerance(mode, argument))
    if name == "ci" and argument is None:
        return lambda given, gold: _text_equal(given, gold)
    if name == "loose" and argument is None:
        return lambda given, gold: equal(_loose(given), _loose(gold))
    if name == "accepted" and argument is None:
        return _accepted
    if name == "set" and argument is None:
        return lambda given, gold: (
            isinstance(given, list)
            and isinstance(gold, (list, tuple))
            and len(given) == len(gold)
            and contains_all(given, gold)
        )
    if name == "any" and argument is None:
        return lambda given, gold: True
    if name == "regex":
        fullmatch(argument or "", "")  # a pattern that cannot be read is refused here
        return lambda given, gold: isinstance(given, str) and fullmatch(argument or str(gold), given)
    raise ConfigError(
        f"compare mode {mode!r} is not known; allowed: exact, number, number(0.01), ci, loose, accepted, set, any, "
        f"regex, regex(pattern){suggestion(name, MODES)}"
    )


def _number(tolerance: float) -> Callable[[JSON, JSON], bool]:
    def near(given: JSON, gold: JSON) -> bool:
        if not is_number(given) or not is_number(gold):
            return False
        # A tolerance of .005 means to accept 12.505 for 12.5, whatever binary fractions make of the difference.
        return abs(given - gold) <= tolerance + 1e-12 * max(abs(given), abs(gold), 1.0)

    return near


def _tolerance(mode: str, argument: str | None) -> float:
    try:
        tolerance = 0.0 if argument is None else float(argument)
    except ValueError:
        tolerance = -1.0
    if not 0.0 <= tolerance < math.inf:
        raise ConfigError(f"compare mode {mode!r}: the tolerance must be a number of at least 0, e.g. number(0.005)")
    return tolerance


def is_number(value: JSON) -> bool:
    """Whether a JSON value is a number; true and false are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _text_equal(given: JSON, gold: JSON) -> bool:
    return isinstance(given, str) and isinstance(gold, str) and given.strip().casefold() == gold.strip().casefold()


def _loose(value: JSON) -> JSON:
    if isinstance(value, str):
        return _FILLING.sub("", value).lower().replace("'", '"')
    return [_loose(item) if isinstance(item, str) else item for item in value] if isinstance(value, list | tuple) else value


def _accepted(given: JSON, gold: JSON) -> bool:
    if isinstance(gold, list | tuple):
        return isinstance(given, list) and len(given) == len(gold) and all(map(_accepted, given, gold))
    if not isinstance(gold, dict) or not isinstance(given, dict):
        return equal(_loose(given), _loose(gold))
    either = dict.fromkeys((*gold, *given))
    choices = {key: gold[key] if isinstance(gold.get(key), list | tuple) else [gold.get(key)] for key in gold}
    return all(
        key in choices and ("" in choices[key] if key not in given else any(equal(_loose(given[key]), _loose(c)) for c in choices[key]))
        for key in either
    )


def _plain(value: JSON) -> JSON:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value
