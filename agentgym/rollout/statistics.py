"""Numbers over sets of trajectories: means with intervals, pass@k, paired comparison."""

import math
from collections.abc import Sequence

import numpy as np

from agentgym.seeding import stream

RESAMPLES = 2_000


def pass_at_k(n: int, c: int, k: int) -> float:
    """Return the unbiased estimate of the chance that one of k samples succeeds, from c of n.

    Source: "Evaluating Large Language Models Trained on Code", 1 − C(n−c, k)/C(n, k).
    """
    if k > n:
        raise ValueError(f"pass@{k} needs at least {k} samples, there are {n}")
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def bootstrap_interval(values: Sequence[float], level: float = 0.95, seed: int = 0) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the mean over tasks; (nan, nan) for no values."""
    if not len(values):
        return math.nan, math.nan
    data = np.asarray(values, dtype=np.float64)
    rng = stream(seed, "bootstrap", len(data))
    picks = rng.integers(len(data), size=(RESAMPLES, len(data))) if len(data) <= 5_000 else None
    if picks is not None:
        means = data[picks].mean(axis=1)
    else:
        means = np.array([data[rng.integers(len(data), size=len(data))].mean() for _ in range(RESAMPLES)])
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def paired_difference(a: Sequence[float], b: Sequence[float], seed: int = 0) -> tuple[float, float, float, float]:
    """Compare two runs on the same tasks.

    Args:
        a: [N] one value per task of the first run.
        b: [N] the same tasks' values of the second.
        seed: Key of the random sign flips and resamples.

    Returns:
        Mean of b − a, its 95 % bootstrap interval (low, high), and the two-sided p-value of a sign-flip
        permutation test.
    """
    diff = np.asarray(b, dtype=np.float64) - np.asarray(a, dtype=np.float64)
    low, high = bootstrap_interval(list(diff), seed=seed)
    rng = stream(seed, "permutation", len(diff))
    observed = abs(diff.mean())
    hits = sum(
        abs((diff * (2.0 * rng.integers(2, size=len(diff)) - 1.0)).mean()) >= observed - 1e-12
        for _ in range(RESAMPLES)
    )
    return float(diff.mean()), low, high, (hits + 1) / (RESAMPLES + 1)
