"""The algebra of rewards: weigh, add, gate and cap components. `nodes` has the other nodes, `intervals` the bounds.

Every component is an expression, so that a suite reads as it is meant::

    answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2) + 0.1 * all_valid

A node never scores anything: `program` compiles the tree, `suite` runs it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from agentgym.errors import ConfigError
from agentgym.types import Scope

Interval = tuple[float, float]


class Expression:
    """Base of components and nodes: gives them `w * A`, `A + B`, `A - B`, `A + 1` and `-A`."""

    __slots__ = ()

    _inside: ClassVar[str] = ""
    """Name of the field that holds the child, or the children; empty for leaves."""

    @property
    def children(self) -> tuple[Expression, ...]:
        """The expressions right below this one."""
        inside = getattr(self, self._inside) if self._inside else ()
        return inside if isinstance(inside, tuple) else (inside,)

    def with_children(self, children: tuple[Expression, ...]) -> Expression:
        """Return the same node over other children."""
        inside = children if isinstance(getattr(self, self._inside), tuple) else children[0]
        return replace(self, **{self._inside: inside})  # pyright: ignore[reportArgumentType, reportCallIssue]

    @property
    def scopes(self) -> frozenset[str]:
        """The scopes at which the expression pays."""
        return frozenset().union(*(child.scopes for child in self.children))

    def __add__(self, other: Expression | float) -> Expression:
        added = as_expression(other)
        if added is None:
            return NotImplemented
        left = self.terms if isinstance(self, Sum) else (self,)
        right = added.terms if isinstance(added, Sum) else (added,)
        return Sum((*left, *right))

    def __radd__(self, other: object) -> Expression:
        if other == 0 and type(other) is int:  # lets the builtin sum() start at 0
            return self
        number = as_expression(other)
        return NotImplemented if number is None else number + self

    def __sub__(self, other: Expression | float) -> Expression:
        taken = as_expression(other)
        return NotImplemented if taken is None else self + (-taken)

    def __rsub__(self, other: float) -> Expression:
        number = as_expression(other)
        return NotImplemented if number is None else number + (-self)

    def __mul__(self, weight: float) -> Expression:
        if isinstance(weight, bool) or not isinstance(weight, (int, float)):
            return NotImplemented
        if isinstance(self, Number):
            return Number(weight * self.value)
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
    failure_max: float | None

    @property
    def scopes(self) -> frozenset[str]:
        """The component's own scope."""
        return frozenset((getattr(self, "scope", ""),))


@dataclass(frozen=True, eq=False, repr=False)
class Number(Expression):
    """A constant that every episode is paid at its end, booked to the name "constant"."""

    value: float

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise ConfigError(f"a term must be a finite number, not {self.value!r}")

    @property
    def scopes(self) -> frozenset[str]:
        """Paid at the end."""
        return frozenset(("trajectory",))

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, eq=False, repr=False)
class Weight(Expression):
    """weight · node."""

    weight: float
    node: Expression
    _inside = "node"

    def __post_init__(self) -> None:
        if not math.isfinite(self.weight):
            raise ConfigError(f"a weight must be a finite number, not {self.weight!r} (in {self.weight!r} * {self.node!r})")
        require_expression("Weight", self.node)

    def __repr__(self) -> str:
        inner = f"({self.node!r})" if isinstance(self.node, Sum) else repr(self.node)
        return f"{self.weight!r} * {inner}"


@dataclass(frozen=True, eq=False, repr=False)
class Sum(Expression):
    """The sum of its terms."""

    terms: tuple[Expression, ...]
    _inside = "terms"

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
    _inside = "what"

    def __post_init__(self) -> None:
        require_outcome(f"Gate(by={self.by!r})", self.by)
        require_expression("Gate", self.what)
        if not math.isfinite(self.base):
            raise ConfigError(f"{self!r}: base must be a finite number")

    @property
    def scopes(self) -> frozenset[str]:
        """A gate pays all it holds at the end."""
        return frozenset(("trajectory",))

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
    _inside = "node"

    def __post_init__(self) -> None:
        require_expression("Cap", self.node)
        if not self.lo <= 0.0 <= self.hi:
            raise ConfigError(f"{self!r}: needs lo <= 0 <= hi, since the running sum starts at 0")
        require_one_scope("a cap", self, self.node)

    def __repr__(self) -> str:
        return f"Cap({self.node!r}, {self.lo!r}, {self.hi!r})"


def require_expression(node: str, child: object) -> Expression:
    """Return the child. Raises ConfigError if it is no expression."""
    if isinstance(child, Expression):
        return child
    raise ConfigError(f"{node}: expected a component or an expression of components, got {child!r}")


def require_outcome(where: str, by: object) -> None:
    """Raise ConfigError if what decides a node is not one component of trajectory scope."""
    if not isinstance(by, Named) or getattr(by, "scope", "") != "trajectory":
        raise ConfigError(
            f"{where}: `by` must be one component of trajectory scope; put weights outside the gate"
        )


def require_one_scope(what: str, node: Expression, child: Expression) -> None:
    """Raise ConfigError if a child pays at both scopes."""
    if len(child.scopes) > 1:
        raise ConfigError(
            f"{node!r}: {what} over both scopes cannot be shown per turn; cap the turn terms and the"
            " trajectory terms separately"
        )


def walk(node: Expression) -> Iterator[Expression]:
    """Yield an expression and all that is below it, parents first."""
    yield node
    for child in node.children:
        yield from walk(child)


def components(node: Expression) -> Iterator[Any]:
    """Yield every component of an expression, in order of appearance; repeated ones repeatedly."""
    for part in walk(node):
        if isinstance(part, Named):
            yield part
        elif isinstance(by := getattr(part, "by", None), Named):
            yield by


def rebuilt(node: Expression, change: Callable[[Expression], Expression]) -> Expression:
    """Return the expression with `change` applied to every node, children first; the same object if nothing changed."""
    children = tuple(rebuilt(child, change) for child in node.children)
    if any(new is not old for new, old in zip(children, node.children, strict=True)):
        node = node.with_children(children)
    return change(node)


def as_expression(value: object) -> Expression | None:
    """Return an expression, a number as one, None for anything else."""
    if isinstance(value, Expression):
        return value
    return Number(float(value)) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
