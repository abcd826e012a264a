"""Shaping: steps before the levels that change what is scored. Every one is a function of arrays, masks explicit."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.partition import part_greatest
from agentgym.credit.scales import Scales

Gate = Literal["always", "correct", "incorrect"]


def last_turn(turn_mask: Bools) -> Bools:
    """Return where each row's last turn is: [B, K] bool; nowhere in a row without turns."""
    lengths = turn_mask.sum(1)
    return turn_mask & (np.arange(turn_mask.shape[1]) == lengths[:, None] - 1)


def is_correct(arrays: CreditArrays) -> Bools:
    """Return [B] bool: `extras["correct"]`, or an outcome of at least one half."""
    given = arrays.extras.get("correct")
    return arrays.outcome >= 0.5 if given is None else np.asarray(given, bool)


def flag(arrays: CreditArrays, name: str) -> Bools:
    """Return [B] bool: the extra of that name, nowhere set if it was not given."""
    given = arrays.extras.get(name)
    return np.zeros(len(arrays.group), bool) if given is None else np.asarray(given, bool)


def over_group_max(values: Floats, arrays: CreditArrays) -> Floats:
    """Return values / their greatest in the group's statistics, 0 where that is not positive: [B] -> [B]."""
    top = part_greatest(values[:, None], arrays.in_statistics[:, None], arrays.group[:, None], arrays.n_groups)
    greatest = top[arrays.group]
    return np.divide(values, greatest, out=np.zeros_like(values), where=greatest > 0)


def mix(outcome: Floats, bonus: Floats, alpha: float, gate: Gate, correct: Bools) -> Floats:
    """Return an outcome with a bonus mixed in: [B], [B] -> [B].

    always: (1 - alpha) outcome + alpha bonus. correct: the same, with the bonus times the outcome, so that only
    right answers can earn it. incorrect: the outcome of right answers, alpha bonus for wrong ones.
    """
    if gate == "always":
        return (1 - alpha) * outcome + alpha * bonus
    if gate == "correct":
        return (1 - alpha) * outcome + alpha * outcome * bonus
    return np.where(correct, outcome, alpha * bonus)


def trust(outcome: Floats, bonus: Floats, arrays: CreditArrays) -> Floats:
    """Return how far each row's group may trust its bonus: [B].

    1 if right answers (outcome at least one half) have on average at least the bonus of wrong ones, else
    exp(mean of the right - mean of the wrong); 1 where one side is empty.
    """
    right = (outcome >= 0.5) & arrays.in_statistics
    wrong = (outcome < 0.5) & arrays.in_statistics
    sums = arrays.group_sum(np.stack([right * bonus, right, wrong * bonus, wrong], axis=1).astype(np.float64))
    gap = sums[:, 0] / np.maximum(sums[:, 1], 1.0) - sums[:, 2] / np.maximum(sums[:, 3], 1.0)
    both = (sums[:, 1] > 0) & (sums[:, 3] > 0)
    return np.where(both, np.exp(np.minimum(gap, 0.0)), 1.0)


def overlong_penalty(n_tokens: ArrayLike, limit: float, cache: float) -> Floats:
    """Return 0 up to limit - cache tokens, then falling linearly to -1 at the limit, and -1 above it: [B]."""
    lengths = np.asarray(n_tokens, np.float64)
    return np.where(lengths > limit, -1.0, np.minimum(0.0, (limit - cache - lengths) / cache))


@dataclass(frozen=True, slots=True)
class OutcomeAtLast:
    """The outcome becomes part of the last turn's score."""

    joins_levels: ClassVar = True

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the outcome added to each last turn's score."""
        placed = np.where(last_turn(arrays.turn_mask), arrays.outcome[:, None], 0.0)
        return arrays.but(turn_scores=np.where(arrays.turn_mask, arrays.turn_scores, 0.0) + placed)

    def describe(self) -> str:
        """Say so."""
        return "add the outcome to the score of the last turn"


@dataclass(frozen=True, slots=True)
class SumTurns:
    """The outcome becomes the sum of the turn scores."""

    joins_levels: ClassVar = True

    keep_outcome: bool = False
    """Add the turn scores to the outcome instead of replacing it."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new outcome; the turn scores stay."""
        total = np.where(arrays.turn_mask, arrays.turn_scores, 0.0).sum(1)
        return arrays.but(outcome=total + arrays.outcome if self.keep_outcome else total)

    def describe(self) -> str:
        """Say so."""
        return f"outcome := {'outcome + ' if self.keep_outcome else ''}sum of the turn scores"


@dataclass(frozen=True, slots=True)
class MeanTurns:
    """The outcome becomes the turn scores' sum over a number of reference turns."""

    joins_levels: ClassVar = True

    n_turns: int = 0
    """0: `extras["reference_turns"]`, or the most turns of the group where that is not given."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new outcome."""
        total = np.where(arrays.turn_mask, arrays.turn_scores, 0.0).sum(1)
        return arrays.but(outcome=total / np.maximum(self._reference(arrays), 1.0))

    def _reference(self, arrays: CreditArrays) -> Floats:
        if self.n_turns:
            return np.full(len(arrays.group), float(self.n_turns))
        if "reference_turns" in arrays.extras:
            return np.asarray(arrays.extras["reference_turns"], np.float64)
        lengths = arrays.turn_mask.sum(1).astype(np.float64)[:, None]
        counted = np.ones_like(lengths, bool)
        return part_greatest(lengths, counted, arrays.group[:, None], arrays.n_groups)[arrays.group]

    def describe(self) -> str:
        """Say which number."""
        number = self.n_turns or "the task's reference turns (else the most turns of the group)"
        return f"outcome := sum of the turn scores / {number}"


@dataclass(frozen=True, slots=True)
class Affine:
    """An affine map of the outcome."""

    factor: float
    shift: float
    why: str

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with factor * (outcome - shift)."""
        return arrays.but(outcome=self.factor * (arrays.outcome - self.shift))

    def describe(self) -> str:
        """Say the constants."""
        return f"outcome := {self.factor:g} (outcome - {self.shift:g}): {self.why}"


@dataclass(frozen=True, slots=True)
class Mix:
    """A component's score mixed into the outcome."""

    component: str
    alpha: float
    gate: Gate = "always"
    group_max: bool = False
    """Divide the component's score by its greatest in the group first."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the mixed outcome."""
        bonus = np.asarray(arrays.extra(score_name(self.component)), np.float64)
        bonus = over_group_max(bonus, arrays) if self.group_max else bonus
        return arrays.but(outcome=mix(arrays.outcome, bonus, self.alpha, self.gate, is_correct(arrays)))

    def describe(self) -> str:
        """Say the rule."""
        bonus = f"{self.component}{' / its greatest in the group' if self.group_max else ''}"
        rules = {
            "always": f"(1 - {self.alpha:g}) outcome + {self.alpha:g} {bonus}",
            "correct": f"(1 - {self.alpha:g}) outcome + {self.alpha:g} outcome * {bonus}",
            "incorrect": f"the outcome if the answer is right, else {self.alpha:g} {bonus}",
        }
        return f"outcome := {rules[self.gate]}"


@dataclass(frozen=True, slots=True)
class Replace:
    """A fixed outcome for flagged rows."""

    name: str
    value: float = 0.0
    in_loss: bool = True

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the value where the flag is set; such rows may leave the loss."""
        flagged = flag(arrays, self.name)
        outcome = np.where(flagged, self.value, arrays.outcome)
        return arrays.but(outcome=outcome, in_loss=arrays.in_loss & (~flagged | self.in_loss))

    def describe(self) -> str:
        """Say what happens to which rows."""
        loss = "" if self.in_loss else "; out of the loss, kept in the statistics: BIASED"
        return f"outcome := {self.value:g} where {self.name} is set{loss}"


def score_name(component: str) -> str:
    """Return the name of the extra that holds a component's raw trajectory scores."""
    return f"score:{component}"
