"""Groups of trajectories as arrays: what every block of a recipe reads."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentgym.errors import ConfigError, DataError
from agentgym.types import Group, Trajectory

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class CreditArrays:
    """The scores of B trajectories with at most K turns, ragged rows padded, masks explicit."""

    turn_scores: Floats
    """[B, K] float64: sum of a turn's turn-scope contributions, after weights and caps; 0 outside `turn_mask`."""
    turn_mask: Bools
    """[B, K] bool: the turn exists."""
    outcome: Floats
    """[B] float64: sum of the trajectory-scope contributions."""
    group: Ints
    """[B] int64: position of the trajectory's group; groups may differ in size."""
    in_statistics: Bools
    """[B] bool: counts in the baselines and scales of the others."""
    in_loss: Bools
    """[B] bool: gets an advantage."""
    ids: tuple[str, ...] = ()
    """[B] trajectory ids; empty for arrays made by hand."""
    in_turn_level: Bools | None = None
    """[B] bool: has all its turn scores; a row without takes no part in the turn level. None: all have."""
    first_turn: Ints | None = None
    """[B] int64: column 0 is this turn of the trajectory, above 0 for branches; None: 0 everywhere."""
    extras: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    """What single recipes read beside the scores, by name (`agentgym.credit.extras`): [B], [B, K], [B, C] ..."""

    def extra(self, name: str) -> NDArray[Any]:
        """Return one of `extras`. Raises ConfigError if it was not given."""
        if name not in self.extras:
            given = ", ".join(sorted(self.extras)) or "none"
            raise ConfigError(
                f"credit: the recipe reads {name!r}, which was not given (given: {given}). "
                "Pass it in extras=, or choose a recipe that needs it not."
            )
        return self.extras[name]

    @property
    def is_branch(self) -> Bools:
        """[B] bool: the trajectory began in the middle of another one."""
        return np.zeros(len(self.group), bool) if self.first_turn is None else self.first_turn > 0

    def but(self, **changes: Any) -> "CreditArrays":
        """Return a copy with some fields changed."""
        return replace(self, **changes)

    @property
    def n_groups(self) -> int:
        """Number of groups that have a trajectory, empty ones in between included."""
        return int(self.group.max()) + 1 if self.group.size else 0

    @property
    def has_other(self) -> Bools:
        """[B] bool: the group has another member in the statistics."""
        return self.group_sum(self.in_statistics.astype(np.float64)[:, None])[:, 0] - self.in_statistics > 0

    def group_sum(self, values: Floats) -> Floats:
        """Return for each row the sum of `values` over its group: [B, U] -> [B, U]."""
        width = values.shape[1]
        place = (self.group[:, None] * width + np.arange(width)).ravel()
        totals = np.bincount(place, values.ravel(), self.n_groups * width)  # adds in the order of the rows
        return totals.astype(np.float64, copy=False).reshape(self.n_groups, width)[self.group]

    def group_min(self, values: Floats, counted: Bools) -> Floats:
        """Return for each row the least counted value of its group, 0 where none counts: [B, U] -> [B, U]."""
        width = values.shape[1]
        place = (self.group[:, None] * width + np.arange(width)).ravel()
        least = np.full(self.n_groups * width, np.inf)
        np.minimum.at(least, place, np.where(counted, values, np.inf).ravel())
        return np.where(np.isfinite(least), least, 0.0).reshape(self.n_groups, width)[self.group]

    @staticmethod
    def from_groups(groups: Sequence[Group], *, both_levels: bool = False) -> "CreditArrays":
        """Return the arrays of some groups, rows in the order of the groups and their trajectories.

        Args:
            groups: the sibling trajectories; sizes and turn counts may differ.
            both_levels: accept a component that scores at both scopes.

        The turns of a branch are its own alone: those that it shares with its parent are the parent's.

        Raises:
            DataError: for a trajectory in a mask whose scores are invalid, deferred, not finite or do not sum to the
                reward (it names group, trajectory and turn), and for a repeated trajectory id.
            ConfigError: for a component that scores at both scopes, unless `both_levels`.
        """
        rows = [(g, trajectory) for g, members in enumerate(groups) for trajectory in members.trajectories]
        ids = tuple(trajectory.id for _, trajectory in rows)
        if len(set(ids)) < len(ids):
            twice = next(i for i in ids if ids.count(i) > 1)
            raise DataError(f"trajectory {twice}: the id occurs {ids.count(twice)} times. Ids must differ in a batch.")
        n_turns = max((len(trajectory.own_turns) for _, trajectory in rows), default=0)
        turn_scores = np.zeros((len(rows), n_turns))
        outcome = np.zeros(len(rows))
        for i, (g, trajectory) in enumerate(rows):
            if not (trajectory.in_statistics or trajectory.in_loss):
                continue  # nobody reads its values, which may be missing
            _check(f"group {groups[g].id}, trajectory {trajectory.id}", trajectory, both_levels)
            own = [turn.reward for turn in trajectory.own_turns]
            turn_scores[i, : len(own)] = own
            outcome[i] = trajectory.reward
        lengths = np.array([len(trajectory.own_turns) for _, trajectory in rows], dtype=np.int64)
        first = np.array([trajectory.first_turn for _, trajectory in rows], dtype=np.int64)
        return CreditArrays(
            turn_scores=turn_scores,
            turn_mask=np.arange(n_turns)[None, :] < lengths[:, None],
            outcome=outcome,
            group=np.array([g for g, _ in rows], dtype=np.int64),
            in_statistics=np.array([trajectory.in_statistics for _, trajectory in rows], dtype=bool),
            in_loss=np.array([trajectory.in_loss for _, trajectory in rows], dtype=bool),
            ids=ids,
            first_turn=first if first.any() else None,
        )


def _check(who: str, trajectory: Trajectory, both_levels: bool) -> None:
    """Refuse scores that would enter an advantage as something they are not."""
    places = [(f"turn {turn.index}", turn.scores, "turn", turn.reward) for turn in trajectory.turns]
    places.append(("trajectory scope", trajectory.scores, "trajectory", trajectory.reward))
    for where, scores, scope, reward in places:
        for name, score in scores.items():
            if score.weight != 0.0 and (score.deferred or not score.valid):
                what = "deferred: complete the suite before credit" if score.deferred else "invalid"
                raise DataError(
                    f"{who}, {where}: the score {name!r} is {what}. A trajectory without a valid "
                    "score leaves both masks (in_statistics, in_loss); it is never counted as 0."
                )
        if not math.isfinite(reward):
            raise DataError(f"{who}, {where}: the reward {reward!r} is not finite.")
        total = sum(score.value for score in scores.values() if score.scope == scope)
        if scores and abs(total - reward) > 1e-6 * max(1.0, abs(reward)):
            raise DataError(
                f"{who}, {where}: the reward {reward!r} is not the sum {total!r} of the scores of "
                f"scope {scope!r}. A score enters the level of its own scope only."
            )
    if both_levels:
        return
    outcome = {name for name, score in trajectory.scores.items() if score.scope == "trajectory" and score.value}
    for turn in trajectory.turns:
        for name, score in turn.scores.items():
            if score.scope == "turn" and score.value and name in outcome:
                raise ConfigError(
                    f"{who}, turn {turn.index}: {name!r} scores at both scopes, which doubles its "
                    "weight. Give it one scope, or set credit.both_levels = true."
                )
