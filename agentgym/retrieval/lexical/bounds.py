"""Bounds of runs for other parameters than those that an index was built with, compiled by numba."""

import numpy as np

from agentgym.retrieval.lexical.heap import compiled
from agentgym.retrieval.lexical.kernels import occurrences


@compiled
def maxima(arrays, run_from, run_to, start, df, inverse, out):  # noqa: ANN001, ANN201
    """Fill `out` with what `layout.MAXIMA` means, for the runs of every term; False where the index is damaged."""
    docs, tfs, lengths, bases, run_tiles, run_firsts, big_at, big_tfs = arrays
    n_tiles = len(bases) - 1
    for i in range(len(run_from)):
        for run in range(run_from[i], run_to[i]):
            first = np.int64(run_firsts[run])
            last = np.int64(run_firsts[run + 1]) if run + 1 < run_to[i] else df[i]
            if first > last or last > df[i] or run_tiles[run] >= n_tiles:
                return False
            base, best = bases[run_tiles[run]], 0.0
            for at in range(start[i] + first, start[i] + last):
                tf = tfs[at]
                if tf == 255:
                    tf_exact = occurrences(tfs, at, big_at, big_tfs)
                else:
                    tf_exact = np.int64(tf)
                best = max(best, tf_exact * np.float64(inverse[lengths[base + docs[at]]]))
            share = best / (1.0 + best) if best < np.inf else 1.0
            out[run] = min(255, int(np.ceil(255.0 * share)))
    return True
