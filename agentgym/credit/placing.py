"""Blocks that change the shape of a level: over the turns, at the last turn, without it, and summed over channels."""

from dataclasses import dataclass, replace

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats, Ints
from agentgym.credit.blocks import Level
from agentgym.credit.scales import Scales
from agentgym.credit.shape import last_turn
from agentgym.errors import DataError


@dataclass(frozen=True, slots=True)
class OverTurns:
    """One value of a trajectory becomes the value of each of its turns."""

    level: str

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with K columns."""
        values = np.where(arrays.turn_mask, x.values[:, :1], 0.0)
        return Level(values, arrays.turn_mask, values)

    def describe(self) -> str:
        """Say so."""
        return "repeat on every turn, so that long episodes count more in what follows"


@dataclass(frozen=True, slots=True)
class AtLast:
    """One value of a trajectory becomes the value of its last turn; its other turns have 0."""

    level: str

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with K columns."""
        values = np.where(last_turn(arrays.turn_mask), x.values[:, :1], 0.0)
        return Level(values, arrays.turn_mask, values)

    def describe(self) -> str:
        """Say so."""
        return "place on the last turn"


@dataclass(frozen=True, slots=True)
class WithoutLast:
    """The last turn's value leaves the level, or comes back with 0."""

    level: str
    back: bool = False

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with the last turns dead (or live again)."""
        if self.back:
            return replace(x, live=arrays.turn_mask)
        live = x.live & ~last_turn(arrays.turn_mask)
        return replace(x, values=np.where(live, x.values, 0.0), live=live)

    def describe(self) -> str:
        """Say so."""
        return "the last turn counts again, with 0" if self.back else "leave out the last turn, which only answers"


@dataclass(frozen=True, slots=True)
class SumChannels:
    """Weighted sum over the channels."""

    level: str = "channels"
    weights: tuple[float, ...] = ()
    """One per channel; empty for `extras["channel_weights"]`, or 1 each where that is not given."""

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with one column."""
        given = self.weights or arrays.extras.get("channel_weights", np.ones(x.values.shape[1]))
        values = combine(x.values, np.asarray(given, np.float64))
        return Level(values, np.ones(values.shape, bool), values)

    def describe(self) -> str:
        """Say the weights."""
        given = ", ".join(f"{w:g}" for w in self.weights) or "the suite's"
        return f"combine: sum over the channels with weights {given}"


def combine(values: Floats, weights: Floats) -> Floats:
    """Return the weighted sum of channels or levels: [B, ..., C], [C] -> [B, ..., 1]."""
    if values.shape[-1] != len(weights):
        raise DataError(f"credit: {len(weights)} weights for {values.shape[-1]} channels")
    return (values * weights).sum(-1, keepdims=True)


def spread(advantages: Floats, turn_id: Ints, token_mask: Bools) -> Floats:
    """Lay turn advantages onto tokens: constant over a turn's action tokens, 0 elsewhere.

    Args:
        advantages: [B, K] float64.
        turn_id: [B, T] int64: the turn of each action token; anything where `token_mask` is not set.
        token_mask: [B, T] bool: the tokens that the policy sampled. A turn without any is on no token.

    Returns:
        [B, T] float64.

    Raises:
        DataError: for an action token whose turn does not exist; it names the row.
    """
    mask = np.asarray(token_mask, bool)
    turn = np.where(mask, turn_id, 0)
    wrong = mask & ((turn < 0) | (turn >= advantages.shape[1]))
    if wrong.any():
        row, token = np.argwhere(wrong)[0]
        raise DataError(
            f"row {row}, token {token}: turn {turn[row, token]} of {advantages.shape[1]}. Every action token belongs "
            "to a turn that has an advantage."
        )
    if not advantages.shape[1]:
        return np.zeros(mask.shape)
    return np.where(mask, np.take_along_axis(advantages, turn, axis=1), 0.0)
