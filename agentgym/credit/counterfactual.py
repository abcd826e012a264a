"""Counterfactual credit: a turn is worth what continuations from its two sides say that it changed."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from agentgym.credit.arrays import CreditArrays, Floats
from agentgym.credit.recipe import Recipe
from agentgym.credit.scales import CreditConfig, Scales, within
from agentgym.errors import DataError


@dataclass(frozen=True, slots=True)
class Prospects:
    """Turn scores become differences of the expected total, as continuations measured it."""

    joins_levels: ClassVar = True

    weight: float = 0.0
    """Of the turn scores inside the total."""
    branches: bool = False
    """The continuations stay in the loss."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with A_k = V(first measured place after turn k) - V(last one before it) as turn scores.

        V is the expected total of the episode: at its end the total itself, at its beginning the mean over the other
        members of the group, in between what the extras continued_outcome and continued_turns say; NaN there: not
        measured. Turns before which nothing is known (no other member) get 0.
        """
        live = arrays.turn_mask
        n, k = live.shape
        value = expected_totals(arrays, self.weight)
        place = np.arange(k + 1)
        known = np.isfinite(value)
        before = np.maximum.accumulate(np.where(known, place, -1), axis=1)[:, :-1]
        after = np.minimum.accumulate(np.where(known, place, k + 1)[:, ::-1], axis=1)[:, ::-1][:, 1:]
        fine = live & (before >= 0) & (after <= k)
        row = np.arange(n)[:, None]
        filled = np.where(known, value, 0.0)
        gain = filled[row, np.minimum(after, k)] - filled[row, np.maximum(before, 0)]
        stay = np.ones(n, bool) if self.branches else ~arrays.is_branch
        return arrays.but(
            turn_scores=np.where(fine, gain, 0.0),
            in_loss=arrays.in_loss & stay,
            in_statistics=arrays.in_statistics & stay,
        )

    def describe(self) -> str:
        """Say the formula."""
        total = f"outcome + {self.weight:g} sum of turn scores" if self.weight else "outcome"
        learn = "; continuations are episodes of their own groups" if self.branches else "; continuations only measure"
        return (
            f"turn score := expected {total} after the turn - before it: the mean over continuations from there, at the "
            "end of the episode its own, at the beginning the mean over the other members of the group; between places "
            f"that were not measured all turns share one difference{learn}"
        )


def expected_totals(arrays: CreditArrays, weight: float) -> Floats:
    """Return the expected total of each episode before each turn and at its end, NaN where unknown: [B, K + 1].

    Raises:
        DataError: the extras have another shape than [B, K + 1].
    """
    live = arrays.turn_mask
    n, k = live.shape
    shape = (n, k + 1)
    outcome, turns = (np.asarray(arrays.extra(f"continued_{name}"), np.float64) for name in ("outcome", "turns"))
    for name, given in (("outcome", outcome), ("turns", turns)):
        if given.shape != shape:
            raise DataError(f"credit: extras['continued_{name}'] has shape {given.shape}; one more than the turns, {shape}")
    paid = weight * np.where(live, arrays.turn_scores, 0.0)
    so_far = np.concatenate([np.zeros((n, 1)), np.cumsum(paid, axis=1)], axis=1)
    total = arrays.outcome + paid.sum(1)
    counted = arrays.in_statistics.astype(np.float64)
    sums = arrays.group_sum(np.stack([np.where(arrays.in_statistics, total, 0.0), counted], axis=1))
    others, n_others = sums[:, 0] - np.where(arrays.in_statistics, total, 0.0), sums[:, 1] - counted
    lengths, place = live.sum(1)[:, None], np.arange(k + 1)
    middle = (place > 0) & (place < lengths)
    value = np.where(middle, so_far + outcome + weight * turns, np.nan) if weight else np.where(middle, outcome, np.nan)
    value[:, 0] = np.where(n_others > 0, others / np.maximum(n_others, 1.0), np.nan)
    return np.where(place == lengths, total[:, None], value)


def counterfactual(config: CreditConfig, *, weight: float = 0.0, branches: bool = False) -> Recipe:
    """Return A_k = V_{k+1} - V_k, V_k the mean outcome of continuations from the snapshot before turn k.

    V of the beginning is the mean over the other members of the group, V of the end the episode's own outcome. Where
    only some turns were branched, the turns between two measured places share their difference. `weight`: turn scores
    are part of what is compared, with this weight. `branches`: the continuations are learned from too, each against
    the other continuations of its snapshot. Needs rollouts with `branch.mode = "turns"`.

    Source: Monte Carlo values from intermediate states as in "VinePPO: Unlocking RL Potential For LLM Reasoning
    Through Refined Credit Assignment" (Kazemnejad et al. 2024). Evidence: derived and enumerated here; VinePPO from
    own knowledge. Deviation: turns of an environment with snapshots instead of steps of a text; leave-one-out at the
    beginning; any subset of turns.
    """
    within("weight", weight, 0.0, 1e6)
    of = f"E[outcome + {weight:g} sum of turn scores]" if weight else "E[outcome]"
    claim = (
        f"exactly the gradient of {of}, however few continuations there are and whichever turns are measured, as long "
        "as that choice does not look at what comes after the turn"
    )
    claim += ", plus that of the same from each branched state, the states held fixed." if branches else "."
    needs = ("continued_outcome", "continued_turns")
    return Recipe("counterfactual", ("turn",), (), claim, (Prospects(weight, branches),), needs=needs)
