"""App data: frozen tables of rows that all episodes share, and what one episode changed of them (copy on write).

An episode's state holds the changes alone, as plain JSON, so that reset, copy, snapshot and hash cost what was changed
and not what is there:

    {"orders": {"W1003": {"status": "cancelled"}, "W1041": {…a new row…}, "W1007": null}, "customers": {}}

A row that is changed back to what it was leaves no trace: two states are equal exactly where all rows are.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from agentgym.errors import ToolError, suggestion
from agentgym.types import JSON

Row = dict[str, JSON]
Changes = dict[str, dict[str, Any]]
"""By table and id: the fields that differ; a whole row that is new; None for a row that was removed."""


class Tables:
    """Rows by table and id. Never changed once made; shared by all episodes of a process."""

    def __init__(self, rows: Mapping[str, Mapping[str, Row]], prefixes: Mapping[str, str] | None = None) -> None:
        """Keep the rows.

        Args:
            rows: By table and id; ids are texts.
            prefixes: By table: what ids of new rows begin with; a number follows. Without one rows cannot be added.
        """
        self._rows = {table: dict(by_id) for table, by_id in rows.items()}
        self._prefixes = dict(prefixes or {})
        self._indices: dict[tuple[str, str], dict[Any, list[str]]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tables":
        """Return the same object: it never changes, and gymnasium copies keyword arguments."""
        return self

    def __getitem__(self, table: str) -> Mapping[str, Row]:
        """Return the rows of a table by id; read only. Raises KeyError, with the names there are."""
        try:
            return self._rows[table]
        except KeyError:
            raise KeyError(f"there is no table {table!r}; tables: {', '.join(self._rows)}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return sum(len(rows) for rows in self._rows.values())

    def unchanged(self) -> Changes:
        """Return the state of a fresh episode: every table, nothing changed."""
        return {table: {} for table in self._rows}

    def prefix(self, table: str) -> str:
        """Return what ids of new rows begin with. Raises KeyError where rows cannot be added."""
        return self._prefixes[table]

    def index(self, table: str, field: str) -> Mapping[Any, list[str]]:
        """Return the ids by the value of a field (built once); values that cannot be a key are left out."""
        key = (table, field)
        if key not in self._indices:
            made: dict[Any, list[str]] = {}
            for id_, row in self._rows[table].items():
                value = row.get(field)
                if isinstance(value, str | int | float):
                    made.setdefault(value, []).append(id_)
            self._indices[key] = made
        return self._indices[key]


class TableView:
    """The tables as one episode sees them: the frozen rows under its changes. Writes go to the changes."""

    __slots__ = ("base", "changes")

    def __init__(self, base: Tables, changes: Changes) -> None:
        """Look at `base` through `changes`, which a writer changes in place."""
        self.base, self.changes = base, changes

    def row(self, table: str, id_: str) -> Row | None:
        """Return a copy of a row, or None where there is none."""
        own, first = self.changes.get(table, {}), self.base[table].get(id_)
        if id_ not in own:
            return None if first is None else dict(first)
        if own[id_] is None:
            return None
        return {**(first or {}), **own[id_]}

    def need(self, table: str, id_: str, noun: str = "row") -> Row:
        """Return a row. Raises ToolError, which a policy reads, for an unknown id."""
        found = self.row(table, id_)
        if found is None:
            near = [known for known in self.base[table] if known[:1] == id_[:1]][:200] if id_ else []
            raise ToolError(f"there is no {noun} {id_[:80]!r}{suggestion(id_[:80], near)}; use an id that a result showed")
        return found

    def ids(self, table: str) -> list[str]:
        """Return the ids of a table: those that were there first, then new ones in the order of their making."""
        own, first = self.changes.get(table, {}), self.base[table]
        kept = [id_ for id_ in first if own.get(id_, 0) is not None]
        return kept + sorted((id_ for id_ in own if id_ not in first), key=lambda id_: (len(id_), id_))

    def where(self, table: str, field: str, value: JSON) -> list[str]:
        """Return the ids of the rows whose field has this value: those that had it at first, then the others."""
        own = self.changes.get(table, {})
        known = self.base.index(table, field).get(value, []) if isinstance(value, str | int | float) else []
        kept = [id_ for id_ in known if id_ not in own]
        found = [id_ for id_ in own if (row := self.row(table, id_)) is not None and row.get(field) == value]
        return kept + sorted(found, key=lambda id_: (len(id_), id_))

    def change(self, table: str, id_: str, fields: Mapping[str, JSON]) -> None:
        """Set fields of a row; what is as it was at first is no change. Raises KeyError for an unknown id."""
        row = self.row(table, id_)
        if row is None:
            raise KeyError(id_)
        row.update(fields)
        self._keep(table, id_, row)

    def add(self, table: str, row: Mapping[str, JSON]) -> str:
        """Add a row; return its id: the prefix of its table and the next number."""
        prefix = self.base.prefix(table)
        taken = [*self.base[table], *self.changes.get(table, {})]
        numbers = [int(id_[len(prefix) :]) for id_ in taken if id_.startswith(prefix) and id_[len(prefix) :].isdigit()]
        id_ = f"{prefix}{max(numbers, default=0) + 1}"
        self._keep(table, id_, dict(row))
        return id_

    def put(self, table: str, id_: str, row: Mapping[str, JSON]) -> None:
        """Set a whole row, which may be new."""
        self._keep(table, id_, dict(row))

    def remove(self, table: str, id_: str) -> None:
        """Remove a row. Raises KeyError for an unknown id."""
        if self.row(table, id_) is None:
            raise KeyError(id_)
        own = self.changes.setdefault(table, {})
        if id_ in self.base[table]:
            own[id_] = None
        else:
            del own[id_]

    def _keep(self, table: str, id_: str, row: Row) -> None:
        own, first = self.changes.setdefault(table, {}), self.base[table].get(id_)
        if first is None:
            own[id_] = row
            return
        differ = {name: value for name, value in row.items() if name not in first or first[name] != value}
        if differ:
            own[id_] = differ
        else:
            own.pop(id_, None)
