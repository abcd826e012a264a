"""Worked numbers beside those of test_published and test_exact: noise, weights of prompts, steps inside recipes."""

import json
import math
from itertools import combinations_with_replacement
from pathlib import Path

import numpy as np
import pytest

from agentgym.credit import CreditArrays, CreditConfig, Recipe, Scales, advantages_from_arrays, recipe_of
from agentgym.credit.blocks import accumulate, centre
from agentgym.credit.plain import arrays_of
from agentgym.credit.probes import ByStepPotential
from agentgym.rewards.probability import ReferenceProbability, Row
from tests import mdps
from tests.mdps import Enumeration, enumerate_groups, gradient

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "credit_further.json").read_text(encoding="utf-8"))
CLOSE = {"rtol": 0, "atol": 1e-6}
PLAIN = {"turn_weight": 1.0, "scale": "none"}


def recipe(name: str = "turn_grpo", scale: str = "none", **options: object) -> Recipe:
    return recipe_of(CreditConfig(recipe=name, turn_weight=1.0, scale=scale, options=dict(options)))


def moments(groups: Enumeration, advantages: np.ndarray) -> tuple[np.ndarray, float]:
    """The expectation of one group's estimate, and its relative standard deviation."""
    size = len(groups.tokens) // len(groups.probability)
    each = np.einsum("bk,bkd->bd", advantages, groups.score).reshape(len(groups.probability), size, -1).mean(1)
    mean = groups.probability @ each
    return mean, float(np.sqrt(groups.probability @ ((each - mean) ** 2).sum(1)) / np.linalg.norm(mean))


def test_noise_of_the_forms_of_the_turn_level() -> None:
    groups = enumerate_groups(mdps.C, 8, levels="turn")
    a, want = groups.arrays, GOLDEN["relative_sd"]
    to_go = accumulate(a.turn_scores, a.turn_mask, 1.0)
    alive = a.group_sum(a.turn_mask.astype(float))
    others = a.group_sum(np.where(a.turn_mask, to_go, 0.0)) - to_go
    forms = {
        "zero_counted_loo": recipe().run(a, Scales()),
        "alive_loo_raw": recipe(among="alive").run(a, Scales()),
        "others_over_alive_plus_one": np.where(a.turn_mask, to_go - others / np.maximum(alive, 1.0), 0.0),
        "whole_total": recipe("rloo", total=True).run(a, Scales()),
        "group_std": recipe(scale="group").run(a, Scales()),
    }
    for name, advantages in forms.items():
        mean, noise = moments(groups, advantages)
        assert noise == pytest.approx(want[name], abs=6e-4), name
        if name != "group_std":
            np.testing.assert_allclose(mean, gradient(mdps.C, mdps.turns), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_a_group_std_bends_the_direction_under_heavy_tails(size: int) -> None:
    g = GOLDEN["heavy_tails"]
    p, rewards = np.array(g["chances"]), np.array(g["rewards"], float)
    arms = np.array(list(combinations_with_replacement(range(3), size)))
    counts = np.stack([(arms == i).sum(1) for i in range(3)], axis=1)
    factorial = np.array([float(math.factorial(n)) for n in range(size + 1)])
    probability = p[arms].prod(1) * factorial[size] / factorial[counts].prod(1)
    ones = np.ones(arms.size, bool)
    arrays = CreditArrays(np.zeros((arms.size, 1)), ones[:, None], rewards[arms.ravel()], np.repeat(np.arange(len(arms)), size), ones, ones)  # fmt: skip
    advantages = recipe("grpo").run(arrays, Scales())[:, 0]
    got = probability @ (advantages[:, None] * (np.eye(3)[arms.ravel()] - p)).reshape(len(arms), size, 3).mean(1)
    truth = p * (rewards - p @ rewards)
    cosine = float(got @ truth / np.linalg.norm(got) / np.linalg.norm(truth))
    assert cosine == pytest.approx(g["cosine"][str(size)], abs=6e-4)


def test_a_group_std_lifts_prompts_that_are_rarely_solved() -> None:
    def weight(q: float, size: int) -> float:
        total = 0.0
        for k in range(1, size):
            ones = np.ones(size, bool)
            outcome = np.array([1.0] * k + [0.0] * (size - k))
            arrays = CreditArrays(np.zeros((size, 1)), ones[:, None], outcome, np.zeros(size, np.int64), ones, ones)
            a = recipe("grpo").run(arrays, Scales())[:, 0]
            chance = math.comb(size, k) * q**k * (1 - q) ** (size - k)
            total += chance * float((a * (outcome - q)).mean())
        return total / (q * (1 - q))

    for size, want in GOLDEN["prompt_weight"].items():
        assert [weight(q, int(size)) for q in (0.05, 0.5)] == pytest.approx(want, abs=6e-4)
    assert math.sqrt(0.25 / (0.05 * 0.95)) == pytest.approx(GOLDEN["prompt_weight_limit"], abs=6e-4)


def test_means_over_turns_shrink_long_episodes() -> None:
    groups = enumerate_groups(mdps.C, 8)
    advantages = recipe().run(groups.arrays, Scales())
    lengths = groups.arrays.turn_mask.sum(1)
    ratio = groups.expectation(advantages, 1 / lengths) / gradient(mdps.C, mdps.total)
    assert ratio == pytest.approx(GOLDEN["turn_mean"], abs=6e-4)
    turns = enumerate_groups(mdps.C, 8, levels="turn")
    own = (turns.arrays.turn_scores.sum(1) / lengths)[:, None]
    centred = centre(own, np.ones_like(own, bool), turns.arrays, "mean")
    got = turns.expectation(np.where(turns.arrays.turn_mask, centred, 0.0)) / gradient(mdps.C, mdps.turns)
    assert got == pytest.approx(GOLDEN["cm2_own_turns"], abs=6e-4)


def test_the_levels_of_dual_level_matching() -> None:
    published = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))
    rows, g = published["published"]["matchtir"]["turns"], GOLDEN["matchtir"]
    scores = np.array([[*row, *[0.0] * (3 - len(row))] for row in rows])
    mask = np.arange(3) < np.array([len(row) for row in rows])[:, None]
    arrays = arrays_of(scores, mask, [0.0] * 3, [0] * 3)
    for row, want in zip(accumulate(scores, mask, 0.9), g["to_go"], strict=True):
        np.testing.assert_allclose(row[: len(want)], want, **CLOSE)
    levels = recipe("matchtir").contributions(arrays, Scales())
    np.testing.assert_allclose(2 * levels["trajectory"][:, 0], g["trajectory"], **CLOSE)
    for row, want in zip(2 * levels["turn"], g["turn"], strict=True):
        np.testing.assert_allclose(row[: len(want)], want, **CLOSE)


def test_the_factors_of_entropies() -> None:
    published = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))["published"]
    entropy = published["empg"]["entropy"]
    padded = np.array([[*row, *[0.0] * (3 - len(row))] for row in entropy])
    mask = np.arange(3) < np.array([len(row) for row in entropy])[:, None]
    arrays = arrays_of(np.zeros((2, 3)), mask, [0, 0], [0, 0], extras={"entropy": padded})
    factor = recipe("empg", zeta=0.0).modulate[0].apply(np.where(mask, 1.0, 0.0), arrays, Scales())
    for row, want in zip(factor, GOLDEN["empg"]["g"], strict=True):
        np.testing.assert_allclose(row[: len(want)], want, **CLOSE)


def test_step_potentials_from_the_inside() -> None:
    g = GOLDEN["spae"]
    published = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))["published"]["spae"]
    mask = np.array([[1, 1, 1], [1, 1, 0]], bool)
    extras = {n: np.array([[*row, *[0.0] * (3 - len(row))] for row in published[n]]) for n in ("accuracy", "confidence")}
    arrays = arrays_of(np.zeros((2, 3)), mask, [0, 0], [0, 0], extras=extras)
    with_factor = ByStepPotential(0.5, 0.0, 0.9).apply(np.where(mask, 1.0, 0.0), arrays, Scales())
    only_bonus = ByStepPotential(0.5, 1.0, 0.9).apply(np.zeros((2, 3)), arrays, Scales())
    for k, row in enumerate(g["factor"]):
        np.testing.assert_allclose(with_factor[k, : len(row)], row, **CLOSE)
        np.testing.assert_allclose(only_bonus[k, : len(row)], g["bonus"][k], **CLOSE)
    for accuracy, confidence, phi in g["corners"]:
        assert 1.5 * accuracy * confidence + 0.5 * accuracy - confidence == phi
        # A step counts as saturated where its potential lies above the threshold: the next one then gets less.
        two = arrays_of(np.zeros((1, 2)), np.ones((1, 2), bool), [0], [0], extras={"accuracy": [[accuracy] * 2], "confidence": [[confidence] * 2]})  # fmt: skip
        for threshold in (phi - 1e-6, phi + 1e-6):
            got = ByStepPotential(1.0, 0.0, threshold).apply(np.ones((1, 2)), two, Scales())
            np.testing.assert_allclose(got, [[1.0, math.exp(-1) if threshold < phi else 1.0]], **CLOSE)


def test_probabilities_of_the_reference_are_means_of_tokens() -> None:
    g = GOLDEN["reference_probability"]
    logs = [[math.log(p) for p in g["tokens"]], [math.log(g["base"])]]
    component = ReferenceProbability()
    rows = [Row((), "", ""), Row((), "", "")]
    means = component.numbers(rows, logs[::-1])
    assert means == {"before.0": pytest.approx(g["base"]), "after.0": pytest.approx(g["mean"])}
    assert component.read(means).raw == pytest.approx(g["gain"], abs=1e-6)
    assert math.exp(sum(logs[0]) / 3) == pytest.approx(g["geometric"], abs=1e-6)  # what it is not


def test_right_and_wrong_answers_apart() -> None:
    g = GOLDEN["drpo"]
    extras = {"correct": g["correct"], "mean_logprob": g["score"], "n_tokens": [8192 * x for x in g["length_share"]]}
    result = advantages_from_arrays(
        np.zeros((4, 1)), np.ones((4, 1)), g["correct"], [0] * 4, config=CreditConfig(recipe="drpo"), extras=extras
    )
    np.testing.assert_allclose(result.values[:, 0] / 4, g["coefficients"], **CLOSE)
    np.testing.assert_allclose(result.values[:2, 0] / 4, g["weights"], **CLOSE)
    s, tau = np.array(g["score"]), 10.0
    value = result.values[:2, 0] / 4 @ s[:2] - tau * math.log(np.exp(s[2:] / tau).mean())
    assert value == pytest.approx(g["value"], abs=1e-6)
    step = 1e-6  # the coefficients are the gradient of that value
    for i in (2, 3):
        moved = s.copy()
        moved[i] += step
        slope = -tau * (math.log(np.exp(moved[2:] / tau).mean()) - math.log(np.exp(s[2:] / tau).mean())) / step
        assert slope == pytest.approx(g["coefficients"][i], abs=1e-5)
    one_sided = advantages_from_arrays(
        np.zeros((2, 1)), np.ones((2, 1)), [1, 1], [0, 0], config=CreditConfig(recipe="drpo"),
        extras={n: np.asarray(v)[:2] for n, v in extras.items()},
    )  # fmt: skip
    assert not one_sided.values.any()
    assert one_sided.in_loss.all()  # a group that lacks a side still counts in the divisor
