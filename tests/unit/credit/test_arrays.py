"""What the arrays take in, and what they refuse."""

import numpy as np
import pytest

from agentgym.credit import CreditArrays
from agentgym.errors import ConfigError, DataError
from agentgym.types import Group, Score, Trajectory, Turn


def trajectory(name: str = "t", turn: Turn | None = None, **fields: object) -> Trajectory:
    turn = turn or Turn(0, "", reward=0.5)
    return Trajectory(name, "Test-v0", "task", (), (turn,), **fields)  # pyright: ignore[reportArgumentType]


def arrays(*members: Trajectory, both_levels: bool = False) -> CreditArrays:
    return CreditArrays.from_groups([Group("g", "task", members)], both_levels=both_levels)


def test_scope_decides_the_level() -> None:
    scores = {"gain": Score("turn", 0.3, value=0.3), "shown": Score("trajectory", 0.9, value=0.9)}
    got = arrays(
        trajectory(turn=Turn(0, "", scores=scores, reward=0.3), reward=1.9, scores={"em": Score("trajectory", 1, value=1.9)})
    )  # fmt: skip
    assert got.turn_scores.tolist() == [[0.3]]
    assert got.outcome.tolist() == [1.9]


def test_ragged_groups_are_padded_and_masked() -> None:
    long = Trajectory("long", "e", "t", (), tuple(Turn(k, "", reward=1.0) for k in range(3)), in_loss=False)
    none = Trajectory("none", "e", "t", (), (), in_statistics=False)
    got = CreditArrays.from_groups(
        [Group("a", "t", (trajectory(),)), Group("b", "t", ()), Group("c", "t", (long, none))]
    )
    assert got.turn_mask.tolist() == [[True, False, False], [True] * 3, [False] * 3]
    assert got.turn_scores[0].tolist() == [0.5, 0.0, 0.0]
    assert got.group.tolist() == [0, 2, 2]
    assert got.in_loss.tolist() == [True, False, True]
    assert got.in_statistics.tolist() == [True, True, False]
    assert got.has_other.tolist() == [False, False, True]
    assert got.turn_scores.dtype == np.float64


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (trajectory(scores={"ig": Score("trajectory", None, deferred=True)}), "trajectory scope: the score 'ig' is deferred"),
        (trajectory(turn=Turn(0, "", scores={"j": Score("turn", None, valid=False)})), "turn 0: the score 'j' is invalid"),
        (trajectory(reward=float("nan")), "not finite"),
        (trajectory(turn=Turn(0, "", scores={"g": Score("turn", 1.0, value=1.0)}, reward=2.0)), "not the sum 1.0"),
    ],
)  # fmt: skip
def test_scores_that_are_no_scores_are_refused_unless_nobody_reads_them(bad: Trajectory, says: str) -> None:
    with pytest.raises(DataError, match=says) as caught:
        arrays(bad)
    assert str(caught.value).startswith("group g, trajectory t, t")  # then the turn, or "trajectory scope"
    got = arrays(bad.with_(in_statistics=False, in_loss=False))
    assert got.outcome.tolist() == [0.0]
    assert got.turn_scores.tolist() == [[0.0]]


def test_a_component_at_both_scopes_must_be_asked_for() -> None:
    twice = trajectory(
        turn=Turn(0, "", scores={"f1": Score("turn", 0.5, value=0.5)}, reward=0.5),
        reward=0.5,
        scores={"f1": Score("trajectory", 0.5, value=0.5)},
    )
    with pytest.raises(ConfigError, match="'f1' scores at both scopes"):
        arrays(twice)
    assert arrays(twice, both_levels=True).outcome.tolist() == [0.5]


def test_ids_must_differ() -> None:
    with pytest.raises(DataError, match="trajectory t: the id occurs 2 times"):
        arrays(trajectory(), trajectory())
