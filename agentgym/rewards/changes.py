"""Differences between JSON states: how a record keeps what every turn did, and gives it back.

A trajectory holds the first state and, per turn, the changes. States are read only: `applied` copies what lies on
the path of a change and shares the rest, so that a long episode over a large database stays cheap.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from agentgym.errors import DataError
from agentgym.types import JSON, Change, Turn

Path = tuple[str | int, ...]


def diff(before: JSON, after: JSON) -> tuple[Change, ...]:
    """Return the changes that make `after` of `before`; lists of another length are replaced whole.

    Exact: 1 and 1.0 and true differ, so that the state that comes back is the same text.
    """
    return tuple(_diff(before, after, ()))


def applied(state: JSON, changes: Iterable[Change]) -> JSON:
    """Return the state after the changes; the given one stays as it is.

    Raises:
        DataError: a change names a place that the state does not have.
    """
    for change in changes:
        state = _set(state, change.path, change)
    return state


def states(initial: JSON, turns: Sequence[Turn]) -> Iterator[JSON]:
    """Yield the state after each turn."""
    for turn in turns:
        initial = applied(initial, turn.changes)
        yield initial


def final_state(initial: JSON, turns: Sequence[Turn]) -> JSON:
    """Return the state after the last turn, or the first state where there is none."""
    return applied(initial, (change for turn in turns for change in turn.changes))


def leaves(state: JSON, path: Path = ()) -> Iterator[tuple[Path, JSON]]:
    """Yield (path, value) of every leaf: scalars, and containers that are empty."""
    if isinstance(state, dict) and state:
        for key, value in state.items():
            yield from leaves(value, (*path, key))
    elif isinstance(state, list) and state:
        for index, value in enumerate(state):
            yield from leaves(value, (*path, index))
    else:
        yield path, state


def _diff(before: JSON, after: JSON, path: Path) -> Iterator[Change]:
    if before is after:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        for key in before:
            if key not in after:
                yield Change((*path, key), removed=True)
        for key, value in after.items():
            if key in before:
                yield from _diff(before[key], value, (*path, key))
            else:
                yield Change((*path, key), value)
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for index, (old, new) in enumerate(zip(before, after, strict=True)):
            yield from _diff(old, new, (*path, index))
    elif type(before) is not type(after) or before != after:
        yield Change(path, after)


def _set(state: JSON, path: Path, change: Change) -> JSON:
    if not path:
        return None if change.removed else change.value
    key, rest = path[0], path[1:]
    copy: Any
    if isinstance(state, dict) and isinstance(key, str) and (key in state or not rest):
        copy = dict(state)
        if change.removed and not rest:
            copy.pop(key, None)
            return copy
    elif isinstance(state, list) and isinstance(key, int) and 0 <= key < len(state):
        copy = list(state)
    else:
        raise DataError(f"change of {list(change.path)!r}: the state has no place {key!r}; is its first state its own?")
    copy[key] = _set(copy[key] if rest else None, rest, change)
    return copy
