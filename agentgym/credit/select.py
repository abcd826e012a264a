"""Selection: steps before the levels that take rows out of the masks. What is left out is counted in the metrics."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.scales import Scales
from agentgym.credit.shape import is_correct


def group_values(arrays: CreditArrays, values: Floats) -> tuple[Floats, Floats, Floats]:
    """Return per row the number, mean and sample std of its group's values in the statistics: each [B]."""
    counted = arrays.in_statistics.astype(np.float64)
    inside = np.where(arrays.in_statistics, values, 0.0)
    sums = arrays.group_sum(np.stack([counted, inside], axis=1))
    number, mean = sums[:, 0], sums[:, 1] / np.maximum(sums[:, 0], 1.0)
    deviation = np.where(arrays.in_statistics, values - mean, 0.0)
    square = arrays.group_sum((deviation**2)[:, None])[:, 0]
    return number, mean, np.sqrt(square / np.maximum(number - 1.0, 1.0))


def group_stds(arrays: CreditArrays) -> Floats:
    """Return the sample std of the outcome of each group with two members in the statistics: [number of those]."""
    number, _, std = group_values(arrays, arrays.outcome)
    first = np.unique(arrays.group, return_index=True)[1]
    return std[first][number[first] >= 2]


@dataclass(frozen=True, slots=True)
class MixedGroups:
    """Groups in which some, but not all, answers are right (dynamic sampling without the resampling)."""

    least: float = 0.0
    most: float = 1.0

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the other groups out of both masks."""
        _, accuracy, _ = group_values(arrays, is_correct(arrays).astype(np.float64))
        return _keep(arrays, (accuracy > self.least) & (accuracy < self.most))

    def describe(self) -> str:
        """Say the band."""
        return f"select: groups whose share of right answers lies strictly between {self.least:g} and {self.most:g}"


@dataclass(frozen=True, slots=True)
class SpreadGroups:
    """Groups whose outcomes vary enough, against an exponential mean over earlier steps."""

    beta: float
    first_step: int = 0

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with groups of small std out of both masks, from `first_step` on."""
        if scales.n_steps < self.first_step:
            return arrays
        _, _, std = group_values(arrays, arrays.outcome)
        return _keep(arrays, std >= self.beta * scales.spread)

    def describe(self) -> str:
        """Say the threshold."""
        return (
            f"select: groups whose sample std of the outcome is at least {self.beta:g} times its running mean "
            f"(.99 of it kept a step), from step {self.first_step} on"
        )


@dataclass(frozen=True, slots=True)
class ConsistentRows:
    """The m rows of a group whose process scores agree most with their outcomes, right and wrong ones balanced."""

    joins_levels: ClassVar = True

    keep: int
    by_chance: bool = False
    """Wrong rows are taken in the order of the rows, not by their process scores."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the other rows out of both masks."""
        right, score = is_correct(arrays), mean_turn_score(arrays)
        counted = arrays.in_statistics & arrays.in_loss
        sums = arrays.group_sum(np.stack([counted & right, counted & ~right], axis=1).astype(np.float64))
        n_right, n_wrong = sums[:, 0], sums[:, 1]
        take_right = np.clip(np.maximum(self.keep // 2, self.keep - n_wrong), 0, n_right)
        take_wrong = np.minimum(self.keep - take_right, n_wrong)
        wrong_order = np.zeros_like(score) if self.by_chance else score
        rank = _ranks(arrays, np.where(right, -score, wrong_order), side=right + 2 * ~counted)
        return _keep(arrays, counted & (rank < np.where(right, take_right, take_wrong)))

    def describe(self) -> str:
        """Say the rule."""
        wrong = "the first wrong ones" if self.by_chance else "the wrong ones of lowest mean turn score"
        return (
            f"select: {self.keep} rows of each group, the right ones of highest mean turn score and {wrong}, "
            "half of each where there are enough; the others leave both masks"
        )


def mean_turn_score(arrays: CreditArrays) -> Floats:
    """Return each row's mean turn score, 0 without turns: [B]."""
    total = np.where(arrays.turn_mask, arrays.turn_scores, 0.0).sum(1)
    return total / np.maximum(arrays.turn_mask.sum(1), 1)


def _ranks(arrays: CreditArrays, values: Floats, side: np.ndarray) -> np.ndarray:
    """Return each row's rank among the rows of its group and side, least value first, ties in the order of rows."""
    order = np.lexsort((values, side, arrays.group))
    part = arrays.group[order] * 4 + side[order]
    starts = np.flatnonzero(np.r_[True, part[1:] != part[:-1]]) if len(part) else np.zeros(0, np.int64)
    sizes = np.diff(np.r_[starts, len(part)])
    ranks = np.empty(len(part), np.int64)
    ranks[order] = np.arange(len(part)) - np.repeat(starts, sizes)
    return ranks


def _keep(arrays: CreditArrays, kept: Bools) -> CreditArrays:
    return arrays.but(in_statistics=arrays.in_statistics & kept, in_loss=arrays.in_loss & kept)
