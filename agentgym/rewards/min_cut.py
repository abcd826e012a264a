"""The cheapest way to part a graph in two: what remains reachable from the source."""

import math
from collections import deque
from collections.abc import Hashable, Iterable
from itertools import pairwise
from typing import TypeVar

Node = TypeVar("Node", bound=Hashable)


def source_side(edges: Iterable[tuple[Node, Node, float]], source: Node, sink: Node) -> set[Node]:
    """Return the nodes on the source's side of a minimum cut (the smallest such side).

    Args:
        edges: (from, to, capacity); `math.inf` for an edge that may not be cut.
        source: where the flow starts.
        sink: where it ends; some capacity on every way to it is finite.

    Source: Dinic's algorithm (blocking flows in layers), by path search without recursion.
    """
    left: dict[Node, dict[Node, float]] = {source: {}, sink: {}}
    for tail, head, capacity in edges:
        row = left.setdefault(tail, {})
        row[head] = row.get(head, 0.0) + capacity
        left.setdefault(head, {}).setdefault(tail, 0.0)
    while True:
        level = _levels(left, source)
        if sink not in level:
            return set(level)
        _block(left, level, source, sink)


def _levels(left: dict[Node, dict[Node, float]], source: Node) -> dict[Node, int]:
    level, todo = {source: 0}, deque([source])
    while todo:
        node = todo.popleft()
        for head, capacity in left[node].items():
            if capacity > 1e-12 and head not in level:
                level[head] = level[node] + 1
                todo.append(head)
    return level


def _block(left: dict[Node, dict[Node, float]], level: dict[Node, int], source: Node, sink: Node) -> None:
    """Push flow along shortest ways until none is left."""
    ways = {node: iter(list(left[node])) for node in level}
    path = [source]
    while path:
        node = path[-1]
        if node == sink:
            pairs = list(pairwise(path))
            flow = min(left[tail][head] for tail, head in pairs)
            for tail, head in pairs:
                left[tail][head] -= flow if flow < math.inf else 0.0
                left[head][tail] += flow
            cut = next(i for i, (tail, head) in enumerate(pairs) if left[tail][head] <= 1e-12)
            ways[path[cut]] = iter([path[cut + 1], *ways[path[cut]]])
            del path[cut + 1 :]
            continue
        step = next((h for h in ways[node] if left[node][h] > 1e-12 and level.get(h) == level[node] + 1), None)
        if step is None:
            path.pop()
        else:
            path.append(step)
