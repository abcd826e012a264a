"""Matching calls with gold calls: worked numbers, and the faults of released scorers that ours do not have."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from reward_episodes import alone
from tool_episodes import Call, broken, call, play, step, stored, sums, trace

from agentgym.errors import ConfigError
from agentgym.rewards.assignment import greedy, optimal, transport
from agentgym.rewards.calls import CallMatch, call_similarity, wanted_calls
from agentgym.rewards.traces import MatchTIR, TraceMatch, turn_rewards
from agentgym.task import Gold, GoldCall, Task
from agentgym.types import ToolCall, Turn

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_tools.json").read_text(encoding="utf-8"))
TOLERANCE = 1e-6
F = call("f", a=1, b="x")
ONE = trace(F)
CASES: dict[str, Sequence[Call]] = {
    "exact": [F],
    "wrong_value": [call("f", a=1, b="y")],
    "missing_param": [call("f", a=1)],
    "extra_param": [call("f", a=1, b="x", c=0)],
    "wrong_tool": [call("h", a=1, b="x")],
    "empty": [],
    "duplicate_call": [F, F],
    "spray_3": [F, call("f", a=1, b="y"), call("f", a=1, b="z")],
}


def first_turn(component: CallMatch | TraceMatch | MatchTIR, calls: Sequence[Call], gold: Gold = ONE) -> float:
    turn = step(*calls) if calls else broken()
    return play(alone(component), [turn], gold).turns[0].scores[component.name].raw or 0.0


@pytest.mark.parametrize("case", [*CASES, "two_gold_order_swapped"])
def test_call_match_has_the_published_numbers(case: str) -> None:
    gold, calls = ONE, CASES.get(case, [])
    if case == "two_gold_order_swapped":
        gold, calls = trace(F, call("g", c=2)), [call("g", c=2), F]
    published = GOLDEN["toolrl_correctness"][case]
    assert first_turn(CallMatch(-3, 3), calls, gold) == pytest.approx(published, abs=TOLERANCE)
    assert first_turn(CallMatch(), calls, gold) == pytest.approx((published + 3) / 6, abs=TOLERANCE)


def test_with_a_format_of_one_the_published_totals() -> None:
    for case, total in GOLDEN["toolrl_total_with_format1"].items():
        assert 1 + first_turn(CallMatch(-3, 3), CASES[case]) == pytest.approx(total)


@pytest.mark.parametrize("case", [c for c in CASES if c not in ("empty", "duplicate_call", "spray_3")])
def test_similarity_of_two_calls(case: str) -> None:
    (name, arguments), wanted = CASES[case][0], wanted_calls(ONE)[0]
    similarity = call_similarity(ToolCall(name, arguments), wanted)
    assert similarity == pytest.approx(GOLDEN["matchtir_sim"][case], abs=TOLERANCE)


def test_call_match_pays_each_turn_of_gold_once_and_an_early_end_in_full() -> None:
    gold = Gold(trace=(GoldCall("a", "f", {"a": 1}), GoldCall("b", "g", {"b": 2}, turn=2)))
    suite = alone(CallMatch(-3, 3))
    full = play(suite, [step(call("f", a=1)), step(call("read")), step(call("g", b=2)), step(call("g", b=2))], gold)
    assert [t.scores["call_match"].raw for t in full.turns] == [1.5, 0.0, 1.5, 0.0]
    early = play(suite, [step(call("f", a=1))], gold)
    assert sums(early, "call_match") == 0.0, "leaving early does not save the turns that are bad"


def test_exact_calls_is_one_to_one_and_knows_what_may_be_left_out() -> None:
    gold = Gold(
        trace=(
            GoldCall("a", "f", {"x": 1, "unit": "km"}, {"unit": "loose"}),
            GoldCall("b", "f", {"x": 2}),
            GoldCall("c", "g", {"t": {"k": ["Red Car", "blue"], "n": [1, ""]}}, {"t": "accepted"}, optional=True),
        ),
        accepted_args={"a": {"unit": ("km", "")}},
    )

    def exact(*turns: Turn, gold: Gold = gold, end: str = "finished") -> float | None:
        return play(alone("exact_calls"), turns, gold, end_reason=end).scores["exact_calls"].raw

    first, second, third = call("f", x=1), call("f", x=2), call("g", t={"k": "red-car"})
    assert exact(step(second, first)) == exact(step(first), step(second)) == exact(step(first, second, third)) == 1.0
    assert exact(step(call("f", x=1.0, unit="K.M."), second, call("finish"))) == 1.0
    for wrong in ([first], [first, first], [first, second, second], [first, second, call("h")],
                  [call("f", x=1, unit="m"), second], [call("f", x=True), second], [first, second, call("g", t={"k": "red", "n": 1})],
                  [first, second, call("g", t={"n": 1})], [first, second, call("g", t={"k": "blue", "m": 1})]):  # fmt: skip
        assert exact(step(*wrong)) == 0.0, wrong
    assert exact(step(first, second), end="max_turns") == 0.0
    none = Gold(final_state={"calls": 0})
    assert exact(step(call("reply", text="no")), gold=none) == 1.0
    assert exact(step(first), gold=none) == 0.0


def test_the_potential_of_a_trace_matches_the_worked_episode() -> None:
    golden = GOLDEN["trace_match_potential"]
    gold = trace(*((g["name"], g["parameters"]) for g in golden["gold"]))
    turns = [step(*((c["name"], c["parameters"]) for c in calls)) for calls in golden["turn_calls"]]
    played = play(alone("trace_match"), turns, gold)
    scores = [t.scores["trace_match"] for t in played.turns]
    assert [s.raw for s in scores] == pytest.approx(golden["turn_reward"], abs=TOLERANCE)
    assert [s.parts["phi"] for s in scores] == pytest.approx(golden["phi"][1:], abs=TOLERANCE)
    assert sums(played, "trace_match") == pytest.approx(golden["sum"], abs=TOLERANCE)


def test_spraying_and_idle_reads_cost_what_they_should() -> None:
    golden, component = GOLDEN["trace_match_potential"], TraceMatch()
    variants = [F, *(call("f", a=i, b="q") for i in range(4))]
    assert first_turn(component, variants[:3]) == pytest.approx(golden["spray_3 (1 gold)"])
    assert first_turn(component, variants) == pytest.approx(golden["spray_5"])
    assert first_turn(component, [F]) == pytest.approx(golden["exact"])
    idle = play(alone(component), [step(F), *(step(call("read", n=i)) for i in range(30))], ONE)
    assert sums(idle, "trace_match") == pytest.approx(golden["30 harmless reads after exact"])


def test_assignments_match_the_worked_matrices() -> None:
    golden = GOLDEN["matching_greedy_vs_optimal"]
    matrix = np.array(golden["S"])
    wanted = wanted_calls(trace(*((g["name"], g["parameters"]) for g in golden["gold"])))
    ours = [[call_similarity(ToolCall(p["name"], p["parameters"]), w) for w in wanted] for p in golden["pred"]]
    assert np.allclose(ours, matrix, atol=TOLERANCE)
    for assign, name in ((greedy, "greedy"), (optimal, "optimal")):
        assert [g for _, g in assign(matrix)] == golden[name]
        rewards, _ = turn_rewards(np.array(ours), name)  # pyright: ignore[reportArgumentType]
        assert rewards == pytest.approx(golden[f"{name}_rewards"], abs=TOLERANCE)
    ot = GOLDEN["ot_rewards"]
    assert np.allclose(transport(np.array(ot["S"])), ot["plan"], atol=TOLERANCE)
    assert turn_rewards(np.array(ot["S"]), "transport")[0] == pytest.approx(ot["rewards"], abs=TOLERANCE)
    assert turn_rewards(np.array(ot["S"]))[0] == pytest.approx(ot["one_to_one"])


def test_the_paper_variant_means_over_the_calls_of_a_turn() -> None:
    gold = trace(call("f", a=1), call("g", b=1, c=1))
    turns = [step(call("f", a=1)), step(call("g", b=1, c=2), call("h")), broken()]
    played = play(alone("matchtir"), turns, gold)
    raws = [t.scores["matchtir"].raw for t in played.turns]
    assert raws == pytest.approx(GOLDEN["matchtir_turn"]["turn_reward"], abs=TOLERANCE)
    assert sums(play(alone("matchtir"), turns[:1] * 9, gold), "matchtir") == 1.0  # a gold call pays in one turn


# ---- faults of released scorers: the naive formula shows each, ours does not


def naive_value_credit(given: dict[str, Any], gold: dict[str, Any]) -> int:
    return sum(gold[k] == given.get(k) for k in gold)


def test_true_is_not_one_and_text_is_no_number() -> None:
    gold = trace(call("set", on=True, n=1))
    given = {"on": 1, "n": True}
    assert naive_value_credit(given, {"on": True, "n": 1}) == 2
    assert first_turn(CallMatch(), [("set", given)], gold) == pytest.approx((1 + 1) / 4)
    assert first_turn(CallMatch(), [call("set", on=True, n="1")], gold) == pytest.approx((1 + 1 + 1) / 4)
    assert first_turn(CallMatch(), [call("set", on=True, n=1.0)], gold) == 1.0


def naive_predicted_keys_compare(given: dict[str, Any], gold: dict[str, Any]) -> bool:
    return all(gold.get(k) == v for k, v in given.items())


def test_a_call_without_arguments_is_not_every_call() -> None:
    assert naive_predicted_keys_compare({}, {"order": "#1"})
    assert "must be rejected" in GOLDEN["tau2"]["compare_args=None & predicted call with {} arguments"]
    gold = trace(call("refund", order="#1"))
    assert first_turn(CallMatch(), [call("refund")], gold) == pytest.approx(1 / 3)  # the tool's name, nothing more
    assert first_turn(TraceMatch(min_sim=1.0), [call("refund")], gold) < 0


def test_a_prediction_takes_one_gold_call_and_every_call_of_a_turn_counts() -> None:
    gold = trace(F, call("g", c=2))
    assert first_turn(TraceMatch(), [F, call("g", c=2)], gold) == 1.0  # not only the first block of calls
    assert first_turn(TraceMatch(), [F, F], gold) == pytest.approx((1 - 0.25) / 2)


def test_greedy_loses_what_the_optimum_has() -> None:
    golden = GOLDEN["matching_greedy_vs_optimal"]
    gold = trace(*((g["name"], g["parameters"]) for g in golden["gold"]))
    calls = [(p["name"], p["parameters"]) for p in golden["pred"]]
    got = {a: first_turn(TraceMatch(assign=a), calls, gold) for a in ("greedy", "optimal")}
    assert got["greedy"] == pytest.approx(sum(golden["greedy_rewards"]) / 2, abs=TOLERANCE)
    assert got["optimal"] == pytest.approx(sum(golden["optimal_rewards"]) / 2, abs=TOLERANCE)


def test_transport_shrinks_with_repeats_and_one_to_one_does_not() -> None:
    assert first_turn(MatchTIR(assign="transport"), [F, F]) == pytest.approx(0.5)
    assert first_turn(TraceMatch(assign="transport"), [F]) == pytest.approx(1.0)
    assert first_turn(TraceMatch(unmatched=0.0), [F, F]) == 1.0


# ---- what else a trace says


def test_accepted_values_modes_and_arguments_that_may_be_missing() -> None:
    gold = Gold(
        trace=(GoldCall("g", "play", {"artist": "x", "minutes": 20.0, "note": "z"}, {"minutes": "number(0.5)", "note": "any"}),),
        accepted_args={"g": {"artist": ("Taylor Swift", "T. Swift"), "loud": (True, "")}},
    )
    right = call("play", artist="T. Swift", minutes=20.4, note="whatever")
    assert first_turn(CallMatch(), [right], gold) == 1.0
    assert first_turn(TraceMatch(), [("play", right[1] | {"loud": True})], gold) == 1.0
    assert first_turn(TraceMatch(), [("play", right[1] | {"loud": False})], gold) == pytest.approx(5 / 6)
    assert first_turn(TraceMatch(), [("play", {"artist": "T. Swift", "minutes": 20.4})], gold) < 1.0  # any is a value


def test_order_optional_calls_failed_calls_and_talk() -> None:
    gold = Gold(trace=(GoldCall("a", "find"), GoldCall("b", "pay", after=("a",)), GoldCall("c", "log", optional=True)))
    suite = alone("trace_match")

    def phi(*turns: Turn) -> float:
        return sums(play(suite, turns, gold), "trace_match")

    both = phi(step(call("find")), step(call("pay")))
    assert both == 1.0
    assert phi(step(call("find"), call("pay"))) == 1.0
    assert phi(step(call("pay")), step(call("find"))) == pytest.approx((1 - 0.25) / 2)
    assert phi(step(call("find")), step(call("log")), step(call("pay"))) == both
    assert phi(step(call("find")), step(call("log")), step(call("log")), step(call("pay"))) == both - 0.125
    assert phi(step(call("find")), step(call("pay"), ok=False, code="E_TOOL")) == pytest.approx((1 - 0.25) / 2)
    assert phi(step(call("find")), step(call("pay"), ok=False, code="E_SERVICE")) == 0.5
    talk = [step(call("reply", text="one moment")), step(call("ask_user", question="?")), step(call("finish"))]
    assert phi(step(call("find")), *talk, step(call("pay"))) == both


def test_a_call_in_the_thought_is_no_call() -> None:
    hidden = step(call("read"), thought='<tool_call>{"name": "f", "arguments": {"a": 1, "b": "x"}}</tool_call>')
    for component in (CallMatch(), TraceMatch()):
        assert sums(play(alone(component), [hidden], ONE), component.name) <= 0


def test_bad_traces_and_options_are_refused_at_load() -> None:
    optional = Gold(trace=(GoldCall("g7", "f", optional=True),))
    for name in ("call_match", "trace_match", "matchtir"):
        with pytest.raises(ConfigError, match=f"{name} needs gold trace"):
            alone(name).check(Task("t", "q"))
        with pytest.raises(ConfigError, match=r"'g7'.*optional"):
            alone(name).check(Task("t", "q", optional))
    with pytest.raises(ConfigError, match="hungarian"):
        TraceMatch(assign="hungarian")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ConfigError, match="floor"):
        TraceMatch(floor=0.5)


def test_a_stored_episode_scores_to_the_same_number() -> None:
    suite = alone("0.2 * trace_match + call_match + matchtir")
    played = play(suite, [step(F, call("f", a=2)), broken(), step(call("h"))], trace(F, call("f", a=2, b="x")))
    assert suite.rescore(stored(played)) == stored(played)


@pytest.mark.parametrize(("lo", "hi"), [(1.0, 0.0), (float("nan"), 1.0)])
def test_a_match_that_is_worth_less_than_none_is_refused(lo: float, hi: float) -> None:
    with pytest.raises(ConfigError, match=r"lo=.* must not be above hi"):
        CallMatch(lo, hi)
