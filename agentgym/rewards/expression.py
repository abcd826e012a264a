"""The algebra of rewards: weigh, add, gate and cap components; interval arithmetic over the result.

Every component is an expression, so that a suite reads as it is meant::

    answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2) + 0.1 * all_valid

A node never scores anything: `program` compiles the tree, `suite` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from agentgym.errors import ConfigError
from agentgym.types import Scope

Interval = tuple[float, float]
ZERO: Interval = (0.0, 0.0)


class Expression:
    """Base of components and nodes: gives them `w * A`, `A + B`, `A - B` and `-A`."""

    __slots__ = ()

    def __add__(self, other: Expression) -> Expression:
        if not isinstance(other, Expression):
            return NotImplemented
        left = self.terms if isinstance(self, Sum) else (self,)
        right = other.terms if isinstance(other, Sum) else (other,)
        return Sum((*left, *right))

    def __radd__(self, other: object) -> Expression:
        return self if other == 0 else NotImplemented  # lets the builtin sum() start at 0

    def __sub__(self, other: Expression) -> Expression:
        return self + (-other) if isinstance(other, Expression) else NotImplemented

    def __mul__(self, weight: float) -> Expression:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            return NotImplemented
        if isinstance(self, Weight):
            return Weight(weight * self.weight, self.node)
        return Weight(float(weight), self)

    __rmul__ = __mul__

    def __neg__(self) -> Expression:
        return -1.0 * self


class Named(Expression):
    """A leaf of the tree: what the algebra must know of a component."""

    name: str
    scope: Scope
    range: Interval
    supply: str


@dataclass(frozen=True, eq=False, repr=False)
class Weight(Expression):
    """weight · node."""

    weight: float
    node: Expression

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ConfigError(f"a weight must be a finite number, not {self.weight!r} (in {self.weight!r} * {self.node!r})")
        _require_expression("Weight", self.node)

    def __repr__(self) -> str:
        inner = f"({self.node!r})" if isinstance(self.node, Sum) else repr(self.node)
        return f"{self.weight!r} * {inner}"


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Expression):
    """The sum of its terms."""

    terms: tuple[Expression, ...]

    def __repr__(self) -> str:
        return " + ".join(repr(term) for term in self.terms)


@dataclass(frozen=True, eq=False, repr=False)
class Gate(Expression):
    """by · (base + what): `what` counts as far as the trajectory component `by` does.

    What is known only at the end is paid at the end: turn terms inside a gate are retrospective. They
    are emitted at trajectory scope, and their turn scores have value 0.
    """

    by: Named
    what: Expression
    base: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.by, (Weight, Sum, Gate, Cap)) or getattr(self.by, "scope", "") != "trajectory":
            raise ConfigError(
                f"Gate(by={self.by!r}): `by` must be one component of trajectory scope; put weights outside the gate"
            )
        _require_expression("Gate", self.what)

    def __repr__(self) -> str:
        return f"Gate({self.by!r}, {self.what!r}, {self.base!r})"


@dataclass(frozen=True, eq=False, repr=False)
class Cap(Expression):
    """Keeps the running sum of `node` in [lo, hi]: emits clip(cum_t) − clip(cum_{t−1}).

    A capped potential is still a potential: what a loop earns beyond the cap it also loses first.
    """

    node: Expression
    lo: float
    hi: float

    def __post_init__(self) -> None:
        _require_expression("Cap", self.node)
        if not self.lo <= 0.0 <= self.hi:
            raise ConfigError(f"{self!r}: needs lo <= 0 <= hi, since the running sum starts at 0")
        scopes = emitted_scopes(self.node)
        if len(scopes) > 1:
            raise ConfigError(
                f"{self!r}: a cap over both scopes cannot be shown per turn; cap the turn terms and the"
                " trajectory terms separately"
            )

    def __repr__(self) -> str:
        return f"Cap({self.node!r}, {self.lo!r}, {self.hi!r})"


def _require_expression(node: str, child: object) -> None:
    if not isinstance(child, Expression):
        raise ConfigError(f"{node}: expected a component or an expression of components, got {child!r}")


def components(node: Expression) -> Iterator[Any]:
    """Yield every component of an expression, in order of appearance; repeated ones repeatedly."""
    if isinstance(node, (Weight, Cap)):
        yield from components(node.node)
    elif isinstance(node, Sum):
        for term in node.terms:
            yield from components(term)
    elif isinstance(node, Gate):
        yield node.by
        yield from components(node.what)
    else:
        yield node


def emitted_scopes(node: Expression) -> set[str]:
    """Return the scopes at which an expression pays: a gate pays all it holds at the end."""
    if isinstance(node, (Weight, Cap)):
        return emitted_scopes(node.node)
    if isinstance(node, Sum):
        return set().union(*(emitted_scopes(term) for term in node.terms))
    if isinstance(node, Gate):
        return {"trajectory"}
    return {getattr(node, "scope", "")}


def intervals(node: Expression, known: Mapping[str, Interval]) -> tuple[Interval, Interval]:
    """Return what an expression can sum to over an episode: (turn scope, trajectory scope).

    Args:
        node: the expression.
        known: intervals that replace the declared range of a component, by name (the outcome's).

    A turn cost that is not capped has no lower bound: episodes may be of any length.
    """
    if isinstance(node, Weight):
        turn, trajectory = intervals(node.node, known)
        return times((node.weight, node.weight), turn), times((node.weight, node.weight), trajectory)
    if isinstance(node, Sum):
        parts = [intervals(term, known) for term in node.terms]
        return plus(*(p[0] for p in parts)), plus(*(p[1] for p in parts))
    if isinstance(node, Cap):
        turn, trajectory = intervals(node.node, known)
        return _clipped(turn, node.lo, node.hi), _clipped(trajectory, node.lo, node.hi)
    if isinstance(node, Gate):
        by = known.get(node.by.name, node.by.range)
        return ZERO, times(by, plus((node.base, node.base), *intervals(node.what, known)))
    return _component_interval(node, known)  # pyright: ignore[reportArgumentType]


def _component_interval(component: Named, known: Mapping[str, Interval]) -> tuple[Interval, Interval]:
    lo, hi = known.get(component.name, component.range)
    if component.scope == "trajectory":
        return ZERO, (lo, hi)
    if component.supply == "cost":
        return (-math.inf if lo < 0 else 0.0, 0.0), ZERO
    return (lo, hi), ZERO


def plus(*parts: Interval) -> Interval:
    """Return the sum of intervals."""
    return sum(p[0] for p in parts), sum(p[1] for p in parts)


def times(a: Interval, b: Interval) -> Interval:
    """Return the product of intervals; 0 times infinity is 0."""
    products = [x * y if x and y else 0.0 for x in a for y in b]
    return min(products), max(products)


def _clipped(interval: Interval, lo: float, hi: float) -> Interval:
    return min(max(interval[0], lo), hi), min(max(interval[1], lo), hi)
