"""Worked numbers of the recipes, masks, ragged groups, and what `describe` says."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentgym.credit import RECIPES, CreditArrays, CreditConfig, Recipe, Scales, advantages, recipe_of
from agentgym.credit.blocks import accumulate, centre, pooled_std
from agentgym.credit.scales import SCALE_NAMES, RunningSquare
from agentgym.types import Group, Score, Trajectory, Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))
PLAIN = CreditConfig(turn_weight=1.0, scale="none")
FROZEN = Scales(turn_square=RunningSquare(0.02, 3), trajectory_square=RunningSquare(0.05, 2))


def member(name: str, rewards: Sequence[float], outcome: float, **masks: Any) -> Trajectory:
    turns = tuple(Turn(k, "", reward=r, scores={"gain": Score("turn", raw=r, value=r)}) for k, r in enumerate(rewards))
    scores = {"em": Score("trajectory", raw=outcome, value=outcome)}
    return Trajectory(name, "Test-v0", "task", (), turns, scores=scores, reward=outcome, **masks)


def group(name: str, *members: Trajectory) -> Group:
    return Group(name, "task", members)


WORKED = group(
    "g", *(member(f"T{i}", r, o) for i, (r, o) in enumerate(zip(*GOLDEN["group"].values(), strict=True)))
)  # fmt: skip


def close(got: dict[str, tuple[float, ...]], want: Sequence[Sequence[float]]) -> None:
    assert [len(row) for row in got.values()] == [len(row) for row in want]
    for row, numbers in zip(got.values(), want, strict=True):
        np.testing.assert_allclose(row, numbers, rtol=0, atol=6e-7)


def test_worked_group() -> None:
    want = GOLDEN["advantages"]
    close(advantages(PLAIN, [WORKED]).advantages, want["default"])
    close(advantages(replace(PLAIN, gamma=0.5, turn_weight=0.5), [WORKED]).advantages, want["gamma_half"])
    close(advantages(replace(PLAIN, recipe="per_index"), [WORKED]).advantages, want["per_index_mean"])
    # the first step's running scales are 1, so its numbers are those without a scale
    close(advantages(replace(PLAIN, scale="running"), [WORKED]).advantages, want["default"])
    no_outcome = group("g", *(t.with_(reward=0.0, scores={}) for t in WORKED.trajectories))
    close(advantages(PLAIN, [no_outcome]).advantages, want["turn_level"])
    a = CreditArrays.from_groups([WORKED])
    alive = centre(accumulate(a.turn_scores, a.turn_mask, 1.0), a.turn_mask, a, among="alive", lone="raw")
    close(dict(zip(a.ids, (row[mask] for row, mask in zip(alive, a.turn_mask, strict=True)), strict=True)), want["alive_loo_raw"])  # fmt: skip


def test_grpo_reads_trajectory_scores_only() -> None:
    got = advantages(CreditConfig(recipe="grpo"), [WORKED]).advantages
    outcome = np.array(GOLDEN["group"]["outcome"], float)
    z = (outcome - outcome.mean()) / (outcome.std(ddof=1) + 1e-6)
    close(got, [[a] * len(r) for a, r in zip(z, GOLDEN["group"]["turns"], strict=True)])


@pytest.mark.parametrize("scale", SCALE_NAMES)
def test_turn_weight_zero_is_the_recipe_without_its_turn_blocks_bit_for_bit(scale: str) -> None:
    full = recipe_of(CreditConfig(scale=scale))
    removed = Recipe("", ("trajectory",), tuple(b for b in full.blocks if b.level == "trajectory"), "")
    zero = recipe_of(CreditConfig(scale=scale, turn_weight=0.0))
    arrays = CreditArrays.from_groups([WORKED])
    wild = replace(arrays, turn_scores=np.full_like(arrays.turn_scores, np.inf))
    want = removed.run(arrays, FROZEN)
    assert np.abs(want).max() > 0
    assert zero.run(arrays, FROZEN).tobytes() == want.tobytes()
    assert zero.run(wild, FROZEN).tobytes() == want.tobytes()  # skipped, not multiplied: 0 * inf would be nan


def test_running_scales_divide_their_own_level() -> None:
    parts = recipe_of(CreditConfig(turn_weight=0.5)).contributions(CreditArrays.from_groups([WORKED]), FROZEN)
    unit = recipe_of(PLAIN).contributions(CreditArrays.from_groups([WORKED]), FROZEN)
    np.testing.assert_allclose(parts["turn"], 0.5 * unit["turn"] / FROZEN.turn)
    np.testing.assert_allclose(parts["trajectory"], unit["trajectory"] / FROZEN.trajectory)


def test_leave_one_out_scale_reads_the_others_only() -> None:
    a = CreditArrays.from_groups([WORKED])
    got = pooled_std(a.turn_scores, a.turn_mask, a, others_only=True)
    for i in range(4):
        others = np.concatenate([r for j, r in enumerate(GOLDEN["group"]["turns"]) if j != i])
        np.testing.assert_allclose(got[i, 0], np.std(others), atol=1e-12)


def test_the_two_masks() -> None:
    counted, shown, unseen = {}, {"in_loss": False}, {"in_statistics": False}
    lost = {"in_statistics": False, "in_loss": False}
    members = [([1.0, 0.0], 1.0, counted), ([0.5], 0.0, shown), ([0.25, 1.0], 1.0, unseen), ([0.0], 0.0, counted)]
    base = [member(f"m{i}", r, o, **m) for i, (r, o, m) in enumerate(members)]
    got = advantages(PLAIN, [group("g", *base, member("x", [float("nan")], 9.0, **lost))])
    # m0 against m1 (statistics only) and m3; m2 is nobody's baseline, and is itself held against all three in S
    np.testing.assert_allclose(got.advantages["m0"], [1 - 0.25 + 1 - 0, 0 + 1], atol=1e-12)
    np.testing.assert_allclose(got.advantages["m2"], [1.25 - 0.5 + 1 - 1 / 3, 1 + 1 - 1 / 3], atol=1e-12)
    np.testing.assert_allclose(got.advantages["m3"], [0 - 0.75 + 0 - 0.5], atol=1e-12)
    assert got.advantages["m1"] == (0.0,)
    assert got.advantages["x"] == (0.0,)
    assert np.isfinite(got.values).all()


@pytest.mark.parametrize(
    ("recipe", "scale"), [("turn_grpo", s) for s in SCALE_NAMES] + [("grpo", "group"), ("per_index", "none"), ("per_index", "group")]
)  # fmt: skip
def test_edge_cases_give_zero_and_never_a_nan(recipe: str, scale: str) -> None:
    config = CreditConfig(recipe=recipe, scale=scale)
    equal = group("equal", *(member(f"e{i}", [0.1, 0.3], 0.7) for i in range(3)))
    alone = group("alone", member("lone", [1.0, 2.0], 1.0))
    other = group("other", member("held", [1.0], 1.0), member("cut", [1.0], 0.0, in_statistics=False))
    crashed = group("crashed", member("none", [], 0.0), member("some", [1.0], 1.0))
    got = advantages(config, [equal, alone, other, group("empty"), crashed])
    assert all(a == 0.0 for name in ("e0", "e1", "e2", "lone", "held") for a in got.advantages[name])
    assert got.advantages["none"] == ()
    assert got.advantages["some"][0] > 0
    assert np.isfinite(got.values).all()
    assert all(np.isfinite(v) for v in got.metrics.values())
    nothing = advantages(config, [])
    assert nothing.advantages == {}
    assert nothing.values.shape == (0, 0)
    assert advantages(config, [group("empty")]).next_scales == Scales.start(config)


def test_a_group_of_equal_to_go_values_and_unequal_lengths_is_not_blown_up() -> None:
    # all live values are .5, so their std is 0, yet the longer episode differs from the ended one at index 1
    members = [member("short", [0.5], 1.0), member("long", [0.0, 0.5], 0.0)]
    got = advantages(CreditConfig(scale="group"), [group("g", *members)])
    assert np.abs(got.values).max() < 2.0


def test_groups_are_independent_and_rows_keep_their_place() -> None:
    other = group("h", member("a", [0.2], 1.0), member("b", [], 0.0), member("c", [0.1, 0.2, 0.3, 0.4], 0.0))
    for scale in ("none", "running", "loo", "group"):
        config = CreditConfig(scale=scale)
        both = advantages(config, [WORKED, other], FROZEN).advantages
        apart = advantages(config, [WORKED], FROZEN).advantages | advantages(config, [other], FROZEN).advantages
        for name, row in both.items():
            np.testing.assert_allclose(row, apart[name], rtol=0, atol=1e-12)


def test_a_turn_with_score_zero_is_a_turn() -> None:
    got = advantages(PLAIN, [group("g", member("z", [0.0, 0.0], 0.0), member("o", [1.0], 1.0))])
    assert got.advantages["z"] == (-2.0, -1.0)


def test_describe_says_the_sets_and_the_claim() -> None:
    assert {"turn_grpo", "grpo", "per_index"} <= set(RECIPES.names())
    text = recipe_of(CreditConfig()).describe()
    assert "other members of the group" in text
    assert "frozen before this one" in text
    assert "exactly the gradient of E[outcome]/s_O + 0.5 E[sum of turn scores]/s_T" in text
    for biased in (
        CreditConfig(scale="group"),
        CreditConfig(gamma=0.9),
        CreditConfig(recipe="grpo"),
        CreditConfig(recipe="per_index"),
    ):
        assert "BIASED" in recipe_of(biased).describe()
        assert "exactly" not in recipe_of(biased).describe().split("BIASED")[0]
    for scale in ("running", "none", "shared", "batch", "loo"):
        assert "BIASED" not in recipe_of(CreditConfig(scale=scale)).describe()
    assert "turn scores" not in recipe_of(CreditConfig(turn_weight=0.0)).describe()
