"""The claims of the recipes against exact expectations: every group that can occur, no sampling."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditArrays, CreditConfig, Scales, recipe_of
from agentgym.credit.blocks import Among, Baseline, Lone, accumulate, centre
from agentgym.credit.recipes import per_index_variant
from agentgym.credit.scales import RunningSquare
from tests import mdps
from tests.mdps import Mdp, enumerate_groups, gradient

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))
PROBLEMS = {"A": mdps.A, "B": mdps.B, "C": mdps.C}
UNEVEN = {"A": (0.3,), "B": (0.7, 0.2), "C": (0.35, 0.8, 0.6)}
TIGHT: dict[str, Any] = {"rtol": 0.0, "atol": 1e-12}
FROZEN = Scales(turn_square=RunningSquare(0.02, 3), trajectory_square=RunningSquare(0.05, 2), shared_square=RunningSquare(0.3, 9))  # fmt: skip


def expectation(mdp: Mdp, size: int, config: CreditConfig, scales: Scales | None = None, **how: object) -> np.ndarray:
    groups = enumerate_groups(mdp, size, **how)  # pyright: ignore[reportArgumentType]
    return groups.expectation(recipe_of(config).run(groups.arrays, scales or Scales()))


def plain(**settings: object) -> CreditConfig:
    return CreditConfig(**({"turn_weight": 1.0, "scale": "none"} | settings))  # pyright: ignore[reportArgumentType]


def turn_level(mdp: Mdp, size: int, baseline: Baseline, among: Among, lone: Lone = "zero") -> np.ndarray:
    groups = enumerate_groups(mdp, size)
    a = groups.arrays
    to_go = accumulate(a.turn_scores, a.turn_mask, 1.0)
    return groups.expectation(centre(to_go, a.turn_mask, a, baseline, among, lone))


def test_the_problems_have_their_known_gradients() -> None:
    for name in ("B", "C"):
        np.testing.assert_allclose(gradient(PROBLEMS[name], mdps.total), GOLDEN["truth"]["total"][name], **TIGHT)
        np.testing.assert_allclose(gradient(PROBLEMS[name], mdps.turns), GOLDEN["truth"]["turns"][name], **TIGHT)
    np.testing.assert_allclose(gradient(mdps.T, mdps.total), GOLDEN["truth"]["T"], **TIGHT)
    np.testing.assert_allclose(gradient(mdps.FLIP, mdps.total), GOLDEN["truth"]["flip"], **TIGHT)


def test_every_enumeration_has_probability_one_and_a_score_function_of_mean_zero() -> None:
    for mdp in (*PROBLEMS.values(), mdps.T, mdps.FLIP, mdps.EARLY):
        groups = enumerate_groups(mdp, 4)
        np.testing.assert_allclose(groups.probability.sum(), 1.0, **TIGHT)
        np.testing.assert_allclose(groups.expectation(groups.arrays.turn_mask.astype(float)), 0.0, **TIGHT)


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_turn_grpo_without_scale_is_exactly_the_gradient(name: str, size: int) -> None:
    mdp = PROBLEMS[name]
    np.testing.assert_allclose(expectation(mdp, size, plain()), gradient(mdp, mdps.total), **TIGHT)


@pytest.mark.parametrize("scale", ["running", "shared", "none"])
@pytest.mark.parametrize("name", ["A", "B", "C"])
def test_frozen_scales_are_exactly_the_gradient_of_the_weighed_objective(name: str, scale: str) -> None:
    mdp, p = PROBLEMS[name], UNEVEN[name]
    config = CreditConfig(turn_weight=0.7, scale=scale)
    s_t, s_o = {"running": (FROZEN.turn, FROZEN.trajectory), "shared": (FROZEN.shared,) * 2, "none": (1.0, 1.0)}[scale]
    truth = gradient(mdp, mdps.outcome, p) / s_o + 0.7 * gradient(mdp, mdps.turns, p) / s_t
    got = expectation(mdp, 4, config, FROZEN, p=p)
    np.testing.assert_allclose(got, truth, rtol=0.0, atol=1e-12 / min(s_t, s_o))


@pytest.mark.parametrize("name", ["B", "C"])
def test_the_same_scores_at_trajectory_level_have_the_same_expectation(name: str) -> None:
    got = expectation(PROBLEMS[name], 4, plain(turn_weight=0.0), levels="trajectory")
    np.testing.assert_allclose(got, GOLDEN["truth"]["total"][name], **TIGHT)


def test_a_score_at_both_levels_is_a_hidden_weight() -> None:
    groups = enumerate_groups(mdps.B, 4)
    a = groups.arrays
    twice = CreditArrays(
        a.turn_scores, a.turn_mask, a.outcome + a.turn_scores.sum(1), a.group, a.in_statistics, a.in_loss
    )
    got = groups.expectation(recipe_of(plain()).run(twice, Scales()))
    np.testing.assert_allclose(got, [0.5625, 0.3125], **TIGHT)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_the_mean_with_oneself_in_it_shrinks_every_turn_alike(size: int) -> None:
    truth = np.array(GOLDEN["truth"]["turns"]["C"])
    np.testing.assert_allclose(turn_level(mdps.C, size, "mean", "all"), (size - 1) / size * truth, **TIGHT)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_counting_only_episodes_that_are_alive_is_another_estimator(size: int) -> None:
    truth, alive = np.array(GOLDEN["truth"]["turns"]["C"]), np.array([1.0, 0.5, 0.25])
    reached = 1 - (1 - (1 - alive) ** size) / (size * alive)
    np.testing.assert_allclose(turn_level(mdps.C, size, "mean", "alive"), reached * truth, **TIGHT)
    np.testing.assert_allclose(
        turn_level(mdps.C, size, "loo", "alive", "zero"), (1 - (1 - alive) ** (size - 1)) * truth, **TIGHT
    )
    np.testing.assert_allclose(turn_level(mdps.C, size, "loo", "alive", "raw"), truth, **TIGHT)


@pytest.mark.parametrize("name", ["B", "C"])
def test_alive_only_numbers(name: str) -> None:
    table = GOLDEN["group_of_4"]
    got = turn_level(PROBLEMS[name], 4, "mean", "alive")
    np.testing.assert_allclose(got, table["alive_mean_turn"][name], rtol=0, atol=5e-10)
    got = turn_level(PROBLEMS[name], 4, "loo", "alive")
    np.testing.assert_allclose(got, table["alive_loo_zero_turn"][name], rtol=0, atol=5e-10)


@pytest.mark.parametrize("second", ["0.5", "0.2", "-0.2"])
def test_per_index_takes_the_pay_out_of_an_extra_turn(second: str) -> None:
    mdp, want = mdps.bandit(float(second)), GOLDEN["bandit_group_of_8"][second]
    groups = enumerate_groups(mdp, 8)

    def per_index(baseline: Baseline, lone: Lone) -> float:
        recipe = per_index_variant(plain(), baseline, lone)
        return float(groups.expectation(recipe.run(groups.arrays, Scales()))[0])

    np.testing.assert_allclose(expectation(mdp, 8, plain()), want["default"], **TIGHT)
    np.testing.assert_allclose(gradient(mdp, mdps.total), want["default"], **TIGHT)
    np.testing.assert_allclose(turn_level(mdp, 8, "mean", "all"), want["mean"], **TIGHT)
    assert per_index("loo", "raw") == pytest.approx(want["per_index_loo_raw"], abs=1e-12)
    assert per_index("loo", "zero") == pytest.approx(0.0, abs=1e-12)
    assert per_index("mean", "zero") == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", ["B", "C"])
def test_numbers_of_the_biased_forms_with_four_members(name: str) -> None:
    table = GOLDEN["group_of_4"]
    got = expectation(PROBLEMS[name], 4, plain(recipe="per_index"))
    np.testing.assert_allclose(got, table["per_index_mean"][name], rtol=0, atol=5e-10)
    got = expectation(PROBLEMS[name], 4, plain(scale="group"))
    np.testing.assert_allclose(got, table["group_std"][name], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("key", "name", "size", "config", "levels"),
    [
        ("C_8_per_index_mean", "C", 8, plain(recipe="per_index"), "both"),
        ("B_8_per_index_mean", "B", 8, plain(recipe="per_index"), "both"),
        ("C_8_per_index_z", "C", 8, plain(recipe="per_index", scale="group"), "both"),
        ("C_8_group_std", "C", 8, plain(scale="group"), "both"),
        ("C_2_group_std", "C", 2, plain(scale="group"), "both"),
        ("B_8_group_std", "B", 8, plain(scale="group"), "both"),
        ("C_8_grpo_on_total", "C", 8, plain(recipe="grpo"), "trajectory"),
        ("C_2_grpo_on_total", "C", 2, plain(recipe="grpo"), "trajectory"),
    ],
)
def test_ratios_of_the_biased_forms(key: str, name: str, size: int, config: CreditConfig, levels: str) -> None:
    got = expectation(PROBLEMS[name], size, config, levels=levels) / GOLDEN["truth"]["total"][name]
    np.testing.assert_allclose(got, GOLDEN["ratio"][key], rtol=0, atol=6e-4)


@pytest.mark.parametrize("size", [2, 4, 8])
@pytest.mark.parametrize("name", ["B", "C"])
def test_the_leave_one_out_scale_keeps_the_direction_of_each_level(name: str, size: int) -> None:
    truth, config = np.array(GOLDEN["truth"]["turns"][name]), plain(scale="loo", loo_floor=0.25)
    ratio = expectation(PROBLEMS[name], size, config, levels="turn") / truth
    np.testing.assert_allclose(ratio, ratio[0], **TIGHT)
    if (name, size) == ("C", 8):
        np.testing.assert_allclose(ratio, GOLDEN["ratio"]["C_8_loo_scale_turn_floor_quarter"], rtol=0, atol=6e-4)
    ratio = expectation(PROBLEMS[name], size, config, levels="trajectory") / GOLDEN["truth"]["total"][name]
    np.testing.assert_allclose(ratio, ratio[0], **TIGHT)


def test_the_batch_scale_bends_the_direction_less_the_more_episodes_there_are() -> None:
    # Of one prompt, two groups of 4 in a batch have the same expectation as one of 8: the pool is what matters.
    recipe = recipe_of(plain(scale="batch"))
    for size, want in ((4, GOLDEN["batch_spread"]["4"]), (8, GOLDEN["batch_spread"]["8"])):
        groups = enumerate_groups(mdps.C, size, levels="turn")
        advantage = [recipe.run(groups.single(i), Scales()) for i in range(len(groups.probability))]
        ratio = groups.expectation(np.concatenate(advantage)) / GOLDEN["truth"]["turns"]["C"]
        assert ratio.max() / ratio.min() - 1 == pytest.approx(want, abs=6e-4)


def test_episodes_cut_by_a_limit_stay_in_both_masks_or_the_first_decision_flips_sign() -> None:
    truth, want = gradient(mdps.T, mdps.total), GOLDEN["truncation"]
    for size in (2, 4, 8):
        np.testing.assert_allclose(expectation(mdps.T, size, plain()), truth, **TIGHT)
    statistics_only = expectation(mdps.T, 8, plain(), cut_in_loss=False)
    np.testing.assert_allclose(statistics_only, want["statistics_only"], **TIGHT)
    neither = expectation(mdps.T, 16, plain(), cut_in_loss=False, cut_in_statistics=False)
    np.testing.assert_allclose(neither, want["neither_limit"], rtol=0, atol=1e-6)
    assert truth[0] < 0 < min(statistics_only[0], neither[0])


@pytest.mark.parametrize("size", [4, 8])
def test_only_a_constant_denominator_keeps_the_sign_where_success_is_long(size: int) -> None:
    groups = enumerate_groups(mdps.FLIP, size)
    advantage = recipe_of(plain()).run(groups.arrays, Scales())
    truth, want = gradient(mdps.FLIP, mdps.total), GOLDEN["flip"]
    np.testing.assert_allclose(groups.expectation(advantage), truth, **TIGHT)
    sequence_mean = groups.expectation(advantage, 1 / groups.tokens)
    assert sequence_mean[0] == pytest.approx(want["sequence_mean"], abs=6e-5)
    mean_length = groups.tokens.reshape(-1, size).mean(1).repeat(size)
    token_mean = groups.expectation(advantage, 1 / mean_length)
    assert 18 * token_mean[0] / truth[0] == pytest.approx(want[f"token_mean_share_{size}"], abs=6e-3)


def test_a_discount_prefers_early_pay() -> None:
    for gamma, want in GOLDEN["early"].items():
        got = expectation(mdps.EARLY, 4, plain(gamma=float(gamma)))
        np.testing.assert_allclose(got, want, **TIGHT)
