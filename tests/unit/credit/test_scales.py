"""Running scales, their checkpoint, the settings, and the metrics of a batch."""

import json
import math

import numpy as np
import pytest

from agentgym.credit import CreditArrays, CreditConfig, Scales, advantages, advantages_from_arrays, recipe_of
from agentgym.errors import ConfigError, DataError
from agentgym.types import Group, Trajectory, Turn


def batch(*groups: list[tuple[list[float], float]]) -> list[Group]:
    return [
        Group(
            f"g{g}",
            "task",
            tuple(
                Trajectory(f"g{g}m{i}", "e", "task", (), tuple(Turn(k, "", reward=r) for k, r in enumerate(rs)), reward=o)
                for i, (rs, o) in enumerate(members)
            ),
        )
        for g, members in enumerate(groups)
    ]  # fmt: skip


ONE = batch([([1.0, 0.5], 1.0), ([0.5], 0.0)], [([9.0], 9.0)])  # the second group has nobody to compare with
TURN_SQUARE = (1.0**2 + 0.5**2 + 1.0**2) / 3  # to-go 1.5, .5 against .5, 0
OUTCOME_SQUARE = 1.0


def test_scales_are_one_at_first_and_then_formed_by_earlier_steps_only() -> None:
    config = CreditConfig(turn_weight=0.5)
    first = advantages(config, ONE)
    assert first.scales == {"s_T": 1.0, "s_O": 1.0}
    assert first.metrics["turn_objective_weight"] == 0.5
    second = advantages(config, batch([([0.1], 0.2), ([0.3], 0.2)]), first.next_scales)
    assert second.scales["s_T"] == pytest.approx(math.sqrt(TURN_SQUARE), abs=1e-12)
    assert second.scales["s_O"] == pytest.approx(math.sqrt(OUTCOME_SQUARE), abs=1e-12)
    assert second.metrics["turn_objective_weight"] == pytest.approx(0.5 / math.sqrt(TURN_SQUARE), abs=1e-12)
    third = second.next_scales
    assert third.turn == pytest.approx(math.sqrt((0.09 * TURN_SQUARE + 0.1 * 0.04) / 0.19), abs=1e-12)
    assert third.trajectory == pytest.approx(math.sqrt(0.09 / 0.19), abs=1e-12)
    assert third.objective_weight(0.5) == pytest.approx(0.5 * third.trajectory / third.turn)


def test_the_shared_scale_is_the_root_mean_square_of_the_unscaled_advantage() -> None:
    config = CreditConfig(turn_weight=0.5, scale="shared")
    first = advantages(config, ONE)
    live = first.arrays.turn_mask[:2]
    want = math.sqrt(float(np.mean(first.values[:2][live] ** 2)))
    second = advantages(config, ONE, first.next_scales)
    assert second.scales == {"s_T": pytest.approx(want), "s_O": pytest.approx(want)}
    np.testing.assert_allclose(second.values, first.values / want, atol=1e-12)
    assert second.metrics["turn_objective_weight"] == pytest.approx(0.5)


def test_scales_are_floored_and_a_silent_batch_changes_nothing() -> None:
    config = CreditConfig(floor=0.2)
    flat = advantages(config, batch([([0.5], 1.0), ([0.5], 1.0)])).next_scales
    assert (flat.turn, flat.trajectory) == (0.2, 0.2)
    assert flat.update(CreditArrays.from_groups(batch([([9.0], 9.0)])), recipe_of(config)) == flat
    outcome_only = CreditConfig(turn_weight=0.0)
    assert advantages(outcome_only, ONE).next_scales.turn_square.n_steps == 0


def test_checkpoint_round_trip_gives_the_same_next_step() -> None:
    config = CreditConfig()
    scales = advantages(config, ONE, advantages(config, ONE).next_scales).next_scales
    back = Scales.from_dict(json.loads(json.dumps(scales.to_dict())))
    assert back == scales
    assert advantages(config, ONE, back).values.tobytes() == advantages(config, ONE, scales).values.tobytes()
    with pytest.raises(DataError, match="turn_square"):
        Scales.from_dict({"decay": 0.9, "floor": 0.05})


def test_a_result_reports_the_scales_that_it_used() -> None:
    running = advantages(CreditConfig(), ONE).next_scales
    assert advantages(CreditConfig(scale="none"), ONE, running).scales == {"s_T": 1.0, "s_O": 1.0}
    for lone in (ONE[1:], ONE):
        assert advantages(CreditConfig(), lone, running).scales == {
            "s_T": pytest.approx(running.turn),
            "s_O": pytest.approx(running.trajectory),
        }
    by_group = advantages(CreditConfig(scale="group"), ONE).scales
    assert by_group["s_T"] == pytest.approx(float(np.std([1.5, 0.5, 0.5])), abs=2e-6)
    assert by_group["s_O"] == pytest.approx(float(np.std([1.0, 0.0], ddof=1)), abs=2e-6)
    flat = advantages(CreditConfig(scale="group"), batch([([0.5], 1.0), ([0.5], 1.0)]))
    assert flat.scales == {"s_T": 0.0, "s_O": 0.0}
    assert "turn_objective_weight" not in flat.metrics


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"recipe": "turn_grp"}, "credit.recipe: unknown value 'turn_grp'; did you mean 'turn_grpo'"),
        ({"scale": "runing"}, "credit.scale: unknown value 'runing'; did you mean 'running'"),
        ({"gamma": 1.5}, r"credit.gamma: 1.5 is not a number in \[0, 1\]"),
        ({"turn_weight": float("nan")}, "credit.turn_weight"),
        ({"turn_weight": -1.0}, "credit.turn_weight"),
        ({"decay": 1.0}, "credit.decay"),
        ({"floor": 0.0}, "credit.floor"),
        ({"recipe": "per_index", "scale": "loo"}, "per_index knows"),
    ],
)
def test_wrong_settings_say_what_is_allowed(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        CreditConfig(**settings)  # pyright: ignore[reportArgumentType]


def test_metrics_of_a_batch() -> None:
    groups = batch(
        [([1.0, 0.0], 0.0), ([0.0], 0.0)],  # turn scores only
        [([0.0], 1.0), ([1.0], 0.0)],  # the levels disagree
        [([0.5], 1.0), ([0.5], 1.0)],  # nothing
        [([3.0], 1.0)],  # alone
    )
    groups.append(Group("lost", "task", (groups[0].trajectories[0].with_(id="x", in_statistics=False, in_loss=False),)))
    metrics = advantages(CreditConfig(turn_weight=0.5, scale="none"), groups).metrics
    assert metrics == {
        "n_groups": 5.0,
        "effective_groups": 2.0,
        "effective_share": 0.4,
        "singletons": 1.0,
        "not_in_loss": 1.0,
        "not_in_statistics": 1.0,
        "zero_variance/turn": pytest.approx(1 / 3),
        "zero_variance/trajectory": pytest.approx(2 / 3),
        "mean_abs/turn": pytest.approx((0.5 + 0.5 + 0.5 + 0.5) / 8),
        "mean_abs/trajectory": pytest.approx(2 / 8),
        "mean_abs": pytest.approx((0.5 + 0.5 + 0.5 + 0.5) / 8),
        "sign_agreement": 0.0,
        "mass/turn_0": pytest.approx(1.0),
        "mass/turn_1": pytest.approx(0.0),
        "turn_objective_weight": pytest.approx(0.5),
    }


def test_a_row_that_lacks_turn_scores_is_not_counted_in_the_turn_scale() -> None:
    turns, outcome = [[1.0, 1.0], [0.0, 0.0], [math.nan, 0.0], [0.0, math.nan]], [1, 0, 0, 1]
    mask = np.ones((4, 2), bool)
    given = advantages_from_arrays(turns, mask, outcome, [0] * 4, missing="outcome").next_scales
    alone = advantages_from_arrays(turns[:2], mask[:2], outcome[:2], [0] * 2).next_scales
    assert given.turn == pytest.approx(alone.turn)
    paired = advantages_from_arrays(turns[1:3], mask[:2], outcome[1:3], [0] * 2, missing="outcome").next_scales
    assert paired.turn == 1.0, "a turn level of one row has nothing to say"
    assert paired.trajectory_square.n_steps == 1


@pytest.mark.parametrize(
    "config",
    [
        CreditConfig(recipe="per_index", scale="group"),
        CreditConfig(recipe="rank_grpo"),
        CreditConfig(recipe="a2tgpo"),
        CreditConfig(recipe="gigpo", options={"form": "mean_std"}),
        CreditConfig(scale="loo"),
    ],
    ids=lambda c: c.recipe,
)
def test_padding_changes_no_scale_and_no_weight_of_turn_scores(config: CreditConfig) -> None:
    turns, mask = np.array([[0.2, 0.5, 1.0], [0.0, 1.0, 0.0], [0.7, 0.0, 0.0]]), np.array([[1, 1, 1], [1, 1, 0], [1, 0, 0]])
    state = np.array([[0, 1, 2], [0, 1, 0], [0, 0, 0]])
    found = []
    for n in (0, 2):
        wide = [np.pad(x, ((0, 0), (0, n))) for x in (turns, mask, state)]
        result = advantages_from_arrays(*wide[:2], [1, 0, 0], [0] * 3, config=config, extras={"state": wide[2]})
        found.append((*result.scales.values(), result.metrics["turn_objective_weight"]) if config.recipe != "rank_grpo" else result.scales["s_T"])
    assert found[0] == pytest.approx(found[1])
