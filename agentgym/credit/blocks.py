"""The blocks of a recipe: each takes the values of one level and returns them changed.

A level is "turn" (one column per turn), "trajectory" (one column) or "channels" (one column per component). Values
outside the live places are 0 and stay 0; nothing is inferred from a score being zero.
"""

from dataclasses import dataclass, field, replace
from typing import Literal, Protocol

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.scales import Scales
from agentgym.types import Scope

Baseline = Literal["loo", "mean"]
Among = Literal["all", "alive"]
Lone = Literal["zero", "raw"]
Kind = Literal["none", "running", "shared", "batch", "loo", "group", "index"]

_EPSILON = 1e-6
_NO_SPREAD = 1e-9
"""A smaller std is a set of equal values: nothing can be divided by it."""


@dataclass(frozen=True, slots=True)
class Level:
    """The values of one level on their way through a recipe. U = K for turns, 1 for trajectories, C for channels."""

    values: Floats
    """[B, U] float64."""
    live: Bools
    """[B, U] bool: the place exists."""
    uncentred: Floats
    """[B, U] float64: the values before centring, from which spreads are taken."""
    divisor: Floats = field(default_factory=lambda: np.ones((1, 1)))
    """[B or 1, U or 1] float64: what the values were divided by; infinite where they were set to 0."""


class Block(Protocol):
    """One step of a recipe."""

    @property
    def level(self) -> str:
        """The level that the block changes."""
        ...

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level after this step."""
        ...

    def describe(self) -> str:
        """Say in words what the step does, and over which set."""
        ...


def take(level: str, arrays: CreditArrays) -> Level:
    """Return the scores of a level, before any block."""
    if level == "channels":
        values = np.asarray(arrays.extra("channels"), np.float64)
        live = np.ones(values.shape, dtype=bool)
    elif level == "turn":
        values, live = np.where(arrays.turn_mask, arrays.turn_scores, 0.0), arrays.turn_mask
    else:
        values, live = arrays.outcome[:, None].astype(np.float64), np.ones((len(arrays.outcome), 1), dtype=bool)
    return Level(values, live, values)


def accumulate(values: Floats, live: Bools, gamma: float) -> Floats:
    """Return X_k = sum over j >= k of gamma^(j-k) values_j, 0 once the episode has ended.

    Args:
        values: [B, K] or [B, K, C] float64.
        live: [B, K] bool.
        gamma: discount per turn.
    """
    out = np.zeros_like(values)
    rest = np.zeros_like(values[:, 0]) if values.shape[1] else out
    live = live if values.ndim == 2 else live[:, :, None]
    for k in reversed(range(values.shape[1])):
        rest = np.where(live[:, k], values[:, k] + gamma * rest, 0.0)
        out[:, k] = rest
    return out


def centre(
    values: Floats,
    live: Bools,
    arrays: CreditArrays,
    baseline: Baseline = "loo",
    among: Among = "all",
    lone: Lone = "zero",
) -> Floats:
    """Subtract from each live value a mean over its group's members in the statistics: [B, U] -> [B, U].

    Args:
        values: [B, U] float64, 0 outside `live`.
        live: [B, U] bool.
        arrays: the groups and masks.
        baseline: "loo": the mean of the other members; "mean": the mean of all, the row itself included.
        among: "all": a member whose episode has ended counts as 0; "alive": it does not count.
        lone: what a value without another member becomes: "zero", or the "raw" value.
    """
    counted = arrays.in_statistics[:, None] & (live if among == "alive" else np.ones_like(live))
    # Differences to a member's value: equal values give exact zeros, not rounding noise for a std to blow up.
    least = arrays.group_min(values, counted)
    shifted = values - least
    total = arrays.group_sum(np.where(counted, shifted, 0.0))
    number = arrays.group_sum(counted.astype(np.float64))
    n_others = number - counted
    if baseline == "loo":
        total, number = total - np.where(counted, shifted, 0.0), n_others
    centred = shifted - total / np.maximum(number, 1.0)
    centred = np.where(n_others > 0, centred, values if lone == "raw" else 0.0)
    return np.where(live, centred, 0.0)


def pooled_std(
    values: Floats,
    live: Bools,
    arrays: CreditArrays,
    *,
    ddof: int = 0,
    others_only: bool = False,
    per_index: bool = False,
) -> Floats:
    """Return the std of the live values of each row's group, members in the statistics only.

    Args:
        values: [B, U] float64, not centred.
        live: [B, U] bool.
        arrays: the groups and masks.
        ddof: 0 for the population's std, 1 for the sample's.
        others_only: leave the row's own values out.
        per_index: one std per column instead of one over all columns.

    Returns:
        [B, 1] float64, [B, U] if `per_index`; 0 where fewer than two values are there.
    """
    counted = live & arrays.in_statistics[:, None]
    number, total = counted.astype(np.float64), np.where(counted, values, 0.0)
    if not per_index:
        number, total = number.sum(1, keepdims=True), total.sum(1, keepdims=True)
    centre_of_group = arrays.group_sum(total) / np.maximum(arrays.group_sum(number), 1.0)
    deviation = np.where(counted, values - centre_of_group, 0.0)
    first, second = deviation, deviation**2
    if not per_index:
        first, second = first.sum(1, keepdims=True), second.sum(1, keepdims=True)
    own = 1.0 if others_only else 0.0
    n = arrays.group_sum(number) - own * number
    first = arrays.group_sum(first) - own * first
    second = arrays.group_sum(second) - own * second
    variance = (second - first**2 / np.maximum(n, 1.0)) / np.maximum(n - ddof, 1.0)
    return np.sqrt(np.maximum(variance, 0.0))


@dataclass(frozen=True, slots=True)
class Accumulate:
    """Return-to-go over the turns of an episode."""

    gamma: float = 1.0
    level: Scope = "turn"

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with sums over the remaining turns."""
        values = accumulate(x.values, x.live, self.gamma)
        return replace(x, values=values, uncentred=accumulate(x.uncentred, x.live, self.gamma))

    def describe(self) -> str:
        """Say the discount."""
        discount = "undiscounted" if self.gamma == 1.0 else f"each turn ahead multiplied by gamma = {self.gamma:g}"
        return f"accumulate: sum the scores of this and all later turns, {discount}; 0 once the episode has ended"


@dataclass(frozen=True, slots=True)
class Centre:
    """Subtraction of a mean over the siblings."""

    level: Scope
    baseline: Baseline = "loo"
    among: Among = "all"
    lone: Lone = "zero"

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level centred."""
        return replace(x, values=centre(x.values, x.live, arrays, self.baseline, self.among, self.lone))

    def describe(self) -> str:
        """Say the set and what a lone member gets."""
        who = (
            "the other members of the group" if self.baseline == "loo" else "all members of the group, itself included"
        )
        at = ""
        if self.level == "turn":
            ended = "an ended episode counts as 0" if self.among == "all" else "only episodes that reach this turn"
            at = f" at the same turn index ({ended})"
        lone = "0" if self.lone == "zero" else "its raw value"
        return f"centre: subtract the mean{at} over {who}; without another member: {lone}"


@dataclass(frozen=True, slots=True)
class Scale:
    """Division by a spread."""

    level: Scope
    kind: Kind = "running"
    ddof: int = 0
    """For kind group and index: 0 population, 1 sample."""
    floor: float = 0.05
    """For kind batch: the least value; for kind loo: sqrt(variance + floor^2)."""

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level divided, with its divisor."""
        divisor = self._divisor(x, arrays, scales)
        return replace(x, values=x.values / divisor, divisor=divisor)

    def _divisor(self, x: Level, arrays: CreditArrays, scales: Scales) -> Floats:
        if self.kind == "none":
            return np.ones((1, 1))
        if self.kind == "running":
            return np.full((1, 1), scales.turn if self.level == "turn" else scales.trajectory)
        if self.kind == "shared":
            return np.full((1, 1), scales.shared)
        if self.kind == "batch":
            pool = x.uncentred[x.live & arrays.in_statistics[:, None]]
            return np.full((1, 1), max(float(pool.std()) if pool.size else 0.0, self.floor))
        if self.kind == "loo":
            spread = pooled_std(x.uncentred, x.live, arrays, others_only=True)
            return np.sqrt(spread**2 + self.floor**2)
        spread = pooled_std(x.uncentred, x.live, arrays, ddof=self.ddof, per_index=self.kind == "index")
        return np.where(spread > _NO_SPREAD, spread + _EPSILON, np.inf)

    def describe(self) -> str:
        """Say the set over which the spread is taken."""
        places = "all live turns of" if self.level == "turn" else "the outcomes of"
        std = "sample std" if self.ddof else "population std"
        return (
            "scale: "
            + {
                "none": "leave as it is",
                "running": "divide by one number for the whole batch, formed by earlier steps and frozen before this one",
                "shared": "divide by one number for both levels, formed by earlier steps and frozen before this one",
                "batch": f"divide by the population std over {places} this batch, at least {self.floor:g}",
                "loo": f"divide by sqrt(variance over {places} the other members + {self.floor:g}^2)",
                "group": f"divide by the {std} over {places} the group, itself included, + 1e-6 (0 if all are equal): BIASED",
                "index": f"divide by the {std} over the members that reach the same turn index + 1e-6: BIASED",
            }[self.kind]
        )


@dataclass(frozen=True, slots=True)
class Weight:
    """Multiplication by a constant."""

    level: str
    weight: float

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level multiplied."""
        return replace(x, values=self.weight * x.values)

    def describe(self) -> str:
        """Say the constant."""
        return f"weight: multiply by {self.weight:g}"
