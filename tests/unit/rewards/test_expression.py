"""The algebra: what nodes pay, what they refuse, what interval arithmetic says about them."""

import json
import math
from pathlib import Path

import pytest
from reward_episodes import Fixed, outcome, play, potential, search

from agentgym.errors import ConfigError, NotRegisteredError
from agentgym.rewards import Cap, Component, Expression, Gate, Suite, all_valid, answer_em, answer_f1, component_named
from agentgym.rewards.costs import step_cost
from agentgym.rewards.parse import parse_expression
from agentgym.types import Trajectory

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards.json").read_text(encoding="utf-8"))
CLOSE = {"abs": 1e-9}


def run(expression: Expression, n_turns: int, success: Component) -> Trajectory:
    return play(Suite(expression, success=success), [search(str(i)) for i in range(n_turns)])


def values(trajectory: Trajectory, name: str) -> list[float]:
    return [turn.scores[name].value for turn in trajectory.turns]


@pytest.mark.filterwarnings("ignore:suite")
def test_composition_matches_the_golden_numbers() -> None:
    won, lost = outcome(value=1.0), outcome(value=0.0)
    clean, cost = Fixed("format", [1.0]), Fixed("search_cost", [3.0], range=(0.0, 3.0))
    assert run(won + 0.2 * clean - 0.05 * cost, 1, won).total == pytest.approx(GOLDEN["compose"]["sum"], **CLOSE)
    rubric = Fixed("rubric", [0.5])
    gold = GOLDEN["compose"]
    assert run(won + Gate(won, 0.3 * rubric), 1, won).total == pytest.approx(gold["gate: em*(1+.3*rubric), em=1 rubric=.5"])
    assert run(Gate(won, 0.3 * rubric, base=1), 1, won).total == pytest.approx(1.15)
    assert run(Gate(lost, 0.3 * rubric, base=1), 1, lost).total == gold["gate em=0"]
    dense = potential("dense", [0.5, 0.4])
    capped = run(lost + Cap(dense, -0.5, 0.5), 2, lost)
    assert capped.total == gold["cap: turn sum .9 capped at .5 -> total with em=0"]
    assert values(capped, "dense") == [0.5, 0.0]


@pytest.mark.filterwarnings("ignore:suite")
def test_a_cap_on_the_running_sum_keeps_a_potential_a_potential() -> None:
    won = outcome()
    dense = potential("dense", [0.5, 0.4, -0.7, 0.4, -0.6])
    played = run(won + Cap(dense, -0.2, 0.2), 5, won)
    assert values(played, "dense") == pytest.approx([0.2, 0.0, 0.0, 0.0, -0.2], **CLOSE)


@pytest.mark.filterwarnings("ignore:suite")
def test_children_of_a_cap_share_it_and_sum_to_it_exactly() -> None:
    won = outcome()
    a, b = potential("a", [0.3, 0.2, -0.75]), potential("b", [0.1, 0.0, 0.2])
    zero = potential("zero", [0.0, 0.0, 0.0])
    played = run(won + 2.0 * Cap(0.5 * a + b + zero, -0.1, 0.2), 3, won)
    assert values(played, "a") == pytest.approx([0.24, 0.0, -0.75 / 7], **CLOSE)
    assert values(played, "b") == pytest.approx([0.16, 0.0, 0.4 / 7], **CLOSE)
    assert values(played, "zero") == [0.0, 0.0, 0.0]  # a member that gave nothing takes no remainder
    assert sum(t.reward for t in played.turns[:2]) == pytest.approx(0.4, **CLOSE)
    assert played.turns[0].scores["a"].weight == 1.0


@pytest.mark.filterwarnings("ignore:suite")
def test_turn_terms_in_a_gate_are_paid_at_the_end() -> None:
    for value in (0.0, 1.0):
        won = outcome(value=value)
        dense = potential("dense", [0.5, 0.4, -0.3])
        played = run(won + Gate(won, 2.0 * Cap(0.5 * dense, -0.3, 0.3)), 3, won)
        assert values(played, "dense") == [0.0, 0.0, 0.0]
        assert played.turns[0].scores["dense"].raw == 0.5
        paid = played.scores["dense"]
        assert (paid.scope, paid.raw, paid.weight) == ("trajectory", pytest.approx(0.6), 1.0)
        assert paid.value == pytest.approx(value * 2 * 0.3, **CLOSE)
        assert played.total == pytest.approx(value * 1.6, **CLOSE)


@pytest.mark.filterwarnings("ignore:suite")
def test_nested_gates_and_a_cap_over_a_gate() -> None:
    won, half = outcome(value=1.0), Fixed("half", [0.5])
    dense, rubric = potential("dense", [0.4, 0.4]), Fixed("rubric", [1.0])
    inner = Gate(half, dense + rubric, base=0.2)
    assert run(won + Gate(won, inner), 2, won).total == pytest.approx(1 + 0.5 * (0.2 + 0.8 + 1.0))
    capped = run(won + Cap(inner + 0.1 * rubric, 0.0, 0.6), 2, won)
    assert capped.total == pytest.approx(1.6)
    # the base of a gate is booked to the component that gates, in its share of the cap
    assert capped.scores["half"].value == pytest.approx(0.1 * 0.6 / 1.1)
    assert sum(s.value for s in capped.scores.values()) == capped.reward


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Cap(step_cost + all_valid, -1, 1), "both scopes"),
        (lambda: Cap(step_cost, 0.1, 1), "lo <= 0 <= hi"),
        (lambda: Cap(3, -1, 1), "expected a component"),
        (lambda: Gate(step_cost, all_valid), "trajectory scope"),
        (lambda: Gate(2 * answer_em, all_valid), "trajectory scope"),
        (lambda: float("nan") * answer_em, "finite"),
        (lambda: Suite(answer_em + Fixed("answer_em", [0.0])), "two components"),
        (lambda: Suite(answer_em + step_cost + Gate(answer_em, step_cost)), "one level only"),
        (lambda: Suite(answer_em, success=step_cost), "trajectory scope"),
        (lambda: Suite("search"), "needs a component"),
        (lambda: Suite(answer_em + Fixed("x", [0], supply="endless")), "potential, once, cost, terminal, unbounded"),
        (lambda: Suite(answer_em + Fixed("x", [0], supply="unbounded")), "belongs to turn scope"),
        (lambda: Suite(answer_em + Fixed("x", [0], scope="turns")), "did you mean 'turn'"),
        (lambda: Suite(answer_em + Fixed("x", [0], range=(1, 0))), "range="),
        (lambda: Suite(answer_em + Fixed("x", [0], supply="cost")), "never positive"),
        (lambda: Suite(answer_em + Fixed("x", [0], scope="turn")), "belongs to trajectory scope"),
        (lambda: Suite(answer_em + potential("x", [0], range=(0.5, 1))), "must hold 0"),
        (lambda: Suite(answer_em + Fixed("", [0])), "non-empty"),
    ],
)
def test_what_cannot_be_promised_is_refused_at_load(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_only_numbers_weigh_and_only_expressions_add() -> None:
    for bad in (lambda: answer_em * answer_f1, lambda: answer_em + True, lambda: True * answer_em, lambda: "1" + answer_em):
        with pytest.raises(TypeError):
            bad()
    assert repr(1 - 2 * (answer_em + 3)) == "1.0 + -2.0 * (answer_em + 3.0)"
    assert repr(sum([answer_em, 0.5 * all_valid])) == "answer_em + 0.5 * all_valid"


def test_an_expression_can_be_written_as_text_and_read_back() -> None:
    text = "answer_em + Cap(0.2*retrieval_gain, lo=-0.2, hi=0.2) - (step_cost + 0.5*all_valid)*0.01 + Gate(answer_em, all_valid, 1)"
    first = parse_expression(text, component_named)
    assert repr(parse_expression(repr(first), component_named)) == repr(first)
    assert repr(first).startswith("answer_em + Cap(0.2 * retrieval_gain, -0.2, 0.2) + -0.01 * (step_cost")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("answer_em +", "is no expression"),
        ("1 + 2", "is a number"),
        ("answer_em / 2", "'answer_em / 2' is not understood"),
        ("__import__('os')", "is not understood"),
        ("answer_em.needs", "is not understood"),
        ("Cap(answer_em)", "is not understood"),
        ("answer_em * all_valid", "is not understood"),
        ("(" * 5000, "is no expression"),
    ],
)
def test_text_that_is_no_expression_names_the_part(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message.replace("(", r"\(").replace("'", ".")):
        parse_expression(text, component_named)
    with pytest.raises(NotRegisteredError, match="did you mean 'answer_em'"):
        parse_expression("answer_en + all_valid", component_named)


@pytest.mark.filterwarnings("ignore:suite")
def test_bounds_match_the_golden_presets() -> None:
    won, clean, rubric = outcome("won"), Fixed("clean", [1.0]), Fixed("rubric", [0.0])
    dense = potential("dense", [])
    costs = Cap(0.1 * Fixed("bad", [], scope="turn", supply="cost", range=(-1.0, 0.0)), -0.3, 0)
    trace = potential("trace", [], range=(-0.5, 1.0))
    match = potential("match", [], range=(0.0, 1.0))
    common = won + 0.1 * clean + costs
    suites = {
        "search: em+cap(.2 IG,±.2)+gate .3 rubric+.1 all_valid, costs<=.3": common
        + Cap(0.2 * dense, -0.2, 0.2)
        + Gate(won, 0.3 * rubric),
        "search with IG weight 1 uncapped [-1,1]": common + dense + Gate(won, 0.3 * rubric),
        "graph: set_f1+cap(.2 path,±.2)": common + Cap(0.2 * dense, -0.2, 0.2),
        "tools: state+.2 trace [-.5,1]": common + 0.2 * trace,
        "gui: success+.2 action_match": common + 0.2 * match,
    }
    assert set(suites) == set(GOLDEN["preset_bounds"])
    for name, expression in suites.items():
        bounds, gold = Suite(expression, success=won).bounds(), GOLDEN["preset_bounds"][name]
        assert bounds.failure == pytest.approx(gold["outcome0"]), name
        assert bounds.success == pytest.approx(gold["outcome1"]), name
        assert bounds.margin == pytest.approx(gold["margin"]), name


@pytest.mark.filterwarnings("ignore:suite")
def test_an_uncapped_cost_has_no_floor_and_a_graded_outcome_no_gap() -> None:
    open_ended = Suite(answer_em + 0.01 * step_cost).bounds()
    assert open_ended.success == (-math.inf, 1.0)
    assert open_ended.margin == -math.inf
    graded = Suite(answer_f1, success=answer_f1)
    assert graded.bounds().margin == 0.0
    assert not graded.warnings  # alone it orders episodes as it should
    with pytest.warns(UserWarning, match="a failure may earn up to 1.1, a success as little as 1"):
        assert Suite(answer_f1 + 0.1 * all_valid, success=answer_f1).bounds().margin == pytest.approx(-0.1)
