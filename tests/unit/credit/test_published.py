"""Worked numbers of the published recipes, in released and corrected forms where they differ."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditConfig, CreditResult, Scales, advantages_from_arrays, recipe_of
from agentgym.credit.blocks import accumulate
from agentgym.credit.later import Masked, PayPerTurn
from agentgym.credit.modulate import ByEntropy, CentreBatch
from agentgym.credit.normalise import normalise
from agentgym.credit.partition import partition, per_channel
from agentgym.credit.placing import combine
from agentgym.credit.plain import arrays_of
from agentgym.credit.probes import ByStepPotential
from agentgym.credit.shape import Mix, overlong_penalty
from agentgym.errors import DataError

FILE = json.loads((Path(__file__).parents[2] / "golden" / "credit.json").read_text(encoding="utf-8"))
GOLDEN = FILE["published"]
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-6}
Rows = Sequence[Sequence[float]]


def ragged(rows: Rows, dtype: type = float) -> tuple[np.ndarray, np.ndarray]:
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    values = np.zeros(mask.shape, dtype)
    values[mask] = [x for row in rows for x in row]
    return values, mask


def credit(
    recipe: str, turns: Rows, outcome: Sequence[float], *, extras: Mapping[str, Any] | None = None,
    scales: Scales | None = None, **options: Any,
) -> CreditResult:  # fmt: skip
    values, mask = ragged(turns)
    config = CreditConfig(recipe=recipe, options=options)
    return advantages_from_arrays(values, mask, outcome, ["g"] * len(mask), config=config, extras=extras, scales=scales)


def close(got: CreditResult, want: Rows) -> None:
    values, mask = ragged(want)
    np.testing.assert_array_equal(got.arrays.turn_mask, mask)
    np.testing.assert_allclose(got.values, values, **CLOSE)


def one_turn(outcome: Sequence[float]) -> list[list[float]]:
    return [[0.0]] * len(outcome)


def column(values: Sequence[float]) -> np.ndarray:
    return np.asarray(values, float)[:, None]


def of_group(values: Sequence[float], sizes: Sequence[int] = (), **how: Any) -> np.ndarray:
    parts = np.repeat(np.arange(len(sizes) or 1), sizes or [len(values)])[:, None]
    x = column(values)
    return normalise(x, np.ones_like(x, bool), parts, int(parts.max()) + 1, **how).values[:, 0]


def test_trajectory_level() -> None:
    g = GOLDEN["one_group"]
    r = g["outcome"]
    np.testing.assert_allclose(of_group(r, spread="std"), g["grpo_1e-6"], **CLOSE)
    np.testing.assert_allclose(of_group(r, spread="std", eps=1e-4), g["grpo_1e-4"], **CLOSE)
    for recipe, key in (("grpo", "grpo_1e-6"), ("dr_grpo", "dr_grpo"), ("rloo", "rloo")):
        close(credit(recipe, one_turn(r), r), [[x] for x in g[key]])
    assert not credit("grpo", one_turn(r), [1, 1, 1, 1]).values.any()


def test_spread_over_the_batch() -> None:
    g = GOLDEN["two_groups"]
    r = g["outcome"]
    centred = of_group(r, (4, 4))
    whole = normalise(column(r), np.ones((8, 1), bool), np.zeros((8, 1), np.int64), 1, spread="std", eps=1e-4).divisor
    np.testing.assert_allclose(centred / whole[:, 0], g["batch_std_1e-4"], **CLOSE)
    # on tokens, "K" being the tokens: whitening weighs long trajectories more
    mask = np.arange(4) < np.array(g["tokens"])[:, None]
    how: dict[str, Any] = {"centre": "mean", "spread": "std", "eps": 0.0, "eps_inside": 1e-8}
    for values, want in ((centred, g["whitened"]), (np.asarray(r, float), [g["reinforce"][1 - x] for x in r])):
        tokens = np.where(mask, values[:, None], 0.0)
        got = normalise(tokens, mask, np.zeros(mask.shape, np.int64), 1, **how).values
        np.testing.assert_allclose(got, np.where(mask, column(want), 0.0), **CLOSE)


def test_penalty_of_long_episodes() -> None:
    g = GOLDEN["overlong"]
    np.testing.assert_allclose(overlong_penalty(g["lengths"], g["limit"], g["cache"]), g["penalty"], **CLOSE)


def test_the_worked_group() -> None:
    turns, outcome, g = FILE["group"]["turns"], FILE["group"]["outcome"], GOLDEN["worked_group"]
    close(credit("igpo", turns, outcome), g["igpo_joint"])
    close(credit("matchtir", turns, outcome), g["matchtir"])
    state = {"state": ragged(g["observations"], int)[0]}
    close(credit("gigpo", turns, outcome, extras=state), g["gigpo_trajectories"])
    close(credit("gigpo", turns, outcome, extras=state, over="rows"), g["gigpo_rows"])
    config = CreditConfig(turn_weight=1.0, scale="none", options={"among": "alive"})
    close(advantages_from_arrays(*ragged(turns), [0] * 4, [0] * 4, config=config), FILE["advantages"]["alive_loo_raw"])


def test_information_gain() -> None:
    g = GOLDEN["igpo"]
    close(credit("igpo", g["turns"], g["outcome"]), g["joint"])
    close(credit("igpo", g["turns"], g["outcome"], form="separate"), g["separate"])
    close(credit("igpo", g["turns"], g["outcome"], form="separate", gamma=0.9), g["separate_gamma_0.9"])


def test_dual_level_matching() -> None:
    g = GOLDEN["matchtir"]
    for lone in ("raw", "zero"):
        want = [list(row) for row in g["fused"]]
        if lone == "zero":
            want[0][2] = g["lone_zero_third_turn"]
        config = CreditConfig(recipe="matchtir", options={"outcome": "none", "lone": lone})
        close(advantages_from_arrays(*ragged(g["turns"]), [0, 0, 0], [0, 0, 0], config=config), want)


def test_entity_rates() -> None:
    g = GOLDEN["e_grpo"]
    extras = {"score:entity_match": g["rate"], "format_error": g["error"]}
    got = credit("e_grpo", one_turn(g["rate"]), g["correct"], extras=extras)
    close(got, [[x] for x in g["advantages"]])
    recipe = recipe_of(CreditConfig(recipe="e_grpo"))
    np.testing.assert_allclose(recipe.prepared(got.arrays, Scales()).outcome, g["shaped"], **CLOSE)
    extras = {"score:entity_match": g["all_wrong_rate"]}
    close(credit("e_grpo", one_turn(g["rate"]), [0, 0, 0, 0], extras=extras), [[x] for x in g["all_wrong"]])


def test_citation_rubrics() -> None:
    g = GOLDEN["c_grpo"]
    extras = {"score:citation_rubric": g["rubric"]}
    got = credit("c_grpo", one_turn(g["outcome"]), g["outcome"], extras=extras)
    close(got, [[x] for x in g["advantages"]])
    for form in ("paper", "released"):
        recipe = recipe_of(CreditConfig(recipe="c_grpo", options={"form": form}))
        np.testing.assert_allclose(recipe.prepared(got.arrays, Scales()).outcome, g[form], **CLOSE)


def test_checklists() -> None:
    g = GOLDEN["cm2"]
    zero = [0.0] * 6
    trajectory = [[a] * len(t) for a, t in zip(g["trajectory"], g["turns"], strict=True)]
    close(credit("cm2", g["turns"], zero, reference_turns=g["reference_turns"]), trajectory)
    close(credit("cm2", g["turns"], zero, extras={"reference_turns": [2] * 6}), trajectory)
    close(credit("cm2", g["turns"], zero, form="turn"), g["turn"])
    kept = credit("cm2", g["turns"], zero, form="turn", min_count=1).values[:, 1]
    np.testing.assert_allclose(kept[[0, 1, 3, 5]], g["turn_2_kept"], **CLOSE)


def test_entropies() -> None:
    g = GOLDEN["empg"]
    entropy, mask = ragged(g["entropy"])
    arrays = arrays_of(np.zeros(mask.shape), mask, [0, 0], [0, 0], extras={"entropy": entropy})
    modulated = ByEntropy().apply(np.where(mask, column(g["advantages"]), 0.0), arrays, Scales())
    np.testing.assert_allclose(modulated, ragged(g["modulated"])[0], **CLOSE)
    centred = np.where(mask, CentreBatch().apply(modulated, arrays, Scales()), 0.0)
    np.testing.assert_allclose(centred, ragged(g["centred"])[0], **CLOSE)


def test_states_met_twice() -> None:
    g = GOLDEN["gigpo"]
    state, _ = ragged(g["observations"], int)
    for form in ("mean", "mean_std"):
        nothing = [[0.0] * len(row) for row in g["observations"]]
        close(credit("gigpo", nothing, g["outcome"], extras={"state": state}, form=form), g[form])


@pytest.mark.parametrize("step", [0, 500])
def test_trust(step: int) -> None:
    g = GOLDEN["trust"]
    extras = {"score:atomic_thought": g["thinking"]}
    arrays = arrays_of(np.zeros((4, 1)), np.ones((4, 1)), g["outcome"], [0] * 4, extras=extras)
    recipe = recipe_of(CreditConfig(recipe="trust_grpo"))
    np.testing.assert_allclose(recipe.prepared(arrays, Scales(n_steps=step)).outcome, g[f"step_{step}"], **CLOSE)


def test_a_process_weight_that_falls() -> None:
    g = GOLDEN["atom"]
    arrays = arrays_of([[0.0]], [[True]], [g["outcome"]], [0], extras={"score:atomic_thought": [g["process"]]})
    recipe = recipe_of(CreditConfig(recipe="atom_searcher", options={"n_steps": g["n_steps"]}))
    for step, want in g["shaped"].items():
        got = recipe.prepared(arrays, Scales(n_steps=int(step))).outcome
        np.testing.assert_allclose(got, want, **CLOSE)
    wrong = arrays.but(extras={**arrays.extras, "format_error": np.array([True])})
    assert recipe.prepared(wrong, Scales()).outcome[0] == -1.0


def test_schedules_move_with_the_steps_of_the_run() -> None:
    extras = {"score:atomic_thought": [0.3, 0.8, 0.5, 0.6]}
    first = credit("trust_grpo", one_turn([0] * 4), [1, 0, 1, 0], extras=extras)
    assert first.next_scales.n_steps == 1
    second = credit("trust_grpo", one_turn([0] * 4), [1, 0, 1, 0], extras=extras, scales=first.next_scales)
    assert second.next_scales.n_steps == 2
    assert np.abs(second.values - first.values).max() > 0
    assert Scales.from_dict(second.next_scales.to_dict()) == second.next_scales


def test_vector_rewards() -> None:
    g = GOLDEN["channels"]
    extras = {"channels": g["values"]}
    total = np.sum(g["values"], axis=1)
    np.testing.assert_allclose(of_group(total, spread="std", eps=1e-4), g["sum_then_normalise"], **CLOSE)
    for recipe in ("mrn", "gdpo"):
        close(credit(recipe, one_turn(total), [0] * 4, extras=extras), [[x] for x in g[recipe]])


def test_noisy_verifiers() -> None:
    g = GOLDEN["noisy"]
    r, rates = g["observed"], {"rho0": g["rho0"], "rho1": g["rho1"]}
    got = credit("noisy_backward", one_turn(r), r, baseline="mean", **rates)
    close(got, [[x] for x in g["centred"]])
    recipe = recipe_of(CreditConfig(recipe="noisy_backward", options=rates))
    np.testing.assert_allclose(recipe.prepared(got.arrays, Scales()).outcome, g["backward"], **CLOSE)
    close(credit("noisy_backward", one_turn(r), r, std=True, **rates), [[x] for x in g["z"]])
    close(credit("noisy_forward", one_turn(r), r, **rates), [[x] for x in g["forward"]])


@pytest.mark.parametrize("keep", [4, 6])
def test_process_consistency_filter(keep: int) -> None:
    g = GOLDEN["prof"]
    got = credit("prof", [[x] for x in g["process"]], g["correct"], keep=keep)
    assert np.flatnonzero(got.values[:, 0]).tolist() == g[f"keep_{keep}"]
    assert got.metrics["left_out"] == 8 - keep


def test_reference_probabilities_and_the_running_spread() -> None:
    g = GOLDEN["rlpr"]
    gain = max(0.0, g["probability"] - g["base"])
    arrays = arrays_of([[0.0]], [[True]], [g["format"]], [0], extras={"score:reference_probability": [gain]})
    shaped = Mix("reference_probability", 0.9).apply(arrays, Scales()).outcome
    np.testing.assert_allclose(shaped, g["outcome"], **CLOSE)
    wide, narrow = [1, 0, 1, 0], [1, 0.9, 1, 0.9]
    config = CreditConfig(recipe="rlpr", options={"first_step": 1})
    args = (np.zeros((8, 1)), np.ones((8, 1)), [*wide, *narrow], [0] * 4 + [1] * 4)
    first = advantages_from_arrays(*args, config=config)
    assert np.abs(first.values[4:]).max() > 0  # not yet: nothing was measured
    mean_std = (np.std(wide, ddof=1) + np.std(narrow, ddof=1)) / 2
    assert first.next_scales.spread == pytest.approx(mean_std)
    second = advantages_from_arrays(*args, config=config, scales=first.next_scales)
    assert np.abs(second.values[:4]).max() > 0
    assert not second.values[4:].any()
    assert second.next_scales.spread == pytest.approx(mean_std)


def test_step_potentials() -> None:
    g = GOLDEN["spae"]
    (accuracy, mask), (confidence, _) = ragged(g["accuracy"]), ragged(g["confidence"])
    extras = {"accuracy": accuracy, "confidence": confidence}
    close(credit("spae", [[0.0] * 3, [0.0] * 2], g["outcome"], extras=extras), g["whitened"])
    arrays = arrays_of(np.zeros(mask.shape), mask, g["outcome"], [0, 0], extras=extras)
    centred = np.where(mask, column(g["outcome"]) - 0.5, 0.0)
    np.testing.assert_allclose(ByStepPotential(0.5, 0.5, 0.9).apply(centred, arrays, Scales()), ragged(g["modulated"])[0], **CLOSE)


def test_list_positions() -> None:
    g = GOLDEN["rank_grpo"]
    gains = [[h / np.log2(k + 2) for k, h in enumerate(row)] for row in g["hits"]]
    to_go = accumulate(*ragged(gains), 1.0)
    np.testing.assert_allclose(to_go, g["returns"], **CLOSE)
    close(credit("rank_grpo", gains, [0, 0]), g["to_go"])
    close(credit("rank_grpo", g["hits"], [0, 0], form="own"), g["own"])


def test_implicit_process_rewards() -> None:
    g = GOLDEN["prime"]
    coefs = {"turn_coef": 1.0, "outcome_coef": 1.0}
    close(credit("prime", g["implicit"], [0, 0], whiten=False, **coefs), accumulate(*ragged(g["loo"]), 1.0).tolist())
    close(credit("prime", g["implicit"], g["outcome"], whiten=False, **coefs), g["sums"])
    close(credit("prime", g["implicit"], g["outcome"], **coefs), g["whitened"])


def test_pay_per_turn() -> None:
    g = GOLDEN["prl"]
    ratio, mask = ragged(g["log_ratio"])
    arrays = arrays_of(np.zeros(mask.shape), mask, g["outcome"], [0, 0], extras={"log_ratio": ratio})
    charged = PayPerTurn(eta=g["eta"]).apply(arrays, Scales())
    got = column(g["outcome"]) + accumulate(charged.turn_scores, mask, 1.0)
    np.testing.assert_allclose(got, g["before_baseline"], **CLOSE)
    g = GOLDEN["ppr"]
    arrays = arrays_of([g["process"]] * 2, np.ones((2, 2)), [1, 0], [0, 0])
    np.testing.assert_allclose(PayPerTurn(mu=g["mu"]).apply(arrays, Scales()).turn_scores, [g["right"], g["wrong"]], **CLOSE)


def test_masked_segments_count_in_the_divisor() -> None:
    g = GOLDEN["ggpo"]
    masked, mask = ragged(g["masked"])
    arrays = arrays_of(np.zeros(mask.shape), mask, [1, 0], [0, 0], extras={"masked": masked})
    left = Masked().apply(np.where(mask, column(g["advantages"]), 0.0), arrays, Scales())
    assert left.sum() / mask.sum() == pytest.approx(g["mean_over_all_segments"])


def test_blocks_take_a_channel_axis() -> None:
    rng = np.random.Generator(np.random.PCG64(5))
    values, mask = rng.normal(size=(6, 3, 2)), np.arange(3) < rng.integers(1, 4, 6)[:, None]
    arrays = arrays_of(np.zeros((6, 3)), mask, np.zeros(6), [0, 0, 0, 1, 1, 1])
    parts, n = per_channel(*partition("turn", arrays, 3), 2)
    live = np.repeat(mask[:, :, None], 2, axis=2)
    got = accumulate(normalise(values, live, parts, n, spread="std").values, mask, 0.5)
    for c in range(2):
        one, n_one = partition("turn", arrays, 3)
        want = accumulate(normalise(values[:, :, c], mask, one, n_one, spread="std").values, mask, 0.5)
        np.testing.assert_allclose(got[:, :, c], want, **CLOSE)
    np.testing.assert_allclose(combine(got, np.array([2.0, -1.0]))[:, :, 0], 2 * got[:, :, 0] - got[:, :, 1], **CLOSE)
    with pytest.raises(DataError, match="3 weights for 2 channels"):
        combine(got, np.ones(3))
