"""Rows of app worlds, drawn from a seed: people with their records, of any number, over a declared schema."""

# Word lists are easier to read and to extend as text.
# ruff: noqa: SIM905

import datetime as dt
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agentgym.errors import ConfigError, suggestion
from agentgym.types import JSON
from agentgym.worlds.closed_words import CITIES, PEOPLE
from agentgym.worlds.tables import Row, Tables

Kind = Literal["person", "title", "email", "phone", "city", "street", "date", "count", "money", "choice", "ref"]
TODAY = dt.date(2026, 3, 16)
"""The day on which every app world stands still (a Monday)."""

SURNAME_HEADS = "Ahl Berg Cald Dorn Eker Falk Gran Holm Ister Jarn Kest Lind Mor Nord Oster Palm Quill Ros Sund Torv Ulm Vest Wern Yrs Zell".split()
SURNAME_TAILS = "ander beck dal ell ford gren hart ison kamp lund mark nes orra strom quist rad sen tveit vik wall".split()
ADJECTIVES = "amber brass cedar copper crimson folding frosted golden green grey indigo ivory linen marble oak paper pearl pine quiet red round silver slate small tall velvet violet walnut white wicker woollen yellow".split()
NOUNS = "anvil basket bell bench blanket bottle bowl brush bucket cabinet candle chair clock coat compass desk drum easel fan flask globe hammer jar kettle ladder lamp lantern mirror mug pillow plate rug saddle scarf shelf spade stool table teapot tent tray vase wallet whistle".split()
STREETS = "Alder Birch Canal Dyer Elm Ferry Glen Harbour Iron Juniper Kiln Laurel Mill North Orchard Priory Quarry River Station Tanner Union Vine Well Yew".split()
WAYS = "Lane Road Row Street Way".split()


@dataclass(frozen=True, slots=True)
class Field:
    """One column."""

    name: str
    kind: Kind
    values: tuple[str, ...] = ()
    """Of a choice: all values, the first drawn most often."""
    table: str = ""
    """Of a ref: the table whose ids it holds."""
    days: tuple[int, int] = (-90, -1)
    """Of a date: the days from today between which it lies."""
    high: int = 0
    """Of a count or money: the largest value; 0: 9 and 400."""


@dataclass(frozen=True, slots=True)
class Table:
    """One kind of thing."""

    name: str
    """Plural, e.g. "orders"."""
    noun: str
    """Singular, e.g. "order"."""
    prefix: str
    """What ids begin with, e.g. "W"."""
    fields: tuple[Field, ...]
    share: float = 1.0
    """Rows for each unit of the world's size."""

    def field(self, name: str) -> Field:
        """Return a field by name. Raises ConfigError for an unknown one."""
        found = next((f for f in self.fields if f.name == name), None)
        if found is None:
            names = [f.name for f in self.fields]
            raise ConfigError(f"table {self.name!r} has no field {name!r}{suggestion(name, names)}; fields: {', '.join(names)}")
        return found


def draw_tables(schema: Sequence[Table], size: int, rng: np.random.Generator) -> Tables:
    """Return rows for a schema; a table comes after those that it refers to.

    Args:
        schema: The tables.
        size: How large: rows of a table are `size` times its `share`, at least 2.
        rng: The world's own stream.

    Raises:
        ConfigError: A ref names a table that does not come before it.
    """
    made: dict[str, dict[str, Row]] = {}
    for table in schema:
        count = max(2, round(size * table.share))
        columns: dict[str, list[JSON]] = {}
        for field in table.fields:
            if field.kind == "ref" and field.table not in made:
                raise ConfigError(f"table {table.name!r}: {field.name!r} refers to {field.table!r}, which must come before it")
            columns[field.name] = _column(field, count, columns, made, rng)
        first = 10 ** max(2, len(str(count)) - 1) + 1
        ids = [f"{table.prefix}{first + n}" for n in range(count)]
        names = list(columns)
        made[table.name] = {id_: dict(zip(names, row, strict=True)) for id_, row in zip(ids, zip(*columns.values(), strict=True), strict=True)}
    return Tables(made, {table.name: table.prefix for table in schema})


def people(count: int, rng: np.random.Generator) -> list[str]:
    """Return so many different names of people; some share a first name or a surname."""
    total = len(PEOPLE) * len(SURNAME_HEADS) * len(SURNAME_TAILS)
    if count > total:
        raise ConfigError(f"a world has at most {total:,} people, not {count:,}; give a smaller size")
    surnames = len(SURNAME_HEADS) * len(SURNAME_TAILS)
    pool = min(surnames, max(8, count // 2))  # few surnames for few people: namesakes must be told apart
    own = rng.permutation(surnames)[:pool]
    picked = rng.choice(len(PEOPLE) * pool, count, replace=False) if count <= len(PEOPLE) * pool else rng.permutation(total)[:count]
    if count > len(PEOPLE) * pool:
        own, pool = np.arange(surnames), surnames
    return [f"{PEOPLE[int(i) // pool]} {_surname(int(own[int(i) % pool]))}" for i in picked]


def titles(count: int, rng: np.random.Generator) -> list[str]:
    """Return so many different names of things; numbered where words run out."""
    total = len(ADJECTIVES) * len(NOUNS)
    order = rng.permutation(total)
    return [
        f"{ADJECTIVES[int(order[n % total]) // len(NOUNS)]} {NOUNS[int(order[n % total]) % len(NOUNS)]}"
        + (f" {n // total + 1}" if n >= total else "")
        for n in range(count)
    ]


def street(rng: np.random.Generator) -> str:
    """Return an address, e.g. "14 Canal Row"."""
    return f"{int(rng.integers(1, 99))} {_one(STREETS, rng)} {_one(WAYS, rng)}"


def day(offset: int) -> str:
    """Return the date so many days from today, as ISO text."""
    return (TODAY + dt.timedelta(days=offset)).isoformat()


def fresh_value(field: Field, old: JSON, rng: np.random.Generator) -> JSON:
    """Return another value for a field, as a user may wish for it."""
    for _ in range(40):
        value = _VALUES[field.kind](field, rng)
        if value != old:
            return value
    raise ConfigError(f"field {field.name!r} has no other value than {old!r}; give it more values")


def _column(
    field: Field, count: int, columns: Mapping[str, list[JSON]], made: Mapping[str, dict[str, Row]], rng: np.random.Generator
) -> list[JSON]:
    if field.kind == "person":
        return list(people(count, rng))
    if field.kind == "title":
        return list(titles(count, rng))
    if field.kind == "email":
        names = next(c for c in columns.values() if c and isinstance(c[0], str) and " " in c[0])
        return [f"{str(name).lower().replace(' ', '.')}@mail.example" for name in names]
    if field.kind == "ref":
        ids = list(made[field.table])
        return [ids[int(n)] for n in rng.integers(0, len(ids), count)]
    if field.kind == "choice":
        weights = np.array([2.0] + [1.0] * (len(field.values) - 1))
        return [field.values[int(n)] for n in rng.choice(len(field.values), count, p=weights / weights.sum())]
    return [_VALUES[field.kind](field, rng) for _ in range(count)]


def _money(field: Field, rng: np.random.Generator) -> float:
    return round(float(rng.integers(300, 100 * (field.high or 400))) / 100, 2)


_VALUES: dict[str, Callable[[Field, np.random.Generator], JSON]] = {
    "phone": lambda field, rng: f"555-{int(rng.integers(1000, 9999))}",
    "city": lambda field, rng: _one(CITIES, rng),
    "street": lambda field, rng: street(rng),
    "date": lambda field, rng: day(int(rng.integers(field.days[0], field.days[1] + 1))),
    "count": lambda field, rng: int(rng.integers(1, (field.high or 9) + 1)),
    "money": _money,
    "choice": lambda field, rng: _one(field.values, rng),
}


def _surname(index: int) -> str:
    return SURNAME_HEADS[index // len(SURNAME_TAILS)] + SURNAME_TAILS[index % len(SURNAME_TAILS)]


def _one(values: Sequence[str], rng: np.random.Generator) -> str:
    return values[int(rng.integers(len(values)))]
