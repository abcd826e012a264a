"""The operations of a compiled suite: each works on slices of the leaves' values and keeps their sum what it should be."""

from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["cap", "clip", "once", "product", "min", "shaped", "gate", "only_if", "mean"]
Slice = tuple[int, int]


@dataclass(slots=True)
class Step:
    """One operation on the leaves [start, end), followed by an outer weight."""

    kind: Kind
    start: int
    end: int
    weight: float
    lo: float = 0.0
    hi: float = 0.0
    by: int = -1
    """For gate and only_if: index of the trajectory component that decides."""
    outcome: int = 1
    """For only_if: whether it pays on success."""
    gamma: float = 1.0
    """For shaped."""
    factors: tuple[Slice, ...] = ()
    """For product and min: the leaves of each factor."""

    def memory(self) -> Any:
        """Return what the step remembers of a fresh episode: a running sum, one per factor, or one per leaf."""
        if self.kind in ("product", "min"):
            return [0.0] * len(self.factors)
        return [0.0] * (self.end - self.start) if self.kind == "shaped" else 0.0


def cap_turn(values: list[float], step: Step, before: float) -> float:
    """Apply a cap to one turn; return the new running sum."""
    total = 0.0
    for value in values[step.start : step.end]:
        total += value
    if not total:
        return before
    after = before + total
    lo, hi = step.lo, step.hi
    if after < lo or after > hi or before < lo or before > hi:
        share(values, step, total, min(max(after, lo), hi) - min(max(before, lo), hi))
    return after


def apply_turn(values: list[float], step: Step, memory: Any, last: bool) -> Any:
    """Apply any other step to one turn; return its new memory.

    Args:
        values: contributions of the turn's leaves, changed in place.
        step: the operation.
        memory: what `Step.memory` or the turn before returned.
        last: the episode ended with this turn.
    """
    if step.kind == "clip":
        clip(values, step)
    elif step.kind == "once":
        if memory:
            scale(values, step.start, step.end, 0.0)
        return memory or float(sum(values[step.start : step.end]) != 0.0)
    elif step.kind == "shaped":
        return shape(values, step, memory, last)
    else:
        return join(values, step, memory)
    return memory


def clip(values: list[float], step: Step) -> None:
    """Make a slice sum to its clipped sum."""
    total = sum(values[step.start : step.end])
    if total < step.lo or total > step.hi:
        share(values, step, total, min(max(total, step.lo), step.hi))


def shape(values: list[float], step: Step, before: list[float], last: bool) -> list[float]:
    """Replace differences of a potential by γ·after − before, leaf by leaf; the potential is 0 after the last turn."""
    after = [0.0 if last else b + value for b, value in zip(before, values[step.start : step.end], strict=True)]
    values[step.start : step.end] = [step.gamma * a - b for a, b in zip(after, before, strict=True)]
    return after


def join(values: list[float], step: Step, before: list[float]) -> list[float]:
    """Turn changes of running sums into the change of their product or minimum; return the new running sums."""
    change = [sum(values[a:b]) for a, b in step.factors]
    shares = product_shares(before, change) if step.kind == "product" else min_shares(before, change)
    for (start, end), factor in zip(step.factors, shares, strict=True):
        scale(values, start, end, factor)
    return [b + c for b, c in zip(before, change, strict=True)]


def product_shares(before: list[float], change: list[float]) -> list[float]:
    """Return by what each change is multiplied, so that they add up to the change of the product.

    The Shapley value of each factor's change: the integral of the other factors along the straight line.
    """
    shares = []
    for f in range(len(before)):
        polynomial = [1.0]
        for g in range(len(before)):
            if g != f:
                raised = [0.0, *(change[g] * x for x in polynomial)]
                polynomial = [before[g] * x + y for x, y in zip([*polynomial, 0.0], raised, strict=True)]
        shares.append(sum(x / (power + 1) for power, x in enumerate(polynomial)))
    return shares


def min_shares(before: list[float], change: list[float]) -> list[float]:
    """Return by what each change is multiplied, so that they add up to the change of the minimum.

    A rise is due to the sum that was least, a fall to the one that is least now; each moved at least as far.
    """
    after = [b + c for b, c in zip(before, change, strict=True)]
    moved = min(after) - min(before)
    shares = [0.0] * len(before)
    if moved:
        least = min(before) if moved > 0 else min(after)
        tied = [f for f, x in enumerate(before if moved > 0 else after) if x == least]
        chosen = min(tied, key=lambda f: after[f])
        shares[chosen] = moved / change[chosen]
    return shares


def factor_of(step: Step, raw: float | None, n_turns: int) -> float:
    """Return what a gate, a condition or a mean multiplies its slice with; a raw value that waits counts as 0."""
    if step.kind == "mean":
        return 1.0 / n_turns if n_turns else 0.0
    if step.kind == "gate":
        return raw or 0.0
    return 0.0 if raw is None else float(is_one(raw) == bool(step.outcome))


def is_one(raw: float) -> bool:
    """Whether an outcome's raw value is a success."""
    return raw >= 1.0 - 1e-9


def scale(values: list[float], start: int, end: int, factor: float) -> None:
    """Multiply a slice."""
    for i in range(start, end):
        values[i] *= factor


def share(values: list[float], step: Step, total: float, wanted: float) -> None:
    """Scale a slice that sums to `total` to sum to `wanted`; its last non-zero member takes the remainder."""
    if not total:  # nobody gave anything: only a clip that does not hold 0 comes here
        values[step.start] = wanted
        for i in range(step.start + 1, step.end):
            values[i] = 0.0
        return
    factor, left, last = wanted / total, wanted, -1
    for i in range(step.start, step.end):
        if values[i]:
            last = i
    for i in range(step.start, last):
        values[i] *= factor
        left -= values[i]
    values[last] = left


def splits(paid: float, per_turn: list[float]) -> list[float]:
    """Return the share of every turn in what was paid at the end: in proportion to what it gave, else equal."""
    total = sum(per_turn)
    return [paid * x / total if total else paid / len(per_turn) for x in per_turn]
