"""Worked numbers inside published recipes that the other files do not reach: parts of sums, and where scores come from."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checklist_episodes import call, record, scored, several
from reward_episodes import TableScorer, alone, play, raw, search
from tool_episodes import trace

import agentgym
from agentgym.credit import CreditConfig, Scales, recipe_of
from agentgym.credit.blocks import accumulate
from agentgym.credit.plain import arrays_of
from agentgym.credit.probes import rising_weights, step_potential, suffix_gain
from agentgym.credit.rubrics import Anneal
from agentgym.credit.shape import trust
from agentgym.criterion import Criterion
from agentgym.rewards import InformationGain
from agentgym.rewards.assignment import greedy, optimal, transport
from agentgym.rewards.calls import call_similarity, wanted_calls
from agentgym.rewards.checklist_reward import ChecklistReward
from agentgym.rewards.traces import turn_rewards
from agentgym.task import Answer, Gold
from agentgym.types import ToolCall

FOLDER = Path(__file__).parents[2] / "golden"
GOLDEN = json.loads((FOLDER / "credit_further.json").read_text(encoding="utf-8"))
PUBLISHED = json.loads((FOLDER / "credit.json").read_text(encoding="utf-8"))["published"]
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-6}


def ragged(rows: Any) -> tuple[np.ndarray, np.ndarray]:
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    values = np.zeros(mask.shape)
    values[mask] = [x for row in rows for x in row]
    return values, mask


@pytest.mark.parametrize("form", ["prob", "log"])
def test_information_gain_is_of_the_geometric_mean(form: Any) -> None:
    g = GOLDEN["information_gain"]
    rows = [[math.log(p) for p in row] for row in g["probabilities"]]
    for row, want in zip(rows, g["potential"], strict=True):
        assert math.exp(sum(row) / 2) == pytest.approx(want, abs=1e-6)
    component = InformationGain(form=form)
    played = play(alone(component), [search(str(i), shown="shown") for i in range(2)], "Mira", gold=Gold(answers=(Answer("Mira"),)))  # fmt: skip
    (done,) = alone(component).complete([played], TableScorer(lambda text, target: rows[text.count("shown")]))
    assert raw(done, component.name) == pytest.approx([*g[form], 0.0], abs=1e-6)


def test_matched_calls_and_their_transport() -> None:
    g = GOLDEN["matching"]
    wanted = wanted_calls(trace(*(("search", arguments) for arguments in g["gold"])))
    found = np.array([[call_similarity(ToolCall(name, arguments), w) for w in wanted] for name, arguments in g["calls"]])
    np.testing.assert_allclose(found, g["similarity"], **CLOSE)
    for assign in ("optimal", "greedy"):
        np.testing.assert_allclose(turn_rewards(found, assign)[0], g["one_to_one"], **CLOSE)
    np.testing.assert_allclose(transport(found), g["plan"], **CLOSE)
    by_transport = np.array(turn_rewards(found, "transport")[0])
    np.testing.assert_allclose(by_transport, g["transport"], **CLOSE)
    np.testing.assert_allclose(len(found) * by_transport, g["transport_times_calls"], rtol=0, atol=2e-6)


def test_greedy_matching_is_not_optimal() -> None:
    g = GOLDEN["assignment"]
    matrix = np.array(g["similarity"])
    for assign in ("optimal", "greedy"):
        assert turn_rewards(matrix, assign)[0] == pytest.approx(g[assign])
        assert sum(turn_rewards(matrix, assign)[0]) == pytest.approx(1.65 if assign == "optimal" else 1.0)
    assert optimal(matrix) != greedy(matrix)


def test_identical_traces_match_in_full_whatever_their_order() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    for n in range(1, 6):
        matrix = 0.5 * rng.random((n, n))
        np.fill_diagonal(matrix, 1.0)
        order = rng.permutation(n)
        for assign in ("optimal", "greedy"):
            assert turn_rewards(matrix[:, order], assign)[0] == pytest.approx([1.0] * n)
        wild = rng.random((n, n))
        assert sum(turn_rewards(wild, "greedy")[0]) <= sum(turn_rewards(wild, "optimal")[0]) + 1e-12


def test_the_two_levels_of_states_met_twice() -> None:
    g, published = GOLDEN["gigpo_parts"], PUBLISHED["gigpo"]
    state, mask = ragged(published["observations"])
    arrays = arrays_of(np.zeros(mask.shape), mask, published["outcome"], [0] * 3, extras={"state": state.astype(int)})
    for over, key in (("trajectories", "episode"), ("rows", "episode_rows")):
        recipe = recipe_of(CreditConfig(recipe="gigpo", options={"over": over}))
        levels = recipe.contributions(arrays, Scales())
        np.testing.assert_allclose(levels["trajectory"], np.where(mask, np.array(g[key])[:, None], 0.0), **CLOSE)
        np.testing.assert_allclose(levels["turn"], ragged(g["state"])[0], **CLOSE)
        placed = recipe.prepared(arrays, Scales()).turn_scores
        np.testing.assert_allclose(accumulate(placed, mask, 0.95), ragged(g["to_go"])[0], **CLOSE)


def test_step_potentials_and_their_rises() -> None:
    g = GOLDEN["spae"]
    for accuracy, confidence, phi in g["corners"]:
        assert step_potential(np.array(accuracy), np.array(confidence)) == phi
    accuracy, confidence = (ragged(PUBLISHED["spae"][name])[0] for name in ("accuracy", "confidence"))
    phi = step_potential(accuracy, confidence)
    for row, want, rise in zip(phi, g["phi"], GOLDEN["spae_rise"], strict=True):
        np.testing.assert_allclose(row[: len(want)], want, **CLOSE)
        np.testing.assert_allclose(np.diff(row[: len(want)], prepend=row[0]), rise, **CLOSE)


def test_how_far_a_group_trusts_its_thinking_scores() -> None:
    g = PUBLISHED["trust"]
    arrays = arrays_of(np.zeros((4, 1)), np.ones((4, 1)), g["outcome"], [0] * 4)
    np.testing.assert_allclose(trust(arrays.outcome, np.array(g["thinking"]), arrays), g["gamma"], **CLOSE)


@pytest.mark.parametrize("step", ["0", "50", "100"])
def test_the_weight_of_a_process_score_falls_to_zero(step: str) -> None:
    arrays = arrays_of([[0.0]], [[True]], [0.0], [0], extras={"score:atoms": [1.0]})
    got = Anneal("atoms", 0.5, 100).apply(arrays, Scales(n_steps=int(step))).outcome[0]
    assert got == pytest.approx(GOLDEN["atom_weight"][step], abs=1e-6)


def test_a_rubric_never_pays_a_wrong_answer() -> None:
    extras = {"score:citation_rubric": [0.8, 0.4, 0.6, 1.0]}
    arrays = arrays_of(np.zeros((4, 1)), np.ones((4, 1)), [1, 1, 0, 0], [0] * 4, extras=extras)
    for alpha in (0.0, 0.3, 1.0):
        for form in ("paper", "released"):
            recipe = recipe_of(CreditConfig(recipe="c_grpo", options={"alpha": alpha, "form": form}))
            shaped = recipe.prepared(arrays, Scales()).outcome
            assert shaped[2:].tolist() == [0.0, 0.0]
            assert (shaped[:2] == 1.0).all() == (alpha == 0.0)


def test_gains_of_suffixes_of_a_good_chain() -> None:
    g = GOLDEN["suffixes"]
    assert suffix_gain(np.array(g["logprobs"]), np.array(g["masked"])) == pytest.approx(g["gain"], abs=1e-6)
    weights = rising_weights(np.array([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]], bool))
    np.testing.assert_allclose(weights.sum(1), [1, 1, 1, 0], **CLOSE)
    assert (np.diff(weights[0]) > 0).all()
    assert weights[0, 0] + weights[0, 3] == pytest.approx(weights[0, 1] + weights[0, 2], abs=1e-12)  # a sigmoid


def test_a_rubric_is_the_weighted_share_of_its_statements() -> None:
    g = GOLDEN["weighted_rubric"]
    items = [Criterion(f"C{i}", call=f"do_C{i}", weight=w) for i, w in enumerate(g["weights"])]
    suite = alone(ChecklistReward(agentgym.Checklist("rubric", items)))
    met = [call(f"do_C{i}") for i, verdict in enumerate(g["verdicts"]) if verdict]
    done = scored(suite, record([several(*met)]))
    total = sum(score.raw or 0.0 for scores in (done.scores, *(t.scores for t in done.turns)) for score in scores.values())
    assert total == pytest.approx(g["mean"], abs=1e-6)
