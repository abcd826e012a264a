"""Counterfactual credit: its claim for drawn continuations, whatever is measured, and groups of branched states."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditArrays, CreditConfig, Scales, advantages, advantages_from_arrays, recipe_of
from agentgym.errors import ConfigError, DataError
from agentgym.types import Group, Score, Trajectory, Turn
from tests import mdps
from tests.mdps import Mdp, Path

P = (0.35, 0.8, 0.6)


def begins_like(path: Path, other: Path, k: int) -> bool:
    return path.decisions[:k] == other.decisions[:k] and path.rewards[:k] == other.rewards[:k] and len(path.rewards) > k


def with_continuation(problem: Mdp, p: tuple[float, ...], measured: tuple[int, ...]) -> list[tuple[Path, dict[int, Path]]]:
    """Every path with every way in which one continuation from each measured turn may go, probabilities in the path."""
    paths = list(problem.paths(p))
    found = []
    for path in paths:
        places = [k for k in measured if 0 < k < len(path.rewards)]
        ways = [[other for other in paths if begins_like(other, path, k)] for k in places]
        for chosen in itertools.product(*ways):
            q = path.probability
            for way, continuation in zip(ways, chosen, strict=True):
                q *= continuation.probability / sum(other.probability for other in way)
            found.append((replace(path, probability=q), dict(zip(places, chosen, strict=True))))
    return found


def estimate(problem: Mdp, p: tuple[float, ...], measured: tuple[int, ...], weight: float, size: int = 2) -> np.ndarray:
    """The expectation of counterfactual credit from ONE drawn continuation a place, over all groups of `size`."""
    entries = with_continuation(problem, p, measured)
    n_turns = max(len(path.rewards) for path, _ in entries)
    groups = np.array(list(itertools.product(range(len(entries)), repeat=size)))
    rows = groups.ravel()
    mask, rewards = np.zeros((len(entries), n_turns), bool), np.zeros((len(entries), n_turns))
    score = np.zeros((len(entries), n_turns, problem.n_decisions))
    outcome, turns = np.full((2, len(entries), n_turns + 1), np.nan)
    for i, (path, continued) in enumerate(entries):
        mask[i, : len(path.rewards)], rewards[i, : len(path.rewards)] = True, path.rewards
        for k, (d, a) in enumerate(path.decisions):
            if d >= 0:
                score[i, k, d] = a - p[d]
        for k, other in continued.items():
            outcome[i, k], turns[i, k] = other.outcome, sum(other.rewards[k:])
    arrays = CreditArrays(
        rewards[rows], mask[rows], np.array([path.outcome for path, _ in entries])[rows],
        np.repeat(np.arange(len(groups)), size), np.ones(len(rows), bool), np.ones(len(rows), bool),
        extras={"continued_outcome": outcome[rows], "continued_turns": turns[rows]},
    )  # fmt: skip
    recipe = recipe_of(CreditConfig(recipe="counterfactual", options={"weight": weight}))
    values = recipe.run(arrays, Scales())
    probability = np.array([path.probability for path, _ in entries])[groups].prod(1)
    assert probability.sum() == pytest.approx(1.0)
    each = np.einsum("bk,bkd->bd", values, score[rows]).reshape(len(groups), size, -1).mean(1)
    return probability @ each


@pytest.mark.parametrize("weight", [0.0, 0.7])
@pytest.mark.parametrize("measured", [(), (1,), (2,), (1, 2)])
@pytest.mark.parametrize("problem", [mdps.A, mdps.B, mdps.C, mdps.T, mdps.FLIP, mdps.EARLY], ids=lambda m: m.name)
def test_one_drawn_continuation_is_exact_whichever_turns_are_measured(
    problem: Mdp, measured: tuple[int, ...], weight: float
) -> None:
    p = P[: problem.n_decisions]
    truth = mdps.gradient(problem, lambda path: path.outcome + weight * sum(path.rewards), p)
    np.testing.assert_allclose(estimate(problem, p, measured, weight), truth, rtol=0, atol=1e-12)


def test_measuring_only_where_the_episode_failed_later_is_not_exact() -> None:
    """Why `branch.share` draws each turn alone: a choice that looks at what comes after bends the estimate."""
    entries = with_continuation(mdps.B, (0.5, 0.5), (1,))
    kept = [(path, {} if path.outcome else continued) for path, continued in entries]
    value = {True: 0.0, False: 0.0}
    for path, continued in kept:
        if len(path.rewards) > 1:
            after = continued[1].outcome if continued else path.outcome
            value[path.rewards[0] > 0] += path.probability * (after - path.outcome)
    assert abs(value[True]) > 0.01  # the measured value of the state is off


def rest_of(problem: Mdp, start: tuple[float, ...]) -> Mdp:
    """The problem that begins in the state reached with these turn scores."""

    def paths(p: Any) -> Iterator[Path]:
        inside = [q for q in problem.paths(p) if q.rewards[: len(start)] == start and len(q.rewards) > len(start)]
        mass = sum(q.probability for q in inside)
        for q in inside:
            own = {"decisions": q.decisions[len(start) :], "rewards": q.rewards[len(start) :], "states": q.states[len(start) :]}
            yield replace(q, probability=q.probability / mass, **own)

    return Mdp(f"{problem.name} from {start}", problem.n_decisions, paths)


@pytest.mark.parametrize(("problem", "start"), [(mdps.C, (0.5,)), (mdps.C, (0.5, 0.25)), (mdps.B, (1.0,))])
def test_a_group_of_a_tree_is_exact_for_the_value_of_its_state(problem: Mdp, start: tuple[float, ...]) -> None:
    rest = rest_of(problem, start)
    groups = mdps.enumerate_groups(rest, 3)
    values = recipe_of(CreditConfig(turn_weight=1.0, scale="none")).run(groups.arrays, Scales())
    np.testing.assert_allclose(groups.expectation(values), mdps.gradient(rest, mdps.total), rtol=0, atol=1e-12)


def test_continuations_make_the_estimate_less_noisy_than_the_outcome_alone() -> None:
    from tests.support.credit_claims import CLAIMS, expectation

    noise = {c.label: expectation(c, mdps.C, 4)[1] for c in CLAIMS if c.recipe in ("rloo", "counterfactual")}
    assert noise["counterfactual"] < 0.75 * noise["rloo"]


# ---- from trajectories


def trajectory(name: str, rewards: tuple[float, ...], outcome: float, **changes: Any) -> Trajectory:
    turns = tuple(Turn(k, "", scores={"gain": Score("turn", r, value=r)}, reward=r) for k, r in enumerate(rewards))
    scores = {"em": Score("trajectory", outcome, value=outcome)}
    return Trajectory(name, "Test-v0", "task", (), turns, scores=scores, reward=outcome).with_(**changes)


def test_branches_are_groups_of_their_own_and_their_parents_turns_stay_their_parents() -> None:
    roots = Group("g", "task", (trajectory("a", (0.5, 0.25), 1.0), trajectory("b", (0.0,), 0.0)))
    branches = Group("g/0@1", "task", tuple(trajectory(f"a{i}", (0.5, r), o, parent=("a", 1)) for i, (r, o) in enumerate([(0.0, 0.0), (0.25, 1.0), (0.0, 0.0)])))  # fmt: skip
    measured = advantages(CreditConfig(recipe="counterfactual"), [roots, branches])
    assert measured.advantages["a"] == pytest.approx((1 / 3 - 0.0, 1.0 - 1 / 3))
    assert measured.advantages["b"] == pytest.approx((0.0 - 1.0,))
    assert measured.advantages["a1"] == (0.0, 0.0)
    assert measured.in_loss.tolist() == [True, True, False, False, False]
    assert measured.metrics["n_groups"] == 1  # a group that measures has nothing to learn
    weighed = advantages(CreditConfig(recipe="counterfactual", options={"weight": 1.0}), [roots, branches])
    after = 0.5 + (0.25 + 1.0) / 3
    assert weighed.advantages["a"] == pytest.approx((after - 0.0, 1.75 - after))
    learned = advantages(CreditConfig(recipe="counterfactual", options={"branches": True}), [roots, branches])
    assert learned.advantages["a1"] == pytest.approx((0.0, 1.0))
    tree = advantages(CreditConfig(turn_weight=1.0, scale="none"), [roots, branches])
    assert tree.advantages["a1"] == pytest.approx((0.0, 1.25))
    assert tree.advantages["a0"] == pytest.approx((0.0, -0.125 - 0.5))
    assert tree.arrays.turn_scores.shape == (5, 2)
    assert tree.in_loss.all()


def test_a_failed_continuation_measures_nothing() -> None:
    roots = Group("g", "task", (trajectory("a", (0.0, 0.0), 1.0), trajectory("b", (0.0,), 0.0)))
    lost = trajectory("a0", (0.0, 0.0), 0.0, parent=("a", 1), in_statistics=False, in_loss=False)
    alone = advantages(CreditConfig(recipe="counterfactual"), [roots, Group("g@1", "task", (lost,))])
    assert alone.advantages["a"] == (1.0, 1.0)  # no place in between: both turns share the difference to the others


def test_arrays_must_hold_what_was_measured() -> None:
    arguments: Any = ([[0.0, 0.0], [0.0, 0.0]], [[1, 1], [1, 1]], [1, 0], ["a", "a"])
    config = CreditConfig(recipe="counterfactual")
    with pytest.raises(ConfigError, match="reads 'continued_outcome', which was not given"):
        advantages_from_arrays(*arguments, config=config)
    both = {f"continued_{n}": np.zeros((2, 2)) for n in ("outcome", "turns")}
    with pytest.raises(DataError, match=r"continued_outcome'\] has shape \(2, 2\); one more than the turns, \(2, 3\)"):
        advantages_from_arrays(*arguments, config=config, extras=both)
