"""Worked numbers between rewards and credit: returns, norms per turn, shifts, corrections of a noisy verifier."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checklist_episodes import call, record, scored, several
from reward_episodes import Fixed, alone, invalid, outcome, play, search

import agentgym
from agentgym.credit import CreditConfig, Scales, advantages_from_arrays
from agentgym.credit.blocks import accumulate
from agentgym.credit.later import PayPerTurn
from agentgym.credit.normalise import normalise
from agentgym.credit.plain import arrays_of
from agentgym.criterion import Criterion
from agentgym.judges.canary import corrected
from agentgym.rewards import Mean, Suite, build_suite
from agentgym.rewards.checklist_reward import ChecklistReward

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_later.json").read_text(encoding="utf-8"))
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-6}


def ragged(rows: list[list[float]]) -> tuple[np.ndarray, np.ndarray]:
    mask = np.arange(max(map(len, rows))) < np.array([len(row) for row in rows])[:, None]
    values = np.zeros(mask.shape)
    values[mask] = [x for row in rows for x in row]
    return values, mask


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_returns(gamma: float) -> None:
    rewards, live = ragged([GOLDEN["returns"]["r"]])
    np.testing.assert_allclose(accumulate(rewards, live, gamma)[0], GOLDEN["returns"][f"gamma{gamma}"], **CLOSE)


def test_the_shift_of_a_process_score_by_the_outcome() -> None:
    """PPR's released form shifts by r_o − 1 and pays the outcome on the answer itself, here the last turn."""
    for key, paid in GOLDEN["ppr_renorm"].items():
        won = float(key.partition("=")[2][0])
        arrays = arrays_of([[0.8, 0.4]], np.ones((1, 2)), [won], [0])
        shifted = PayPerTurn(mu=1.0).apply(arrays, Scales()).turn_scores[0]
        np.testing.assert_allclose([*shifted, won], paid, **CLOSE)


def test_two_levels_of_matched_calls() -> None:
    golden = GOLDEN["matchtir_dual_adv"]
    rewards, live = ragged(golden["rewards"])
    returns, _ = ragged(golden["returns"])
    np.testing.assert_allclose(accumulate(rewards, live, 0.9), returns, **CLOSE)
    totals = rewards.sum(axis=1)
    centred = (totals - totals.mean()) / (totals.std(ddof=1) + 1e-6)
    np.testing.assert_allclose(centred, golden["traj_adv"], **CLOSE)
    config = CreditConfig(recipe="matchtir", options={"outcome": "none", "lone": "raw"})
    got = advantages_from_arrays(rewards, live, [0, 0, 0], [0, 0, 0], config=config)
    np.testing.assert_allclose(got.values, ragged(golden["fused"])[0], **CLOSE)


def test_checklist_scores_per_turn_without_small_groups() -> None:
    golden = GOLDEN["cm2_turn_adv"]
    rewards, live = ragged(golden["turn_scores"])
    parts = np.broadcast_to(np.arange(rewards.shape[1]), rewards.shape)  # one group: a part is a turn index
    got = normalise(rewards, live, parts, rewards.shape[1], spread="std", min_count=5).values
    wanted = golden["adv (groups of <=4 dropped)"]
    for row, (values, known) in enumerate(zip(got, wanted, strict=True)):
        for turn, value in enumerate(known):
            assert values[turn] == pytest.approx(value or 0.0, abs=1e-6), (row, turn)


def test_a_noisy_verifier_is_corrected_backward_and_forward() -> None:
    golden, fp, fn = GOLDEN["noisy_verifier"], 0.1, 0.2
    one, zero = corrected(1.0, fp, fn), corrected(0.0, fp, fn)
    assert one == pytest.approx(golden["fp .1 fn .2: observed 1 ->"], abs=1e-6)
    assert zero == pytest.approx(golden["observed 0 ->"], abs=1e-6)
    assert (1 - fn) * one + fn * zero == pytest.approx(golden["E[corrected|true=1]"], abs=1e-6)
    assert fp * one + (1 - fp) * zero == pytest.approx(golden["E[corrected|true=0]"], abs=1e-6)
    config = CreditConfig(recipe="noisy_forward", options={"rho1": fn})
    observed = [1.0, 0.0]
    got = advantages_from_arrays(np.zeros((2, 1)), np.ones((2, 1)), observed, [0, 0], config=config)
    w1, w0 = golden["forward weights fn=.2 (w1,w0)"]
    assert np.sign(got.values[:, 0]).tolist() == [np.sign(w1), np.sign(w0)]
    assert (1 - fn) * w1 + fn * w0 == pytest.approx(golden["E[w|1]"], abs=1e-6)
    assert fp * w1 + (1 - fp) * w0 == pytest.approx(golden["E[w|0]"], abs=1e-6)


@pytest.mark.filterwarnings("ignore:suite .*margin:UserWarning")
def test_a_verifier_of_nuggets() -> None:
    """Search-Gen-V pays its verifier .35 macro F1 + .35 all labels equal + .2 thoughts + .1 form."""
    golden = GOLDEN["search_gen_v_verifier"]

    def macro_f1(given: list[str], gold: list[str]) -> float:
        def f1(label: str) -> float:
            hits = sum(a == b == label for a, b in zip(given, gold, strict=True))
            return 2 * hits / (given.count(label) + gold.count(label)) if label in given + gold else 1.0

        return sum(map(f1, ("support", "partial", "not"))) / 3

    def paid(given: list[str], gold: list[str]) -> float:
        macro, equal = Fixed("macro", [macro_f1(given, gold)]), Fixed("equal", [float(given == gold)])
        thought, form = Fixed("thought", [1.0]), Fixed("form", [1.0])
        suite = Suite(0.35 * macro + 0.35 * equal + 0.2 * thought + 0.1 * form, macro, allow_unbounded=True)
        return play(suite, [search("a")]).total

    gold = ["support", "partial", "not", "support"]
    missed = ["support", "not", "not", "support"]
    assert macro_f1(missed, gold) == pytest.approx(golden["macro_f1"], abs=1e-6)
    assert paid(missed, gold) == pytest.approx(golden["reward(reasoning=1,format=1)"], abs=1e-6)
    assert paid(gold, gold) == pytest.approx(golden["perfect"], abs=1e-6)


@pytest.mark.filterwarnings("ignore:suite .*margin:UserWarning")
def test_a_mean_over_turns_is_raised_by_padding_and_all_valid_is_not() -> None:
    golden = GOLDEN["mean_over_turns_violates_P2"]
    won = outcome("won")
    for key, n_idle in (("format flags [0,1]", 0), ("[0,1]+one valid no-op", 1), ("[0,1]+8 valid no-ops", 8)):
        flag = Fixed("flag", [0.0, 1.0, *[1.0] * n_idle], scope="turn", supply="unbounded")
        turns = [invalid(), search("a"), *(search(f"idle {n}") for n in range(n_idle))]
        assert play(Suite(Mean(flag), won, allow_unbounded=True), turns).total == pytest.approx(golden[key], abs=1e-6)
        assert play(alone("all_valid"), turns).total == golden["all_valid"]


@pytest.mark.parametrize("case", ["good", "reply_before_tool", "repeat_no_double", "same_step_dep_not_credited"])
def test_checklists(case: str) -> None:
    golden = GOLDEN["checklist"]
    steps = {
        "good": [["C0"], ["C1"], ["C2", "C3", "C4"]],
        "reply_before_tool": [["C2", "C3", "C4"], ["C0", "C1"]],
        "repeat_no_double": [["C0"], ["C0"], ["C0"]],
        "same_step_dep_not_credited": [["C1", "C2"]],
    }[case]
    items = [
        Criterion(id_, call=f"do_{id_}", weight=item["weight"], after=tuple(item["deps"]), critical=item["critical"])
        for id_, item in golden["items"].items()
    ]
    suite = build_suite(ChecklistReward(agentgym.Checklist("golden", items, assignment="step")))
    done = scored(suite, record([several(*(call(f"do_{id_}") for id_ in step)) for step in steps]))
    wanted = golden[case]
    assert [t.scores["checklist:golden"].raw for t in done.turns] == pytest.approx(wanted["per_step"], abs=1e-6)
    assert sum(t.scores["checklist:golden"].raw or 0.0 for t in done.turns) == pytest.approx(wanted["total"], abs=1e-6)
    assert done.success is (wanted["total"] > 0.999)
    critical = {i for i, item in golden["items"].items() if item["critical"]}
    assert (critical <= set(wanted["done"])) is wanted["critical_ok"]
