"""A recipe: an ordered list of steps on arrays, levels and advantages, and what its expectation is the gradient of."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from agentgym.credit.arrays import CreditArrays, Floats
from agentgym.credit.blocks import Block, Centre, Level, Scale, Weight, take
from agentgym.credit.scales import Scales
from agentgym.credit.select import SpreadGroups, group_stds

BIASED_GROUP = (
    "BIASED: prompts are weighed by 1/std, and where scores take more than two values the group's std, which depends on "
    "the trajectory's own actions, bends the direction per prompt too, an error of order 1/G."
)
GROUP_STD_CAUTION = (
    "credit.recipe = '{}': dividing by the group's own std weighs prompts by 1/std and, where scores take more than two "
    "values, bends the direction by an error of order 1/G."
)
GAMMA_CAUTION = "credit: a discount below 1 is the gradient of no objective; it prefers what is paid early, hence stopping."


class Prepare(Protocol):
    """A step before the levels: it shapes rewards or selects rows."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays changed."""
        ...

    def describe(self) -> str:
        """Say in words what the step does, and over which set."""
        ...


class Modulate(Protocol):
    """A step after the levels were summed: it changes the advantages."""

    def apply(self, advantages: Floats, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the advantages changed: [B, K] -> [B, K]."""
        ...

    def describe(self) -> str:
        """Say in words what the step does, and over which set."""
        ...


@dataclass(frozen=True, slots=True)
class Recipe:
    """An ordered list of steps: first on the arrays, then on each level, then on the sum of the levels."""

    name: str
    levels: tuple[str, ...]
    """The levels that enter the sum: "turn", "trajectory", "channels"."""
    blocks: tuple[Block, ...]
    expectation: str
    """What the expectation of the estimate is the gradient of, in words."""
    prepare: tuple[Prepare, ...] = ()
    modulate: tuple[Modulate, ...] = ()
    needs: tuple[str, ...] = ()
    """Names of the extras that the steps read."""
    remembers: tuple[str, ...] = ()
    """What the running scales keep for the next step beside the scales: "steps", "spread"."""
    cautions: tuple[str, ...] = ()
    """One sentence for each combination of settings that biases or cancels something."""

    @property
    def joins_levels(self) -> bool:
        """Whether turn scores and outcome are put together before the levels: neither level can do without the other."""
        return any(getattr(step, "joins_levels", False) for step in self.prepare)

    @property
    def steps(self) -> tuple[Prepare | Block | Modulate, ...]:
        """The whole recipe in order."""
        return (*self.prepare, *self.blocks, *self.modulate)

    def prepared(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays that the levels read: rewards shaped, rows selected."""
        for step in self.prepare:
            arrays = step.apply(arrays, scales)
        return arrays

    def run(self, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the advantages, 0 outside `turn_mask` and for trajectories that are not in the loss.

        Returns:
            [B, K] float64.
        """
        arrays = self.prepared(arrays, scales)
        return self.finish(self._spread(arrays, self._through(arrays, scales, self.blocks)), arrays, scales)

    def finish(self, contributions: dict[str, Floats], arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the sum of the levels after the modulating steps: [B, K]."""
        total = sum(contributions.values(), np.zeros(arrays.turn_mask.shape))
        for step in self.modulate:
            total = step.apply(total, arrays, scales)
        if self.modulate:
            total = np.where(arrays.turn_mask & arrays.in_loss[:, None], total, 0.0)
        return total

    def contributions(self, arrays: CreditArrays, scales: Scales) -> dict[str, Floats]:
        """Return what each level adds to the advantage: [B, K] float64 per level."""
        arrays = self.prepared(arrays, scales)
        return self._spread(arrays, self._through(arrays, scales, self.blocks))

    def trace(self, arrays: CreditArrays, scales: Scales) -> dict[str, Level]:
        """Return each level after its last block, divisors included, before it is spread over the turns."""
        return self._through(self.prepared(arrays, scales), scales, self.blocks)

    def mean_squares(self, arrays: CreditArrays) -> dict[str, float]:
        """Return the mean square of the centred, unscaled values: what the running scales are made of.

        Counted are members in the statistics of the level that have another one: their live turns for "turn", their
        episodes for "trajectory", and for "shared" the weighted sum of the levels over their live turns. Empty for a recipe that
        normalises by itself.
        """
        if self.prepare or not any(isinstance(block, Centre) for block in self.blocks):
            return {}
        unscaled = tuple(block for block in self.blocks if not isinstance(block, Scale))
        counted = (arrays.in_statistics & arrays.has_other)[:, None]
        centred = self._through(arrays, Scales(), tuple(b for b in unscaled if not isinstance(b, Weight)))
        pools = {}
        for level, x in centred.items():
            seen = seen_at(level, arrays)
            pools[level] = x.values[x.live & (seen.in_statistics & seen.has_other)[:, None]]
        weighted = self._through(arrays, Scales(), unscaled)
        both = sum((x.values for x in weighted.values()), np.zeros(arrays.turn_mask.shape))
        pools["shared"] = both[arrays.turn_mask & counted]
        return {level: float(np.mean(pool**2)) for level, pool in pools.items() if pool.size}

    def next_spread(self, arrays: CreditArrays, scales: Scales) -> float:
        """Return `Scales.spread` after this batch: .99 of it, .01 of the mean std of the groups' shaped outcome."""
        shaped = arrays
        for step in self.prepare:
            if isinstance(step, SpreadGroups):
                break
            shaped = step.apply(shaped, scales)
        stds = group_stds(shaped)
        if not stds.size:
            return scales.spread
        return float(stds.mean()) if scales.spread == 0.0 else 0.99 * scales.spread + 0.01 * float(stds.mean())

    def describe(self) -> str:
        """Return the recipe in words: each step, the set it normalises over, and the claim that holds."""
        lines = [f"{self.name}: one advantage per turn"]
        if self.prepare:
            lines.append("  first:")
            lines += [f"    {number}. {step.describe()}" for number, step in enumerate(self.prepare, 1)]
        for level in self.levels:
            lines.append(f"  {level} level: take {_SOURCE[level]}")
            steps = [block.describe() for block in self.blocks if block.level == level]
            lines += [f"    {number}. {step}" for number, step in enumerate(steps, 1)]
        lines.append(f"  sum: {' + '.join(f'{level} level' for level in self.levels)}, on every live turn; 0 elsewhere")
        if self.modulate:
            lines.append("  last:")
            lines += [f"    {number}. {step.describe()}" for number, step in enumerate(self.modulate, 1)]
        lines.append(f"  expectation: {self.expectation}")
        return "\n".join(lines)

    def _through(self, arrays: CreditArrays, scales: Scales, blocks: tuple[Block, ...]) -> dict[str, Level]:
        state = {level: take(level, arrays) for level in self.levels}
        whole = arrays.in_turn_level
        for block in blocks:
            state[block.level] = block.apply(state[block.level], seen_at(block.level, arrays), scales)
        if whole is not None and "turn" in state:
            x = state["turn"]
            state["turn"] = Level(np.where(whole[:, None], x.values, 0.0), x.live, x.uncentred, x.divisor)
        return state

    def _spread(self, arrays: CreditArrays, levels: dict[str, Level]) -> dict[str, Floats]:
        keep = arrays.turn_mask & arrays.in_loss[:, None]
        return {level: np.where(keep, x.values, 0.0) for level, x in levels.items()}


_SOURCE = {
    "turn": "the turn-scope scores of each turn",
    "trajectory": "the trajectory-scope scores of the whole trajectory",
    "channels": "the scores of the whole trajectory, one channel per component",
}


def seen_at(level: str, arrays: CreditArrays) -> CreditArrays:
    """Return the arrays that a level's blocks see: rows with missing turn scores are in no turn statistics."""
    if level != "turn" or arrays.in_turn_level is None:
        return arrays
    return arrays.but(in_statistics=arrays.in_statistics & arrays.in_turn_level)
