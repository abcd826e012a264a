"""The search itself, compiled by numba: exact top k over tiles, with early termination. It releases the GIL.

For each tile that holds a query term, terms are taken in falling order of the most they can add there. Their
postings are summed into one accumulator per passage of the tile. As soon as what the remaining terms can add does
not reach the k-th best score, they open no new passages: they are only looked up, by galloping search, for the
passages that can still enter. The result equals that of an exhaustive scan, ties included (earlier passages first).

Source: Turtle and Flood, "Query evaluation: strategies and optimizations" (MaxScore), and Ding and Suel, "Faster
top-k document retrieval using block-max indexes"; here over tiles of passages instead of blocks of postings, and
term at a time inside a tile.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np

PROBE = 32
"""Postings that are summed in the time of one galloping look-up."""
LEAST = 1e-30
"""What a term adds at least: in a passage of millions of words float32 rounds its share to 0, and 0 means untouched."""


def _compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call; the machine code is kept on disk where numba finds a folder that it may write."""
    try:
        return numba.njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no such folder
        return numba.njit(nogil=True)(function)


@_compiled
def _sift(heap_scores, heap_docs, size, score, doc):  # noqa: ANN001, ANN202
    """Put (score, doc) in place of the root of a heap whose root is the worst: lowest score, then latest passage."""
    place = 0
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        right = child + 1
        if right < size and (
            heap_scores[right] < heap_scores[child]
            or (heap_scores[right] == heap_scores[child] and heap_docs[right] > heap_docs[child])
        ):
            child = right
        if heap_scores[child] < score or (heap_scores[child] == score and heap_docs[child] > doc):
            heap_scores[place] = heap_scores[child]
            heap_docs[place] = heap_docs[child]
            place = child
        else:
            break
    heap_scores[place] = score
    heap_docs[place] = doc


@_compiled
def _push(heap_scores, heap_docs, size, score, doc):  # noqa: ANN001, ANN202
    """Add (score, doc) to a heap that is not full."""
    place = size
    while place > 0:
        parent = (place - 1) >> 1
        if heap_scores[parent] > score or (heap_scores[parent] == score and heap_docs[parent] < doc):
            heap_scores[place] = heap_scores[parent]
            heap_docs[place] = heap_docs[parent]
            place = parent
        else:
            break
    heap_scores[place] = score
    heap_docs[place] = doc


@_compiled
def _kth(acc, touched, n, k, scratch, zeros):  # noqa: ANN001, ANN202
    """Return the k-th largest accumulator of the touched passages (n >= k)."""
    for i in range(n):
        value = acc[touched[i]]
        if i < k:
            _push(scratch, zeros, i, value, 0)
        elif value > scratch[0]:
            _sift(scratch, zeros, k, value, 0)
    return scratch[0]


@_compiled
def _still_open(acc, touched, n, more, worst, local):  # noqa: ANN001, ANN202
    """Keep the touched passages that can still enter; return how many.

    One that is dropped here may be touched again: its sum is then too low, and it cannot enter either way.
    """
    kept = 0
    for i in range(n):
        doc = touched[i]
        most = acc[doc] + more
        if most <= worst or most < local:
            acc[doc] = 0.0
        else:
            touched[kept] = doc
            kept += 1
    return kept


@_compiled
def _occurrences(tfs, at, big_at, big_tfs):  # noqa: ANN001, ANN202
    """Return how often the term of a posting occurs."""
    tf = np.int64(tfs[at])
    if tf == 255:
        place = np.searchsorted(big_at, at)
        if place < len(big_at) and big_at[place] == at:
            tf = big_tfs[place]
    return tf


@_compiled
def search(arrays, query, inverse, k, scratch, out_docs, out_scores):  # noqa: ANN001, ANN201
    """Find the k best passages of one query; return how many there are, or -1 where the index is damaged.

    arrays: (docs, tfs, lengths, bases, run_tiles, run_firsts, run_maxima, big_at, big_tfs); query: (start, df, first
    run, last run, weight float32) per term; inverse [256] float32; scratch: (accumulators [TILE] float64, all 0;
    touched [TILE + 1] int32; k-th [k] float64; zeros [k] int64). out_docs [k] int64, out_scores [k] float32.
    """
    docs, tfs, lengths, bases, run_tiles, run_firsts, run_maxima, big_at, big_tfs = arrays
    start, df, run_from, run_to, weight = query
    acc, touched, kth_scratch, zeros = scratch
    n, n_tiles = len(start), len(bases) - 1
    cursor = run_from.copy()
    bound, begin, end = np.empty(n, np.float64), np.empty(n, np.int64), np.empty(n, np.int64)
    term, rest = np.empty(n, np.int64), np.empty(n + 1, np.float64)
    size, worst = 0, -1.0
    one = np.float32(1)
    while True:
        tile = n_tiles
        for i in range(n):
            if cursor[i] < run_to[i] and run_tiles[cursor[i]] < tile:
                tile = run_tiles[cursor[i]]
        if tile >= n_tiles:
            return size if _finished(cursor, run_to) else -1
        m, total, pending = 0, 0.0, 0
        for i in range(n):
            run = cursor[i]
            if run >= run_to[i] or run_tiles[run] != tile:
                continue
            cursor[i] += 1
            first = np.int64(run_firsts[run])
            last = np.int64(run_firsts[run + 1]) if run + 1 < run_to[i] else df[i]
            if first > last or last > df[i]:
                return -1
            most = weight[i] * (run_maxima[run] / 255.0 + 1e-6)
            place = m
            while place > 0 and bound[place - 1] < most:  # falling bounds
                bound[place], begin[place] = bound[place - 1], begin[place - 1]
                end[place], term[place] = end[place - 1], term[place - 1]
                place -= 1
            bound[place], begin[place], end[place], term[place] = most, start[i] + first, start[i] + last, i
            m += 1
            total += most
            pending += last - first
        if size == k and total <= worst:
            continue
        rest[m] = 0.0
        for j in range(m - 1, -1, -1):
            rest[j] = rest[j + 1] + bound[j]
        base = bases[tile]
        n_touched, local, j = 0, -1.0, 0
        while j < m:
            if k <= n_touched < pending and 2 * rest[j] < rest[0]:
                # Partial sums only grow: the k-th of them bounds the k-th score from below (less rounding).
                local = max(local, _kth(acc, touched, n_touched, k, kth_scratch, zeros) * (1 - 1e-6))
            if j and ((size == k and rest[j] <= worst) or rest[j] < local):
                n_touched = _still_open(acc, touched, n_touched, rest[j], worst if size == k else -1.0, local)
                if PROBE * n_touched < pending:
                    break
            w = weight[term[j]]
            for at in range(begin[j], end[j]):
                doc = docs[at]
                tf = tfs[at]
                x = np.float32(tf) if tf < 255 else np.float32(_occurrences(tfs, at, big_at, big_tfs))
                before = acc[doc]
                touched[n_touched] = doc
                n_touched += before == 0.0  # no branch: it could not be predicted
                acc[doc] = before + max(np.float64(w - w / (one + x * inverse[lengths[base + doc]])), LEAST)
            pending -= end[j] - begin[j]
            j += 1
        kept = _still_open(acc, touched, n_touched, rest[j], worst if size == k else -1.0, local)
        if kept and j < m:
            touched[:kept].sort()
        while j < m and kept:
            w = weight[term[j]]
            at, stop, alive = begin[j], end[j], 0
            for i in range(kept):
                doc = touched[i]
                at = _gallop(docs, at, stop, doc)
                if at < stop and docs[at] == doc:
                    x = np.float32(_occurrences(tfs, at, big_at, big_tfs))
                    acc[doc] += max(np.float64(w - w / (one + x * inverse[lengths[base + doc]])), LEAST)
                most = acc[doc] + rest[j + 1]
                if (size == k and most <= worst) or most < local:
                    acc[doc] = 0.0
                else:
                    touched[alive] = doc
                    alive += 1
            kept = alive
            j += 1
        for i in range(kept):
            doc = touched[i]
            score = np.float32(acc[doc])
            acc[doc] = 0.0
            where = base + doc
            if size < k:
                _push(out_scores, out_docs, size, score, where)
                size += 1
            elif score > out_scores[0] or (score == out_scores[0] and where < out_docs[0]):
                _sift(out_scores, out_docs, size, score, where)
        if size == k:
            worst = np.float64(out_scores[0])


@_compiled
def _finished(cursor, run_to):  # noqa: ANN001, ANN202
    """Tell whether every run was visited; one of a tile that does not exist never is."""
    return np.all(cursor >= run_to)


@_compiled
def _gallop(docs, at, stop, doc):  # noqa: ANN001, ANN202
    """Return the first posting in [at, stop) whose passage is not before `doc`."""
    step = 1
    while at + step < stop and docs[at + step] < doc:
        at += step
        step <<= 1
    low, high = at, min(at + step + 1, stop)
    while low < high:
        middle = (low + high) >> 1
        if docs[middle] < doc:
            low = middle + 1
        else:
            high = middle
    return low


@_compiled
def search_batch(arrays, where, weights, bounds, inverse, k, scratch, out_docs, out_scores, found):  # noqa: ANN001, ANN201
    """Search query i, whose terms are columns bounds[i]:bounds[i + 1] of `where` and `weights`, into row i of the outputs.

    where [4, terms] int64: start, df, first run, last run. Rows come out best first; found[i] is their length, or -1
    where the index is damaged.
    """
    n_passages = arrays[3][-1]
    for i in range(len(bounds) - 1):
        a, b = bounds[i], bounds[i + 1]
        query = (where[0][a:b], where[1][a:b], where[2][a:b], where[3][a:b], weights[a:b])
        n = search(arrays, query, inverse, k, scratch, out_docs[i], out_scores[i])
        _sort(out_scores[i], out_docs[i], n)
        for j in range(n):
            if out_docs[i, j] >= n_passages:
                n = -1
                break
        found[i] = n


@_compiled
def _sort(heap_scores, heap_docs, size):  # noqa: ANN001, ANN202
    """Turn a heap whose root is the worst into a list, best first."""
    for last in range(size - 1, 0, -1):
        score, doc = heap_scores[0], heap_docs[0]
        _sift(heap_scores, heap_docs, last, heap_scores[last], heap_docs[last])
        heap_scores[last], heap_docs[last] = score, doc


@_compiled
def maxima(arrays, run_from, run_to, start, df, inverse, out):  # noqa: ANN001, ANN201
    """Fill the bounds of the runs of every term for other parameters than those of the build."""
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
                    tf_exact = _occurrences(tfs, at, big_at, big_tfs)
                else:
                    tf_exact = np.int64(tf)
                best = max(best, tf_exact * np.float64(inverse[lengths[base + docs[at]]]))
            share = best / (1.0 + best) if best < np.inf else 1.0
            out[run] = min(255, int(np.ceil(255.0 * share)))
    return True
