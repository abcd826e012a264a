"""Typed comparison, linear patterns, statements about states, and what gold refuses."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym import linear_regex, schema, statement, typed
from agentgym.errors import ConfigError, DataError
from agentgym.gold import Assertion, Constraint, GoldCall, HiddenFact, Milestone
from agentgym.task import Gold

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "rewards_tools.json").read_text(encoding="utf-8"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.sampled_from([0.5, 1.0, -2.0]) | st.sampled_from(["", "1", "a"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.parametrize(
    ("key", "a", "b"),
    [
        ("true vs 1", True, 1),
        ("1 vs 1.0", 1, 1.0),
        ("'1' vs 1", "1", 1),
        ("null vs missing {'a':null} vs {}", {"a": None}, {}),
        ("[1,2] vs [2,1]", [1, 2], [2, 1]),
        ("{a:1,b:2} vs {b:2,a:1}", {"a": 1, "b": 2}, {"b": 2, "a": 1}),
    ],
)
def test_equality_has_types(key: str, a: Any, b: Any) -> None:
    assert typed.equal(a, b) is GOLDEN["json_equal"][key]
    assert (a == b) or not typed.equal(a, b)
    assert GOLDEN["json_equal"]["python_true_eq_1"] is (True == 1)


@given(values, values)
def test_canonical_text_is_equality(a: Any, b: Any) -> None:
    assert (typed.canonical(a) == typed.canonical(b)) is typed.equal(a, b) is typed.equal(b, a)
    assert typed.equal(a, json.loads(json.dumps(a)))
    assert typed.contains_all([a, b], [b])
    assert typed.contains_all([a], [a, b]) is False


def test_responses_are_contained_as_often_as_they_are_wanted() -> None:
    golden = GOLDEN["bfcl_unordered_subsequence"]
    assert typed.contains_all(["a"], ["a", "a"]) is golden["gold ['a','a'] model ['a']"]
    assert typed.contains_all(["b", "x", "a"], ["a", "b"]) is golden["gold ['a','b'] model ['b','x','a']"]
    assert not typed.contains_all([1], [True])


@pytest.mark.parametrize(
    ("given_", "gold", "mode", "fits"),
    [
        (12.504, 12.5, "number(0.005)", True),
        (12.505, 12.5, "number(0.005)", True),
        (12.51, 12.5, "number(0.005)", False),
        ("12.5", 12.5, "number(0.005)", False),
        (True, 1, "number", False),
        (" Card", "CARD ", "ci", True),
        (["b", 1], [1.0, "b"], "set", True),
        (["b", "b"], ["b", "c"], "set", False),
        (None, 5, "any", True),
        ("#W23", None, "regex(#W\\d+)", True),
        ("x#W23", None, "regex(#W\\d+)", False),
        ("abc", "a.c", "regex", True),
        (5, "5", "regex", False),
    ],
)
def test_compare_modes(given_: Any, gold: Any, mode: str, fits: bool) -> None:
    assert typed.matches(given_, gold, mode) is fits


@pytest.mark.parametrize("mode", ["exactly", "number(x)", "number(-1)", "ci(3)", "regex((a)", "regex((a)\\1)", ""])
def test_a_mode_that_cannot_be_read_is_refused(mode: str) -> None:
    with pytest.raises(ConfigError, match=r"mode|pattern"):
        typed.comparison(mode)


# ---- patterns

PIECES = ["a", "b", "ab", ".", "[ab]", "[^a]", "\\w", "\\d", "(a|b)", "(?:ab)", "^", "$", "\\b", "-"]
patterns = st.recursive(
    st.sampled_from(PIECES),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.builds("(?:{}){}".format, inner, st.sampled_from(["*", "+", "?", "{2}", "{0,2}", "{1,}", "*?"])),
        st.builds("(?:{}|{})".format, inner, inner),
    ),
    max_leaves=6,
)


@given(patterns, st.text(alphabet="ab1- \n", max_size=8), st.booleans())
def test_patterns_mean_what_they_mean_in_python(pattern: str, text: str, ignore_case: bool) -> None:
    if ignore_case:
        pattern, text = "(?i)" + pattern, text.upper()
    assert linear_regex.fullmatch(pattern, text) is (re.fullmatch(pattern, text) is not None)
    assert linear_regex.search(pattern, text) is (re.search(pattern, text) is not None)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("pattern", ["(a+)+b", "(a|aa)*c", "(a*)*(a*)*b", "(?:a?){30}a{30}b", "(.*)(.*)(.*)(.*)x"])
def test_no_text_makes_a_pattern_slow(pattern: str) -> None:
    assert not linear_regex.fullmatch(pattern, "a" * 1_000)
    assert not linear_regex.fullmatch(pattern, "a" * 1_000_000)  # longer than anything that is read


@pytest.mark.parametrize("pattern", ["(a", "(a)\\1", "(?=a)a", "(?<!a)b", "a{1000}{10}", "(?>a)b", "(?i:a)b"])
def test_patterns_that_need_backtracking_are_refused(pattern: str) -> None:
    with pytest.raises(ConfigError, match="pattern"):
        linear_regex.fullmatch(pattern, "a")


# ---- statements

STATE = {
    "orders": {"#W23": {"status": "done", "total": 12.5, "items": [{"id": 1, "n": "cup"}, {"id": 2, "n": "jug"}]}},
    "contacts": [{"name": "Ana Reyes", "phone": "555-0142"}, {"name": "Tor", "phone": None}],
    "a.b": {"c]": 1},
}


@pytest.mark.parametrize(
    ("path", "op", "value", "holds"),
    [
        ("orders.#W23.status", "eq", "done", True),
        ("orders.#W23.items[1].n", "eq", "jug", True),
        ("orders.#W23.items[id=2].n", "eq", "jug", True),
        ("orders[status=done].total", "number(0.1)", 12.55, True),
        ("orders.#W23.items", "count", 2, True),
        ("contacts[name=Ana Reyes].phone", "digits_eq", "5550142", True),
        ("contacts[name=Ana Reyes].phone", "eq", "5550142", False),
        ("contacts[1].phone", "exists", None, True),
        ("contacts[1].phone", "eq", None, True),
        ("contacts[7].phone", "absent", None, True),
        ("contacts[7].phone", "ne", "x", False),
        ("contacts[7].phone", "any", None, False),
        ('["a.b"]["c]"]', "eq", 1, True),
        ('["a.b"]["c]"]', "eq", True, False),
        ("orders.#W23.total", "ge", 12.5, True),
        ("orders.#W23.status", "lt", 3, False),
        ("contacts[*]", "contains", {"name": "Tor", "phone": None}, True),
        ("orders.#W23.status", "lacks", "refund", True),
        ("orders.#W23.status", "regex(d.*)", None, True),
    ],
)
def test_statements_about_a_state(path: str, op: str, value: Any, holds: bool) -> None:
    statement.check(path, op)
    assert statement.holds(STATE, path, op, value) is holds


@pytest.mark.parametrize(("path", "op"), [("a..b", "eq"), ("a.", "eq"), ("a[b", "eq"), (".a", "eq"), ("a", "equals"), ("a", "number(y)")])
def test_statements_that_cannot_be_read_are_refused(path: str, op: str) -> None:
    with pytest.raises(ConfigError, match=r"path|operator|mode"):
        statement.check(path, op)


def test_rouge_l_matches_the_worked_numbers() -> None:
    assert statement.rouge_l("blue running shoes", "Blue running shoes, men") == pytest.approx(6 / 7)
    assert statement.rouge_l("running shoes", "blue running shoes men") == pytest.approx(2 / 3)
    assert statement.rouge_l("x " * 100_000, "y") == 0.0


# ---- gold

CALLS = (GoldCall("g1", "a", {"x": 1}), GoldCall("g2", "b", after=("g1",)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trace": (GoldCall("g1", "a", after=("g2",)), GoldCall("g2", "b", after=("g1",)))}, "'g1', 'g2'"),
        ({"trace": (GoldCall("g1", "a", after=("g9",)),)}, "'g9'"),
        ({"trace": (GoldCall("g1", "a"), GoldCall("g1", "b"))}, "'g1' is used twice"),
        ({"trace": (GoldCall("g1", ""),)}, "names no tool"),
        ({"trace": (GoldCall("g1", "a", {"x": 1}, {"y": "ci"}),)}, "'y'"),
        ({"trace": CALLS, "accepted_args": {"g7": {"x": (1,)}}}, "'g7'"),
        ({"trace": CALLS, "accepted_args": {"g1": {"x": ()}}}, "no value is accepted for x"),
        ({"assertions": (Assertion("a", weight=0.0), Assertion("b", weight=0.0))}, "sum to zero"),
        ({"assertions": (Assertion("a", weight=-1.0),)}, "at least 0"),
        ({"assertions": (Assertion(),)}, "either a path or a program"),
        ({"milestones": (Milestone("m", ()),)}, "no constraints"),
        ({"milestones": (Milestone("m", (Constraint(),)),)}, "either a call or a path|has either"),
        ({"minefields": (Milestone("m", (Constraint(call="x"),), after=("n",)),)}, "'n'"),
        ({"hidden_facts": (HiddenFact("h", "x", weight=0.0),)}, "sum to zero"),
    ],
)
def test_gold_that_means_nothing_is_refused_with_its_ids(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Gold(**fields)
    line = json.loads(json.dumps({k: schema.to_json(v) for k, v in fields.items()}))
    with pytest.raises(DataError, match=r"tasks\.jsonl:3"):
        schema.from_json(Gold, line, "tasks.jsonl:3")


def test_gold_without_the_new_fields_still_loads() -> None:
    old = {"answers": [{"text": "Rome"}], "doc_ids": ["d"], "path": [["a", "r", "b"]]}
    gold = schema.from_json(Gold, old)
    assert schema.to_json(gold) == old
    full = Gold(trace=CALLS, accepted_args={"g1": {"x": (1, "")}}, paths=((("a", "r", "b"),),), final_state={"a": 1})
    assert schema.from_json(Gold, json.loads(json.dumps(schema.to_json(full)))) == full
