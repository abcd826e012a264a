"""Suites: scoring, info, checks, presets, what users bring, and scoring again from a record."""

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from reward_episodes import GOLD, Fixed, invalid, outcome, play, potential, raw, search

from agentgym import hooks, schema
from agentgym.errors import ConfigError, DataError, NotRegisteredError, RegistrationError
from agentgym.rewards import (
    Cap,
    Component,
    EpisodeView,
    Gate,
    Suite,
    all_valid,
    answer_em,
    as_info,
    build_suite,
    retrieval_gain,
    reward,
)
from agentgym.rewards.registering import FunctionComponent
from agentgym.task import Answer, Gold, Task
from agentgym.types import Score, Trajectory

ROUGH = [
    search("a", "film-31"),
    invalid("E_RESERVED", action="<information>x</information>"),
    search("b", "film-31"),
    search("a", "person-12"),
    invalid("E_RESERVED"),
]


def test_the_search_preset_on_a_rough_episode() -> None:
    played = play(build_suite("search"), ROUGH, "Mira Halvorsen")
    table = {name: [t.scores[name].raw for t in played.turns] for name in played.turns[0].scores}
    assert table == {
        "retrieval_gain": [0.5, 0, 0, 0.5, 0, 0],
        "step_cost": [-1] * 6,
        "call_cost": [-1, 0, -1, -1, 0, -1],
        "invalid_action": [0, -1, 0, 0, -1, 0],
        "query_novelty": [0, 0, -1, -1, 0, 0],
        "forgery": [0, -1, 0, 0, 0, 0],
    }
    # .1 + .1 for the documents, 1 for the answer, no clean record, all costs together at their cap
    assert played.total == pytest.approx(0.2 + 1.0 - 0.3)
    assert played.turns[1].reward == pytest.approx(-0.28)
    assert played.scores["all_valid"].reason == "E_RESERVED in turn 1"
    assert played.success


def test_worked_composition_right_wrong_and_forged() -> None:
    rubric = Fixed("rubric", [0.571429])
    gain = potential("gain", [0.757921, 0.0, 0.0])
    cost = Fixed("repeat", [0.0, -1.0, 0.0], scope="turn", supply="cost", range=(-1.0, 0.0))

    def total(value: float, forged: float) -> float:
        won = outcome(value=value)
        clean = Fixed("clean", [1.0 + forged])
        fake = Fixed("fake", [0.0, forged, 0.0], scope="turn", supply="once", range=(-1.0, 0.0))
        costs = Cap(0.05 * cost + 1.0 * fake, -0.3, 0.0)
        expression = won + Cap(0.2 * gain, -0.2, 0.2) + Gate(won, 0.3 * rubric) + 0.1 * clean + costs
        return play(Suite(expression, success=won), [search(str(i)) for i in range(3)]).total

    assert total(1.0, 0.0) == pytest.approx(1.373013, abs=1e-6)
    assert total(0.0, 0.0) == pytest.approx(0.201584, abs=1e-6)
    assert total(0.0, -1.0) == pytest.approx(-0.148416, abs=1e-6)


def test_info_holds_numbers_and_reasons_and_no_gold() -> None:
    played = play(build_suite("search"), ROUGH, "wrong")
    info = as_info(played.turns[0].scores)
    assert info["retrieval_gain"] == {
        "raw": 0.5,
        "weight": 0.2,
        "value": 0.1,
        "scope": "turn",
        "valid": True,
        "reason": "1 of 2 found",
    }
    everything = json.dumps([as_info(t.scores) for t in played.turns] + [as_info(played.scores)])
    assert "Halvorsen" not in everything
    assert "film-31" not in everything


def test_a_raw_value_outside_its_range_is_clipped_and_counted() -> None:
    won = outcome(value=7.0)
    dense = potential("dense", [0.9, 0.9, -0.9])
    suite = Suite(won + Cap(0.1 * dense, -0.2, 0.2), success=won)
    played = play(suite, [search(str(i)) for i in range(3)])
    assert raw(played, "dense") == pytest.approx([0.9, 0.1, -0.1])  # the sum 1.8 counts as 1: it stays in −1..1
    assert "clipped from 0.9" in played.turns[1].scores["dense"].reason
    assert played.scores["won"].raw == 1.0
    assert played.scores["won"].reason.startswith("clipped from")


def test_a_value_that_is_no_number_is_invalid_not_zero() -> None:
    won = outcome()
    suite = Suite(won + 0.1 * Fixed("odd", [math.nan]), success=won)
    played = play(suite, [search("a")])
    assert not played.scores["odd"].valid
    assert played.scores["odd"].raw is None
    (completed,) = suite.complete([played])
    assert not completed.in_loss
    assert not completed.in_statistics


@pytest.mark.parametrize("number", [np.float32(0.1), np.int64(1), np.bool_(True), np.float64(0.1)])
def test_numbers_of_numpy_count_in_double_precision_and_can_be_written(number: Any) -> None:
    def say(view: object) -> Any:
        return number

    made = FunctionComponent(say, name="made", scope="trajectory", range=(0.0, 1.0), supply="terminal")
    won = outcome()
    played = play(Suite(won + 0.1 * potential("dense", [number, 0.0]) + 0.1 * made, won), [search("a"), search("b")])
    assert played.total == 0.1 * float(number) + 0.1 * float(number)
    assert schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(played)))) == played


def test_check_names_component_need_and_task() -> None:
    suite = build_suite("search")
    suite.check(Task("t", "q", GOLD))
    suite.check(Task("t", "q", Gold(answers=(Answer("x"),))))  # documents or answers
    with pytest.raises(ConfigError, match="answer_em needs gold answers, which task 'nq-7' does not have"):
        suite.check(Task("nq-7", "q", Gold(doc_ids=("d",))))
    with pytest.warns(UserWarning, match="margin"):
        gain = Suite(retrieval_gain, success=all_valid)
    with pytest.raises(ConfigError, match="needs gold doc_ids or answers"):
        gain.check(Task("nq-7", "q"))
    won = outcome(needs=frozenset({"gold.answer"}))
    with pytest.raises(ConfigError, match="did you mean 'answers'"):
        Suite(won, success=won).check(Task("t", "q", GOLD))


def test_one_name_for_a_turn_and_an_episode_is_refused() -> None:
    twin = type("Twin", (type(retrieval_gain),), {"name": "answer_em"})()
    with pytest.raises(ConfigError, match="two components are called 'answer_em'"):
        Suite(answer_em + Cap(0.2 * twin, -0.2, 0.2), success=answer_em)


def test_describe_says_what_a_reader_must_know() -> None:
    won = outcome()
    unnamed, named = (Suite(won + 0.1 * won, success=won, name=name).describe().splitlines() for name in ("", "mine"))
    assert (named[0], named[1], named[2:]) == ("mine", f"  = {unnamed[0]}", unnamed[1:]), "an expression is not said twice"
    text = build_suite("search_ig").describe()
    assert "margin 0.2" in text
    assert "filled after the rollouts: information_gain" in text
    assert "paid at the end" in Suite(won + Gate(won, 0.1 * potential("dense", [])), success=won).describe()


def test_shipped_presets_separate_and_the_learners_factor_counts() -> None:
    for name in ("search", "search_ig"):
        suite = build_suite(name)
        assert suite.bounds().margin == pytest.approx(0.2)
        assert suite.warnings == ()
    suite = build_suite("search")
    assert suite.bounds(turn_factor=0.0).margin == pytest.approx(0.9)
    assert suite.bounds(turn_factor=2.0).margin == pytest.approx(-0.5)
    assert "scorer" in build_suite("search_ig").needs


def test_a_suite_can_be_made_of_anything_sensible() -> None:
    class Short(Component):
        """1 for at most two turns."""

        name, scope, range, supply, failure_max = "short", "trajectory", (0.0, 1.0), "terminal", 0.0

        def score(self, view: EpisodeView, state: object) -> Score:
            return Score("trajectory", float(len(view.turns) <= 2))

    for spec in (Short, Short(), lambda: Short()):
        suite = build_suite(spec)
        assert suite.outcome.name == "short"
        assert play(suite, [search("a")]).success
    assert build_suite(suite) is suite
    assert build_suite("answer_f1").outcome.name == "answer_f1"
    with pytest.warns(UserWarning, match="margin"):
        mixed = build_suite("answer_f1 + 0.1*all_valid")
    assert (mixed.name, mixed.outcome.name) == ("answer_f1 + 0.1*all_valid", "answer_f1")
    assert build_suite(answer_em + 0.1 * all_valid).outcome is answer_em
    assert build_suite("answer_em + Gate(answer_em, 0.1*all_valid)").bounds().margin == 1.0  # one name, one component
    for bad in (3, None, ["search"], lambda: 3):
        with pytest.raises(ConfigError, match=r"suites: .*search"):
            build_suite(bad)
    with pytest.raises(NotRegisteredError, match="did you mean 'search'"):
        build_suite("serach")


def test_the_reward_decorator_registers_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks.COMPONENTS, "_targets", dict(hooks.COMPONENTS._targets))

    @reward(scope="turn", range=(-1, 0))
    def long_query(view: EpisodeView) -> float:
        """Long queries cost."""
        return -1.0 if any(len(c.arguments.get("query", "")) > 5 for c in view.turns[-1].calls) else 0.0

    assert isinstance(long_query, FunctionComponent)
    assert long_query.supply == "cost"
    suite = build_suite("answer_em + Cap(0.1*long_query, -0.2, 0)")
    played = play(suite, [search("short"), search("much longer"), search("much longer still"), search("very much longer")])
    assert raw(played, "long_query") == [0.0, -1.0, -1.0, -1.0]
    assert played.total == pytest.approx(-0.2)
    assert long_query(EpisodeView("q", GOLD, turns=[search("short")])) == 0.0
    with pytest.raises(RegistrationError, match="long_query"):
        reward(scope="turn", range=(-1, 0))(long_query.function)
    reward(scope="turn", range=(-1, 0), replace=True)(long_query.function)
    with pytest.raises(ConfigError, match="supply='potential'"):
        reward(scope="turn", range=(0, 1))
    text = reward(scope="trajectory", range=(0, 1), name="text")(lambda view: "1")
    with pytest.raises(ConfigError, match="must return a number"):
        text.score(EpisodeView("q", GOLD), None)


def record(trajectory: Trajectory) -> Trajectory:
    return schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(trajectory))))


@pytest.mark.parametrize("end", ["", "max_tokens"])
def test_a_record_scores_to_the_same_numbers_without_its_environment(end: str) -> None:
    suite = build_suite("search")
    for given in ("Mira Halvorsen", "wrong"):
        played = play(suite, ROUGH, given, end_reason=end)
        stripped = replace(
            played,
            turns=tuple(replace(t, scores={}, reward=0.0) for t in played.turns),
            scores={},
            reward=0.0,
            success=not played.success,
        )
        again = suite.rescore(record(stripped))
        assert again == record(played)
        assert again.total == played.total
    with pytest.raises(DataError, match="has no gold"):
        suite.rescore(replace(played, gold=None))


def test_completing_a_record_of_another_suite_is_an_error() -> None:
    played = play(build_suite("answer_em + Cap(0.2*information_gain, -0.2, 0.2)"), [search("a")], "x")
    scorer = type("S", (), {"score": lambda self, c, p, t, s: [[-1.0]] * len(t)})()
    with pytest.raises(ConfigError, match="rescore it with this suite first"):
        build_suite("search_ig").complete([played], scorer)


@pytest.mark.parametrize(("end", "last_turn_saw"), [("answered", "answered"), ("max_tokens", "")])
def test_end_reason_and_answer_reach_components_as_they_did_live(end: str, last_turn_saw: str) -> None:
    seen: list[tuple[int, str | None, str]] = []

    class Spy(Component):
        name, scope, range, supply = "spy", "turn", (-1.0, 0.0), "cost"

        def score(self, view: EpisodeView, state: object) -> Score:
            seen.append((len(view.turns), view.answer, view.end_reason))
            return Score("turn", 0.0)

    suite = build_suite(answer_em + 0.1 * Cap(Spy(), -1, 0))
    played = play(suite, [search("a"), search("b")], "x", end_reason=end)
    live, seen[:] = list(seen), []
    suite.rescore(played)
    assert seen == live == [(1, None, ""), (2, None, ""), (3, "x", last_turn_saw)]


def test_multi_call_turns_cost_per_call_and_service_faults_are_not_the_policys() -> None:
    suite = build_suite("search")
    two = search("a", "d1")
    two = replace(two, calls=two.calls * 3, results=two.results * 3)
    fault = search("b", ok=False, code="E_SERVICE")
    played = play(suite, [two, fault])
    assert raw(played, "call_cost") == [-3.0, -1.0]
    assert raw(played, "invalid_action") == [0.0, 0.0]
    assert played.scores["all_valid"].raw == 1.0


def test_a_long_observation_costs_what_it_is_long() -> None:
    suite = build_suite("answer_em + Cap(0.1*obs_cost, -0.3, 0)")
    played = play(suite, [search("a", shown="x" * 500), search("b", shown="y" * 20_000)], "Mira Halvorsen")
    assert raw(played, "obs_cost") == [-0.5, -20.0, 0.0]
    assert played.total == pytest.approx(0.7)
    assert suite.rescore(played) == played
    blank = play(build_suite("search"), [search("a", "x")], "yes", gold=Gold(answers=(Answer("yes"),)))
    assert blank.turns[0].scores["retrieval_gain"].reason == "gold names nothing that a document could show"
