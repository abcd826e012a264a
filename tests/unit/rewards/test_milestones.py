"""Milestones in their order, minefields, and the exact mapping beside a search over all mappings."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reward_episodes import alone
from tool_episodes import call, play, score, step, stored

from agentgym.errors import ConfigError
from agentgym.gold import Constraint, Milestone
from agentgym.rewards.milestones import _cut, _tree, best_mapping
from agentgym.task import Gold, Task

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_tools.json").read_text(encoding="utf-8"))["toolsandbox"]
CALLED = tuple(Milestone(n, (Constraint(call=n),), after) for n, after in (("a", ()), ("b", ("a",)), ("c", ("b",))))


def names(text: str, gold: Gold = Gold(milestones=CALLED)) -> float | None:  # noqa: B008 (frozen)
    """Score an episode that calls a tool per letter; a space begins a new turn."""
    turns = [step(*(call(letter) for letter in word)) for word in text.split()]
    return score(play(alone("milestones"), turns, gold), "milestones").raw


def test_the_mean_of_similarities_and_the_minefield() -> None:
    wanted = "w " * 8 + "x x"  # ROUGE-L .8 with eight of ten words right
    gold = Gold(
        milestones=(
            Milestone("m0", (Constraint(call="save"),)),
            Milestone("m1", (Constraint(path="note", op="rouge", value=wanted),)),
            Milestone("m2", (Constraint(call="send"),)),
        ),
        minefields=(
            Milestone("mine", (Constraint(call="drop"), Constraint(path="note", op="rouge", value="w" + " z" * 8))),
        ),
    )
    states = [{"note": ""}, {"note": "w " * 8 + "y y"}]
    played = play(alone("milestones"), [step(call("save"))], gold, states=states)
    parts = score(played, "milestones").parts
    assert [parts[f"m{i}"] for i in range(3)] == pytest.approx(GOLDEN["milestone_sims"])
    assert score(played, "milestones").raw == pytest.approx(GOLDEN["milestone_similarity"])
    assert score(played, "milestones").raw == pytest.approx(GOLDEN["minefield0"])
    # a minefield need not be reached in full
    dropped = play(alone("milestones"), [step(call("save")), step(call("drop"))], gold, states=[*states, states[1]])
    assert score(dropped, "milestones").raw == GOLDEN["minefield0.2"]
    assert alone("milestones").rescore(stored(dropped)) == stored(dropped)


@pytest.mark.parametrize(
    ("calls", "raw"),
    [
        ("a b c", 1.0),
        ("abc", 1.0),  # one turn has an order too
        ("x a x b c c", 1.0),
        ("a c b", 2 / 3),
        ("c b a", 1 / 3),
        ("b c", 2 / 3),  # what was missed blocks nothing
        ("x x", 0.0),
        ("b a", 1 / 3),
    ],
)
def test_what_comes_after_another_comes_later(calls: str, raw: float) -> None:
    assert names(calls) == pytest.approx(raw)


def test_the_same_call_twice_is_two_moments() -> None:
    twice = Gold(milestones=(Milestone("one", (Constraint(call="a"),)), Milestone("two", (Constraint(call="a"),), ("one",))))
    assert names("a", twice) == 0.5
    assert names("aa", twice) == 1.0


def test_a_minefield_after_a_milestone_and_calls_that_failed() -> None:
    gold = Gold(milestones=CALLED[:1], minefields=(Milestone("late", (Constraint(call="x"),), ("a",)),))
    assert names("x a", gold) == 1.0
    assert names("a x", gold) == 0.0
    failed = [step(call("a")), step(call("x"), ok=False, code="E_TOOL")]
    assert score(play(alone("milestones"), failed, gold), "milestones").raw == 1.0


def test_arguments_of_a_constraint_are_compared_by_type_and_others_are_free() -> None:
    gold = Gold(milestones=(Milestone("m", (Constraint(call="set", arguments={"on": True}),)),))
    suite = alone("milestones")
    for arguments, raw in (({"on": True, "at": 5}, 1.0), ({"on": 1}, 0.0), ({"at": 5}, 0.0)):
        assert score(play(suite, [step(("set", arguments))], gold), "milestones").raw == raw


def test_needs() -> None:
    with pytest.raises(ConfigError, match="milestones needs gold milestones"):
        alone("milestones").check(Task("t", "q"))
    stateful = Gold(milestones=(Milestone("m", (Constraint(path="a", op="exists"),)),))
    assert not score(play(alone("milestones"), [step(call("a"))], stateful), "milestones").valid


orders = st.integers(1, 4).flatmap(lambda n: st.tuples(*(st.lists(st.integers(0, max(i - 1, 0)), max_size=2) for i in range(n))))


def by_search(table: np.ndarray, before: Sequence[Sequence[int]]) -> float:
    """The best sum over all mappings; even labels lie between the moments."""
    best = 0.0
    for labels in itertools.product(range(2 * table.shape[1] + 1), repeat=len(table)):
        if all(labels[j] + labels[j] % 2 <= labels[i] for i, earlier in enumerate(before) for j in earlier):
            best = max(best, sum(table[i, label // 2] for i, label in enumerate(labels) if label % 2))
    return best


@settings(deadline=None, max_examples=60)
@given(orders, st.data())
def test_the_mapping_is_the_best_there_is(order: tuple[list[int], ...], data: st.DataObject) -> None:
    before = [sorted({j for j in earlier if j < i}) for i, earlier in enumerate(order)]
    n_moments = data.draw(st.integers(1, 3))
    cells = st.sampled_from([0.0, 0.0, 0.3, 0.5, 1.0])
    table = np.array(data.draw(st.lists(cells, min_size=len(before) * n_moments, max_size=len(before) * n_moments)))
    table = table.reshape(len(before), n_moments)
    milestones = [
        Milestone(str(i), (Constraint(call="x"),), tuple(str(j) for j in earlier)) for i, earlier in enumerate(before)
    ]
    best = by_search(table, before)
    assert sum(best_mapping(table, milestones)) == pytest.approx(best)
    used = table[:, table.max(axis=0) > 0]
    if used.size:
        assert sum(_cut(used, before)) == pytest.approx(best)
        if all(len(earlier) <= 1 for earlier in before):
            assert sum(_tree(used, before)) == pytest.approx(best)
