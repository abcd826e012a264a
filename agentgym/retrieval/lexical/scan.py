"""The search without numba: every posting of every query term is scored. Same results as the kernels, linear cost."""

from collections.abc import Sequence
from typing import Any

import numpy as np

LEAST = 1e-30
"""As in the kernels: what a term adds at least."""


def scan(
    views: tuple[np.ndarray, ...], big: tuple[np.ndarray, np.ndarray], slices: Sequence[Any], norms: np.ndarray, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return positions [n] int64 and scores [n] float32 of the k best passages, best first, ties by position.

    Args:
        views: docs, tfs, lengths, tile bases, run tiles, run firsts of the index.
        big: postings of 255 occurrences or more, and their occurrences.
        slices: `TermSlice` of each query term.
        norms: [256] float32 by length code.
        k: at least 1.
    """
    docs, tfs, lengths, bases, run_tiles, run_firsts = views
    sums = np.zeros(int(bases[-1]), np.float64)
    one = np.float32(1)
    for start, df, run_from, run_to, weight, _ in slices:
        counts = np.diff(run_firsts[run_from:run_to].astype(np.int64), append=df)
        where = np.repeat(bases[run_tiles[run_from:run_to]], counts) + docs[start : start + df]
        tf = tfs[start : start + df].astype(np.float32)
        low, high = big[0].searchsorted([start, start + df])
        tf[big[0][low:high] - start] = big[1][low:high]
        sums[where] += np.maximum((weight - weight / (one + tf * norms[lengths[where]])).astype(np.float64), LEAST)
    found = np.flatnonzero(sums)
    values = sums[found].astype(np.float32)
    if k < len(found):
        bound = np.partition(values, len(values) - k)[len(values) - k]
        best = values >= bound
        found, values = found[best], values[best]
    order = np.argsort(-values, kind="stable")[:k]
    return found[order], values[order]
