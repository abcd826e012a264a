"""`sql_tool`: statements over the episode's tables, confined in what, how much and when."""

import asyncio
import copy
import sqlite3

import pytest

from agentgym.errors import ConfigError, DataError, ServiceError
from agentgym.seeding import stream
from agentgym.tools import Toolbox, ToolContext
from agentgym.tools.sql import sql_file_tool, sql_tool, tables_of
from agentgym.types import ToolCall

SCHEMA = """
CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT NOT NULL, total REAL CHECK (total >= 0));
CREATE TABLE notes (order_id INTEGER REFERENCES orders (id), text TEXT);
CREATE TRIGGER noted AFTER DELETE ON orders BEGIN INSERT INTO notes VALUES (old.id, 'deleted'); END;
"""
ROWS = {
    "orders": [{"id": 1, "customer": "Ada", "total": 10.5}, {"id": 2, "customer": "Lund", "total": 0.0}],
    "notes": [],
}


def ask(tool, query, state=None):
    ctx = ToolContext(state={"tables": copy.deepcopy(ROWS)} if state is None else state, rng=stream(0))
    return asyncio.run(Toolbox([tool]).run(ToolCall("sql", {"query": query}, "c1"), ctx)), ctx


READ, WRITE = sql_tool(SCHEMA), sql_tool(SCHEMA, writes=True)


def test_a_statement_reads_rows_in_order_and_changes_nothing():
    result, ctx = ask(READ, "SELECT customer, total FROM orders ORDER BY total")
    assert result.data == {"columns": ["customer", "total"], "rows": [["Lund", 0.0], ["Ada", 10.5]]}
    assert ctx.state == {"tables": ROWS}
    assert "CREATE TABLE orders" in READ.spec.description


def test_a_write_goes_into_the_state_triggers_included():
    result, ctx = ask(WRITE, "DELETE FROM orders WHERE id = 2")
    assert result.ok
    assert result.mutated
    assert result.data == {"changed": 2}
    assert ctx.state["tables"] == {"orders": ROWS["orders"][:1], "notes": [{"order_id": 2, "text": "deleted"}]}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("UPDATE orders SET total = total - 5", "CHECK constraint"),
        ("INSERT INTO orders SELECT id + 10, customer, total - 1 FROM orders ORDER BY id", "CHECK constraint"),
        ("INSERT INTO orders VALUES (3, NULL, 1)", "NOT NULL"),
        ("DROP TABLE orders", "only SELECT, INSERT, UPDATE and DELETE"),
        ("CREATE TABLE mine (x)", "only SELECT"),
        ("PRAGMA writable_schema = 1", "only SELECT"),
        ("ATTACH ':memory:' AS other", "only SELECT"),
        ("VACUUM INTO 'copy.db'", "sql:"),
        ("DELETE FROM sqlite_master", "sql:"),
        ("SELECT load_extension('x')", "sql:"),
        ("SELECT 1; SELECT 2", "one statement"),
        ("BEGIN", "only SELECT"),
        ("COMMIT", "only SELECT"),
        ("ROLLBACK", "only SELECT"),
        ("SELEC 1", "syntax error"),
        ("SELECT * FROM order", "syntax error"),
        ("SELECT x'00'", "blobs"),
        ("SELECT 9e999", "not finite"),
        ("SELECT randomblob(1000000000)", "sql:"),
        ("SELECT zeroblob(1000000000)", "too big"),
        ("SELECT hex(zeroblob(900000))", "too big"),
        ("SELECT ?", "sql:"),
    ],
)
def test_a_bad_statement_is_an_error_and_changes_nothing(query, says):
    result, ctx = ask(WRITE, query)
    assert result.code == "E_TOOL"
    assert says in result.error
    assert ctx.state == {"tables": ROWS}


def test_a_reading_tool_cannot_write():
    for query in ("DELETE FROM orders", "INSERT INTO orders VALUES (3, 'x', 1)", "UPDATE orders SET total = 1"):
        result, ctx = ask(READ, query)
        assert (result.code, ctx.state) == ("E_TOOL", {"tables": ROWS})


def test_endless_work_ends_after_the_same_steps():
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
    result, _ = ask(sql_tool(SCHEMA, max_steps=200_000), endless)
    assert (result.code, "more than 200000 steps" in result.error) == ("E_TOOL", True)
    result, _ = ask(sql_tool(SCHEMA, max_steps=10**12, timeout_s=0.05), endless)
    assert "longer than 0.05 s" in result.error


def test_sorting_and_joining_cannot_fill_the_memory():
    wide = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 100000) "
    result, _ = ask(sql_tool(SCHEMA, max_steps=10**9, timeout_s=2), wide + "SELECT group_concat(hex(i) || printf('%1000s', i)) FROM n")
    assert result.code == "E_TOOL"


def test_rows_beyond_the_limit_are_counted():
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 250) SELECT i FROM n"
    result, _ = ask(READ, many)
    assert (len(result.data["rows"]), result.data["rows_left_out"]) == (100, 150)


def test_time_and_chance_are_the_episodes():
    query = "SELECT datetime('now'), date(), strftime('%H'), CURRENT_TIMESTAMP, date('2020-02-29', '+1 day'), random()"
    first, second = (ask(READ, query)[0].data["rows"][0] for _ in range(2))
    assert first == second
    assert first[:5] == ["2026-01-05 09:00:00", "2026-01-05", "09", "2026-01-05 09:00:00", "2020-03-01"]


@pytest.mark.parametrize("state", [{"tables": {"other": [{}]}}, {"tables": {"orders": [{"id": 1}]}}, {"tables": 5}])
def test_a_state_that_does_not_fit_is_no_fault_of_the_policy(state):
    with pytest.raises(ServiceError, match="does not fit the schema"):
        ask(READ, "SELECT 1", state)


def test_a_schema_that_is_no_sql_is_refused():
    with pytest.raises(ConfigError, match="schema cannot be run"):
        sql_tool("CREATE orders")


def test_a_file_is_read_and_never_written(tmp_path):
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as connection:
        connection.executescript(SCHEMA)
        connection.executemany("INSERT INTO orders VALUES (:id, :customer, :total)", ROWS["orders"])
    connection.close()
    before = path.read_bytes()
    tool = sql_file_tool(path)
    result, ctx = ask(tool, "SELECT count(*) FROM orders", {})
    assert (result.data["rows"], ctx.state) == ([[2]], {})
    assert ask(tool, "DELETE FROM orders", {})[0].code == "E_TOOL"
    assert path.read_bytes() == before
    assert tables_of(path) == ROWS
    path.write_bytes(b"no database" * 100)
    with pytest.raises(DataError, match="no SQLite database"):
        sql_file_tool(path)
