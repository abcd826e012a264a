"""What a recipe does with recorded trajectories, turn index by turn index."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.blocks import centre
from agentgym.credit.channels import channels_from_groups
from agentgym.credit.recipe import Recipe
from agentgym.credit.scales import Scales
from agentgym.types import Group, Trajectory

_NOISE = 1e-12
"""Below this a number is rounding, not credit."""


@dataclass(frozen=True, slots=True)
class TurnDiagnostics:
    """One turn index over all groups of a batch."""

    turn: int
    """0-based."""
    n_turns: int
    """Turns with this index that are in the loss."""
    group_size: float
    """Mean number of members in the statistics that reach this index, over the groups that any member reaches it."""
    effective_size: float
    """Mean over these groups of (sum |A|)^2 / sum A^2: how many members share the credit; only groups that give any."""
    singletons: int
    """Turns in the loss that no other member in the statistics reaches: their baseline is made of ended episodes."""
    zero_variance: float | None
    """Share of the groups with two members at this index in which the turn level gives nobody anything here; None
    where there is no such group, or no turn level."""
    sign_agreement: float | None
    """Share of these turns on which turn and trajectory level agree, of those where both say something; else None."""
    mean_abs: float
    """Mean absolute advantage."""
    mass: float
    """Share of the batch's absolute advantage."""


def by_turn(recipe: Recipe, arrays: CreditArrays, scales: Scales) -> tuple[TurnDiagnostics, ...]:
    """Return the diagnostics of every turn index that a trajectory in the loss reaches."""
    values = np.abs(recipe.run(arrays, scales))
    levels = recipe.contributions(arrays, scales)
    kept = recipe.prepared(arrays, scales)
    trained = kept.turn_mask & kept.in_loss[:, None]
    counted = kept.turn_mask & kept.in_statistics[:, None]
    reached = kept.group_sum(counted.astype(np.float64))
    total = float(values.sum())
    found = []
    for k in np.flatnonzero(trained.any(0)).tolist():
        here, sizes = trained[:, k], _per_group(reached[:, k], kept)
        mass = float(values[here, k].sum())
        found.append(
            TurnDiagnostics(
                turn=k,
                n_turns=int(here.sum()),
                group_size=float(sizes[sizes > 0].mean()) if (sizes > 0).any() else 0.0,
                effective_size=_participation(values[:, k] * here, kept),
                singletons=int((here & (reached[:, k] - counted[:, k] < 1)).sum()),
                zero_variance=_zero_variance(levels.get("turn"), reached[:, k] > 1, k, kept),
                sign_agreement=_agreement(levels, here, k),
                mean_abs=mass / int(here.sum()),
                mass=mass / total if total > _NOISE else 0.0,
            )
        )
    return tuple(found)


def grouped(trajectories: Iterable[Trajectory]) -> list[Group]:
    """Return trajectories as groups: by their group id, and where they have none by environment and task."""
    members: dict[tuple[str, str], list[Trajectory]] = {}
    for t in trajectories:
        members.setdefault(("", t.group_id) if t.group_id else (t.env_id, t.task_id), []).append(t)
    return [Group(name, rows[0].task_id, tuple(rows)) for (_, name), rows in members.items()]


@dataclass(frozen=True, slots=True)
class ComponentDiagnostics:
    """One component at one turn index, or at trajectory scope, over all groups of a batch."""

    component: str
    turn: int | None
    """0-based; None at trajectory scope."""
    n: int
    """Scores in the statistics."""
    group_size: float
    """Mean number of members that have a score here, over the groups in which any has."""
    effective_size: float
    """Mean of (sum |d|)^2 / sum d^2 over the groups that differ, d the deviation from their mean."""
    singletons: int
    """Scores with no other member's to compare with."""
    zero_variance: float | None
    """Share of the groups with two scores here whose scores are all equal; None where there is no such group."""
    spread: float
    """Root of the mean square deviation from the group's mean, in units of contribution to the reward."""
    sign_agreement: float | None
    """Share of the scores that deviate to the side to which their episode's outcome does, of those where both deviate."""


def by_component(groups: Sequence[Group]) -> tuple[ComponentDiagnostics, ...]:
    """Return the diagnostics of every component that pays, turn index by turn index, then at trajectory scope."""
    channels = channels_from_groups(groups, both_levels=True)
    arrays = channels.arrays
    counted = arrays.in_statistics & ~arrays.is_branch
    outcome = _deviation(arrays.outcome, counted, arrays)
    found: list[ComponentDiagnostics] = []
    for c, name in enumerate(channels.names):
        known = np.isfinite(channels.turn_raw[:, :, c])
        places: list[tuple[int | None, Floats, Bools]] = [
            (int(k), channels.turn[:, k, c], known[:, k] & counted) for k in np.flatnonzero((known & counted[:, None]).any(0))
        ]
        here = np.isfinite(channels.trajectory_raw[:, c]) & counted
        if here.any():
            places.append((None, channels.trajectory[:, c], here))
        found += [_component(name, turn, values, rows, outcome, arrays) for turn, values, rows in places]
    return tuple(found)


def _component(
    name: str, turn: int | None, values: Floats, rows: Bools, outcome: Floats, arrays: CreditArrays
) -> ComponentDiagnostics:
    number = arrays.group_sum(rows.astype(np.float64)[:, None])[:, 0]
    sizes = _per_group(number, arrays)
    deviation = _deviation(values, rows, arrays)
    moved, compared = rows & (np.abs(deviation) > _NOISE), rows & (number > 1)
    both = moved & (np.abs(outcome) > _NOISE)
    n_compared = len(np.unique(arrays.group[compared]))
    return ComponentDiagnostics(
        component=name,
        turn=turn,
        n=int(rows.sum()),
        group_size=float(sizes[sizes > 0].mean()),
        effective_size=_participation(np.abs(deviation), arrays),
        singletons=int((rows & (number < 2)).sum()),
        zero_variance=1.0 - len(np.unique(arrays.group[moved])) / n_compared if n_compared else None,
        spread=float(np.sqrt((deviation[compared] ** 2).mean())) if n_compared else 0.0,
        sign_agreement=float((np.sign(deviation[both]) == np.sign(outcome[both])).mean()) if both.any() else None,
    )


def turn_metrics(
    turns: Sequence[TurnDiagnostics], components: Sequence[ComponentDiagnostics], most: int = 8
) -> dict[str, float]:
    """Return the diagnostics of the first `most` turn indices as metrics; what is undefined is left out.

    MEASURE/turn_K for zero_variance, singletons, group_size, effective_size and sign_agreement of the recipe's levels;
    component/NAME/MEASURE/turn_K (or /trajectory) for zero_variance, singletons, effective_size, spread and
    sign_agreement of a component's scores.
    """
    metrics: dict[str, float | None] = {}
    for t in turns[:most]:
        for name in ("zero_variance", "singletons", "group_size", "effective_size", "sign_agreement"):
            metrics[f"{name}/turn_{t.turn}"] = getattr(t, name)
    for c in components:
        if c.turn is None or c.turn < most:
            place = "trajectory" if c.turn is None else f"turn_{c.turn}"
            for name in ("zero_variance", "singletons", "effective_size", "spread", "sign_agreement"):
                metrics[f"component/{c.component}/{name}/{place}"] = getattr(c, name)
    return {name: float(value) for name, value in metrics.items() if value is not None}


def _deviation(values: Floats, rows: Bools, arrays: CreditArrays) -> Floats:
    """Return the deviation from the mean of the group's chosen rows, 0 for others: [B] -> [B]."""
    return centre(values[:, None], rows[:, None], arrays.but(in_statistics=rows), "mean")[:, 0] if len(values) else values


def _participation(sizes: Floats, arrays: CreditArrays) -> float:
    """Return the mean over groups of (sum)^2 / sum of squares of non-negative numbers, groups of zeros left out."""
    sums = arrays.group_sum(np.stack([sizes, sizes**2], axis=1))
    first, second = (_per_group(sums[:, i], arrays) for i in (0, 1))
    some = second > _NOISE**2
    return float((first[some] ** 2 / second[some]).mean()) if some.any() else 0.0


def _per_group(rows: Floats, arrays: CreditArrays) -> Floats:
    """Return one value a group of what is equal for all of its rows."""
    _, first = np.unique(arrays.group, return_index=True)
    return rows[first]


def _zero_variance(level: Floats | None, compared: Bools, k: int, arrays: CreditArrays) -> float | None:
    if level is None or not compared.any():
        return None
    moved = compared & (np.abs(level[:, k]) > _NOISE)
    return 1.0 - len(np.unique(arrays.group[moved])) / len(np.unique(arrays.group[compared]))


def _agreement(levels: dict[str, Floats], here: Bools, k: int) -> float | None:
    if set(levels) != {"turn", "trajectory"}:
        return None
    turn, trajectory = levels["turn"][here, k], levels["trajectory"][here, k]
    both = (np.abs(turn) > _NOISE) & (np.abs(trajectory) > _NOISE)
    return float((np.sign(turn[both]) == np.sign(trajectory[both])).mean()) if both.any() else None
