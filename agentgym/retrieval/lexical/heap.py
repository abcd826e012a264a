"""Heaps of (score, passage) in two arrays, compiled by numba. The root is the worst: lowest score, then latest passage.

numba keeps the machine code of `kernels` with what it calls from here, and looks only at the date of `kernels.py`:
whoever changes this file must touch that one.
"""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile on first call; the machine code is kept on disk where numba finds a folder that it may write."""
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:  # no such folder
        return numba.njit(nogil=True, error_model="numpy")(function)


@compiled
def sift(heap_scores, heap_docs, size, score, doc):  # noqa: ANN001, ANN201
    """Put (score, doc) in place of the root."""
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


@compiled
def push(heap_scores, heap_docs, size, score, doc):  # noqa: ANN001, ANN201
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


@compiled
def offer(heap_scores, heap_docs, size, k, score, doc):  # noqa: ANN001, ANN201
    """Add (score, doc) where it belongs among the k best; return the new size."""
    if size < k:
        push(heap_scores, heap_docs, size, score, doc)
        return size + 1
    if score > heap_scores[0] or (score == heap_scores[0] and doc < heap_docs[0]):
        sift(heap_scores, heap_docs, size, score, doc)
    return size


@compiled
def best_first(heap_scores, heap_docs, size):  # noqa: ANN001, ANN201
    """Turn a heap into a list, best first."""
    for last in range(size - 1, 0, -1):
        score, doc = heap_scores[0], heap_docs[0]
        sift(heap_scores, heap_docs, last, heap_scores[last], heap_docs[last])
        heap_scores[last], heap_docs[last] = score, doc


@compiled
def kth(sums, touched, n, k, scratch, zeros):  # noqa: ANN001, ANN201
    """Return the k-th largest sum of the touched passages (n >= k)."""
    for i in range(n):
        value = sums[touched[i]]
        if i < k:
            push(scratch, zeros, i, value, 0)
        elif value > scratch[0]:
            sift(scratch, zeros, k, value, 0)
    return scratch[0]
