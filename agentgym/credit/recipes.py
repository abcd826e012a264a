"""Named recipes: ordered lists of blocks, and what the expectation of each is the gradient of."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import CreditArrays, Floats
from agentgym.credit.blocks import Accumulate, Baseline, Block, Centre, Kind, Level, Lone, Scale, Weight, take
from agentgym.credit.scales import CreditConfig, Scales
from agentgym.types import Scope


@dataclass(frozen=True, slots=True)
class Recipe:
    """An ordered list of blocks. Each level runs through its own blocks; the advantage is the sum of the levels."""

    name: str
    levels: tuple[Scope, ...]
    """The levels that enter the sum."""
    blocks: tuple[Block, ...]
    expectation: str
    """What the expectation of the estimate is the gradient of, in words."""

    def run(self, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the advantages, 0 outside `turn_mask` and for trajectories that are not in the loss.

        Returns:
            [B, K] float64.
        """
        return sum(self.contributions(arrays, scales).values(), np.zeros(arrays.turn_mask.shape))

    def contributions(self, arrays: CreditArrays, scales: Scales) -> dict[Scope, Floats]:
        """Return what each level adds to the advantage: [B, K] float64 per level."""
        keep = arrays.turn_mask & arrays.in_loss[:, None]
        return {level: np.where(keep, x.values, 0.0) for level, x in self.trace(arrays, scales).items()}

    def trace(self, arrays: CreditArrays, scales: Scales) -> dict[Scope, Level]:
        """Return each level after its last block, divisors included, before it is spread over the turns."""
        return self._through(arrays, scales, self.blocks)

    def mean_squares(self, arrays: CreditArrays) -> dict[str, float]:
        """Return the mean square of the centred, unscaled values: what the running scales are made of.

        Counted are members in the statistics that have another one: their live turns for "turn", their episodes for
        "trajectory", and for "shared" the weighted sum of the levels over their live turns.
        """
        unscaled = tuple(block for block in self.blocks if not isinstance(block, Scale))
        counted = (arrays.in_statistics & arrays.has_other)[:, None]
        centred = self._through(arrays, Scales(), tuple(b for b in unscaled if not isinstance(b, Weight)))
        pools = {str(level): x.values[x.live & counted] for level, x in centred.items()}
        weighted = self._through(arrays, Scales(), unscaled)
        both = sum((x.values for x in weighted.values()), np.zeros(arrays.turn_mask.shape))
        pools["shared"] = both[arrays.turn_mask & counted]
        return {level: float(np.mean(pool**2)) for level, pool in pools.items() if pool.size}

    def describe(self) -> str:
        """Return the recipe in words: each step, the set it normalises over, and the claim that holds."""
        lines = [f"{self.name}: one advantage per turn"]
        for level in self.levels:
            what = "scores of each turn" if level == "turn" else "scores of the whole trajectory"
            lines.append(f"  {level} level: take the {level}-scope {what}")
            steps = [block.describe() for block in self.blocks if block.level == level]
            lines += [f"    {number}. {step}" for number, step in enumerate(steps, 1)]
        lines.append(f"  sum: {' + '.join(f'{level} level' for level in self.levels)}, on every live turn; 0 elsewhere")
        lines.append(f"  expectation: {self.expectation}")
        return "\n".join(lines)

    def _through(self, arrays: CreditArrays, scales: Scales, blocks: tuple[Block, ...]) -> dict[Scope, Level]:
        state: dict[Scope, Level] = {level: take(level, arrays) for level in self.levels}
        for block in blocks:
            state[block.level] = block.apply(state[block.level], arrays, scales)
        return state


def turn_grpo(config: CreditConfig) -> Recipe:
    """Return the default: turn and trajectory scores, each centred on the siblings and divided by one scale.

    A_ik = turn_weight (X_ik - mean over the others of X_jk) / s_T + (O_i - mean over the others of O_j) / s_O with
    X_ik the return-to-go of turn k, zero-counted. With turn_weight = 0 the turn level is left out.

    Source: leave-one-out baseline of "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (Kool et al. 2019), per turn
    and over zero-counted returns-to-go; the scales are ours.
    """
    levels: tuple[Scope, ...] = ("turn", "trajectory") if config.turn_weight else ("trajectory",)
    blocks: list[Block] = []
    for level in levels:
        if level == "turn":
            blocks.append(Accumulate(config.gamma))
        blocks += [Centre(level, "mean" if config.scale == "group" else "loo"), _level_scale(level, config)]
        if level == "turn":
            blocks.append(Weight(level, config.turn_weight))
    return Recipe("turn_grpo", levels, tuple(blocks), _claim(config))


def grpo(config: CreditConfig) -> Recipe:
    """Return (O - group mean) / (group std + 1e-6), sample std, on trajectory-scope scores only.

    Source: "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" (Shao et al. 2024),
    outcome supervision; a group of equal outcomes and a lone member get 0.
    """
    del config  # the recipe is fixed
    blocks: tuple[Block, ...] = (Centre("trajectory", "mean"), Scale("trajectory", "group", ddof=1))
    return Recipe("grpo", ("trajectory",), blocks, _BIASED_GROUP)


def per_index(config: CreditConfig) -> Recipe:
    """Return the counter-example: centre each turn index over the members that reach it, then accumulate. BIASED."""
    return per_index_variant(config, "mean", "zero")


def per_index_variant(config: CreditConfig, baseline: Baseline, lone: Lone) -> Recipe:
    """Return `per_index` with another baseline or another rule for a turn that only one member reaches."""
    blocks: list[Block] = [Centre("turn", baseline, "alive", lone)]
    if config.scale == "group":
        blocks.append(Scale("turn", "index", ddof=1))
    blocks += [Accumulate(config.gamma), Weight("turn", config.turn_weight), Centre("trajectory", baseline)]
    if config.scale == "group":
        blocks.append(Scale("trajectory", "group", ddof=1))
    return Recipe("per_index (BIASED counter-example)", ("turn", "trajectory"), tuple(blocks), _BIASED_INDEX)


RECIPES: dict[str, Callable[[CreditConfig], Recipe]] = {"turn_grpo": turn_grpo, "grpo": grpo, "per_index": per_index}
"""Recipes by the name that `CreditConfig.recipe` gives."""


def recipe_of(config: CreditConfig) -> Recipe:
    """Return the recipe that a configuration names."""
    return RECIPES[config.recipe](config)


def _level_scale(level: Scope, config: CreditConfig) -> Scale:
    kind: Kind = config.scale  # pyright: ignore[reportAssignmentType]  # checked by CreditConfig
    floor = config.loo_floor if kind == "loo" else config.floor
    return Scale(level, kind, ddof=int(level == "trajectory"), floor=floor)


_BIASED_GROUP = (
    "BIASED: the group's std depends on the trajectory's own actions, an error of order 1/G in the direction per "
    "prompt, and prompts are weighed by 1/std."
)
_BIASED_INDEX = (
    "BIASED: no objective's gradient. The baseline of a turn index is paid only by episodes that reach it, so every "
    "extra turn is charged its mean score and turns that pay are not worth reaching. Harmless only where all episodes "
    "have the same number of turns. For comparison and tests."
)


def _claim(config: CreditConfig) -> str:
    """Say what the expectation of turn_grpo is, at ratio 1 and with a fixed denominator of the loss."""
    weight = f"{config.turn_weight:g}"
    turn = f" + {weight} E[sum of turn scores]{{}}" if config.turn_weight else ""
    if config.scale == "group":
        claim = _BIASED_GROUP
    elif config.scale == "loo":
        claim = (
            "per prompt, and per level, the exact direction: the gradients of E[outcome] and of E[sum of turn scores], "
            "each multiplied by the mean of 1/s over the other members; prompts with little spread weigh more."
        )
    elif config.scale == "batch":
        claim = f"the gradient of E[outcome]/s_O{turn.format('/s_T')} up to an error of order 1/(number of groups)."
    else:
        over = {"running": ("/s_O", "/s_T"), "shared": ("/s", "/s"), "none": ("", "")}[config.scale]
        claim = f"exactly the gradient of E[outcome]{over[0]}{turn.format(over[1])}, turn limits included."
    if config.gamma < 1.0 and config.turn_weight:
        claim = (
            f"BIASED: with gamma = {config.gamma:g} the turn level is no objective's gradient: each turn prefers what "
            f"is paid early, hence stopping. With gamma = 1 it would be {claim}"
        )
    return claim + " (Ratio 1, constant loss denominator, episodes cut by a limit kept.)"
