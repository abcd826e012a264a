"""What a recipe does with recorded trajectories, turn index by turn index."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
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
