"""office: mail, calendar, files, contacts; rules about meetings."""

from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np

from agentgym.envs.tool_calls.domain import TableDomain
from agentgym.envs.tool_calls.draft import Draft, Step, ask, told
from agentgym.envs.tool_calls.operations import Operation, make_tools, tables
from agentgym.envs.tool_calls.talk import Wish
from agentgym.errors import ToolError
from agentgym.gold import Constraint
from agentgym.seeding import stream
from agentgym.task import Answer, Task
from agentgym.tools import Tool, ToolContext, tool
from agentgym.worlds.app_data import TODAY, Field, Table, day, draw_tables, titles
from agentgym.worlds.tables import Row, Tables, TableView

HOURS = tuple(f"{hour:02}:00" for hour in range(9, 17))
FULL = 5
"""Meetings a day that the rules allow."""
RULES = f"""You keep the office of the user: mail, calendar, files, contacts. Today is {TODAY.isoformat()}.
Meetings take an hour and begin at {HOURS[0]} to {HOURS[-1]}, on the hour.
No day has more than {FULL} meetings: refuse a further one, and name the title of the first meeting of that day.
Move, cancel, share and send nothing that was not asked for. Ask the user what you need to know.
Your last message says what was asked for; of a meeting that was booked or moved it names title and hour, of one that \
was cancelled its title, of a file its id."""

CONTACTS = Table("contacts", "contact", "C", (
    Field("name", "person"), Field("email", "email"), Field("phone", "phone"), Field("city", "city"),
    Field("company", "choice", ("Ardlen", "Brisk", "Corvo", "Delmar", "Estra", "Fjord", "Gambit", "Halden")),
))  # fmt: skip
FILES = Table("files", "file", "F", (Field("title", "title"), Field("pages", "count", high=90), Field("owner_id", "ref", table="contacts")))
MAILS = Table("mails", "mail", "M", (
    Field("sender_id", "ref", table="contacts"), Field("file_id", "ref", table="files"), Field("received_on", "date"),
    Field("subject", "title"),
), share=2.0)  # fmt: skip
EVENTS = Table("events", "event", "E", (
    Field("date", "date"), Field("start", "choice", HOURS), Field("title", "title"), Field("contact_id", "ref", table="contacts"),
))  # fmt: skip
SHARES = Table("shares", "share", "S", (Field("file_id", "ref", table="files"), Field("contact_id", "ref", table="contacts")))
SENT = Table("sent", "sent mail", "T", (Field("contact_id", "ref", table="contacts"), Field("subject", "title")))
SCHEMA = (CONTACTS, FILES, MAILS, EVENTS, SHARES, SENT)

READING = make_tools((
    Operation("find_contact", "find", "contacts", "Find contacts by their full name.", by="name"),
    Operation("get_contact", "get", "contacts", "Read one contact.", "contact_id"),
    Operation("events_on", "find", "events", "List the meetings of a day.", by="date", shows=("start", "title", "contact_id")),
    Operation("events_with", "list", "events", "List the meetings with a contact.", "contact_id", "contact_id", ("date", "start", "title")),
    Operation("mails_from", "list", "mails", "List the mails of a contact.", "contact_id", "sender_id", ("subject", "received_on")),
    Operation("read_mail", "get", "mails", "Read one mail; its file_id is the file that came with it.", "mail_id"),
    Operation("get_file", "get", "files", "Read what is known about a file.", "file_id"),
), SCHEMA)  # fmt: skip
CHANGING = make_tools((
    Operation("cancel_event", "remove", "events", "Cancel a meeting.", "event_id"),
    Operation("share_file", "add", "shares", "Share a file with a contact.", takes=("file_id", "contact_id")),
    Operation("send_mail", "add", "sent", "Send a short mail to a contact; its subject says it all.", takes=("contact_id", "subject")),
), SCHEMA)  # fmt: skip

Day = Annotated[str, "day, as YYYY-MM-DD"]
Hour = Annotated[str, {"enum": list(HOURS), "description": "when it begins"}]


@tool(mutates=True)
def add_event(title: Annotated[str, "of the meeting"], date: Day, start: Hour, contact_id: Annotated[str, "whom to meet, e.g. C7"],
              ctx: ToolContext) -> dict:  # fmt: skip
    """Book a meeting in a free hour."""
    view = tables(ctx)
    view.need("contacts", contact_id, "contact")
    _free(view, date, start)
    return {"id": view.add("events", {"date": date, "start": start, "title": title, "contact_id": contact_id})}


@tool(mutates=True)
def move_event(event_id: Annotated[str, "id of the meeting, e.g. E7"], date: Day, start: Hour, ctx: ToolContext) -> dict:
    """Move a meeting to a free hour."""
    view = tables(ctx)
    view.need("events", event_id, "event")
    _free(view, date, start)
    view.change("events", event_id, {"date": date, "start": start})
    return {"id": event_id, "date": date, "start": start}


def _free(view: TableView, date: str, start: str) -> None:
    if date < day(0):
        raise ToolError(f"{date[:20]!r} is no day from {day(0)} on; write YYYY-MM-DD")
    taken = [view.need("events", id_)["start"] for id_ in view.where("events", "date", date)]
    if start in taken:
        raise ToolError(f"{date} at {start} is taken; use a free hour")


TOOLS: tuple[Tool, ...] = (*READING, add_event, move_event, *CHANGING)


class Office(TableDomain):
    """One office; `size` is the number of contacts."""

    name = "office"

    def __init__(self, size: int, seed: int) -> None:
        """Draw contacts, files, mails and a calendar."""
        rng = stream("office", seed, "rows")
        drawn = draw_tables((CONTACTS, FILES, MAILS), size, rng)
        people, events = list(drawn["contacts"]), dict[str, Row]()
        self.days = [day(n) for n in range(1, max(14, size // 3))]
        names = iter(titles(len(self.days) * len(HOURS), rng))
        for date in self.days:
            count = int(rng.integers(0, FULL + 2))
            for hour in sorted(int(h) for h in rng.permutation(len(HOURS))[:count]):
                with_ = people[int(rng.integers(len(people)))]
                events[f"E{101 + len(events)}"] = {"date": date, "start": HOURS[hour], "title": next(names), "contact_id": with_}
        rows = {name: drawn[name] for name in drawn} | {"events": events, "shares": {}, "sent": {}}
        self.rows = Tables(rows, {table.name: table.prefix for table in SCHEMA})

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of tasks."""
        return tuple(KINDS)

    @property
    def starts(self) -> Sequence[str]:
        """The contacts."""
        return list(self.rows["contacts"])

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the tools of an office."""
        return TOOLS

    def rules(self, task: Task) -> str:
        """Return the rules of the office."""
        return RULES

    def draft(self, kind: str, start: str, rng: np.random.Generator) -> Draft | None:
        """Return a task of a kind about a contact."""
        return KINDS[kind](self, start, rng)

    # ---- what kinds are made of

    def person(self, contact: str) -> str:
        """Return a contact's name."""
        return str(self.rows["contacts"][contact]["name"])

    def on(self, date: str) -> list[tuple[str, Row]]:
        """Return the meetings of a day, in order."""
        return [(id_, self.rows["events"][id_]) for id_ in self.rows.index("events", "date").get(date, [])]

    def with_(self, contact: str) -> list[tuple[str, Row]]:
        """Return the meetings with a contact."""
        return [(id_, self.rows["events"][id_]) for id_ in self.rows.index("events", "contact_id").get(contact, [])]

    def first_free(self, date: str) -> str:
        """Return the first free hour of a day; there always is one."""
        taken = {row["start"] for _, row in self.on(date)}
        return next(hour for hour in HOURS if hour not in taken)


def _pick(items: Sequence[Any], rng: np.random.Generator) -> Any:
    return items[int(rng.integers(len(items)))]


def _find(office: Office, contact: str) -> Step:
    return Step("find_contact", {"name": office.person(contact)})


def _open_day(office: Office, rng: np.random.Generator) -> str:
    return _pick([d for d in office.days if len(office.on(d)) < FULL], rng)


_BOOK = ("Book a meeting called {t} with {n} on {d}, at the first free hour.", "I want to meet {n} on {d} as early as possible; call it {t}.",
         "Put {t} with {n} into my calendar for {d}, in the first hour that is free.")  # fmt: skip
_BOOK_OPEN = ("Book a meeting called {t} with {n}, at the first free hour of the day.", "I want to meet {n} as early in the day as possible; call it {t}.")


def _booking(office: Office, contact: str, date: str, title: str) -> tuple[Step, ...]:
    hour = office.first_free(date)
    act = Step("add_event", {"title": title, "date": date, "start": hour, "contact_id": contact}, after_all=True)
    return (_find(office, contact), Step("events_on", {"date": date}), act, told("finish", f"Booked {title} at {hour}.", Answer(title), Answer(hour)))


def _meet(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    date, title = _open_day(office, rng), titles(1, rng)[0]
    question = _pick(_BOOK, rng).format(t=title, n=office.person(contact), d=date)
    return Draft(question, _booking(office, contact, date, title))


def _ask_day(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    date, title = _open_day(office, rng), titles(1, rng)[0]
    question = _pick(_BOOK_OPEN, rng).format(t=title, n=office.person(contact))
    wish = Wish("day", f"On {date}, please.", ("day", "date", "when"))
    return Draft(question, (ask("On which day?"), *_booking(office, contact, date, title)), wishes=(wish,))


def _refuse(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    full = [d for d in office.days if len(office.on(d)) >= FULL]
    if not full:
        return None
    date, title = _pick(full, rng), titles(1, rng)[0]
    question = _pick(_BOOK, rng).format(t=title, n=office.person(contact), d=date)
    first = str(office.on(date)[0][1]["title"])
    end = told("refuse", f"That day is full; it begins with {first}.", Answer(first))
    mine = ("m0", (Constraint(call="add_event", arguments={"date": date}),))
    return Draft(question, (_find(office, contact), Step("events_on", {"date": date}), end), forbidden=(mine,))


def _only(office: Office, contact: str) -> tuple[str, Row] | None:
    found = office.with_(contact)
    return found[0] if len(found) == 1 else None


def _move(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    found = _only(office, contact)
    if found is None:
        return None
    event, row = found
    date = _pick([d for d in office.days if len(office.on(d)) < FULL and d != row["date"]], rng)
    hour = office.first_free(date)
    question = _pick(("Move my meeting with {n} to {d}, to the first free hour.", "My meeting with {n} must go to {d}; take the first hour that is free."), rng)
    act = Step("move_event", {"event_id": event, "date": date, "start": hour}, after_all=True)
    way = (_find(office, contact), Step("events_with", {"contact_id": contact}), Step("events_on", {"date": date}))
    return Draft(question.format(n=office.person(contact), d=date), (*way, act, told("finish", f"Moved {row['title']} to {hour}.", Answer(str(row["title"])), Answer(hour))))


def _cancel(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    found = _only(office, contact)
    if found is None:
        return None
    event, row = found
    subject = _pick(("Cancelled", "No meeting", "Not this time"), rng)
    question = f"Cancel my meeting with {office.person(contact)}, then send them a mail with the subject {subject!r}."
    acts = (Step("cancel_event", {"event_id": event}, after_all=True), Step("send_mail", {"contact_id": contact, "subject": subject}, after_all=True))
    end = told("finish", f"Cancelled: {row['title']}.", Answer(str(row["title"])))
    others = [id_ for id_, _ in office.on(str(row["date"])) if id_ != event][:2]
    mines = tuple((f"m{n}", (Constraint(call="cancel_event", arguments={"event_id": other}),)) for n, other in enumerate(others))
    return Draft(question, (_find(office, contact), Step("events_with", {"contact_id": contact}), *acts, end), forbidden=mines)


def _mail_of(office: Office, contact: str, rng: np.random.Generator) -> tuple[str, Row] | None:
    ids = office.rows.index("mails", "sender_id").get(contact, [])
    return (id_ := _pick(ids, rng), office.rows["mails"][id_]) if ids else None


def _share(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    found = _mail_of(office, contact, rng)
    if found is None:
        return None
    mail, row = found
    other = _pick([c for c in office.starts if c != contact], rng)
    file = str(row["file_id"])
    question = f"{office.person(contact)} sent me a mail about {row['subject']}. Share the file that came with it with {office.person(other)}."
    way = (_find(office, contact), Step("mails_from", {"contact_id": contact}), Step("read_mail", {"mail_id": mail}), _find(office, other))
    act = Step("share_file", {"file_id": file, "contact_id": other}, after_all=True)
    mine = ("m0", (Constraint(call="share_file", arguments={"file_id": file, "contact_id": contact}),))
    return Draft(question, (*way, act, told("finish", f"Shared {file}.", Answer(file))), forbidden=(mine,))


def _phone(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    meetings = office.with_(contact)
    if not meetings:
        return None
    _, row = _pick(meetings, rng)
    phone = str(office.rows["contacts"][contact]["phone"])
    question = _pick(("What is the phone number of the person I meet on {d} at {s}?", "Whom do I meet on {d} at {s}? I need the phone number."), rng)
    way = (Step("events_on", {"date": row["date"]}), Step("get_contact", {"contact_id": contact}))
    end = told("finish", f"{office.person(contact)}: {phone}", Answer(phone))
    return Draft(question.format(d=row["date"], s=row["start"]), (*way, end))


def _pages(office: Office, contact: str, rng: np.random.Generator) -> Draft | None:
    """How long a file is, and when that is known, to share it."""
    found = _mail_of(office, contact, rng)
    if found is None:
        return None
    mail, row = found
    file = str(row["file_id"])
    pages = office.rows["files"][file]["pages"]
    other = _pick([c for c in office.starts if c != contact], rng)
    question = f"How many pages has the file that {office.person(contact)} sent me with the mail about {row['subject']}?"
    way = (_find(office, contact), Step("mails_from", {"contact_id": contact}), Step("read_mail", {"mail_id": mail}), Step("get_file", {"file_id": file}))
    reply = told("reply", f"It has {pages} pages.", Answer(str(pages), type="number"))
    act = Step("share_file", {"file_id": file, "contact_id": other}, after_all=True)
    plan = (*way, reply, _find(office, other), act, told("finish", f"Shared {file}.", Answer(file)))
    return Draft(question, plan, later=(f"Good. Share it with {office.person(other)}.",))


KINDS: dict[str, Callable[[Office, str, np.random.Generator], Draft | None]] = {
    "phone": _phone, "meet": _meet, "refuse": _refuse, "ask_day": _ask_day, "move": _move, "cancel": _cancel, "share": _share, "pages": _pages,
}  # fmt: skip
"""Kinds of tasks, in the order in which they take turns."""


def office(size: int, seed: int) -> Office:
    """Return the office of a seed, with so many contacts."""
    return Office(size, seed)
