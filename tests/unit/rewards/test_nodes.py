"""Products, minima, clips, latches, means, conditions, schedules: what they pay, to whom, and what they refuse."""

import math

import pytest
from reward_episodes import Fixed, outcome, play, potential, search

from agentgym.errors import ConfigError
from agentgym.rewards import (
    Cap,
    Clip,
    Component,
    Expression,
    Gate,
    MaxNorm,
    Mean,
    Min,
    Once,
    OnlyIf,
    Product,
    Schedule,
    Suite,
    all_valid,
    answer_em,
    answer_f1,
    attributed,
    build_suite,
    retrieval_gain,
    step_cost,
)
from agentgym.types import Trajectory

pytestmark = pytest.mark.filterwarnings("ignore:suite")
WON, LOST = outcome(value=1.0), outcome(value=0.0)
A, B = potential("a", [0.5, 0.0, 0.5]), potential("b", [0.0, 0.5, -0.25])
FLAG = Fixed("flag", [1.0, 0.0, 1.0], scope="turn", supply="unbounded")


def run(expression: Expression, success: Component = WON, n_turns: int = 3, progress: float | None = None) -> Trajectory:
    suite = Suite(expression, success, allow_unbounded=True)
    return play(suite, [search(str(i)) for i in range(n_turns)], progress=progress)


def per_turn(played: Trajectory, name: str) -> list[float]:
    return [turn.scores[name].value for turn in played.turns]


def test_a_product_of_turn_terms_pays_as_it_rises_and_shares_by_what_moved() -> None:
    played = run(WON + Product(A, B))
    assert [t.reward for t in played.turns] == pytest.approx([0.0, 0.25, 0.0])
    assert per_turn(played, "b")[1] == pytest.approx(0.25)  # a stood still at .5
    assert (per_turn(played, "a")[2], per_turn(played, "b")[2]) == pytest.approx((0.1875, -0.1875))


def test_a_product_at_the_end_is_shared_equally_and_a_minimum_goes_to_the_least() -> None:
    half, third = Fixed("half", [0.5]), Fixed("third", [0.25])
    played = run(WON + Product(half, third, A))
    assert played.total == pytest.approx(1.125)
    assert [played.scores[n].value for n in ("half", "third", "a")] == pytest.approx([0.125 / 3] * 3)
    assert attributed(played)["a"] == pytest.approx([0.125 / 6, 0.0, 0.125 / 6])
    played = run(WON + Min(half, third, A))
    assert [played.scores[n].value for n in ("half", "third", "a")] == pytest.approx([0.0, 0.25, 0.0])
    assert [t.reward for t in run(WON + Min(A, B)).turns] == pytest.approx([0.0, 0.5, -0.25])


def test_clip_forgets_and_cap_does_not() -> None:
    up_and_down = potential("u", [0.6, -0.3, -0.3])
    assert [t.reward for t in run(WON + Clip(up_and_down, -0.3, 0.2)).turns] == pytest.approx([0.2, -0.3, -0.3])
    assert [t.reward for t in run(WON + Cap(up_and_down, -0.3, 0.2)).turns] == pytest.approx([0.2, -0.0, -0.2])
    assert run(Clip(WON + Fixed("x", [0.0]), 1.5, 2.0)).total == 1.5


def test_once_pays_the_first_time_and_mean_at_the_end() -> None:
    assert [t.reward for t in run(WON + Once(0.5 * FLAG)).turns] == [0.5, 0.0, 0.0]
    played = run(WON + Mean(0.3 * FLAG))
    assert played.total == pytest.approx(1.2)
    assert attributed(played) == {"flag": pytest.approx([0.1, 0.0, 0.1])}
    assert [t.reward for t in played.turns] == [0.0] * 3


def test_only_if_pays_on_one_side_of_success_and_keeps_the_split() -> None:
    dense = Cap(0.3 * A, 0.0, 0.3)
    for success, expected in ((WON, 1.0), (LOST, 0.3)):
        played = run(success + OnlyIf(0, dense), success)
        assert played.total == pytest.approx(expected)
        assert not Suite(success + OnlyIf(0, dense), success).is_causal
        assert attributed(played)["a"] == pytest.approx([0.15, 0.0, 0.15] if success is LOST else [0.0] * 3)
    graded = Fixed("graded", [0.9])
    assert run(graded + OnlyIf(1, Fixed("x", [1.0])), graded).total == pytest.approx(0.9)  # .9 is no success
    other = run(WON + OnlyIf(1, Fixed("x", [1.0]), by=LOST.__class__("other", [1.0])), WON)
    assert other.total == 2.0
    assert Suite(WON + 0.1 * A, WON).is_causal


def test_a_number_is_booked_as_constant() -> None:
    played = run(2 * (WON - 1) + 3)
    assert played.total == 3.0
    assert {n: s.value for n, s in played.scores.items()} == {"won": 2.0, "constant": 1.0}
    assert Suite(WON - 1, WON).bounds().failure == (-1.0, -1.0)
    with pytest.raises(ConfigError, match="called 'constant'"):
        Suite(WON + Fixed("constant", [1.0]) + 1, WON)


def test_a_schedule_follows_progress_and_can_be_frozen() -> None:
    suite = Suite(WON + Schedule(A, (0.5, 0.0)) + Schedule(WON, [(0, 1), (0.5, 3), (1, 3)]), WON)
    turns = [search(str(i)) for i in range(3)]
    for progress, total in ((0.0, 2.5), (0.25, 3.375), (0.5, 4.25), (1.0, 4.0)):
        played = play(suite, turns, progress=progress)
        assert played.total == pytest.approx(total)
        assert played.turns[0].scores["a"].weight == pytest.approx(0.5 * (1 - progress))
        assert suite.rescore(played) == played
        assert play(suite.at(progress), turns).total == played.total
    with pytest.raises(ConfigError, match="needs the progress of training"):
        play(suite, turns)
    with pytest.raises(ConfigError, match="from 0"):
        suite.at(1.5)
    assert suite.is_scheduled
    assert not suite.at(0.5).is_scheduled
    bounds = suite.bounds()
    assert (bounds.success, bounds.failure, bounds.margin) == ((1.5, 4.25), (-0.5, 0.5), 1.0)


def test_bounds_of_a_function_of_progress_cover_every_hundredth() -> None:
    bump = Suite(WON + Schedule(A, lambda p: 4 * p * (1 - p)), WON)
    assert bump.bounds().failure == pytest.approx((-1.0, 1.0))
    assert bump.bounds().margin == pytest.approx(-1.0)
    with pytest.raises(ConfigError, match="no finite number"):
        Schedule(A, lambda p: math.inf)


def test_unbounded_supply_needs_a_bound() -> None:
    with pytest.raises(ConfigError, match=r"0\.1 \* flag has no upper bound"):
        Suite(WON + 0.1 * FLAG, WON)
    with pytest.raises(ConfigError, match="no upper bound"):
        Suite(WON + Clip(A, -0.1, 0.3), WON)  # gains are kept, losses are not
    for bounded in (Cap(0.1 * FLAG, 0, 0.2), Once(0.1 * FLAG), 0.1 * Mean(FLAG), Cap(Clip(A, -0.1, 0.3), -0.2, 0.2)):
        assert math.isfinite(Suite(WON + bounded, WON).bounds().success[1])
    assert Suite(WON + 0.1 * FLAG, WON, allow_unbounded=True).bounds().failure == (0.0, math.inf)


@pytest.mark.parametrize(
    ("expression", "failure", "success"),
    [
        (Product(WON, all_valid), (0, 0), (0, 1)),
        (Min(WON, all_valid), (0, 0), (0, 1)),
        (WON + Product(A, B), (-1, 1), (0, 2)),
        (WON + Min(A, 0.5 * B), (-1, 0.5), (0, 1.5)),
        (WON + OnlyIf(0, Cap(0.3 * A, 0, 0.3)), (0, 0.3), (1, 1)),
        (WON + OnlyIf(1, -0.5 * all_valid), (0, 0), (0.5, 1)),
        (WON + OnlyIf(1, all_valid, by=all_valid), (0, 1), (1, 2)),
        (WON + 0.3 * MaxNorm(all_valid), (0, 0.3), (1, 1.3)),
        (WON + 0.2 * Once(step_cost), (-0.2, 0), (0.8, 1)),
        (WON + 0.2 * Mean(step_cost), (-0.2, 0), (0.8, 1)),
        (WON + Clip(0.2 * step_cost, -0.1, 0.0), (-math.inf, 0), (-math.inf, 1)),
        (WON + Clip(2 * all_valid - 1, -0.5, 0.25), (-0.5, 0.25), (0.5, 1.25)),
        (WON + 0.5 * Gate(WON, A + all_valid, base=-1), (0, 0), (0, 1.5)),
        (WON + 2, (2, 2), (3, 3)),
    ],
)
def test_bounds_of_every_node(expression: Expression, failure: tuple[float, float], success: tuple[float, float]) -> None:
    bounds = Suite(expression, WON).bounds()
    assert (bounds.failure, bounds.success) == (failure, success)
    assert bounds.margin == success[0] - failure[1]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Clip(A, 0.1, 0.2), "lo <= 0 <= hi at turn scope"),
        (lambda: Clip(all_valid, 1, 0), "lo <= hi"),
        (lambda: Clip(A + all_valid, 0, 1), "both scopes"),
        (lambda: Cap(A + 1, 0, 1), "both scopes"),
        (lambda: Once(all_valid), "pays .* at the end"),
        (lambda: Mean(A + all_valid), "about turns"),
        (lambda: Product(A), "two or more"),
        (lambda: Min(A, "3"), "expected a component"),
        (lambda: OnlyIf(2, A), "outcome is 0"),
        (lambda: OnlyIf(0, A, by=2 * all_valid), "trajectory scope"),
        (lambda: MaxNorm(A), "one component of trajectory scope"),
        (lambda: MaxNorm(0.3 * all_valid), "weigh it outside"),
        (lambda: MaxNorm(Fixed("x", [0.0], range=(-1.0, 1.0))), "must not go below 0"),
        (lambda: Schedule(A, [0.5]), "not understood"),
        (lambda: Schedule(A, [(0.5, 1), (0.2, 0)]), "rises from 0 to 1"),
        (lambda: Schedule(A, [(0, float("nan")), (1, 0)]), "not finite"),
        (lambda: WON + float("inf"), "finite"),
        (lambda: Gate(WON, A, float("nan")), "finite"),
        (lambda: Suite(WON + A + Mean(A), WON), "one level only"),
    ],
)
def test_what_makes_no_sense_is_refused_at_load(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


def test_every_node_can_be_written_as_text() -> None:
    text = (
        "answer_em + OnlyIf(0, Cap(0.3*retrieval_gain, 0, 0.3)) + Schedule(answer_f1, [0.5, 0]) + Min(all_valid, 0.5)"
        " + 0.1*Mean(step_cost) - 2*(1 - all_valid) + Product(answer_em, MaxNorm(all_valid))"
    )
    suite = build_suite(text)
    assert repr(build_suite(repr(suite.expression)).expression) == repr(suite.expression)
    assert {answer_em.name, answer_f1.name, retrieval_gain.name, step_cost.name} <= set(suite.components)
    for bad in ("Schedule(answer_em)", "OnlyIf(answer_em, 0)", "Potential(answer_em, 3)", "Clip(step_cost, [0, 1], 1)", "Gate(answer_em, all_valid, **more)"):
        with pytest.raises(ConfigError):
            build_suite(bad)
