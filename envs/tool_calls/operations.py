"""Declared tools: an operation on a table, in data, becomes a checked `Tool`; rules guard what changes.

A rule is enforced (the tool refuses) or stated only (the tool obeys, and the policy must not ask for it).
"""

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from agentgym.errors import ToolError
from agentgym.tools import Tool, ToolContext
from agentgym.types import JSON, ToolSpec
from agentgym.worlds.app_data import TODAY, Table
from agentgym.worlds.tables import Row, TableView

MAX_ROWS = 20
"""Rows that a list or a search shows."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One tool over one table."""

    name: str
    kind: Literal["find", "list", "get", "change", "add", "remove"]
    table: str
    about: str
    """The tool's description."""
    param: str = ""
    """Name of the id parameter (get, change, remove); of list: the parameter with the id that `by` holds."""
    by: str = ""
    """find, list: the field that must have the given value."""
    shows: tuple[str, ...] = ()
    """find, list: fields shown beside the id; "item_id.title" follows a reference. Empty: all."""
    sets: tuple[tuple[str, str], ...] = ()
    """change: fields that get a fixed value."""
    takes: tuple[str, ...] = ()
    """change, add: fields that are given as parameters."""
    wish: str = ""
    """How a user asks for it, with {it} and {value}: "cancel {it}", "send {it} to {value}"."""
    open_wish: str = ""
    """The same without the value, for users who must be asked."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of the policy: a tool may be used on a row only where this holds."""

    id: str
    tool: str
    field: str
    op: Literal["in", "within", "at_most"]
    """in: the value is one of `value`; within: the date lies at most `value` days back; at_most: a number."""
    value: Any
    text: str
    """In words; what the policy reads in the prompt."""
    enforced: bool = True

    def holds(self, row: Mapping[str, JSON]) -> bool:
        """Whether a row fits."""
        found = row.get(self.field)
        if self.op == "in":
            return found in self.value
        if self.op == "within":
            return isinstance(found, str) and 0 <= (TODAY - dt.date.fromisoformat(found)).days <= self.value
        return isinstance(found, int | float) and found <= self.value


def tables(ctx: ToolContext) -> TableView:
    """Return the tables as the episode of a call sees them; for tools of your own beside a world's."""
    return TableView(ctx.services["tables"], ctx.state)


def make_tools(operations: Sequence[Operation], schema: Sequence[Table], rules: Sequence[Rule] = ()) -> tuple[Tool, ...]:
    """Return the tools of operations."""
    by_name = {table.name: table for table in schema}
    return tuple(_tool(op, by_name, [r for r in rules if r.tool == op.name and r.enforced]) for op in operations)


def shown(view: TableView, op: Operation, id_: str) -> Row:
    """Return a row as a search or list shows it."""
    row = view.row(op.table, id_) or {}
    names = op.shows or tuple(row)
    return {"id": id_, **{name.rpartition(".")[2]: _followed(view, row, name) for name in names}}


def _followed(view: TableView, row: Row, name: str) -> JSON:
    field, _, inner = name.partition(".")
    value = row.get(field)
    if not inner:
        return value
    other = next((found for table in view.base if (found := view.row(table, str(value))) and inner in found), {})
    return other.get(inner)


def _tool(op: Operation, schema: Mapping[str, Table], guards: list[Rule]) -> Tool:
    table = schema[op.table]
    properties: dict[str, JSON] = {}
    if op.kind == "find":
        properties[op.by] = _parameter(table, op.by)
    elif op.kind == "list":
        target = schema[table.field(op.by).table]
        properties[op.param] = {"type": "string", "description": f"id of the {target.noun}, e.g. {target.prefix}7"}
    elif op.kind != "add":
        properties[op.param] = {"type": "string", "description": f"id of the {table.noun}, e.g. {table.prefix}7"}
    for name in op.takes:
        properties[name] = _parameter(table, name)
    parameters: dict[str, JSON] = {
        "type": "object", "properties": properties, "required": list(properties), "additionalProperties": False,
    }  # fmt: skip
    spec = ToolSpec(op.name, op.about, parameters, mutates=op.kind in ("change", "add", "remove"))
    return Tool(spec, _Run(op, table, guards, schema), context=("ctx",))


def _parameter(table: Table, name: str) -> dict[str, JSON]:
    field = table.field(name)
    words = f"{name.replace('_', ' ')} of the {table.noun}"
    if field.kind == "choice":
        return {"type": "string", "enum": list(field.values), "description": words}
    kind = {"money": "number", "count": "integer"}.get(field.kind, "string")
    hint = {"date": ", as YYYY-MM-DD", "ref": f", e.g. {field.table} id"}.get(field.kind, "")
    return {"type": kind, "description": words + hint}


class _Run:
    """The function behind a tool."""

    def __init__(self, op: Operation, table: Table, guards: list[Rule], schema: Mapping[str, Table]) -> None:
        self.op, self.table, self.guards, self.schema = op, table, guards, schema
        self.__name__ = op.name

    def __call__(self, ctx: ToolContext, **given: Any) -> JSON:
        """Run the operation."""
        op, view = self.op, tables(ctx)
        if op.kind in ("find", "list"):
            if op.kind == "list":
                target = self.schema[self.table.field(op.by).table]
                view.need(target.name, given[op.param], target.noun)
            found = view.where(op.table, op.by, given[op.by if op.kind == "find" else op.param])
            return [shown(view, op, id_) for id_ in found[:MAX_ROWS]]
        if op.kind == "add":
            row = self._checked(view, {name: given[name] for name in op.takes})
            return {"id": view.add(op.table, {**row, **dict(op.sets)})}
        id_ = given[op.param]
        row = view.need(op.table, id_, self.table.noun)
        if op.kind == "get":
            return {"id": id_, **row}
        for rule in self.guards:
            if not rule.holds(row):
                raise ToolError(rule.text)
        if op.kind == "remove":
            view.remove(op.table, id_)
            return {"id": id_, "removed": True}
        new = self._checked(view, {name: given[name] for name in op.takes}) | dict(op.sets)
        view.change(op.table, id_, new)
        return {"id": id_, **new}

    def _checked(self, view: TableView, given: dict[str, JSON]) -> dict[str, JSON]:
        """Refuse dates that are none, and references to nothing."""
        for name, value in given.items():
            field = self.table.field(name)
            if field.kind == "ref":
                view.need(field.table, str(value), self.schema[field.table].noun)
            if field.kind == "date" and not _is_date(value):
                raise ToolError(f"{name} must be a date as YYYY-MM-DD, not {str(value)[:40]!r}")
            if value == "":
                raise ToolError(f"{name} must not be empty")
        return given


def _is_date(value: JSON) -> bool:
    try:
        return isinstance(value, str) and dt.date.fromisoformat(value).isoformat() == value
    except ValueError:
        return False
