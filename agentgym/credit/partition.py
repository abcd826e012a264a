"""Partitions: which values are compared with each other. Sums over the parts are one `bincount` each."""

from typing import Literal

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats, Ints

Partition = Literal["batch", "group", "turn", "column", "state"]
"""batch: all values; group: those of a group; turn and column: those of a group at the same turn index or channel;
state: those of a group in front of which the same observation stood."""

WORDS: dict[Partition, str] = {
    "batch": "the whole batch",
    "group": "the group",
    "turn": "the members of the group that reach the same turn index",
    "column": "the group, each channel by itself",
    "state": "the turns of the group that begin in the same observation",
}


def partition(kind: Partition, arrays: CreditArrays, n_columns: int) -> tuple[Ints, int]:
    """Return the part of each value, and the number of parts (parts may be empty).

    Args:
        kind: see `Partition`.
        arrays: groups, and `extras["state"]` ([B, K] int64 keys) for kind "state".
        n_columns: U, the second axis of the values.

    Returns:
        [B, U] int64, int.
    """
    shape = (len(arrays.group), n_columns)
    if kind == "batch":
        return np.zeros(shape, np.int64), 1
    if kind == "group":
        return np.repeat(arrays.group[:, None], n_columns, axis=1), arrays.n_groups
    if kind in ("turn", "column"):
        return arrays.group[:, None] * n_columns + np.arange(n_columns), arrays.n_groups * n_columns
    state, n_states = _dense(np.asarray(arrays.extra("state"), np.int64))
    return _dense(arrays.group[:, None] * n_states + state)


def _dense(keys: Ints) -> tuple[Ints, int]:
    """Return keys renumbered from 0 in their order, and their number."""
    if not keys.size:
        return keys, 0
    low, high = int(keys.min()), int(keys.max())
    if 4 * (high - low) < keys.size:
        return keys - low, high - low + 1  # few parts; some may be empty
    if high - low < 64 * keys.size:
        present = np.zeros(high - low + 1, bool)
        present[(keys - low).ravel()] = True
        found = np.flatnonzero(present)
        number = np.empty(len(present), np.int64)
        number[found] = np.arange(len(found))
        return number[keys - low], len(found)
    values, numbered = np.unique(keys, return_inverse=True)
    return numbered.reshape(keys.shape), len(values)


def per_channel(parts: Ints, n_parts: int, n_channels: int) -> tuple[Ints, int]:
    """Return the parts of values with a channel axis, each channel by itself: [B, U] -> [B, U, C], and their number."""
    return parts[..., None] * n_channels + np.arange(n_channels), n_parts * n_channels


def part_sums(values: Floats, parts: Ints, n_parts: int) -> Floats:
    """Return the sum of the values of each part: [B, U], [B, U] -> [n_parts]."""
    return np.bincount(parts.ravel(), values.ravel(), n_parts).astype(np.float64, copy=False)


def part_least(values: Floats, counted: Bools, parts: Ints, n_parts: int) -> Floats:
    """Return the least counted value of each part, 0 where none counts: [n_parts]."""
    least = np.full(n_parts, np.inf)
    np.minimum.at(least, parts.ravel(), np.where(counted, values, np.inf).ravel())
    return np.where(np.isfinite(least), least, 0.0)


def part_greatest(values: Floats, counted: Bools, parts: Ints, n_parts: int) -> Floats:
    """Return the greatest counted value of each part, 0 where none counts: [n_parts]."""
    greatest = np.full(n_parts, -np.inf)
    np.maximum.at(greatest, parts.ravel(), np.where(counted, values, -np.inf).ravel())
    return np.where(np.isfinite(greatest), greatest, 0.0)


def own_part_sums(values: tuple[Floats, ...], parts: Ints, n_parts: int) -> list[Floats]:
    """Return for each value the sum of its own row's values in its part: [B, U] -> [B, U], for each array given."""
    n_rows, width = parts.shape
    if n_rows * n_parts <= 16 * parts.size:
        keys = np.arange(n_rows)[:, None] * n_parts + parts
        return [part_sums(one, keys, n_rows * n_parts)[keys] for one in values]
    out = [one.copy() for one in values]  # many parts: compare within the row, one distance at a time
    for d in range(1, width):
        row, column = np.nonzero(parts[:, d:] == parts[:, :-d])
        for one, total in zip(values, out, strict=True):
            total[row, column + d] += one[row, column]
            total[row, column] += one[row, column + d]
    return out
