"""Potential-based shaping: the same optimal policies, found by enumeration, and what a bare potential does instead."""

import itertools

import pytest
from reward_episodes import TableScorer, alone, outcome, play, potential, search

from agentgym.errors import ConfigError
from agentgym.rewards import Cap, Gate, Mean, Potential, Shaped, Suite, answer_em, build_suite, forgery, step_cost
from agentgym.rewards.answer_sets import answer_set_f1
from agentgym.rewards.component import Component, EpisodeView
from agentgym.task import Answer, Gold, Task
from agentgym.types import Turn

HIT, MISS = "film-31", "n1"


def found(view: EpisodeView) -> float:
    """Share of up to two hits among the documents shown."""
    return min(1.0, sum(d.id == HIT for t in view.turns for r in t.results for d in r.documents) / 2)


PHI = Potential(found, start=0.0)
RULES = list(itertools.product((0, 1), repeat=3))
"""A policy: whether to search (1) or to answer (0) at first, after a hit, and after a miss; then it answers."""


def expected(reward: Component, rule: tuple[int, int, int], gamma: float, shaped: bool | None) -> float:
    """The expected discounted return of a policy, over all that can happen, as the suite pays it."""

    def value(turns: list[Turn], chance: float) -> float:
        hits = sum(d.id == HIT for t in turns for r in t.results for d in r.documents)
        last_hit = bool(turns) and turns[-1].results[0].documents[0].id == HIT
        searches = rule[0 if not turns else 1 if last_hit else 2] if len(turns) < 2 else 0
        if searches:
            return value([*turns, search(str(len(turns)), HIT)], chance * 0.5) + value(
                [*turns, search(str(len(turns)), MISS)], chance * 0.5
            )
        right = 0.5 + (0.0, 0.3, 0.35)[hits] - 0.06 * len(turns)  # the second hit is not worth its search
        return sum(chance * p * paid(turns, won) for won, p in ((1.0, right), (0.0, 1.0 - right)))

    def paid(turns: list[Turn], won: float) -> float:
        end = outcome(value=won)
        terms = end if shaped is None else end + 0.5 * (Shaped(reward, gamma) if shaped else reward)
        played = play(Suite(terms, end, allow_unbounded=True), turns, "x")
        return sum(gamma**k * t.reward for k, t in enumerate(played.turns)) + gamma ** len(turns) * played.reward

    return value([], 1.0)


@pytest.mark.filterwarnings("ignore:suite")
@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_shaping_keeps_the_order_of_all_policies_and_a_bare_potential_does_not(gamma: float) -> None:
    plain = [expected(PHI, rule, gamma, None) for rule in RULES]
    shaped = [expected(PHI, rule, gamma, True) for rule in RULES]
    assert shaped == pytest.approx(plain, abs=1e-12)
    bare = [expected(PHI, rule, gamma, False) for rule in RULES]
    best = max(range(len(RULES)), key=plain.__getitem__)
    assert RULES[best] == (1, 0, 1)
    assert RULES[max(range(len(RULES)), key=bare.__getitem__)] == (1, 1, 1)


@pytest.mark.filterwarnings("ignore:suite")
def test_it_telescopes_and_the_terminal_potential_is_zero() -> None:
    won = outcome(value=1.0)
    played = play(Suite(won + Shaped(potential("phi", [0.5, -0.2, 0.4])), won), [search(str(i)) for i in range(3)])
    assert [t.reward for t in played.turns] == pytest.approx([0.5, -0.2, -0.3])
    assert played.total == pytest.approx(1.0)
    assert "settlement" not in played.scores  # all of it was taken back in the last turn
    discounted = play(Suite(won + Shaped(potential("phi", [0.5, -0.2, 0.4]), 0.9), won, allow_unbounded=True), [search("a")] * 3)
    assert [t.reward for t in discounted.turns] == pytest.approx([0.45, 0.9 * 0.3 - 0.5, -0.3])


@pytest.mark.filterwarnings("ignore:suite")
def test_an_episode_cut_from_outside_is_settled_at_the_end() -> None:
    won = outcome(value=0.0)
    suite = Suite(won + 2.0 * Shaped(potential("phi", [0.5, 0.25])), won)
    played = play(suite, [search("a"), search("b")], end_reason="max_tokens")
    assert [t.reward for t in played.turns] == pytest.approx([1.0, 0.5])
    assert played.scores["settlement"].value == pytest.approx(-1.5)
    assert played.total == pytest.approx(0.0)
    assert suite.rescore(played) == played
    assert suite.bounds().failure == (0.0, 0.0)
    assert suite.bounds(turn_factor=3.0).failure == (-4.0, 4.0)  # a learner that weighs turns more cannot settle


def test_deferred_potentials_are_shaped_once_they_are_known() -> None:
    suite = build_suite("answer_em + Shaped(information_gain)")
    played = play(suite, [search("a", shown="w w w"), search("b", shown="w")], "Tor Lind")
    table = TableScorer(lambda text, target: [-3.0 / (1 + len(text) % 7)])
    (done,) = suite.complete([played], table)
    gains = [t.scores["information_gain"].raw or 0.0 for t in done.turns]
    assert any(gains)
    assert sum(t.reward for t in done.turns) == pytest.approx(0.0, abs=1e-12)
    assert done.turns[0].reward == pytest.approx(gains[0])
    assert suite.rescore(done) == done
    assert "leaves the optimal policies as they are" in suite.describe()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Shaped(step_cost), "is no potential"),
        (lambda: Shaped(answer_em), "about turns"),
        (lambda: Shaped(PHI, 0.0), "gamma must lie"),
        (lambda: Suite(answer_em + Cap(Shaped(PHI), -1, 1)), "inside Cap is no potential-based shaping"),
        (lambda: Suite(answer_em + Gate(answer_em, 0.5 * Shaped(PHI))), "inside Gate"),
        (lambda: Suite(answer_em + Mean(Shaped(PHI))), "inside Mean"),
        (lambda: Suite(answer_em + Shaped(Potential(found, range=(-1.0, 0.0)), 0.5)), "no upper bound"),
        (lambda: Potential(step_cost), "differences already"),
        (lambda: Potential(forgery), "forgery scores single turns"),
        (lambda: Potential(3), "give a function"),
        (lambda: Potential(found, range=(0.0, float("inf"))), "two finite numbers"),
        (lambda: Potential(found, start=2.0), "outside the range"),
    ],
)
def test_what_is_no_shaping_is_refused(build: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build()


@pytest.mark.filterwarnings("ignore:suite")
def test_a_potential_of_a_function_pays_differences_and_clips_the_function_not_them() -> None:
    won = outcome()
    high = Potential(lambda view: 0.8 * len(view.turns), name="high", start=0.0)
    played = play(Suite(won + high, won), [search("a"), search("b"), search("c")])
    assert [t.reward for t in played.turns] == pytest.approx([0.8, 0.2, 0.0])
    assert high.range == (0.0, 1.0)
    late = Potential(answer_em)
    assert (late.name, late.needs, late.range) == ("potential_answer_em", answer_em.needs, (-1.0, 1.0))
    assert [t.reward for t in play(Suite(won + late, won), [search("a")], "Mira Halvorsen").turns] == [0.0, 1.0]


def test_a_potential_refuses_the_gold_that_its_component_refuses() -> None:
    gold = Gold(answers=(Answer("Oslo"), Answer("Bergen")))  # alternatives, which a set of answers cannot have
    for component in (answer_set_f1, Potential(answer_set_f1)):
        with pytest.raises(ConfigError, match="its answers are alternatives"):
            alone(component).check(Task("t", "Which city?", gold))
