"""Outcomes for sets and for numbers."""

import pytest
from reward_episodes import answer, play

from agentgym.errors import ConfigError
from agentgym.rewards import EpisodeView, Suite, build_suite
from agentgym.rewards.answer_numbers import AnswerNumber, Quantity, read_quantity
from agentgym.rewards.answer_sets import set_f1
from agentgym.task import Answer, Gold, Task
from agentgym.types import ToolCall, ToolResult, Turn

SET = build_suite("answer_set_f1")
TWO = Gold(answers=(Answer("Tor Lind", ("T. Lind",)), Answer("Ana Reyes")), answer_mode="all")


def listed(*items: str) -> Turn:
    """The final call of an environment whose answer is a list."""
    result = ToolResult("a", "answer", True, data={"items": list(items)})
    return Turn(0, "…", (ToolCall("answer", {"items": list(items)}, "a"),), (result,))


def f1_of(turn: Turn, given: str, gold: Gold = TWO) -> float:
    view = EpisodeView("q", gold, turns=[turn], answer=given, end_reason="answered")
    return SET.outcome.score(view, None).raw or 0.0


def test_items_come_from_the_list_and_aliases_are_resolved_once() -> None:
    assert f1_of(listed("T. Lind", "ana reyes"), "") == 1.0
    assert f1_of(listed("Tor Lind", "T. Lind", "Tor Lind"), "") == pytest.approx(2 / 3)  # one answer under two names
    assert f1_of(listed("Tor Lind", "Mira"), "") == 0.5
    assert f1_of(listed("", "“”"), "") == 0.0


def test_text_is_one_item_unless_it_is_a_json_list() -> None:
    for text in ("Tor Lind, Ana Reyes", "Tor Lind and Ana Reyes", "[Tor Lind, Ana Reyes]", '["Tor Lind", 1]'):
        assert play(SET, [], text, gold=TWO).scores["answer_set_f1"].raw == 0.0, text
    assert play(SET, [], '["Ana Reyes", "Tor Lind"]', gold=TWO).success
    assert play(SET, [], "Tor Lind", gold=TWO).scores["answer_set_f1"].raw == pytest.approx(2 / 3)
    assert play(SET, [], gold=TWO).scores["answer_set_f1"].reason == "no_answer"
    assert f1_of(answer("[" * 100_000), "[" * 100_000) == 0.0  # deep nesting is no crash


def test_a_shared_name_counts_for_one_answer_in_any_order() -> None:
    golds = [("J. Smith", "John Smith"), ("J. Smith", "Jane Smith")]
    assert set_f1(["J. Smith"], golds) == pytest.approx(2 / 3)
    for items in (["J. Smith", "John Smith"], ["John Smith", "J. Smith"]):
        assert set_f1(items, golds) == set_f1(items, golds[::-1]) == 1.0


def test_order_counts_where_the_task_says_so() -> None:
    golds = [("a1",), ("b1",), ("c1",)]
    assert set_f1(["a1", "b1", "c1"], golds, ordered=True) == 1.0
    assert set_f1(["c1", "b1", "a1"], golds) == 1.0
    assert set_f1(["c1", "b1", "a1"], golds, ordered=True) == pytest.approx(1 / 3)
    assert set_f1(["a1", "x", "c1"], golds, ordered=True) == pytest.approx(2 * 2 / 6)
    assert (
        play(SET, [], '["Ana Reyes", "Tor Lind"]', gold=Gold(answers=TWO.answers, answer_mode="ordered")).success
        is False
    )


def test_alternatives_and_empty_answers_are_refused() -> None:
    with pytest.raises(ConfigError, match="answer_mode 'all'"):
        SET.check(Task("t", "q", Gold(answers=TWO.answers)))
    with pytest.raises(ConfigError, match="nothing is left of its answer '“”'"):
        SET.check(Task("t", "q", Gold(answers=(Answer("“”"),))))
    SET.check(Task("t", "q", TWO))
    # of alternatives one that is left is enough; of a set each is needed
    answers = (Answer("South Africa"), Answer("🇿🇦"))
    build_suite("answer_em").check(Task("t", "q", Gold(answers=answers)))
    with pytest.raises(ConfigError, match="nothing is left of its answer '🇿🇦'"):
        SET.check(Task("t", "q", Gold(answers=answers, answer_mode="all")))
    with pytest.raises(ConfigError, match="nothing is left of its answer '🇿🇦'"):
        build_suite("answer_em").check(Task("t", "q", Gold(answers=answers[1:])))


@pytest.mark.parametrize(
    ("text", "quantity"),
    [
        ("1,234.5 km", Quantity(1234.5, "km")),
        ("about 3 500 metres", Quantity(3500.0, "m")),
        ("−5 °C", Quantity(-5.0, "°c")),
        ("$3.50", Quantity(3.5, "$")),
        ("-$3", Quantity(-3.0, "$")),
        ("USD 12", Quantity(12.0, "$")),
        ("12 US dollars", Quantity(12.0, "$")),
        ("40 per cent.", Quantity(40.0, "%")),
        ("1.5e3", Quantity(1500.0)),
        (".5", Quantity(0.5)),
        ("１２", Quantity(12.0)),
        ("42 films", Quantity(42.0, "film")),
        ("1990-1995", None),
        ("1 or 2", None),
        ("1,2", None),
        ("not 5", None),
        ("F-16", None),
        ("in the year 1961 or so he went", None),
        ("1.5.2", None),
        ("3/4", None),
        ("1e999", None),
        ("9" * 5000, None),
        ("five", None),
        ("", None),
    ],
)
def test_reading_a_quantity(text: str, quantity: Quantity | None) -> None:
    assert read_quantity(text) == quantity


@pytest.mark.parametrize(
    ("gold", "given", "right"),
    [
        (Answer("1961", type="number"), "1961", True),
        (Answer("1961", type="number"), "1961.0", True),
        (Answer("1961", type="number"), "1962", False),
        (Answer("0.3"), "0.30000000000000004", True),
        (Answer("12.5", tol=0.5), "13", True),
        (Answer("12.5", tol=0.5), "13.1", False),
        (Answer("5", unit="km"), "5 kilometres", True),
        (Answer("5", unit="km"), "5 miles", False),
        (Answer("5 km"), "5 m", False),
        (Answer("5", unit="km"), "5", True),
        (Answer("-5"), "5", False),
        (Answer("1.5"), "15", False),
        (Answer("5", ("five", "6")), "6", True),
        (Answer("5"), "1 2 3 4 5", False),
    ],
)
def test_numbers_within_tolerance_and_unit(gold: Answer, given: str, right: bool) -> None:
    suite = build_suite("answer_number")
    task = Gold(answers=(gold,))
    suite.check(Task("t", "q", task))
    assert play(suite, [], given, gold=task).success is right


def test_strict_units_relative_tolerance_and_refused_gold() -> None:
    strict = AnswerNumber(rel_tol=0.01, require_unit=True)
    suite = Suite(strict, success=strict)
    task = Gold(answers=(Answer("200", unit="km"),))
    assert play(suite, [], "199 km", gold=task).success
    assert not play(suite, [], "197 km", gold=task).success
    assert play(suite, [], "200", gold=task).scores["answer_number"].reason == "other_unit"
    with pytest.raises(ConfigError, match="'many' is no number"):
        suite.check(Task("t", "q", Gold(answers=(Answer("many"),))))
