"""Vector rewards: one channel per component, nothing summed, nothing lost."""

import numpy as np
import pytest
from reward_episodes import Fixed, outcome, play, potential, search

from agentgym.credit import CreditArrays, CreditConfig, advantages, channels_from_groups
from agentgym.errors import ConfigError
from agentgym.rewards import Cap, OnlyIf, Suite
from agentgym.types import Group, Score


def groups() -> list[Group]:
    rows = []
    for i, (won, n_turns) in enumerate([(1.0, 3), (0.0, 2), (0.0, 1)]):
        end = outcome(value=won)
        dense = Cap(0.2 * potential("dense", [0.5, -0.25, 1.0]), -0.2, 0.2)
        late = OnlyIf(0, 0.1 * potential("late", [0.5, 0.25, 0.0]))
        step = Cap(0.01 * Fixed("step", [-1.0] * 3, scope="turn", supply="cost", range=(-1.0, 0.0)), -0.3, 0.0)
        suite = Suite(end + dense + late + step, end)
        rows.append(play(suite, [search(str(k)) for k in range(n_turns)], name=str(i)))
    rows[2] = rows[2].with_(in_loss=False, in_statistics=False)
    return [Group("g", "t", tuple(rows[:2])), Group("h", "t", (rows[2],))]


def test_the_channels_add_up_to_the_arrays_and_keep_raw_values() -> None:
    channels, arrays = channels_from_groups(groups()), CreditArrays.from_groups(groups())
    assert channels.names == ("dense", "late", "step", "won")
    assert channels.turn.sum(axis=2) == pytest.approx(arrays.turn_scores)
    assert channels.trajectory.sum(axis=1) == pytest.approx(arrays.outcome)
    dense, late, won = (channels.index(n) for n in ("dense", "late", "won"))
    assert channels.turn_raw[0, :, dense] == pytest.approx([0.5, -0.25, 0.75])  # the sum is kept in −1 … 1
    assert channels.turn[0, :, dense] == pytest.approx([0.1, -0.05, 0.15])
    assert np.isnan(channels.turn_raw[:, :, won]).all()
    assert np.isnan(channels.trajectory_raw[:, dense]).all()
    assert channels.trajectory[:, late] == pytest.approx([0.0, 0.075, 0.0])
    assert channels.attributed[1, :2, late] == pytest.approx([0.05, 0.025])
    assert channels.turn_weight[dense] == 0.2
    assert channels.known.tolist() == [[True] * 4, [True] * 4, [False] * 4]  # a record in no mask is not read
    assert channels.n_channels == 4


def test_one_channel_is_what_a_recipe_of_sums_reads() -> None:
    channels = channels_from_groups(groups(), ["step", "won"])
    assert channels.names == ("step", "won")
    step = channels.one("step")
    assert step.turn_scores.tolist() == [[-0.01] * 3, [-0.01, -0.01, 0.0], [0.0] * 3]
    assert not step.outcome.any()
    assert step.group.tolist() == [0, 0, 1]
    assert channels.one("won").outcome.tolist() == [1.0, 0.0, 0.0]
    for ask in (lambda: channels.one("stp"), lambda: channels_from_groups(groups(), ["wn"])):
        with pytest.raises(ConfigError, match="did you mean"):
            ask()


@pytest.mark.parametrize("recipe", ["mrn", "gdpo"])
def test_a_recipe_of_channels_accepts_a_component_at_both_scopes_where_it_is_asked_to(recipe: str) -> None:
    rows = []
    for i in range(3):
        end = outcome(value=float(i == 0))
        row = play(Suite(end + 0.2 * potential("dense", [0.5, 0.1 * i]), end), [search("a"), search("b")], name=str(i))
        more = {**row.scores, "dense": Score("trajectory", 0.3 * i, 1.0, 0.3 * i)}
        rows.append(row.with_(scores=more, reward=row.reward + 0.3 * i))
    group = [Group("g", "t", tuple(rows))]
    with pytest.raises(ConfigError, match=r"set credit\.both_levels = true"):
        advantages(CreditConfig(recipe=recipe), group)
    assert advantages(CreditConfig(recipe=recipe, both_levels=True), group).values.any()
