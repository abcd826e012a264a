"""Interval arithmetic over expressions: what the scores of an episode can sum to.

Sound for every node. Tight where every component occurs once: then the ends are reached by values in the declared
ranges. A component that occurs twice is counted as if both occurrences were free.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from agentgym.errors import ConfigError
from agentgym.rewards.expression import Cap, Expression, Gate, Interval, Named, Number, Sum, Weight
from agentgym.rewards.nodes import Clip, MaxNorm, Mean, Min, Once, OnlyIf, Product, Schedule, Shaped

ZERO: Interval = (0.0, 0.0)
_ANY: Interval = (-math.inf, math.inf)


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an episode beyond the declared ranges."""

    ranges: Mapping[str, Interval] = field(default_factory=dict)
    """Intervals that replace the declared range of a component, by name (the outcome's)."""
    success: Mapping[str, bool] = field(default_factory=dict)
    """Whether a component is a success, by name; unknown where it is missing."""
    progress: Interval = (1.0, 1.0)
    """Stretch of training in which the weights of schedules lie between those at its ends."""


@dataclass(frozen=True, slots=True)
class Span:
    """What an expression can sum to over an episode."""

    turn: Interval = ZERO
    """Sum of the turn-scope contributions over the whole episode."""
    running: Interval = ZERO
    """The same sum at any time: what is known of the end does not bound it. Holds 0."""
    step: Interval = ZERO
    """The contribution of one turn."""
    trajectory: Interval = ZERO
    """Sum of the trajectory-scope contributions."""
    open: Interval = ZERO
    """A potential that a cut episode was paid per turn and gives back at the end (`Shaped`)."""

    def total(self, turn_factor: float = 1.0) -> Interval:
        """Return the interval of turn_factor · turn sum + trajectory sum."""
        settled = hull(times((turn_factor - 1.0, turn_factor - 1.0), self.open), ZERO)
        return plus(times((turn_factor, turn_factor), self.turn), self.trajectory, settled)


def span(node: Expression, known: Known) -> Span:
    """Return what an expression can sum to over an episode.

    A turn cost that is not capped has no lower bound, and an unbounded gain no upper one: episodes may be of any
    length.
    """
    if isinstance(node, Named):
        return _component(node, known)
    if isinstance(node, Number):
        return Span(trajectory=(node.value, node.value))
    if isinstance(node, Gate):
        by = known.ranges.get(node.by.name, node.by.range)
        return Span(trajectory=times(by, plus((node.base, node.base), span(node.what, known).total())))
    if isinstance(node, OnlyIf):
        return Span(trajectory=_only_if(node, span(node.what, known).total(), known))
    if isinstance(node, MaxNorm):
        return Span(trajectory=_max_norm(node, known))
    if isinstance(node, (Product, Min)):
        return _joint(node, [span(factor, known) for factor in node.factors])
    if isinstance(node, Sum):
        parts = [span(term, known) for term in node.terms]
        return Span(*(plus(*(getattr(p, name) for p in parts)) for name in Span.__slots__))
    inner = span(node.children[0], known)
    if isinstance(node, (Weight, Schedule)):
        ends = [node.weight] if isinstance(node, Weight) else [node.at(p) for p in known.progress]
        by = (min(ends), max(ends))
        return Span(*(times(by, getattr(inner, name)) for name in Span.__slots__))
    if isinstance(node, Cap):
        turn, running, end = (clipped(x, node.lo, node.hi) for x in (inner.turn, inner.running, inner.trajectory))
        return Span(turn, running, hull(_meet(inner.step, _differences(running)), ZERO), end)
    if isinstance(node, Clip):
        if node.scopes == {"trajectory"}:
            return Span(trajectory=clipped(inner.trajectory, node.lo, node.hi))
        step = clipped(inner.step, node.lo, node.hi)
        return Span(_clip_sum(node, inner.step, inner.turn), _clip_sum(node, inner.step, inner.running), step)
    if isinstance(node, Once):
        first = hull(_meet(inner.step, inner.running), ZERO)
        return Span(first, first, first)
    if isinstance(node, Mean):
        return Span(trajectory=hull(_meet(inner.step, inner.turn), ZERO))
    if isinstance(node, Shaped):
        return _shaped(node, inner)
    raise ConfigError(f"{node!r}: no bounds are known for a {type(node).__name__}")


def _component(component: Named, known: Known) -> Span:
    lo, hi = known.ranges.get(component.name, component.range)
    if component.scope == "trajectory":
        return Span(trajectory=(lo, hi))
    if component.supply in ("cost", "unbounded"):
        free = (-math.inf if lo < 0 else 0.0, math.inf if hi > 0 else 0.0)
        return Span(free, free, (lo, hi))
    return Span((lo, hi), component.range, _differences(component.range))


def _only_if(node: OnlyIf, inner: Interval, known: Known) -> Interval:
    success = known.success.get(node.by.name) if node.by is not None else None
    if success is None:
        return hull(inner, ZERO)
    return inner if success == bool(node.outcome) else ZERO


def _max_norm(node: MaxNorm, known: Known) -> Interval:
    lo, hi = known.ranges.get(node.component.name, node.component.range)
    highest = node.component.range[1]
    return (lo / highest if highest > 0 else 0.0, 1.0 if hi > 0 else 0.0)


def _joint(node: Product | Min, spans: list[Span]) -> Span:
    total = _joined(node, [s.total() for s in spans])
    if node.scopes != {"turn"}:
        return Span(trajectory=total)
    running = _joined(node, [s.running for s in spans])
    return Span(total, running, _differences(running))


def _joined(node: Product | Min, sums: list[Interval]) -> Interval:
    if isinstance(node, Min):
        return min(lo for lo, _ in sums), min(hi for _, hi in sums)
    result = sums[0]
    for interval in sums[1:]:
        result = times(result, interval)
    return result


def _clip_sum(node: Clip, step: Interval, total: Interval) -> Interval:
    """Return what clipped turn values can sum to: clipping one side alone keeps the other side's bound."""
    least, most = clipped(step, node.lo, node.hi)
    if least < 0:
        least = -math.inf if step[1] > node.hi else total[0]
    if most > 0:
        most = math.inf if step[0] < node.lo else total[1]
    return min(least, 0.0), max(most, 0.0)


def _shaped(node: Shaped, inner: Span) -> Span:
    """Return the span of a shaped potential; with gamma 1 it telescopes, below 1 every turn costs (1 − gamma) Φ."""
    if node.gamma == 1.0:
        return Span(open=inner.turn)
    lo, hi = inner.running
    return Span((-math.inf if hi > 0 else 0.0, math.inf if lo < 0 else 0.0), open=times((node.gamma, node.gamma), inner.turn))


def plus(*parts: Interval) -> Interval:
    """Return the sum of intervals."""
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def times(a: Interval, b: Interval) -> Interval:
    """Return the product of intervals; 0 times infinity is 0."""
    products = [x * y if x and y else 0.0 for x in a for y in b]
    return min(products), max(products)


def hull(a: Interval, b: Interval) -> Interval:
    """Return the smallest interval that holds both."""
    return min(a[0], b[0]), max(a[1], b[1])


def clipped(interval: Interval, lo: float, hi: float) -> Interval:
    """Return the interval with both ends clipped to lo .. hi."""
    return min(max(interval[0], lo), hi), min(max(interval[1], lo), hi)


def _differences(interval: Interval) -> Interval:
    """Return what a value in an interval can change by."""
    lo, hi = interval
    return (lo - hi, hi - lo) if lo < hi else ZERO


def _meet(a: Interval, b: Interval) -> Interval:
    """Return what two intervals have in common (they always have)."""
    return max(a[0], b[0]), min(a[1], b[1])
