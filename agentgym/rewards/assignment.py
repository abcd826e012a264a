"""Which prediction stands for which gold item: optimal, greedy by score, and by optimal transport.

All take similarities [P, G] float64 in [0, 1] (predictions by gold items).
"""

import numpy as np

Pairs = list[tuple[int, int]]


def optimal(similarity: np.ndarray) -> Pairs:
    """Return the one-to-one pairs (prediction, gold item) with the largest sum; pairs of similarity 0 are left out.

    Among equal sums one with the most pairs is returned. Exact, O(n²·m) with n the smaller side.

    Source: the Hungarian method (Kuhn 1955) by shortest augmenting paths with potentials.
    """
    similarity = np.asarray(similarity, float)
    if not similarity.size:
        return []
    used = np.flatnonzero(similarity.max(axis=1) > 0)  # what resembles nothing needs no partner
    # A touch for every true pair: of two equal sums the one that leaves less unmatched.
    gain = similarity[used] + 1e-9 * (similarity[used] > 0)
    flipped = gain.shape[0] > gain.shape[1]
    columns = _rows_to_columns(-(gain.T if flipped else gain))
    pairs = [(j, i) if flipped else (i, j) for i, j in enumerate(columns)]
    return sorted((int(used[p]), int(g)) for p, g in pairs if similarity[used[p], g] > 0)


def greedy(similarity: np.ndarray) -> Pairs:
    """Return pairs taken best first, each side once; ties go to the first prediction, then the first gold item.

    Not optimal: it may take a pair that costs two others.

    Source: MatchTIR's released matching, which is called Hungarian there.
    """
    similarity = np.array(similarity, float)
    pairs: Pairs = []
    while similarity.size and similarity.max() > 0:
        p, g = divmod(int(similarity.argmax()), similarity.shape[1])
        pairs.append((p, g))
        similarity[p, :] = similarity[:, g] = 0.0
    return sorted(pairs)


def transport(similarity: np.ndarray, regularisation: float = 0.1, iterations: int = 1000) -> np.ndarray:
    """Return the entropic transport plan [P, G] between uniform marginals for the cost −similarity.

    The reward of prediction i is the sum of row i of plan * similarity, so at most 1/P: it shrinks with the number
    of calls, and a repeated call earns as much as the first.

    Source: MatchTIR's OT variant (Sinkhorn, regularisation .1).
    """
    similarity = np.asarray(similarity, float)
    if not similarity.size:
        return np.zeros(similarity.shape)
    rows, columns = np.full(similarity.shape[0], 1 / similarity.shape[0]), np.full(similarity.shape[1], 1 / similarity.shape[1])
    kernel = np.exp((similarity - similarity.max()) / regularisation)
    u, v = np.ones_like(rows), np.ones_like(columns)
    for _ in range(iterations):
        before, u = u, rows / (kernel @ v)
        v = columns / (kernel.T @ u)
        if np.allclose(before, u, rtol=1e-12, atol=0.0):
            break
    return u[:, None] * kernel * v[None, :]


def _rows_to_columns(cost: np.ndarray) -> list[int]:
    """Return the column of each row in an assignment of least cost; cost is [n, m] with n <= m."""
    n, m = cost.shape
    row_potential, column_potential = np.zeros(n), np.zeros(m + 1)
    owner = np.full(m + 1, -1)  # column m is where a row stands before it has one
    for row in range(n):
        owner[m] = row
        column = m
        distance, came_from = np.full(m, np.inf), np.full(m, m)
        done = np.zeros(m + 1, bool)
        while owner[column] != -1:
            done[column] = True
            i = owner[column]
            reduced = cost[i] - row_potential[i] - column_potential[:m]
            nearer = ~done[:m] & (reduced < distance)
            distance[nearer], came_from[nearer] = reduced[nearer], column
            open_distance = np.where(done[:m], np.inf, distance)
            column = int(open_distance.argmin())
            delta = open_distance[column]
            row_potential[owner[done]] += delta
            column_potential[done] -= delta
            distance[~done[:m]] -= delta
        while column != m:
            before = came_from[column]
            owner[column] = owner[before]
            column = before
    columns = [0] * n
    for column in range(m):
        if owner[column] >= 0:
            columns[owner[column]] = column
    return columns
