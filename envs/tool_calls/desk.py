"""Service desks: people with records of items, and what may be done about them. Shop and drawn domains are desks.

`DeskSchema` is the whole of such a domain as data; the kinds of tasks are the same for all.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agentgym.envs.tool_calls.domain import TableDomain
from agentgym.envs.tool_calls.draft import Draft, Step, ask, told
from agentgym.envs.tool_calls.operations import Operation, Rule, make_tools
from agentgym.envs.tool_calls.talk import Wish
from agentgym.gold import Constraint
from agentgym.seeding import stream
from agentgym.task import Answer, Task
from agentgym.tools import Tool
from agentgym.types import JSON
from agentgym.worlds.app_data import TODAY, Table, draw_tables, fresh_value
from agentgym.worlds.tables import Row, Tables


@dataclass(frozen=True, slots=True)
class DeskSchema:
    """A domain as data: what there is, what can be done, what is allowed."""

    name: str
    owner: Table
    """People. Its first field is their name."""
    item: Table
    """What records are about. Its first field is its title."""
    record: Table
    """What people have, with a reference to the owner and to the item as its first two fields."""
    find: Operation
    """People by name."""
    list: Operation
    """Records of a person."""
    look: Operation
    """One record."""
    actions: tuple[Operation, ...]
    """What changes records."""
    rules: tuple[Rule, ...]
    reads: tuple[str, ...]
    """Fields of records that users ask about."""
    extras: tuple[Operation, ...] = ()
    """Further reading tools, for lookups of items."""
    money: str = ""
    """Field of records that can be summed; shown by `list`."""


@dataclass(frozen=True, slots=True)
class Case:
    """A person and one of their records, the only one about its item."""

    owner: str
    name: str
    record: str
    title: str
    row: Row
    others: tuple[str, ...]
    """Ids of the person's other records."""


class Desk(TableDomain):
    """A service desk over drawn rows."""

    def __init__(self, schema: DeskSchema, size: int, seed: int) -> None:
        """Draw the rows: `size` people, and records for them."""
        self.schema, self.seed = schema, seed
        self.name = schema.name
        parts = (schema.owner, schema.item, schema.record)
        self.rows: Tables = draw_tables(parts, size, stream("desk", schema.name, seed, "rows"))
        self._tools = make_tools((schema.find, schema.list, schema.look, *schema.extras, *schema.actions), parts, schema.rules)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of tasks of this schema."""
        takes = any(op.takes for op in self.schema.actions)
        kinds = [k for k in KINDS if takes or k not in ("set", "ask_value", "ask_both", "fallback")]
        return tuple(k for k in kinds if self.schema.money or k != "total")

    @property
    def starts(self) -> Sequence[str]:
        """The ids that tasks start from."""
        return list(self.rows[self.schema.owner.name])

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the schema's tools."""
        return self._tools

    def rules(self, task: Task) -> str:
        """Return the rules in words."""
        return desk_rules(self.schema)

    def draft(self, kind: str, start: str, rng: np.random.Generator) -> Draft | None:
        """Return a task of a kind about a person, or None where that person has no fitting record."""
        return KINDS[kind](self, start, rng)

    # ---- what kinds are made of

    def cases(self, owner: str) -> list[Case]:
        """Return the records of a person that their item tells apart."""
        s = self.schema
        ref, item = s.record.fields[0].name, s.record.fields[1].name
        ids = self.rows.index(s.record.name, ref).get(owner, [])
        rows = {id_: self.rows[s.record.name][id_] for id_ in ids}
        items = [row[item] for row in rows.values()]
        name = str(self.rows[s.owner.name][owner][s.owner.fields[0].name])
        title = s.item.fields[0].name
        return [
            Case(owner, name, id_, str(self.rows[s.item.name][str(row[item])][title]), row, tuple(o for o in ids if o != id_))
            for id_, row in rows.items()
            if items.count(row[item]) == 1
        ]

    def broken(self, op: Operation, row: Row) -> list[Rule]:
        """Return the rules that an operation on a row would break."""
        return [r for r in self.schema.rules if r.tool == op.name and not r.holds(row)]

    def steps(self, case: Case) -> list[Step]:
        """Return the way to a record."""
        s = self.schema
        return [
            Step(s.find.name, {s.find.by: case.name}),
            Step(s.list.name, {s.list.param: case.owner}),
            Step(s.look.name, {s.look.param: case.record}),
        ]

    def act(self, op: Operation, case: Case, values: dict[str, JSON] | None = None) -> Step:
        """Return the call of an action."""
        return Step(op.name, {op.param: case.record, **(values or {})}, after_all=True)

    def it(self, case: Case) -> str:
        """Return how the owner calls a record."""
        return f"my {self.schema.record.noun} of the {case.title}"


def desk_rules(s: DeskSchema) -> str:
    """Return the policy of a desk."""
    lines = [f"You work at the desk of the {s.name}. Today is {TODAY.isoformat()}. The user is a {s.owner.noun}."]
    lines += [rule.text for rule in s.rules]
    lines.append(f"Look the {s.record.noun} up before you change it. Change nothing that was not asked for.")
    lines.append("What the rules forbid, refuse, and name the fact that forbids it. Ask the user what you need to know.")
    lines.append(f"Your last message names the id of the {s.record.noun} that it is about, and what was asked for.")
    return "\n".join(lines)


def fact(value: JSON) -> Answer:
    """Return a value as a fact to be told."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return Answer(str(value), type="number" if number else "string")


def _pick(items: Sequence[Any], rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


_OPENINGS = ("My name is {}.", "This is {}.", "{} here.", "Hello, I am {}.")
_PLEASE = ("Please {}.", "I would like you to {}.", "Could you {}?", "I need you to {}.")
_READ = ("What is the {f} of {it}?", "Tell me the {f} of {it}.", "I want to know the {f} of {it}.")


def _say(case: Case, text: str, rng: np.random.Generator) -> str:
    return f"{_pick(_OPENINGS, rng).format(case.name)} {text}"


def _request(case: Case, wish: str, rng: np.random.Generator) -> str:
    return _say(case, _pick(_PLEASE, rng).format(wish), rng)


def _read(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    cases = desk.cases(owner)
    if not cases:
        return None
    case, field = _pick(cases, rng), _pick(desk.schema.reads, rng)
    question = _say(case, _pick(_READ, rng).format(f=field.replace("_", " "), it=desk.it(case)), rng)
    value = case.row[field]
    return Draft(question, (*desk.steps(case), told("finish", f"{case.record}: {value}", fact(case.record), fact(value))))


def _total(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    s = desk.schema
    ids = desk.rows.index(s.record.name, s.record.fields[0].name).get(owner, [])
    if not 2 <= len(ids) <= 12:
        return None
    name = str(desk.rows[s.owner.name][owner][s.owner.fields[0].name])
    total = round(sum(float(desk.rows[s.record.name][i][s.money]) for i in ids), 2)
    words = (f"How much is the {s.money.replace('_', ' ')} of all my {s.record.name} together?",
             f"Add up the {s.money.replace('_', ' ')} of all my {s.record.name}.")  # fmt: skip
    question = f"{_pick(_OPENINGS, rng).format(name)} {_pick(words, rng)}"
    plan = (Step(s.find.name, {s.find.by: name}), Step(s.list.name, {s.list.param: owner}))
    return Draft(question, (*plan, told("finish", f"{total:.2f} in all", Answer(f"{total:.2f}", type="number", tol=0.005))))


def _cases_for(desk: Desk, owner: str, op: Operation, *, allowed: bool) -> list[Case]:
    # What is forbidden is forbidden for one reason, so that there is one to name.
    return [case for case in desk.cases(owner) if len(desk.broken(op, case.row)) == (0 if allowed else 1)]


def _chosen(
    desk: Desk, owner: str, rng: np.random.Generator, *, takes: bool, allowed: bool = True
) -> tuple[Operation, Case] | None:
    ops = [op for op in desk.schema.actions if bool(op.takes) == takes]
    options = [(op, case) for op in ops for case in _cases_for(desk, owner, op, allowed=allowed)]
    return _pick(options, rng) if options else None


def _wrong(op: Operation, case: Case, values: dict[str, JSON] | None = None) -> tuple[tuple[str, tuple[Constraint, ...]], ...]:
    """The same done to another record of the same person."""
    return tuple((f"m{n}", (Constraint(call=op.name, arguments={op.param: other}),)) for n, other in enumerate(case.others[:3]))


def _new_values(desk: Desk, op: Operation, case: Case, rng: np.random.Generator) -> dict[str, JSON]:
    return {name: fresh_value(desk.schema.record.field(name), case.row[name], rng) for name in op.takes}


def _close(case: Case, *more: JSON) -> Step:
    text = f"Done: {case.record}" + "".join(f", {value}" for value in more)
    return told("finish", text, fact(case.record), *map(fact, more))


def _do(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    found = _chosen(desk, owner, rng, takes=False)
    if found is None:
        return None
    op, case = found
    question = _request(case, op.wish.format(it=desk.it(case)), rng)
    return Draft(question, (*desk.steps(case), desk.act(op, case), _close(case)), forbidden=_wrong(op, case))


def _set(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    found = _chosen(desk, owner, rng, takes=True)
    if found is None:
        return None
    op, case = found
    values = _new_values(desk, op, case, rng)
    question = _request(case, op.wish.format(it=desk.it(case), value=" and ".join(map(str, values.values()))), rng)
    return Draft(question, (*desk.steps(case), desk.act(op, case, values), _close(case)), forbidden=_wrong(op, case))


def _refuse(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    takes = bool(rng.random() < 0.4)
    found = _chosen(desk, owner, rng, takes=takes, allowed=False) or _chosen(desk, owner, rng, takes=not takes, allowed=False)
    if found is None:
        return None
    op, case = found
    rule = desk.broken(op, case.row)[0]
    values = _new_values(desk, op, case, rng)
    question = _request(case, op.wish.format(it=desk.it(case), value=" and ".join(map(str, values.values()))), rng)
    cause = case.row[rule.field]
    words = rule.field.replace("_", " ")
    end = told("refuse", f"Not possible: the {words} of {case.record} is {cause}.", fact(case.record), fact(cause))
    mine = ("m0", (Constraint(call=op.name, arguments={op.param: case.record}),))
    return Draft(question, (*desk.steps(case), end), forbidden=(mine,))


def _wish_for(op: Operation, values: dict[str, JSON]) -> Wish:
    words = tuple(dict.fromkeys([*(n.replace("_", " ") for n in values), *(n.split("_")[-1] for n in values)]))
    return Wish("value", f"Make it {' and '.join(map(str, values.values()))}.", words)


def _which(desk: Desk, case: Case) -> Wish:
    s = desk.schema
    return Wish("which", f"The one of the {case.title}.", ("which", s.item.noun, f"which {s.record.noun}"))


def _ask_value(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    found = _chosen(desk, owner, rng, takes=True)
    if found is None:
        return None
    op, case = found
    values = _new_values(desk, op, case, rng)
    question = _request(case, op.open_wish.format(it=desk.it(case)), rng)
    asked = ask(f"What should the new {_named(op)} be?")
    plan = (asked, *desk.steps(case), desk.act(op, case, values), _close(case))
    return Draft(question, plan, wishes=(_wish_for(op, values),), forbidden=_wrong(op, case))


def _named(op: Operation) -> str:
    return " and ".join(n.replace("_", " ") for n in op.takes)


def _ask_which(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    found = _chosen(desk, owner, rng, takes=False)
    if found is None or not found[1].others:
        return None
    op, case = found
    question = _request(case, op.wish.format(it=f"one of my {desk.schema.record.name}"), rng)
    plan = (ask(f"Which {desk.schema.record.noun} is it about?"), *desk.steps(case), desk.act(op, case), _close(case))
    return Draft(question, plan, wishes=(_which(desk, case),), forbidden=_wrong(op, case))


def _ask_both(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    found = _chosen(desk, owner, rng, takes=True)
    if found is None or not found[1].others:
        return None
    op, case = found
    values = _new_values(desk, op, case, rng)
    question = _request(case, op.open_wish.format(it=f"one of my {desk.schema.record.name}"), rng)
    asks = (ask(f"Which {desk.schema.record.noun} is it about?"), ask(f"What should the new {_named(op)} be?"))
    plan = (*asks, *desk.steps(case), desk.act(op, case, values), _close(case))
    return Draft(question, plan, wishes=(_which(desk, case), _wish_for(op, values)), forbidden=_wrong(op, case))


def _fallback(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    """Do one thing; if the rules forbid it, another."""
    pairs = [
        (first, second, case)
        for first in desk.schema.actions if not first.takes
        for second in desk.schema.actions if second.takes
        for case in desk.cases(owner)
        if not desk.broken(first, case.row) or not desk.broken(second, case.row)
    ]  # fmt: skip
    if not pairs:
        return None
    first, second, case = _pick(pairs, rng)
    values = _new_values(desk, second, case, rng)
    other = second.wish.format(it="it", value=" and ".join(map(str, values.values())))
    question = _say(case, f"Please {first.wish.format(it=desk.it(case))}. If the rules do not allow that, {other} instead.", rng)
    possible = not desk.broken(first, case.row)
    act = desk.act(first, case) if possible else desk.act(second, case, values)
    mine = Constraint(call=(second if possible else first).name, arguments={first.param: case.record})
    return Draft(question, (*desk.steps(case), act, _close(case)), forbidden=(("m0", (mine,)),))


def _then(desk: Desk, owner: str, rng: np.random.Generator) -> Draft | None:
    """A question first, and when it is answered a request."""
    found = _chosen(desk, owner, rng, takes=False)
    if found is None:
        return None
    op, case = found
    field = _pick(desk.schema.reads, rng)
    value = case.row[field]
    question = _say(case, _pick(_READ, rng).format(f=field.replace("_", " "), it=desk.it(case)), rng)
    later = f"Thank you. {_pick(_PLEASE, rng).format(op.wish.format(it='it'))}"
    answer = told("reply", f"It is {value}.", fact(value))
    plan = (*desk.steps(case), answer, desk.act(op, case), _close(case))
    return Draft(question, plan, later=(later,), forbidden=_wrong(op, case))


KINDS: dict[str, Callable[[Desk, str, np.random.Generator], Draft | None]] = {
    "read": _read,
    "do": _do,
    "refuse": _refuse,
    "ask_value": _ask_value,
    "set": _set,
    "total": _total,
    "ask_which": _ask_which,
    "fallback": _fallback,
    "then": _then,
    "ask_both": _ask_both,
}
"""Kinds of tasks, in the order in which they take turns."""
