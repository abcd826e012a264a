"""`sql_tool`: one SQL statement a call, on tables of the episode's state or on a database file, in SQLite.

Tables of the state are plain JSON, `state["tables"]["orders"] = [{"id": 1, …}, …]`, so that snapshots, diffs and
rewards see them as any other state. A statement that fails changes nothing. Work is limited in steps of SQLite's
machine, which are the same on every computer; the clock and `random()` are the episode's own.
"""

import math
import sqlite3
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agentgym.errors import ConfigError, DataError, ServiceError, ToolError
from agentgym.tools.tool import Tool, ToolContext, tool
from agentgym.types import JSON

_READS = frozenset({sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, sqlite3.SQLITE_RECURSIVE})
_WRITES = frozenset({sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE})
_TIMES = ("date", "time", "datetime", "julianday", "unixepoch", "strftime")
_NOW = {"current_timestamp": "%Y-%m-%d %H:%M:%S", "current_date": "%Y-%m-%d", "current_time": "%H:%M:%S"}
_HIDDEN = frozenset({"load_extension", "sqlite_version", "sqlite_source_id", "fts3_tokenizer", "readfile", "writefile"})
_EVERY = 1_000
"""Steps between two looks at the limits."""
MAX_VALUE_BYTES = 1_000_000
"""Longest text that a statement may build."""
MAX_PAGES = 16_384
"""Pages of 4 KiB that tables and sorting may fill: 64 MiB."""


def sql_tool(
    schema: str,
    *,
    tables: str = "tables",
    writes: bool = False,
    name: str = "sql",
    max_rows: int = 100,
    max_steps: int = 2_000_000,
    timeout_s: float = 5.0,
) -> Tool:
    """Return a tool that runs a statement over tables of the episode's state.

    Args:
        schema: the CREATE statements (tables, indexes, triggers, constraints); the policy is told them.
        tables: key of the state that holds `{table: [row, …]}`, a row being `{column: value}`.
        writes: INSERT, UPDATE and DELETE are allowed; else the tool only reads.
        name: what the policy calls it.
        max_rows: rows that a result holds; more are counted, not shown.
        max_steps: steps of SQLite's machine that a statement may take.
        timeout_s: seconds that it may take, should the steps be slow ones.

    Raises:
        ConfigError: the schema is not SQL.
    """
    try:
        with closing(sqlite3.connect(":memory:")) as trial:
            trial.executescript(schema)
            columns = _columns(trial)
    except sqlite3.Error as error:
        raise ConfigError(f"sql tool {name!r}: the schema cannot be run: {error}") from error
    limits = _Limits(max_rows, max_steps, timeout_s)

    def run(query: str, ctx: ToolContext) -> dict[str, JSON]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            connection.executescript(schema)
            connection.execute("BEGIN")
            _load(connection, columns, ctx.state.get(tables, {}), tables)
            before = connection.total_changes
            answer = _answer(connection, query, ctx, limits, writes=writes)
            changed = connection.total_changes - before
            if changed:
                ctx.state[tables] = {table: _rows(connection, table) for table in columns}
                answer["changed"] = changed
            return answer

    return _made(run, name, schema, writes=writes)


def sql_file_tool(
    path: str | Path, *, name: str = "sql", max_rows: int = 100, max_steps: int = 20_000_000, timeout_s: float = 5.0
) -> Tool:
    """Return a tool that reads a SQLite database file, which never changes; arguments as `sql_tool`.

    Raises:
        DataError: the file is no SQLite database.
    """
    address = f"{Path(path).resolve().as_uri()}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as trial:
            rows = trial.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'")
            schema = ";\n".join(row[0] for row in rows)
    except sqlite3.Error as error:
        raise DataError(f"{path}: no SQLite database that can be read: {error}") from error
    limits = _Limits(max_rows, max_steps, timeout_s)

    def run(query: str, ctx: ToolContext) -> dict[str, JSON]:
        try:
            connection = sqlite3.connect(address, uri=True, isolation_level=None)
        except sqlite3.Error as error:
            raise ServiceError(f"{path}: {error}") from error
        with closing(connection):
            return _answer(connection, query, ctx, limits, writes=False)

    return _made(run, name, schema, writes=False, slow=True)


def tables_of(path: str | Path) -> dict[str, list[dict[str, JSON]]]:
    """Return all rows of a SQLite file as `sql_tool` keeps them in the state.

    Raises:
        DataError: the file is no SQLite database, or holds blobs.
    """
    try:
        with closing(sqlite3.connect(f"{Path(path).resolve().as_uri()}?mode=ro", uri=True)) as connection:
            return {table: _rows(connection, table) for table in _columns(connection)}
    except (sqlite3.Error, ToolError) as error:
        raise DataError(f"{path}: {error}") from error


class _Limits:
    """The limits of one statement, as SQLite's progress handler checks them."""

    def __init__(self, max_rows: int, max_steps: int, timeout_s: float) -> None:
        for key, value in (("max_rows", max_rows), ("max_steps", max_steps), ("timeout_s", timeout_s)):
            if not value > 0:
                raise ConfigError(f"sql tool: {key} is {value!r}; allowed: above 0")
        self.max_rows, self.max_steps, self.timeout_s = max_rows, max_steps, timeout_s

    def watch(self, said: list[str]) -> Callable[[], int]:
        """Return a handler that stops the statement and says why."""
        end, steps = time.monotonic() + self.timeout_s, 0

        def look() -> int:
            nonlocal steps
            steps += _EVERY
            if steps > self.max_steps:
                said.append(f"the statement is too much work (more than {self.max_steps} steps); narrow it down")
            elif time.monotonic() > end:
                said.append(f"the statement took longer than {self.timeout_s:g} s; narrow it down")
            return len(said)

        return look


def _made(run: Callable[..., Any], name: str, schema: str, *, writes: bool, slow: bool = False) -> Tool:
    def sql(query: str, ctx: ToolContext) -> dict[str, JSON]:
        return run(query, ctx)

    kinds = "SELECT, INSERT, UPDATE or DELETE" if writes else "SELECT"
    sql.__doc__ = (
        f"Run one {kinds} statement (SQLite). Tables: {' '.join(schema.split())}\n\nArgs:\n    query: The statement."
    )
    return tool(name=name, mutates=writes, slow=slow)(sql)


def _answer(
    connection: sqlite3.Connection, query: str, ctx: ToolContext, limits: _Limits, *, writes: bool
) -> dict[str, JSON]:
    """Run the policy's statement. Raises ToolError for everything that is wrong with it."""
    said: list[str] = []
    with closing(sqlite3.connect(":memory:")) as clock:
        _confine(connection, ctx, said, writes=writes)
        _own_clock(connection, clock, ctx.now)
        connection.set_progress_handler(limits.watch(said), _EVERY)
        try:
            cursor = connection.execute(query)
            rows = cursor.fetchmany(limits.max_rows)
            more = sum(1 for _ in cursor)
        except (sqlite3.Error, sqlite3.Warning, OverflowError, ValueError) as error:
            raise ToolError(f"sql: {said[0] if said else error}") from None
        except MemoryError:
            raise ToolError("sql: the statement needs too much memory") from None
    connection.set_progress_handler(None, 0)
    connection.set_authorizer(None)
    answer: dict[str, JSON] = {}
    if cursor.description:
        answer["columns"] = [column[0] for column in cursor.description]
        answer["rows"] = [[_json(value) for value in row] for row in rows]
    if more:
        answer["rows_left_out"] = more
    return answer


def _confine(connection: sqlite3.Connection, ctx: ToolContext, said: list[str], *, writes: bool) -> None:
    allowed = _READS | _WRITES if writes else _READS

    def allow(action: int, first: str | None, second: str | None, database: str | None, trigger: str | None) -> int:
        own = action in _WRITES and (first or "").startswith("sqlite_")
        if action in allowed and not own and not (action == sqlite3.SQLITE_FUNCTION and second in _HIDDEN):
            return sqlite3.SQLITE_OK
        kinds = "SELECT, INSERT, UPDATE and DELETE" if writes else "SELECT"
        said.append(f"only {kinds} is allowed, and no function that reaches outside of the tables")
        return sqlite3.SQLITE_DENY

    connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)
    connection.setlimit(sqlite3.SQLITE_LIMIT_SQL_LENGTH, 100_000)
    connection.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
    connection.setlimit(sqlite3.SQLITE_LIMIT_WORKER_THREADS, 0)
    connection.execute(f"PRAGMA main.max_page_count = {MAX_PAGES}")
    connection.execute(f"PRAGMA temp.max_page_count = {MAX_PAGES}")
    connection.create_function("random", 0, lambda: int(ctx.rng.integers(-(2**63), 2**63 - 1)))
    connection.create_function("randomblob", 1, _no_blobs)
    connection.set_authorizer(allow)


def _own_clock(connection: sqlite3.Connection, plain: sqlite3.Connection, now: datetime) -> None:
    """Let 'now' be the episode's: SQLite's own functions, of a second connection, do the rest."""
    moment = now.astimezone(UTC)
    stamp = moment.strftime("%Y-%m-%d %H:%M:%S")

    def made(function: str) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            first = 1 if function == "strftime" else 0
            values = [*given, "now"] if len(given) <= first else list(given)
            if isinstance(values[first], str) and values[first].strip().lower() == "now":
                values[first] = stamp
            marks = ", ".join("?" * len(values))
            return plain.execute(f"SELECT {function}({marks})", values).fetchone()[0]

        return call

    for function in _TIMES:
        connection.create_function(function, -1, made(function))
    for function, form in _NOW.items():
        connection.create_function(function, 0, lambda form=form: moment.strftime(form))


def _no_blobs(n: int) -> None:
    raise ValueError("blobs are not JSON")


def _columns(connection: sqlite3.Connection) -> dict[str, tuple[str, ...]]:
    names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {
        name: tuple(row[1] for row in connection.execute(f"PRAGMA table_info({_quoted(name)})"))
        for (name,) in names.fetchall()
    }


def _load(connection: sqlite3.Connection, columns: Mapping[str, tuple[str, ...]], state: Any, key: str) -> None:
    """Fill the tables. Raises ServiceError for a state that does not fit: the policy cannot have made it."""
    table = ""
    try:
        for table, rows in state.items():
            marks = ", ".join(f":{i}" for i in range(len(columns[table])))
            values = [{str(i): row[column] for i, column in enumerate(columns[table])} for row in rows]
            connection.executemany(f"INSERT INTO {_quoted(table)} VALUES ({marks})", values)
    except (sqlite3.Error, KeyError, TypeError, AttributeError) as error:
        raise ServiceError(f"sql: state[{key!r}] does not fit the schema at table {table!r}: {error}") from error


def _rows(connection: sqlite3.Connection, table: str) -> list[dict[str, JSON]]:
    cursor = connection.execute(f"SELECT * FROM {_quoted(table)}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, map(_json, row), strict=True)) for row in cursor]


def _json(value: Any) -> JSON:
    if isinstance(value, bytes):
        raise ToolError("sql: blobs are not JSON; use hex(…) or text")
    if isinstance(value, float) and not math.isfinite(value):
        raise ToolError("sql: a number is not finite")
    return value


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
