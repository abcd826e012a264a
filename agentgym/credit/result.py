"""Hop 7 of a training step: groups in, advantages per turn and their metrics out."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.blocks import Level, Weight
from agentgym.credit.extras import gather
from agentgym.credit.plain import Missing, arrays_of
from agentgym.credit.recipe import Recipe, seen_at
from agentgym.credit.recipes import recipe_of
from agentgym.credit.scales import CreditConfig, Scales
from agentgym.credit.shape import OutcomeAtLast, SumTurns
from agentgym.errors import ConfigError, DataError
from agentgym.types import Group

_NOISE = 1e-12
"""Below this an advantage is rounding, not credit."""


@dataclass(frozen=True, slots=True, eq=False)
class CreditResult:
    """The credit of one batch."""

    advantages: dict[str, tuple[float, ...]]
    """Per trajectory id one number per turn; zeros for a trajectory that is not in the loss, and for the turns that a
    branch shares with its parent."""
    metrics: dict[str, float]
    """See `measure`."""
    scales: dict[str, float]
    """s_T and s_O of this step in units of score: what each level was divided by (where that differs by row the
    harmonic mean, 0 where all values were equal); a level that the recipe leaves out shows its running scale."""
    next_scales: Scales
    """For the next step."""
    values: Floats
    """[B, K] float64: the advantages as an array, rows as in `arrays`; the turns of a branch are its own alone."""
    in_loss: Bools
    """[B] bool: in the loss after the recipe's own selection, which its denominators follow."""
    arrays: CreditArrays


def advantages(config: CreditConfig, groups: Sequence[Group], scales: Scales | None = None) -> CreditResult:
    """Return one advantage per turn of every trajectory.

    Args:
        config: names the recipe and its constants.
        groups: sibling trajectories with complete scores.
        scales: the running scales that earlier steps formed; None at the first step.

    Raises:
        DataError: for scores that are invalid, deferred, not finite or do not sum to their reward.
        ConfigError: for a component that scores at both scopes.
    """
    recipe = recipe_of(config)
    arrays = CreditArrays.from_groups(groups, both_levels=config.both_levels)
    if recipe.needs:
        arrays = arrays.but(extras=gather(recipe.needs, groups, arrays, both_levels=config.both_levels))
    return _result(config, recipe, arrays, scales)


def advantages_from_arrays(
    turn_scores: ArrayLike,
    turn_mask: ArrayLike,
    outcome: ArrayLike,
    group: Sequence[Hashable] | NDArray[Any],
    *,
    config: CreditConfig | None = None,
    scales: Scales | None = None,
    in_statistics: ArrayLike | None = None,
    in_loss: ArrayLike | None = None,
    extras: Mapping[str, ArrayLike] | None = None,
    ids: Sequence[str] = (),
    missing: Missing = "error",
) -> CreditResult:
    """Return one advantage per turn from plain arrays: for trainers that have no `Trajectory`.

    B rows, at most K turns each; anything that numpy can read (torch tensors on the CPU too). Values outside
    `turn_mask`, and of rows in neither mask, are never read.

    Args:
        turn_scores: [B, K] scores of the turns, weights applied; NaN for a missing one, see `missing`.
        turn_mask: [B, K] true where the turn exists; a row's turns come first.
        outcome: [B] score of the whole trajectory.
        group: [B] any labels (numbers, uid strings): equal for siblings. Groups may differ in size.
        config: names the recipe; None for the default.
        scales: the running scales of earlier steps (`CreditResult.next_scales`); None at the first step.
        in_statistics: [B] counts in the baselines of the others; None for all.
        in_loss: [B] gets an advantage; None for all.
        extras: what the recipe's `needs` name, such as "state" [B, K], "entropy" [B, K] or "score:NAME" [B].
        ids: [B] names of the rows, for messages and the result's `advantages`; the row numbers if left out.
        missing: a NaN turn score is an "error", counts as "zero", or takes its row out of the turn level: its
            turns then have the outcome's advantage only ("outcome").

    Returns:
        `values` is [B, K] float64, 0 outside the masks.

    Raises:
        DataError: for shapes that do not fit, and for a score that is missing or not finite; it names group and turn.
        ConfigError: for an extra that the recipe reads and that was not given, and for missing = "outcome" with a recipe
            that puts turn scores and outcome together before it compares.
    """
    config = CreditConfig() if config is None else config
    arrays = arrays_of(turn_scores, turn_mask, outcome, group, in_statistics, in_loss, extras or {}, ids, missing)
    return _result(config, recipe_of(config), arrays, scales)


def _result(config: CreditConfig, recipe: Recipe, arrays: CreditArrays, scales: Scales | None) -> CreditResult:
    scales = Scales.start(config) if scales is None else scales
    if arrays.in_turn_level is not None and recipe.joins_levels:
        raise ConfigError(
            f"missing = 'outcome': recipe {recipe.name!r} puts turn scores and outcome together before it compares, so a row "
            "without its turn scores has no outcome's advantage of its own; pass missing = 'zero', or take it out of both masks"
        )
    with np.errstate(invalid="ignore"):  # said below, with the row
        values = recipe.run(arrays, scales)
    if not (finite := np.isfinite(values).all(axis=1)).all():
        row = int(np.flatnonzero(~finite)[0])
        raise DataError(
            f"row {arrays.ids[row] if arrays.ids else row}: recipe {recipe.name!r} gave an advantage that is no finite number; "
            "look for one in the extras of its group"
        )
    lengths = arrays.turn_mask.sum(1)
    first = np.zeros_like(lengths) if arrays.first_turn is None else arrays.first_turn
    used = _used_scales(recipe.trace(arrays, scales), arrays)
    return CreditResult(
        advantages={
            name: (0.0,) * int(first[i]) + tuple(float(a) for a in values[i, : lengths[i]])
            for i, name in enumerate(arrays.ids)
        },
        metrics=measure(recipe, arrays, scales),
        scales={"s_T": used.get("turn", scales.turn), "s_O": used.get("trajectory", scales.trajectory)},
        next_scales=scales.update(arrays, recipe),
        values=values,
        in_loss=recipe.prepared(arrays, scales).in_loss,
        arrays=arrays,
    )


def measure(recipe: Recipe, arrays: CreditArrays, scales: Scales) -> dict[str, float]:
    """Return the metrics of a batch; one that is undefined for it (no group, no turn) is left out.

    n_groups, effective_groups (some advantage is not 0), effective_share; zero_variance/LEVEL: share of the groups
    with two members in the statistics in which the level gives nobody anything; mean_abs/LEVEL and mean_abs: mean
    absolute contribution over live turns in the loss; sign_agreement: share of the turns with both levels non-zero
    on which they agree; mass/turn_K: share of the absolute advantage that lies on turn K; singletons: trajectories in
    the loss with nobody to compare with; not_in_loss, not_in_statistics; left_out: trajectories that the recipe itself
    takes out of the loss (only for recipes that select or shape); turn_objective_weight: w, what a unit of
    turn score is worth in units of outcome (turn_weight s_O / s_T, with the scales of `CreditResult.scales`).
    """
    traced = recipe.trace(arrays, scales)
    contributions = recipe.contributions(arrays, scales)
    total = np.abs(recipe.run(arrays, scales))
    chosen = recipe.prepared(arrays, scales)
    keep = chosen.turn_mask & chosen.in_loss[:, None]
    # Groups of branches that only measure have nothing to learn by design.
    n_groups = len(np.unique(arrays.group[chosen.in_loss | ~arrays.is_branch]))
    effective = len(np.unique(arrays.group[(total > _NOISE).any(1)]))
    metrics = {
        "n_groups": float(n_groups),
        "effective_groups": float(effective),
        "singletons": float((arrays.in_loss & ~arrays.has_other).sum()),
        "not_in_loss": float((~arrays.in_loss).sum()),
        "not_in_statistics": float((~arrays.in_statistics).sum()),
    }
    if recipe.prepare:
        metrics["left_out"] = float((arrays.in_loss & ~chosen.in_loss).sum())
    if n_groups:
        metrics["effective_share"] = effective / n_groups
    compared = arrays.in_statistics & arrays.has_other
    for level, x in traced.items():
        metrics |= _level_metrics(level, x, contributions[level], arrays, compared, keep)
    if keep.any():
        metrics["mean_abs"] = float(total[keep].mean())
    if set(contributions) == {"turn", "trajectory"}:
        turn, trajectory = contributions["turn"], contributions["trajectory"]
        both = (np.abs(turn) > _NOISE) & (np.abs(trajectory) > _NOISE)
        if both.any():
            metrics["sign_agreement"] = float((np.sign(turn[both]) == np.sign(trajectory[both])).mean())
    if total.sum() > _NOISE:
        metrics |= {f"mass/turn_{k}": float(share) for k, share in enumerate(total.sum(0) / total.sum())}
    used = _used_scales(traced, arrays)
    if any(isinstance(step, OutcomeAtLast | SumTurns) for step in recipe.prepare):
        metrics["turn_objective_weight"] = 1.0  # both kinds of score were added up before anything else
    elif "turn" not in used:
        metrics["turn_objective_weight"] = 0.0
    elif used["turn"] and used.get("trajectory"):
        weight = next((b.weight for b in recipe.blocks if isinstance(b, Weight) and b.level == "turn"), 1.0)
        metrics["turn_objective_weight"] = weight * used["trajectory"] / used["turn"]
    return metrics


def _level_metrics(
    level: str, x: Level, contribution: Floats, arrays: CreditArrays, compared: Bools, keep: Bools
) -> dict[str, float]:
    metrics = {}
    if compared.any():
        moved = compared & (np.abs(np.where(x.live, x.values, 0.0)) > _NOISE).any(1)
        n_moved, n_compared = len(np.unique(arrays.group[moved])), len(np.unique(arrays.group[compared]))
        metrics[f"zero_variance/{level}"] = 1.0 - n_moved / n_compared
    if keep.any():
        metrics[f"mean_abs/{level}"] = float(np.abs(contribution[keep]).mean())
    return metrics


def _used_scales(traced: dict[str, Level], arrays: CreditArrays) -> dict[str, float]:
    """Return 1 / mean(1/s) per level over the live places of members that are compared, 0 where nothing was divided."""
    used: dict[str, float] = {}
    for level, x in traced.items():
        seen = seen_at(level, arrays)
        places = (seen.in_statistics & seen.has_other)[:, None] & (x.live if x.live.shape == x.divisor.shape else True)
        by_row = x.divisor.shape[0] == len(places) and places.any()  # else one number for the batch
        inverse = 1.0 / (x.divisor[places] if by_row else x.divisor)
        used[level] = float(1.0 / inverse.mean()) if inverse.any() else 0.0
    return used
