"""drawn: domains that a generator makes up: names, fields, tools, rules. Each seed is another desk.

So training and test can differ in everything that a policy could know by heart: which tools there are, what they and
their parameters are called, what is forbidden. What stays is the craft: find, read, ask, act within the rules, tell.
"""

# Word lists are easier to read and to extend as text.
# ruff: noqa: SIM905

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from agentgym.envs.tool_calls.desk import Desk, DeskSchema
from agentgym.envs.tool_calls.operations import Operation, Rule
from agentgym.seeding import stream
from agentgym.worlds.app_data import Field, Kind, Table

OWNERS = "applicant borrower breeder captain client climber collector donor driver exhibitor farmer gardener grower guest lodger member musician owner passenger patient patron pilot reader resident rider sailor sender student subscriber tenant trader visitor".split()
RECORDS = "admission application appointment berth booking claim consignment contract course delivery enrolment excursion grant inspection lease licence loan membership parcel permit plot policy rental repair reservation seat session shipment storage ticket transfer treatment trip voucher".split()
ITEMS = "archive arena boat cabin cart chapel cottage device engine exhibit garden greenhouse hall instrument lodge machine mooring museum observatory paddock parcel pavilion pier pool route saddlery studio theatre tower tractor vault vehicle vineyard workshop".split()
PLACES = "agency archive bureau centre club collective company depot exchange guild harbour house institute lodge office school service station trust yard".split()
STATES = "active approved archived arrived assigned blocked checked closed collected confirmed declined drafted due expired frozen held late listed loaded logged marked moved open packed paused planned posted queued ready received released reviewed scheduled sealed sorted started stored waiting".split()
ENDINGS = "annulled dropped ended lapsed retired revoked scrapped shelved stopped withdrawn".split()
FLAGS = "audit bonus deposit discount escort insurance notice rebate reminder waiver".split()
FLAG_VERBS = {"audit": "start an audit of", "bonus": "grant the bonus of", "deposit": "return the deposit of", "discount": "grant the discount on",
              "escort": "order the escort for", "insurance": "insure", "notice": "give notice on", "rebate": "pay the rebate on",
              "reminder": "send the reminder for", "waiver": "sign the waiver of"}  # fmt: skip
LEVELS = "basic bronze comfort economy extended family gold junior plain premium ruby senior shared silver simple standard".split()
AMOUNTS = "balance charge cost deposit due_amount fare fee price rate value".split()
DATES = "agreed_on begun_on booked_on entered_on filed_on issued_on made_on opened_on signed_on stamped_on".split()
CHOICES = "category class grade level plan rank section tier".split()
TEXTS: dict[str, Kind] = {"address": "street", "pickup_place": "city", "street": "street", "contact_phone": "phone", "town": "city", "meeting_point": "street", "hotline": "phone", "origin": "city"}
COUNTS = "guests hours items keys nights parts seats units visits weeks".split()
FINDS, LISTS, LOOKS, SETS, ENDS = "find search lookup locate".split(), "list browse show_all all".split(), "get read show fetch open".split(), "set change update edit".split(), "cancel close end revoke stop".split()


def drawn(size: int, seed: int) -> Desk:
    """Return the domain of a seed, with so many people."""
    return Desk(draw_schema(seed), size, seed)


def draw_schema(seed: int) -> DeskSchema:
    """Return the schema of a seed."""
    draw = _Draw(stream("drawn-domain", seed))
    owner, record, item = draw.one(OWNERS), draw.one(RECORDS), draw.one(ITEMS)
    while item == record:
        item = draw.one(ITEMS)
    amount, date, choice = draw.one(AMOUNTS), draw.one(DATES), draw.one(CHOICES)
    texts, counts = draw.some(list(TEXTS), 2), draw.one(COUNTS)
    states, levels, flag = draw.some(STATES, 5), draw.some(LEVELS, 5), draw.one(FLAGS)
    end, state = draw.one(ENDINGS), draw.one(("status", "state", "stage", "phase"))
    owners = Table(f"{owner}s", owner, draw.letters(1), (Field("name", "person"), Field(draw.one(("city", "home_town")), "city"), Field("phone", "phone")))
    items = Table(f"{item}_stock", item, draw.letters(2), (Field(draw.one(("title", "name")), "title"), Field(draw.one(("places", "size", "weight")), "count", high=90)),
                  share=0.6)  # fmt: skip
    owner_ref, item_ref = f"{owner}_id", f"{item}_id"
    fields = [
        Field(state, "choice", (*states, end)), Field(date, "date", days=(-80, -1)), Field(amount, "money"), Field(choice, "choice", tuple(levels)),
        Field(counts, "count"), *(Field(name, TEXTS[name]) for name in texts), Field(flag, "choice", ("none",)),
    ]  # fmt: skip
    head = (Field(owner_ref, "ref", table=owners.name), Field(item_ref, "ref", table=items.name))
    records = Table(f"{record}s" if not record.endswith("y") else f"{record[:-1]}ies", record, draw.letters(3),
                    (*head, *draw.shuffled(fields)), share=float(draw.one((2.0, 3.0, 4.0))))  # fmt: skip
    names = _Names(draw)
    actions = _actions(draw, names, records, record, texts, choice, state, end, flag)
    return DeskSchema(
        name=f"{draw.one(('northern', 'old', 'royal', 'river', 'upper', 'county', 'free', 'eastern'))} {item} {draw.one(PLACES)}",
        owner=owners,
        item=items,
        record=records,
        find=Operation(names.tool(FINDS, owner), "find", owners.name, f"Find {owner}s by their full name.", by="name"),
        list=Operation(names.tool(LISTS, records.name), "list", records.name, f"List what a {owner} has.", names.id(owner), owner_ref,
                       shows=(f"{item_ref}.{items.fields[0].name}", amount)),
        look=Operation(names.tool(LOOKS, record), "get", records.name, f"Read one {record} with all its fields.", names.id(record)),
        extras=(Operation(names.tool(LOOKS, item), "get", items.name, f"Read one {item}.", names.id(item)),),
        actions=actions,
        rules=_rules(draw, actions, state, date, amount, states, record),
        reads=tuple(f.name for f in records.fields[2:] if f.kind not in ("ref",) and f.name != flag),
        money=amount,
    )  # fmt: skip


def _actions(
    draw: "_Draw", names: "_Names", records: Table, record: str, texts: Sequence[str], choice: str, state: str, end: str, flag: str
) -> tuple[Operation, ...]:
    param, verb = names.id(record), draw.one(ENDS)
    plain = [
        Operation(names.tool([verb], record), "change", records.name, f"Set the {state} of a {record} to {end}.", param, sets=((state, end),),
                  wish=f"{verb} {{it}}"),
        Operation(names.tool(["do", "give", "issue", "start"], flag), "change", records.name, f"Set the {flag} of a {record} to given.", param,
                  sets=((flag, "given"),), wish=f"{FLAG_VERBS[flag]} {{it}}"),
    ]  # fmt: skip
    setters = [
        Operation(names.tool(SETS, name), "change", records.name, f"Change the {name.replace('_', ' ')} of a {record}.", param, takes=(name,),
                  wish=f"change the {name.replace('_', ' ')} of {{it}} to {{value}}", open_wish=f"change the {name.replace('_', ' ')} of {{it}}")
        for name in draw.some([*texts, choice], 2)
    ]  # fmt: skip
    return tuple(draw.shuffled([*plain, *setters]))


def _rules(
    draw: "_Draw", actions: Sequence[Operation], state: str, date: str, amount: str, states: Sequence[str], record: str
) -> tuple[Rule, ...]:
    rules = []
    for n, op in enumerate(actions):
        allowed = tuple(draw.some(list(states), int(draw.rng.integers(2, 4))))
        text = f"{_capital(op.wish.format(it=f'a {record}', value='something else'))}: only while its {state} is {_either(allowed)}."
        rules.append(Rule(f"state{n}", op.name, state, "in", allowed, text, enforced=bool(draw.rng.random() < 0.6)))
    op, days, most = draw.one(actions), int(draw.rng.integers(30, 60)), int(draw.rng.integers(220, 330))
    words = op.wish.format(it=f"a {record}", value="something else")
    if draw.rng.random() < 0.5:
        text = f"{_capital(words)}: only up to {days} days after it was {date.replace('_', ' ')}."
        rules.append(Rule("late", op.name, date, "within", days, text, enforced=False))
    else:
        text = f"{_capital(words)}: never where the {amount.replace('_', ' ')} is above {most}."
        rules.append(Rule("much", op.name, amount, "at_most", most, text, enforced=False))
    return tuple(rules)


def _either(values: Sequence[str]) -> str:
    return f"{', '.join(values[:-1])} or {values[-1]}" if len(values) > 1 else values[0]


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


class _Draw:
    """Choices from one stream."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def one(self, values: Sequence[Any]) -> Any:
        return values[int(self.rng.integers(len(values)))]

    def some(self, values: Sequence[Any], count: int) -> list[Any]:
        return [values[int(i)] for i in self.rng.permutation(len(values))[:count]]

    def shuffled(self, values: Sequence[Any]) -> list[Any]:
        return self.some(values, len(values))

    def letters(self, count: int) -> str:
        return "".join("ABCDEFGHKLMNPRSTUVXZ"[int(i)] for i in self.rng.integers(0, 20, count)) + ("-" if self.rng.random() < 0.3 else "")


class _Names:
    """How one domain writes its tools and parameters."""

    def __init__(self, draw: _Draw) -> None:
        self.draw = draw
        self.style: Callable[[str, str], str] = draw.one((_snake, _camel, _turned))
        self.short = bool(draw.rng.random() < 0.3)
        self.taken: set[str] = set()

    def tool(self, verbs: Sequence[str], noun: str) -> str:
        """Return a name that no other tool of the domain has."""
        for verb in self.draw.shuffled(verbs):
            name = self.style(verb, noun)
            if name not in self.taken:
                self.taken.add(name)
                return name
        name = self.style(f"{verbs[0]}_the", noun)
        self.taken.add(name)
        return name

    def id(self, noun: str) -> str:
        """Return the name of an id parameter."""
        return "id" if self.short else f"{noun}Id" if self.style is _camel else f"{noun}_id"


def _snake(verb: str, noun: str) -> str:
    return f"{verb}_{noun}"


def _camel(verb: str, noun: str) -> str:
    head, *rest = f"{verb}_{noun}".split("_")
    return head + "".join(part.capitalize() for part in rest)


def _turned(verb: str, noun: str) -> str:
    return f"{noun}_{verb}"
