"""Which turn a token belongs to, where another trainer kept only a mask: its turns are the runs of sampled tokens."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentgym.errors import DataError

Spans = Sequence[Sequence[int]]
"""[start, end) of every turn's action tokens in a row, in order."""


def turn_ids(mask: ArrayLike, spans: Sequence[Spans | None] | None = None) -> NDArray[np.int64]:
    """Return the turn of every action token: [B, T] -> [B, T] int64, -1 elsewhere.

    Args:
        mask: [B, T] true (or 1) on tokens that the policy sampled.
        spans: Per row the turns' spans, None for a row without. Where a row has none, each run of sampled tokens is
            a turn: right as long as something stands between two turns. Two turns that touch need spans.

    Raises:
        DataError: A span lies outside its row, overlaps another, or leaves a sampled token without a turn.
    """
    sampled = np.asarray(mask).astype(bool)
    if sampled.ndim != 2:
        raise DataError(f"turns: the mask has shape {sampled.shape}; [rows, tokens] is needed")
    before = np.pad(sampled, ((0, 0), (1, 0)))[:, :-1]
    turns = np.where(sampled, np.cumsum(sampled & ~before, axis=1) - 1, -1)
    for row, given in enumerate(spans or ()):
        if given is not None and sampled[row].any():
            turns[row] = _from_spans(sampled[row], given, row)
    return turns.astype(np.int64)


def n_turns(turns: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the number of turns per row: [B, T] from `turn_ids` -> [B]."""
    return turns.max(axis=1, initial=-1) + 1


def padded(rows: Sequence[Sequence[float | None]]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return ragged turn scores as [B, K] with 0 behind the end, and which turns exist; None becomes NaN."""
    width = max(map(len, rows), default=0)
    scores, exists = np.zeros((len(rows), width)), np.zeros((len(rows), width), dtype=bool)
    for i, row in enumerate(rows):
        scores[i, : len(row)] = [np.nan if x is None else float(x) for x in row]
        exists[i, : len(row)] = True
    return scores, exists


def _from_spans(sampled: NDArray[np.bool_], spans: Spans, row: int) -> NDArray[np.int64]:
    turns = np.full(len(sampled), -1, dtype=np.int64)
    for k, (start, end) in enumerate(spans):
        if not 0 <= start < end <= len(sampled) or not sampled[start:end].all() or (turns[start:end] >= 0).any():
            raise DataError(
                f"row {row}, turn {k}: the span [{start}, {end}) does not cover sampled tokens of its own alone "
                f"({len(sampled)} tokens)"
            )
        turns[start:end] = k
    if (sampled & (turns < 0)).any():
        token = int(np.flatnonzero(sampled & (turns < 0))[0])
        raise DataError(f"row {row}: the sampled token {token} lies in no turn's span")
    return turns
