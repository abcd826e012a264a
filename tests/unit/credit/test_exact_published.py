"""Claims and known biases of the published recipes against exact expectations: every group that can occur."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentgym.credit import RECIPES, CreditConfig, Scales, recipe_of
from agentgym.credit.blocks import accumulate
from agentgym.credit.normalise import Normalise
from agentgym.credit.recipe import Recipe
from agentgym.credit.shape import OutcomeAtLast
from tests import mdps
from tests.mdps import enumerate_groups, gradient, with_extras
from tests.support.credit_claims import CLAIMS, Claim, expectation

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))
WANT = GOLDEN["published_expectations"]
PROBLEMS = {"A": mdps.A, "B": mdps.B, "C": mdps.C}
UNEVEN = {"A": (0.3,), "B": (0.7, 0.2), "C": (0.35, 0.8, 0.6)}
EXACT = [claim for claim in CLAIMS if claim.factor is not None]
BIASED = [claim for claim in CLAIMS if claim.factor is None]
TWO_VALUED = ("grpo", "dapo", "rlpr")
"""Their group's spread is that of the bare outcome."""
FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "igpo": ("igpo", {}),
    "igpo_no_std": ("igpo", {"std": False}),
    "igpo_separate": ("igpo", {"form": "separate", "last": "both"}),
    "igpo_separate_no_std": ("igpo", {"form": "separate", "last": "both", "std": False}),
    "matchtir": ("matchtir", {}),
    "matchtir_no_std": ("matchtir", {"std": False}),
    "gigpo": ("gigpo", {}),
    "gigpo_rows": ("gigpo", {"over": "rows"}),
    "gigpo_mean_std": ("gigpo", {"form": "mean_std"}),
    "gigpo_loo": ("gigpo", {"baseline": "loo"}),
    "cm2_turn": ("cm2", {"form": "turn", "min_count": 1}),
    "cm2_trajectory": ("cm2", {"reference_turns": 3}),
}


def run(form: str, problem: mdps.Mdp, size: int) -> np.ndarray:
    name, options = FORMS[form]
    groups = enumerate_groups(problem, size)
    return groups.expectation(recipe_of(CreditConfig(recipe=name, options=options)).run(groups.arrays, Scales()))


def target(problem: mdps.Mdp, total: float, gamma: float, step: float) -> np.ndarray:
    """Return E[sum over turns of score function x (total * all pay + step * discounted pay from here on)]."""
    groups = enumerate_groups(problem, 1)
    pay = OutcomeAtLast().apply(groups.arrays, Scales()).turn_scores
    value = total * pay.sum(1, keepdims=True) + step * accumulate(pay, groups.arrays.turn_mask, gamma)
    return groups.expectation(np.where(groups.arrays.turn_mask, value, 0.0))


def test_every_recipe_has_a_claim_and_says_so() -> None:
    assert {claim.recipe for claim in CLAIMS} == set(RECIPES.names())
    for claim in CLAIMS:
        # siop is exact for modes that are given; its own come from the siblings, which its words say
        assert ("BIASED" in claim.make().expectation) == (claim.factor is None) or claim.recipe == "siop" or (
            claim.settings == {"scale": "batch"}
        ), claim.label


@pytest.mark.parametrize("size", [2, 4])
@pytest.mark.parametrize("name", ["A", "B", "C"])
@pytest.mark.parametrize("claim", EXACT, ids=[c.label for c in EXACT])
def test_claimed_gradients_are_exact(claim: Claim, name: str, size: int) -> None:
    assert claim.factor is not None
    for p in (None, UNEVEN[name]):
        got, _ = expectation(claim, PROBLEMS[name], size, p)
        truth = claim.factor(size) * gradient(PROBLEMS[name], claim.value, p)
        np.testing.assert_allclose(got, truth, rtol=0, atol=1e-12)


@pytest.mark.parametrize("claim", EXACT, ids=[c.label for c in EXACT])
def test_claims_hold_where_a_turn_limit_cuts_episodes(claim: Claim) -> None:
    assert claim.factor is not None
    got, _ = expectation(claim, mdps.T, 4)
    np.testing.assert_allclose(got, claim.factor(4) * gradient(mdps.T, claim.value), rtol=0, atol=1e-12)


@pytest.mark.parametrize("claim", BIASED, ids=[c.label for c in BIASED])
def test_what_is_called_biased_is_measurably_biased(claim: Claim) -> None:
    got, _ = expectation(claim, mdps.C, 4)
    beside = np.linalg.norm(off(got, gradient(mdps.C, claim.value))) / np.linalg.norm(got)
    if claim.recipe in TWO_VALUED and claim.value is mdps.outcome:
        assert beside < 1e-12  # these outcomes are 0 or 1: only the weight of a prompt depends on its spread
    else:
        assert beside > 2e-3


def off(got: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the part of `got` that does not point along `truth`."""
    return got - truth * (got @ truth) / (truth @ truth)


@pytest.mark.parametrize("size", [2, 4, 8])
def test_a_group_std_on_outcomes_of_two_values_weighs_prompts_but_keeps_each_direction(size: int) -> None:
    weight = []
    for p in ((0.5, 0.5, 0.5), (0.95, 0.05, 0.5)):  # the second prompt is solved rarely
        groups = enumerate_groups(mdps.C, size, p=p)
        got = groups.expectation(recipe_of(CreditConfig(recipe="grpo")).run(groups.arrays, Scales()))
        truth = gradient(mdps.C, mdps.outcome, p)
        assert np.linalg.norm(off(got, truth)) < 1e-12
        weight.append(float(got @ truth / (truth @ truth)))
    assert (abs(weight[0] - weight[1]) < 1e-5) == (size == 2)


@pytest.mark.parametrize("name", ["B", "C"])
@pytest.mark.parametrize("form", ["igpo_no_std", "igpo", "matchtir_no_std", "matchtir", "gigpo"])
def test_known_expectations_with_four_members(form: str, name: str) -> None:
    np.testing.assert_allclose(run(form, PROBLEMS[name], 4), WANT[form][name], rtol=0, atol=1e-8)


@pytest.mark.parametrize("second", ["0.5", "0.2", "-0.2"])
def test_known_expectations_of_an_extra_turn(second: str) -> None:
    for form, want in WANT["bandit_8"][second].items():
        assert run(form, mdps.bandit(float(second)), 8)[0] == pytest.approx(want, abs=1e-6), form


@pytest.mark.parametrize("form", [form for form in FORMS if form in WANT["ratio_C_8"]])
def test_known_ratios_with_eight_members(form: str) -> None:
    truth = {"igpo": gradient(mdps.C, mdps.total), "cm2": gradient(mdps.C, mdps.turns)}
    truth |= {"matchtir": target(mdps.C, 0.5, 0.9, 0.5), "gigpo": target(mdps.C, 1.0, 0.95, 1.0)}
    ratio = run(form, mdps.C, 8) / truth[form.split("_")[0]]
    np.testing.assert_allclose(ratio, WANT["ratio_C_8"][form], rtol=0, atol=6e-4)


def test_the_turn_level_of_matchtir_alone() -> None:
    level = Recipe("", ("turn",), recipe_of(CreditConfig(recipe="matchtir", options={"std": False})).blocks[2:4], "")
    groups = enumerate_groups(mdps.C, 8)
    arrays = OutcomeAtLast().apply(groups.arrays, Scales())
    assert isinstance(level.blocks[1], Normalise)
    ratio = groups.expectation(level.run(arrays, Scales())) / target(mdps.C, 0.0, 0.9, 1.0)
    np.testing.assert_allclose(ratio, WANT["ratio_C_8"]["matchtir_turn_level_no_std"], rtol=0, atol=6e-4)


def test_joint_information_gain_turns_the_second_search_around() -> None:
    truth = gradient(mdps.C, mdps.total)
    got = run("igpo", mdps.C, 2)
    assert got[1] == pytest.approx(WANT["igpo_flip_2"], abs=6e-5)
    assert got[1] < 0 < truth[1]


@pytest.mark.parametrize("problem", [mdps.C, mdps.blindfold(mdps.C), mdps.blindfold(mdps.B)], ids=lambda m: m.name)
def test_states_met_again_are_exact_with_the_other_episodes_as_baseline(problem: mdps.Mdp) -> None:
    for size in (2, 4):
        np.testing.assert_allclose(run("gigpo_loo", problem, size), target(problem, 1.0, 0.95, 1.0), rtol=0, atol=1e-12)
        ratio = run("gigpo", problem, size) / target(problem, 1.0, 0.95, 1.0)
        assert ratio.max() - ratio.min() > 0.01


@pytest.mark.parametrize("name", ["B", "C"])
def test_a_noisy_verifier(name: str) -> None:
    rho0, rho1 = 0.1, 0.3
    truth, problem = gradient(PROBLEMS[name], mdps.outcome), mdps.noisy(PROBLEMS[name], rho0, rho1)
    groups = enumerate_groups(problem, 4)

    def run(recipe: str, **options: Any) -> np.ndarray:
        got = recipe_of(CreditConfig(recipe=recipe, options=options)).run(groups.arrays, Scales())
        return groups.expectation(got)

    rates = {"rho0": rho0, "rho1": rho1}
    tight: dict[str, Any] = {"rtol": 0.0, "atol": 1e-12}
    np.testing.assert_allclose(run("noisy_backward", **rates), truth, **tight)
    np.testing.assert_allclose(run("noisy_backward", baseline="mean", **rates), 0.75 * truth, **tight)
    np.testing.assert_allclose(run("noisy_forward", **rates), (1 - rho0 - rho1) * truth, **tight)
    np.testing.assert_allclose(run("rloo"), (1 - rho0 - rho1) * truth, **tight)  # uncorrected: smaller, same direction
    # under a z-score the correction cancels, up to the 1e-6 in the divisor
    np.testing.assert_allclose(run("noisy_backward", std=True, **rates), run("grpo"), rtol=0, atol=1e-5)


def test_shaping_by_a_potential_is_invariant_only_if_the_last_one_counts_as_zero() -> None:
    truth = gradient(mdps.C, mdps.outcome)
    groups = with_extras(enumerate_groups(mdps.C, 4))

    def run(**options: Any) -> np.ndarray:
        recipe = recipe_of(CreditConfig(recipe="tips", options=options))
        return groups.expectation(recipe.run(groups.arrays, Scales()))

    for options in ({"alpha": 0.1}, {"alpha": 3.0}, {"gamma": 0.5}):
        np.testing.assert_allclose(run(**options), truth, rtol=0, atol=1e-12)
    kept = gradient(mdps.C, lambda path: path.outcome + mdps.last_potential(path))
    np.testing.assert_allclose(run(terminal="keep"), kept, rtol=0, atol=1e-12)
    assert np.abs(run(terminal="keep") - truth).max() > 0.05
    assert np.linalg.norm(off(run(terminal="keep", gamma=0.5), kept)) > 0.005


def test_dropping_episodes_that_a_limit_cut_turns_the_first_decision_around() -> None:
    truth = gradient(mdps.T, mdps.outcome)
    groups = enumerate_groups(mdps.T, 8)
    kept = groups.expectation(recipe_of(CreditConfig(recipe="rloo")).run(groups.arrays, Scales()))
    np.testing.assert_allclose(kept, truth, rtol=0, atol=1e-12)
    dropped = enumerate_groups(mdps.T, 8, cut_in_loss=False)
    got = dropped.expectation(recipe_of(CreditConfig(recipe="rloo")).run(dropped.arrays, Scales()))
    assert truth[0] < 0 < got[0]
