"""Vector rewards: the scores of groups of trajectories, one channel per component, none of them summed.

A recipe that normalises or weighs components one by one starts from here; the channels' values add up to what
`CreditArrays` holds, channel by channel nothing is lost.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.errors import ConfigError, suggestion
from agentgym.rewards.scoring import SHARE
from agentgym.types import Group, Score


@dataclass(frozen=True, slots=True, eq=False)
class Channels:
    """The scores of B trajectories with at most K turns and C components; rows as in `CreditArrays`."""

    names: tuple[str, ...]
    """[C] component names."""
    turn: Floats
    """[B, K, C] float64: contributions at turn scope; 0 outside the turn mask and where a component has none."""
    trajectory: Floats
    """[B, C] float64: contributions at trajectory scope, after weights, gates and caps."""
    turn_raw: Floats
    """[B, K, C] float64: raw turn scores; NaN where a component has none."""
    trajectory_raw: Floats
    """[B, C] float64: raw trajectory scores; NaN where a component has none."""
    turn_weight: Floats
    """[C] float64: weight of the raw turn scores, gates and caps left out; 0 for a channel without turn scores."""
    trajectory_weight: Floats
    """[C] float64: the same at trajectory scope."""
    attributed: Floats
    """[B, K, C] float64: each turn's share in `trajectory` for turn scores that the outcome gated; else 0."""
    arrays: CreditArrays
    """Masks, groups and ids, and the sums over the channels."""

    @property
    def n_channels(self) -> int:
        """Number of components."""
        return len(self.names)

    def index(self, name: str) -> int:
        """Return the position of a component. Raises ConfigError for one that no trajectory has."""
        if name not in self.names:
            allowed = ", ".join(self.names) or "none"
            raise ConfigError(f"no score is called {name!r}{suggestion(name, self.names)}; channels: {allowed}")
        return self.names.index(name)

    def one(self, name: str) -> CreditArrays:
        """Return the arrays of one channel alone, for the blocks that work on summed scores."""
        c, arrays = self.index(name), self.arrays
        return CreditArrays(
            turn_scores=self.turn[:, :, c],
            turn_mask=arrays.turn_mask,
            outcome=self.trajectory[:, c],
            group=arrays.group,
            in_statistics=arrays.in_statistics,
            in_loss=arrays.in_loss,
            ids=arrays.ids,
        )

    @property
    def known(self) -> Bools:
        """[B, C] bool: the trajectory has a score of the component, at either scope."""
        return np.isfinite(self.trajectory_raw) | np.isfinite(self.turn_raw).any(axis=1)


def channels_from_groups(
    groups: Sequence[Group], names: Sequence[str] | None = None, *, both_levels: bool = False
) -> Channels:
    """Return the scores of some groups as channels.

    Args:
        groups: the sibling trajectories; sizes and turn counts may differ.
        names: the components in the order of the channels; by default all that have a weight or a value, sorted.
        both_levels: accept a component that scores at both scopes.

    Raises:
        DataError: as `CreditArrays.from_groups`.
        ConfigError: for a name that no trajectory has, or a component at both scopes, unless `both_levels`.
    """
    arrays = CreditArrays.from_groups(groups, both_levels=both_levels)
    rows = [trajectory for group in groups for trajectory in group.trajectories]
    every = [t.scores for t in rows] + [turn.scores for t in rows for turn in t.turns]
    present = {n for scores in every for n, score in scores.items()}
    paying = sorted(n for n in present if any(s[n].weight or s[n].value for s in every if n in s))
    channels = tuple(paying if names is None else names)
    for name in channels:
        if name not in present:
            allowed = ", ".join(sorted(present)) or "none"
            raise ConfigError(f"no score is called {name!r}{suggestion(name, tuple(present))}; scores: {allowed}")
    b, k, c = len(rows), arrays.turn_mask.shape[1], len(channels)
    turn, attributed, trajectory = np.zeros((b, k, c)), np.zeros((b, k, c)), np.zeros((b, c))
    turn_raw, trajectory_raw = np.full((b, k, c), np.nan), np.full((b, c), np.nan)
    turn_weight, trajectory_weight = np.zeros(c), np.zeros(c)
    for i, row in enumerate(rows):
        if not (row.in_statistics or row.in_loss):
            continue  # as in CreditArrays: nobody reads its values, which may be missing
        for j, name in enumerate(channels):
            for place, one in enumerate(row.own_turns):
                if name in one.scores:
                    turn[i, place, j], turn_raw[i, place, j] = _numbers(one.scores[name])
                    turn_weight[j] = one.scores[name].weight
            if name in row.scores:
                score = row.scores[name]
                trajectory[i, j], trajectory_raw[i, j] = _numbers(score)
                trajectory_weight[j] = score.weight
                if row.turns and name in row.turns[0].scores:
                    for place in range(len(row.own_turns)):
                        attributed[i, place, j] = score.parts.get(f"{SHARE}{row.first_turn + place}", 0.0)
    return Channels(
        channels, turn, trajectory, turn_raw, trajectory_raw, turn_weight, trajectory_weight, attributed, arrays
    )


def _numbers(score: Score) -> tuple[float, float]:
    return score.value, np.nan if score.raw is None else score.raw
