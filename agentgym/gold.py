"""The parts of gold that describe what a policy should do: calls, states, milestones, hidden facts, GUI actions.

`check` refuses gold that means nothing (a cycle, an id nobody has, weights of zero) when it is made, so that a
file of tasks names the line and no episode is scored 0 for its task's fault.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from agentgym import statement, typed
from agentgym.errors import DataError, suggestion
from agentgym.types import JSON

Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in pixels of the page."""


@dataclass(frozen=True, slots=True)
class GoldCall:
    """A call that a solution makes."""

    id: str
    name: str
    """The tool's name, compared byte for byte."""
    arguments: dict[str, JSON] = field(default_factory=dict)
    compare: dict[str, str] = field(default_factory=dict)
    """Per argument how it is compared (`agentgym.typed.MODES`); "exact" where it is not named."""
    optional: bool = False
    """May be made or left out: it earns nothing and costs nothing."""
    after: tuple[str, ...] = ()
    """Ids of calls that must come before it."""
    turn: int | None = None
    """0-based turn in which it is expected, where that matters; None: any."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """A statement about the final state: the value at `path` stands in the relation `op` to `value`."""

    path: str = ""
    """Keys joined by points, list items by index or by a field: "orders.#W23.items[0]", "contacts[name=Ana].phone"."""
    op: str = "eq"
    """One of `agentgym.statement.OPERATORS`, e.g. eq, ne, exists, absent, contains, lt, number(0.01), regex."""
    value: JSON = None
    weight: float = 1.0
    program: str = ""
    """In the place of a path: "module:function", given the state; returns whether the statement holds."""


@dataclass(frozen=True, slots=True)
class Constraint:
    """What one moment of an episode must show: a call that succeeded, or a statement about the state after a turn."""

    call: str = ""
    """Name of a tool. The call must have every argument that is named; others are free."""
    arguments: dict[str, JSON] = field(default_factory=dict)
    compare: dict[str, str] = field(default_factory=dict)
    path: str = ""
    """As `Assertion.path`."""
    op: str = "eq"
    value: JSON = None


@dataclass(frozen=True, slots=True)
class Milestone:
    """A moment that a solution passes through; as a minefield, one that it never does."""

    id: str
    constraints: tuple[Constraint, ...]
    """All at once; their similarities join as a geometric mean."""
    after: tuple[str, ...] = ()
    """Ids of milestones that come before it."""


@dataclass(frozen=True, slots=True)
class HiddenFact:
    """Something that only the simulated user knows, until it is asked for."""

    id: str
    text: str
    vital: bool = True
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class GuiAction:
    """One action of a reference trajectory."""

    type: str
    """Name of the tool: click, long_press, type, scroll, back, home, open_app, wait, answer, finish."""
    target: str = ""
    """Stable id of the element that is acted on; empty where the action has none."""
    accept: tuple[str, ...] = ()
    """Other elements that do as well."""
    text: str = ""
    """What is typed or answered."""
    name: str = ""
    """Of the app that is opened; or the visible name of the element, for next-action prediction."""
    direction: str = ""
    status: str = ""
    """Of finish: complete or infeasible."""
    alternatives: tuple[GuiAction, ...] = ()
    """Whole actions that do as well."""


@dataclass(frozen=True, slots=True)
class Product:
    """What a shopping task asks for."""

    title: str = ""
    query: str = ""
    """The search words of the product's shelf."""
    category: str = ""
    """Path of categories, joined by "›" or ">"."""
    attributes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    price_max: float | None = None
    """None: any price."""


def check(
    *,
    trace: Sequence[GoldCall],
    accepted_args: Mapping[str, Mapping[str, Sequence[JSON]]],
    assertions: Sequence[Assertion],
    milestones: Sequence[Milestone],
    minefields: Sequence[Milestone],
    hidden_facts: Sequence[HiddenFact],
) -> None:
    """Refuse gold that means nothing.

    Raises:
        DataError: naming the field and the ids.
        ConfigError: a compare mode cannot be read.
    """
    _ordered("trace", trace)
    for call in trace:
        _compared(f"trace call {call.id!r}", call.name, call.arguments, call.compare)
    calls = {call.id: call for call in trace}
    for id_, table in accepted_args.items():
        if id_ not in calls:
            raise DataError(f"accepted_args names the call {id_!r}, which trace does not have{suggestion(id_, calls)}")
        empty = sorted(name for name, values in table.items() if not values)
        if empty:
            raise DataError(f"accepted_args of call {id_!r}: no value is accepted for {', '.join(empty)}")
    _ordered("milestones", milestones)
    _unique("minefields", (m.id for m in minefields))
    known = [m.id for m in milestones]
    for milestone in (*milestones, *minefields):
        _constrained(milestone)
    for minefield in minefields:
        _known(f"minefield {minefield.id!r}", minefield.after, known, "milestones")
    _weighed("assertions", [(a.path or a.program, a.weight) for a in assertions])
    for assertion in assertions:
        if bool(assertion.path) == bool(assertion.program):
            raise DataError(f"assertion {assertion!r:.200}: give either a path or a program")
        if assertion.path:
            statement.check(assertion.path, assertion.op)
    _unique("hidden_facts", (fact.id for fact in hidden_facts))
    _weighed("hidden_facts", [(fact.id, fact.weight) for fact in hidden_facts])


def _ordered(field_name: str, items: Sequence[GoldCall] | Sequence[Milestone]) -> None:
    """Check ids and their order: unique, known, without a cycle."""
    _unique(field_name, (item.id for item in items))
    after = {item.id: item.after for item in items}
    for id_, before in after.items():
        _known(f"{field_name}: {id_!r}", before, after, field_name)
    left = dict(after)
    while left:
        ready = [id_ for id_, before in left.items() if not any(b in left for b in before)]
        if not ready:
            raise DataError(f"{field_name}: `after` goes round in a circle among {', '.join(map(repr, left))}")
        for id_ in ready:
            del left[id_]


def _unique(field_name: str, ids: Iterable[str]) -> None:
    seen: set[str] = set()
    for id_ in ids:
        if not id_ or id_ in seen:
            raise DataError(f"{field_name}: the id {id_!r} is {'used twice' if id_ else 'empty'}; ids are unique words")
        seen.add(id_)


def _known(where: str, given: Sequence[str], known: Iterable[str], field_name: str) -> None:
    known = list(known)
    for id_ in given:
        if id_ not in known:
            raise DataError(f"{where} is after {id_!r}, which is not among {field_name}{suggestion(id_, known)}")


def _compared(where: str, name: str, arguments: Mapping[str, JSON], compare: Mapping[str, str]) -> None:
    if not name:
        raise DataError(f"{where} names no tool")
    for argument, mode in compare.items():
        if argument not in arguments:
            raise DataError(f"{where} compares {argument!r}, which it does not have{suggestion(argument, arguments)}")
        typed.comparison(mode)


def _constrained(milestone: Milestone) -> None:
    where = f"milestone {milestone.id!r}"
    if not milestone.constraints:
        raise DataError(f"{where} has no constraints: nothing could show that it was reached")
    for constraint in milestone.constraints:
        if bool(constraint.call) == bool(constraint.path):
            raise DataError(f"{where}: a constraint has either a call or a path, not {constraint!r:.200}")
        if constraint.call:
            _compared(where, constraint.call, constraint.arguments, constraint.compare)
        else:
            statement.check(constraint.path, constraint.op)


def _weighed(field_name: str, weights: Sequence[tuple[str, float]]) -> None:
    bad = [name for name, weight in weights if not 0.0 <= weight < float("inf")]
    if bad:
        raise DataError(f"{field_name}: the weights of {', '.join(map(repr, bad))} must be numbers of at least 0")
    if weights and not sum(weight for _, weight in weights):
        raise DataError(f"{field_name}: the weights of {', '.join(repr(name) for name, _ in weights)} sum to zero")


FinishStatus = Literal["", "complete", "infeasible"]
