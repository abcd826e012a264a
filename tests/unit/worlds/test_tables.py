"""App data: a view over frozen tables behaves as plain rows do, and keeps what was changed and nothing else."""

import copy
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym.errors import ConfigError, ToolError
from agentgym.seeding import stream
from agentgym.worlds.app_data import Field, Table, day, draw_tables, fresh_value, people, titles
from agentgym.worlds.tables import Tables, TableView

ROWS = {"a": {"a1": {"x": 1, "y": "p"}, "a2": {"x": 2, "y": "q"}, "a3": {"x": 1, "y": "q"}}, "b": {"b1": {"x": 1}}}
PREFIXES = {"a": "a", "b": "b"}

moves = st.lists(
    st.one_of(
        st.tuples(st.just("change"), st.sampled_from(["a1", "a2", "a3", "a4"]), st.sampled_from(["x", "y"]), st.sampled_from([1, 2, "p", "q"])),
        st.tuples(st.just("remove"), st.sampled_from(["a1", "a2", "a3", "a4"]), st.just(""), st.just(0)),
        st.tuples(st.just("add"), st.just(""), st.just("x"), st.sampled_from([1, 2])),
        st.tuples(st.just("put"), st.sampled_from(["a1", "a2", "a9"]), st.just("x"), st.sampled_from([1, 2])),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(moves=moves)
def test_a_view_is_the_rows_under_its_changes(moves: list[tuple[str, str, str, Any]]) -> None:
    base = Tables(ROWS, PREFIXES)
    view, plain = TableView(base, base.unchanged()), copy.deepcopy(ROWS["a"])
    for kind, id_, field, value in moves:
        if kind == "add":
            number = max([int(i[1:]) for i in [*plain, *ROWS["a"]]], default=0) + 1
            assert view.add("a", {field: value}) == f"a{number}"
            plain[f"a{number}"] = {field: value}
        elif kind == "put":
            view.put("a", id_, {"x": value, "y": "p"})
            plain[id_] = {"x": value, "y": "p"}
        elif id_ not in plain:
            with pytest.raises(KeyError):
                view.remove("a", id_) if kind == "remove" else view.change("a", id_, {field: value})
        elif kind == "remove":
            view.remove("a", id_)
            del plain[id_]
        else:
            view.change("a", id_, {field: value})
            plain[id_][field] = value
        again = TableView(base, json.loads(json.dumps(view.changes)))  # a state travels as JSON
        for seen in (view, again):
            assert {i: seen.row("a", i) for i in seen.ids("a")} == plain
            for wanted in (1, 2, "q"):
                for name in ("x", "y"):
                    assert set(seen.where("a", name, wanted)) == {i for i, row in plain.items() if row.get(name) == wanted}
    assert (view.changes == base.unchanged()) == (plain == ROWS["a"]), "what is as it was leaves no trace"
    assert base["a"] == ROWS["a"], "the frozen rows stay as they are"


def test_a_missing_row_is_an_error_that_a_policy_can_read() -> None:
    base = Tables(ROWS)
    with pytest.raises(ToolError, match=r"no order 'a7'; did you mean 'a1'|no order 'a7'"):
        TableView(base, {}).need("a", "a7", "order")
    assert copy.deepcopy(base) is base


SCHEMA = (
    Table("people", "person", "P", (Field("name", "person"), Field("email", "email"), Field("city", "city"))),
    Table("things", "thing", "T", (
        Field("owner", "ref", table="people"), Field("title", "title"), Field("on", "date", days=(-5, -1)), Field("n", "count", high=3),
        Field("cost", "money", high=9), Field("kind", "choice", ("one", "two")), Field("where", "street"),
    ), share=2.5),
)  # fmt: skip


@pytest.mark.parametrize("size", [2, 40, 2_000])
def test_rows_are_drawn_by_the_seed_and_refer_to_each_other(size: int) -> None:
    one, two, other = (draw_tables(SCHEMA, size, stream("t", seed)) for seed in (1, 1, 2))
    assert dict(one["things"]) == dict(two["things"]) != dict(other["things"])
    assert len(one["people"]) == size
    assert len(one["things"]) == max(2, round(2.5 * size))
    names = [row["name"] for row in one["people"].values()]
    assert len(set(names)) == size
    for row in one["things"].values():
        assert row["owner"] in one["people"]
        assert day(-5) <= str(row["on"]) <= day(-1)
        assert row["n"] in (1, 2, 3)
        assert 3 <= float(str(row["cost"])) <= 9
    assert all(set(one.index("things", "owner")[o]) == {i for i, r in one["things"].items() if r["owner"] == o} for o in one.index("things", "owner"))


def test_names_are_different_and_some_are_alike() -> None:
    for count in (2, 96, 5_000):
        names = people(count, stream(0))
        assert len(set(names)) == count
    firsts = [name.split()[0] for name in people(96, stream(0))]
    assert len(set(firsts)) < 96, "people are told apart by their whole names"
    assert len(set(titles(3_000, stream(0)))) == 3_000


def test_a_schema_that_contradicts_itself_is_refused() -> None:
    with pytest.raises(ConfigError, match="must come before"):
        draw_tables(SCHEMA[::-1], 3, stream(0))
    with pytest.raises(ConfigError, match="did you mean 'title'"):
        SCHEMA[1].field("titel")
    with pytest.raises(ConfigError, match="no other value"):
        fresh_value(Field("kind", "choice", ("one",)), "one", stream(0))
    with pytest.raises(ConfigError, match="at most"):
        people(10**6, stream(0))
