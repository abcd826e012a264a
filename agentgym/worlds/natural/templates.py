"""Question templates of natural worlds: chains of relations, intersections of two, comparisons of two.

A template is known by its number, the place in its family's tuple.
"""

from dataclasses import dataclass
from functools import cache

from agentgym.worlds.natural.question_words import JOINS
from agentgym.worlds.natural.schema import BY_NAME, KEY_YEAR, OF_TYPE, RELATIONS, TYPES, YEAR

CHAIN, INTERSECTION, COMPARISON = 0, 1, 2
FAMILIES = ("chain", "intersection", "comparison")
MAX_HOPS = 4


@dataclass(frozen=True, slots=True)
class Join:
    """An intersection: the only `kind` entity with tails by `first` and `second`, then `rest` relations on."""

    kind: str
    first: str
    second: str
    describe_first: str
    """The relation by which the question describes the first tail."""
    describe_second: str
    rest: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Compare:
    """A comparison: two entities of a type, described by relations; `ask` a relation of the earlier or later."""

    kind: str
    describe_first: str
    describe_second: str
    earlier: bool
    ask: str


@cache
def chains(kind: str, hops: int) -> tuple[tuple[str, ...], ...]:
    """Return all chains of relations of a length that start at a type; only the last may end in a year."""
    found = []
    for r in OF_TYPE[kind]:
        if hops == 1:
            found.append((r.name,))
        elif r.tail != YEAR:
            found += [(r.name, *rest) for rest in chains(r.tail, hops - 1)]
    return tuple(found)


@cache
def chain_templates() -> tuple[tuple[str, ...], ...]:
    """Return every chain of 1 to 4 hops; a plan's template is an index into it."""
    return tuple(c for kind in TYPES for hops in range(1, MAX_HOPS + 1) for c in chains(kind, hops))


@cache
def joins() -> tuple[Join, ...]:
    """Return every intersection template."""
    found = []
    for first, second in JOINS:
        kind = BY_NAME[first].head
        rests: list[tuple[str, ...]] = [()]
        rests += [(r.name,) for r in OF_TYPE[kind] if r.name not in (first, second)]
        rests += [c for c in chains(kind, 2) if c[0] not in (first, second)]
        for a in describing(BY_NAME[first].tail):
            for b in describing(BY_NAME[second].tail):
                found += [Join(kind, first, second, a, b, rest) for rest in rests]
    return tuple(found)


@cache
def compares() -> tuple[Compare, ...]:
    """Return every comparison template."""
    return tuple(
        Compare(kind, a, b, earlier, r.name)
        for kind in KEY_YEAR
        for a in describing(kind)
        for b in describing(kind)
        for earlier in (True, False)
        for r in OF_TYPE[kind]
        if r.name != KEY_YEAR[kind]
    )


@cache
def describing(kind: str) -> tuple[str, ...]:
    """Return the relations by which a question can describe an entity of a type: those that lead to it."""
    return tuple(r.name for r in RELATIONS if r.tail == kind)


def asked_relation(family: int, template: int) -> str:
    """Return the relation that a question asks for (for an intersection without further hops, its first)."""
    if family == CHAIN:
        return chain_templates()[template][-1]
    if family == COMPARISON:
        return compares()[template].ask
    join = joins()[template]
    return join.rest[-1] if join.rest else join.first
