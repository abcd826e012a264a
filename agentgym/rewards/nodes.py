"""The other nodes of the algebra: clips, latches, means, products, conditions, schedules, group norms, shaping.

A node works on the *running sum* of what is below it wherever that is possible: a function of running sums emits
differences, so that a potential stays a potential and is paid in the turn where things happen.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards.expression import (
    Expression,
    Gate,
    Named,
    Sum,
    Weight,
    as_expression,
    rebuilt,
    require_expression,
    require_one_scope,
    require_outcome,
    walk,
)

Point = tuple[float, float]
_AT_END = frozenset(("trajectory",))
_PER_TURN = frozenset(("turn",))


@dataclass(frozen=True, eq=False, repr=False)
class Clip(Expression):
    """Clips each value of `node`: every turn's at turn scope, the one at the end at trajectory scope.

    Unlike Cap it forgets: clipping gains harder than losses, or the reverse, makes a loop pay. The suite refuses
    that unless a Cap around it bounds the sum.
    """

    node: Expression
    lo: float
    hi: float
    _inside = "node"

    def __post_init__(self) -> None:
        require_expression("Clip", self.node)
        if not self.lo <= self.hi:
            raise ConfigError(f"{self!r}: needs lo <= hi")
        require_one_scope("a clip", self, self.node)
        if self.node.scopes == _PER_TURN and not self.lo <= 0.0 <= self.hi:
            raise ConfigError(f"{self!r}: needs lo <= 0 <= hi at turn scope, or a turn in which nothing happens pays")

    def __repr__(self) -> str:
        return f"Clip({self.node!r}, {self.lo!r}, {self.hi!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Once(Expression):
    """Pays what `node` gives in the first turn in which that is not 0, and nothing after it."""

    node: Expression
    _inside = "node"

    def __post_init__(self) -> None:
        _require_turns("Once", self, self.node)

    def __repr__(self) -> str:
        return f"Once({self.node!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Mean(Expression):
    """The mean of what `node` gives per turn, over all turns of the episode; paid at the end.

    For comparison with papers that use it. Padding with turns that do nothing changes a mean, so no preset does.
    """

    node: Expression
    _inside = "node"

    def __post_init__(self) -> None:
        _require_turns("Mean", self, self.node)

    @property
    def scopes(self) -> frozenset[str]:
        """Known, and paid, at the end."""
        return _AT_END

    def __repr__(self) -> str:
        return f"Mean({self.node!r})"


class _Joint(Expression):
    """A function of the running sums of several expressions."""

    factors: tuple[Expression, ...]
    _inside = "factors"

    def __init__(self, *factors: Expression | float) -> None:
        """Join two or more expressions or numbers. Raises ConfigError for fewer, or for what is none."""
        name = type(self).__name__
        if len(factors) < 2:
            raise ConfigError(f"{name} joins two or more expressions, got {len(factors)}")
        self.factors = tuple(as_expression(factor) or require_expression(name, factor) for factor in factors)

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        """Return the same node over other children."""
        return type(self)(*children)

    @property
    def scopes(self) -> frozenset[str]:
        """Turn scope if all factors are; otherwise it is known at the end."""
        return _PER_TURN if frozenset().union(*(f.scopes for f in self.factors)) == _PER_TURN else _AT_END

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.factors))})"


class Product(_Joint):
    """The product of the sums over the episode.

    Over turn terms alone it emits differences of the product of running sums; with a trajectory term it is paid at
    the end. What it pays is booked to the factors by their Shapley values: equal shares for a product at the end.
    """


class Min(_Joint):
    """The least of the sums over the episode, booked to the factor that is least; otherwise as Product."""


@dataclass(frozen=True, eq=False, repr=False)
class OnlyIf(Expression):
    """`what` in episodes whose outcome is a success (outcome=1) or is none (outcome=0); nothing in the others.

    Success is a matter of raw = 1, so a graded outcome below 1 is none. Paid at the end, as a Gate is.
    """

    outcome: int
    what: Expression
    by: Named | None = None
    """The deciding component; by default the suite's outcome."""
    _inside = "what"

    def __post_init__(self) -> None:
        if isinstance(self.outcome, bool) or self.outcome not in (0, 1):
            raise ConfigError(f"OnlyIf({self.outcome!r}, ...): outcome is 0 (no success) or 1 (success)")
        require_expression("OnlyIf", self.what)
        if self.by is not None:
            require_outcome(f"OnlyIf(by={self.by!r})", self.by)

    @property
    def scopes(self) -> frozenset[str]:
        """Known, and paid, at the end."""
        return _AT_END

    def __repr__(self) -> str:
        by = "" if self.by is None else f", {self.by!r}"
        return f"OnlyIf({int(self.outcome)}, {self.what!r}{by})"


@dataclass(frozen=True, eq=False, repr=False)
class MaxNorm(Expression):
    """A trajectory component divided by its maximum over the group; 0 where nobody in the group has any.

    Known when all siblings are (`Suite.complete`, `Suite.transform_groups`); until then the score waits. Since it
    uses the siblings, no claim about an unbiased gradient holds for it.

    Source: E-GRPO (entity match), CaRR / C-GRPO (rubrics). The maximum is over all members that are in the loss or
    in the statistics, so also over those that scored 0 for an error.
    """

    component: Named
    _inside = "component"

    def __post_init__(self) -> None:
        if not isinstance(self.component, Named) or getattr(self.component, "scope", "") != "trajectory":
            raise ConfigError(f"MaxNorm({self.component!r}): needs one component of trajectory scope; weigh it outside")
        if self.component.range[0] < 0:
            raise ConfigError(f"MaxNorm({self.component!r}): the range {self.component.range} must not go below 0")

    @property
    def scopes(self) -> frozenset[str]:
        """Paid at the end."""
        return _AT_END

    def __repr__(self) -> str:
        return f"MaxNorm({self.component!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Schedule(Expression):
    """`node` with a weight that follows the progress of training, from 0 (first step) to 1 (last).

    The progress is given per episode (`reset(options={"progress": 0.3})`; the learner and the evaluation do it) and
    kept in the record; `Suite.at` fixes it for good.
    """

    node: Expression
    weight: Callable[[float], float] | Sequence[Any]
    """(first, last) weight, straight in between; or points (progress, weight); or a function, in memory only."""
    _inside = "node"

    def __post_init__(self) -> None:
        require_expression("Schedule", self.node)
        if not callable(self.weight):
            object.__setattr__(self, "weight", _points(self.weight))
        self.at(0.0)
        self.at(1.0)

    def at(self, progress: float) -> float:
        """Return the weight at some progress. Raises ConfigError where a function gives no finite number."""
        if callable(self.weight):
            value = self.weight(progress)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise ConfigError(f"{self!r}: the weight at progress {progress:g} is {value!r}, which is no finite number")
            return float(value)
        points = list(self.weight)
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if progress <= x1:
                return y0 if progress <= x0 else y0 + (y1 - y0) * (progress - x0) / (x1 - x0)
        return points[-1][1]

    def __repr__(self) -> str:
        how = getattr(self.weight, "__name__", "?") if callable(self.weight) else repr(list(self.weight))
        return f"Schedule({self.node!r}, {how})"


@dataclass(frozen=True, eq=False, repr=False)
class Shaped(Expression):
    """Potential-based shaping: pays γ Φ(s') − Φ(s) per turn with Φ(terminal) = 0, Φ the running sum of `node`.

    Because Φ starts at 0 and is taken back at the end, the γ-discounted sum is 0 in every episode: the shaped task
    has the optimal policies of the task without it, and the same order of all policies. That holds for returns
    discounted with the same γ (the learner's gamma, 1 by default) and while nothing but weights and sums is around
    it. All that is left to gain is earlier credit: a return-to-go is −Φ(s), a baseline that knows the state.
    An episode that a limit outside of it cuts has its potential taken back at trajectory scope, as "settlement".

    Source: "Policy invariance under reward transformations" (Ng, Harada and Russell 1999), with Φ relative to the
    first state; TIPS (arXiv 2603.22293) with the log-probability of the answer as Φ: `Shaped(information_gain_log)`.
    Deviation from its released code, which pays the differences of Φ and does not take the last potential back: so
    its sum is Φ(last) − Φ(first), which depends on the policy, as with a bare potential component.
    """

    node: Expression
    gamma: float = 1.0
    _inside = "node"

    def __post_init__(self) -> None:
        _require_turns("Shaped", self, self.node)
        if not 0.0 < self.gamma <= 1.0:
            raise ConfigError(f"{self!r}: gamma must lie in (0, 1]")
        for part in walk(self.node):
            if isinstance(part, Named) and part.supply not in ("potential", "once"):
                raise ConfigError(f"{self!r}: {part!r} is no potential (supply={part.supply!r}); shaping needs one")

    def __repr__(self) -> str:
        return f"Shaped({self.node!r}, {self.gamma!r})"


def check_shaping(expression: Expression) -> None:
    """Raise ConfigError where something else than weights and sums is around a Shaped: it would not be shaping."""
    for node in walk(expression):
        if not isinstance(node, (Sum, Weight, Schedule)):
            for part in (p for child in node.children for p in walk(child)):
                if isinstance(part, Shaped):
                    raise ConfigError(
                        f"{part!r} inside {type(node).__name__} is no potential-based shaping any more; take it out, or"
                        f" use {part.node!r} without Shaped"
                    )


def bound_to(expression: Expression, outcome: Named) -> Expression:
    """Return the expression with every OnlyIf decided by a component: by `outcome` where it names none."""

    def bind(node: Expression) -> Expression:
        if isinstance(node, OnlyIf) and node.by is None:
            return OnlyIf(node.outcome, node.what, outcome)
        return node

    return rebuilt(expression, bind)


def frozen_at(expression: Expression, progress: float) -> Expression:
    """Return the expression with every Schedule replaced by its weight at some progress."""

    def freeze(node: Expression) -> Expression:
        return Weight(node.at(progress), node.node) if isinstance(node, Schedule) else node

    return rebuilt(expression, freeze)


def cells(expression: Expression) -> list[Point]:
    """Return the stretches of progress (from, to) over which bounds are taken; each may be one point.

    Where schedules of straight or broken lines have only weights, sums, gates and conditions around them, bounds are
    extreme where lines break. Elsewhere progress is cut into hundredths, in which weights count as free.
    """
    schedules = [node for node in walk(expression) if isinstance(node, Schedule)]
    breaks = {0.0, 1.0}.union(*({x for x, _ in s.weight} for s in schedules if not callable(s.weight)))
    if not schedules:
        return [(1.0, 1.0)]
    if all(_plain(node) for node in walk(expression)) and not any(callable(s.weight) for s in schedules):
        return [(x, x) for x in sorted(breaks)]
    return list(itertools.pairwise(sorted(breaks.union(i / 100 for i in range(101)))))


def _plain(node: Expression) -> bool:
    """Whether a node keeps convex what lies below it, as far as progress goes."""
    below = (part for child in node.children for part in walk(child))
    return isinstance(node, (Sum, Weight, Gate, OnlyIf)) or not any(isinstance(part, Schedule) for part in below)


def _require_turns(name: str, node: Expression, child: Expression) -> None:
    require_expression(name, child)
    if child.scopes != _PER_TURN:
        raise ConfigError(f"{node!r}: {name} is about turns, but {child!r} pays (also) at the end")


def _points(given: Sequence[Any]) -> tuple[Point, ...]:
    """Return points of a straight line or of a broken one."""
    what = "give (first, last), or points [(0, weight), ..., (1, weight)] with rising progress, or a function"
    try:
        pairs = [(0.0, given[0]), (1.0, given[1])] if not isinstance(given[0], Sequence) else [(x, y) for x, y in given]
        points = tuple((float(x), float(y)) for x, y in pairs)
    except (TypeError, ValueError, IndexError):
        raise ConfigError(f"Schedule: the weight {given!r} is not understood; {what}") from None
    if not isinstance(given[0], Sequence) and len(given) != 2:
        raise ConfigError(f"Schedule: the weight {given!r} is not understood; {what}")
    if not all(math.isfinite(v) for point in points for v in point):
        raise ConfigError(f"Schedule: the weight {given!r} has a number that is not finite")
    xs = [x for x, _ in points]
    if xs[0] < 0 or xs[-1] > 1 or any(b <= a for a, b in itertools.pairwise(xs)):
        raise ConfigError(f"Schedule: progress rises from 0 to 1, not {xs}; {what}")
    return points
