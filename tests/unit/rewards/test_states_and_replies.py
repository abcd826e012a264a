"""Outcomes over states and replies, and questions to the user: worked numbers and attacks."""

import json
from pathlib import Path
from typing import Any

import checklist_episodes as dialogue
import pytest
from checklist_episodes import reaching, record, scored
from reward_episodes import alone
from tool_episodes import call, play, score, step, stored, sums, trace

from agentgym import typed
from agentgym.errors import ConfigError, DataError
from agentgym.gold import Assertion, Constraint, HiddenFact, Milestone
from agentgym.rewards.changes import applied, diff, final_state, leaves
from agentgym.rewards.replies import numbers_in
from agentgym.rewards.states import already_hold
from agentgym.task import Answer, Gold, Task
from agentgym.types import JSON, Change, Trajectory

GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "rewards_tools.json").read_text(encoding="utf-8"))
START = {"orders": {"#1": {"status": "open", "paid": True}}, "log": []}
DONE = {"orders": {"#1": {"status": "refunded", "paid": True}}, "log": ["refund"]}
GOLD = Gold(final_state=DONE)
END = step(call("finish"))


def refunded(**fields: Any) -> Trajectory:
    return play(alone(fields.pop("reward", "state_match")), [step(call("refund")), END], states=[START, DONE, DONE], **fields)


def test_state_match_is_typed_and_whole() -> None:
    assert score(refunded(gold=GOLD), "state_match").raw == 1.0
    assert score(refunded(gold=Gold(final_state=typed.digest(DONE))), "state_match").raw == 1.0
    near = {"orders": {"#1": {"status": "refunded", "paid": 1}}, "log": ["refund"]}
    assert near == DONE  # what Python thinks
    assert score(refunded(gold=Gold(final_state=near)), "state_match").raw == 0.0
    elsewhere = {**DONE, "log": ["refund", "mail"]}
    spread = play(alone("state_match"), [step(call("refund")), END], GOLD, states=[START, elsewhere, elsewhere])
    assert score(spread, "state_match").raw == 0.0, "rows elsewhere count: the whole state is compared"


@pytest.mark.parametrize("end_reason", ["max_turns", "loop", "too_many_invalid", "max_tokens"])
def test_doing_nothing_is_right_only_where_the_policy_says_so(end_reason: str) -> None:
    noop = Gold(final_state=START, finish="infeasible")
    idle = play(alone("state_match"), [step(call("read"))], noop, states=[START, START], end_reason=end_reason)
    assert score(idle, "state_match").raw == 0.0
    for status, raw in (("complete", 0.0), ("infeasible", 1.0)):
        said = play(alone("state_match"), [step(call("finish", status=status))], noop, states=[START, START])
        assert score(said, "state_match").raw == raw


def test_partial_counts_leaves_fixed_minus_leaves_broken() -> None:
    suite = alone("state_partial")
    half = {"orders": {"#1": {"status": "refunded", "paid": True}}, "log": []}

    def raw(state: Any, gold: Any = DONE) -> float | None:
        return score(play(suite, [step(call("x")), END], Gold(final_state=gold), states=[START, state, state]), "state_partial").raw

    # the log's empty list and its first entry are two places: one gone, one new
    assert raw(half) == pytest.approx(1 / 3)
    assert raw(DONE) == 1.0
    assert raw(START) == 0.0
    assert raw({**half, "extra": 1}) == pytest.approx(0.0)
    assert raw({**DONE, "extra": 1}) == pytest.approx(2 / 3)
    assert raw(START, START) == 1.0
    assert raw(half, START) == 0.0
    with pytest.raises(ConfigError, match="digest"):
        suite.check(Task("t", "q", Gold(final_state=typed.digest(DONE))))


def test_harm_that_was_undone_is_seen_by_a_minefield_and_not_by_the_state() -> None:
    harm = {"orders": {"#1": {"status": "deleted", "paid": True}}, "log": []}
    mine = Milestone("no_delete", (Constraint(path="orders.#1.status", op="eq", value="deleted"),))
    gold = Gold(final_state=DONE, minefields=(mine,), milestones=(Milestone("done", (Constraint(call="refund"),)),))
    states = [START, harm, START, DONE, DONE]
    turns = [step(call("delete")), step(call("restore")), step(call("refund")), END]
    suite = alone("state_match + milestones + task_success")
    played = play(suite, turns, gold, states=states)
    assert (score(played, "state_match").raw, score(played, "milestones").raw, score(played, "task_success").raw) == (1, 0, 0)
    assert "no_delete" in score(played, "milestones").reason
    assert suite.rescore(stored(played)) == stored(played)


def test_assertions_weigh_and_a_program_that_fails_does_not_hold() -> None:
    gold = Gold(
        assertions=(
            Assertion("orders.#1.status", "eq", "refunded", weight=3.0),
            Assertion("log", "count", 2),
            Assertion(program="builtins:len"),
        )
    )
    played = refunded(gold=gold, reward="state_assert")
    assert score(played, "state_assert").raw == pytest.approx(4 / 5)
    assert not played.success
    assert "log count 2" in score(played, "state_assert").evidence
    broken_program = Gold(assertions=(Assertion(program="builtins:ord"),))
    assert score(refunded(gold=broken_program, reward="state_assert"), "state_assert").raw == 0.0
    assert already_hold(gold, START) == ["builtins:len"]  # a task whose first state fulfils all would ask for nothing
    with pytest.raises(ConfigError, match="no_such"):
        alone("state_assert").check(Task("t", "q", Gold(assertions=(Assertion(program="builtins:no_such"),))))


def test_an_environment_without_state_and_a_record_without_state_are_told_apart_from_failure() -> None:
    with pytest.raises(ConfigError, match="state_match needs the events state"):
        alone("state_match").check(Task("t", "q", GOLD), {"documents"})
    played = play(alone("state_match"), [END], GOLD)  # a record of an environment that kept no state
    assert not score(played, "state_match").valid
    assert score(played, "state_match").raw is None


# ---- records of states


def test_changes_give_back_every_state() -> None:
    changes = diff(START, DONE)
    assert changes == (Change(("orders", "#1", "status"), "refunded"), Change(("log",), ["refund"]))
    before = json.dumps(START)
    assert applied(START, changes) == DONE
    assert json.dumps(START) == before
    assert diff({"a": 1}, {"a": True}) == (Change(("a",), True),)
    assert applied({"a": 1, "b": 2}, diff({"a": 1, "b": 2}, {"b": 2})) == {"b": 2}
    assert dict(leaves({"a": [1, {}], "b": None})) == {("a", 0): 1, ("a", 1): {}, ("b",): None}
    with pytest.raises(DataError, match="no place 'x'"):
        applied({"a": 1}, [Change(("x", "y"), 1)])


def test_a_record_holds_the_last_state() -> None:
    record = stored(refunded(gold=GOLD))
    assert final_state(record.initial_state, record.turns) == DONE


# ---- replies


def told(*texts: str, facts: tuple[Answer, ...], answer: str | None = None, **options: Any) -> float | None:
    turns = [step(call("reply", text=text)) for text in texts] or [step(call("read"))]
    return score(play(alone("communicate"), turns, Gold(communicate=facts), answer=answer, **options), "communicate").raw


AMOUNT = Answer("12.50", type="number", tol=0.001)
CARD = Answer("credit card", ("card",))


def test_facts_are_runs_of_words_and_numbers_are_numbers() -> None:
    assert told("We refund $12.5 to your Credit-Card.", facts=(AMOUNT, CARD)) == 1.0
    assert told("We refund 12.50.", facts=(AMOUNT, CARD)) == 0.5
    assert told("12.5", "and the card", facts=(AMOUNT, CARD)) == 1.0
    assert told("112.50 to the cardboard box, order #12.50", facts=(AMOUNT, CARD)) == 0.0
    assert told(facts=(AMOUNT,), answer="It is 12,50 or 12.50") == 1.0
    assert told(facts=(AMOUNT,), answer=None) == 0.0
    assert told("1,250 USD", facts=(Answer("1250", type="number"),)) == 1.0


def test_nobody_tells_a_number_by_telling_all() -> None:
    every = " ".join(str(n) for n in range(1, 1001))
    ten = Answer("10", type="number")
    assert "10" in every  # what a search for a substring would find
    assert told(every, facts=(ten,)) == 0.0
    assert told(*(str(n) for n in range(1, 21)), facts=(ten,)) == 0.0  # one guess after another
    assert told("There are 10 options, 2 of them red.", facts=(ten,)) == 1.0
    assert told("Of the 3, 4 and 5 you named, 10 remain.", facts=(ten,), question="Are 3, 4 or 5 left?") == 1.0


def test_a_claim_that_nobody_heard_tells_nothing() -> None:
    gold = Gold(communicate=(AMOUNT,))
    failed = step(call("reply", text="12.50"), ok=False, code="E_ARGS")
    thought = step(call("read"), thought="I tell the user 12.50")
    tool = step(call("get", amount="12.50"))
    said = step(call("email"), events={"said": "You get 12.50 back."})
    suite = alone("communicate")
    assert [score(play(suite, [turn], gold), "communicate").raw for turn in (failed, thought, tool, said)] == [0, 0, 0, 1]


def test_numbers_stand_alone() -> None:
    assert numbers_in("Order #W23 of 2024-05-01 at 10:30: 3 x $1,200.50, ref 555-0142, v1.2.3, −4.") == [3.0, 1200.5, -4.0]


def test_facts_that_no_reply_can_state_are_refused() -> None:
    for fact, word in ((Answer("twelve", type="number"), "holds none"), (Answer("..."), "nothing is left")):
        with pytest.raises(ConfigError, match=word):
            alone("communicate").check(Task("t", "q", Gold(communicate=(fact,))))


# ---- questions


def test_a_hidden_fact_pays_once() -> None:
    golden = GOLDEN["ask_user"]
    gold = Gold(hidden_facts=tuple(HiddenFact(id_, id_) for id_ in golden["hidden"]))
    turns = [step(call("ask_user", question="?"), events={"revealed": cited}) for cited in golden["cited per question"]]
    played = play(alone("ask_gain + 0.05 * step_cost"), turns, gold)
    raws = [t.scores["ask_gain"].raw for t in played.turns]
    assert raws == pytest.approx(golden["ours_new_fraction"], abs=1e-6)
    assert [t.reward for t in played.turns] == pytest.approx(golden["with cost .05"], abs=1e-6)
    naive = [float(any(c in golden["hidden"] for c in cited)) for cited in golden["cited per question"]]
    assert naive == golden["paper_binary"]
    assert sum(naive) > sums(played, "ask_gain") == 1.0


def test_tell_me_everything_pays_for_two_facts_and_spends_the_rest() -> None:
    gold = Gold(hidden_facts=tuple(HiddenFact(f"h{i}", "x") for i in range(4)))
    everything = step(call("ask_user", question="everything"), events={"revealed": ["h0", "h1", "h2", "h3"]})
    assert sums(play(alone("ask_gain"), [everything] * 5, gold), "ask_gain") == 0.5
    visible = step(call("ask_user", question="?"), events={"revealed": ["v1"]})
    failed = step(call("ask_user", question="?"), ok=False, code="E_ARGS", events={"revealed": ["h0"]})
    odd = step(call("ask_user", question="?"), events={"revealed": {"h0": 1}})
    assert sums(play(alone("ask_gain"), [visible, failed, odd], gold), "ask_gain") == 0.0


# ---- the conjunction


def test_task_success_asks_for_all_that_gold_has() -> None:
    gold = Gold(final_state=DONE, communicate=(AMOUNT,), assertions=(Assertion("log", "count", 1),), finish="complete")
    told_, ended = step(call("reply", text="12.50 is refunded.")), step(call("finish", status="complete"))
    suite = alone("task_success")

    def success(*turns: Any, state: Any = DONE) -> bool:
        states = [START, *([state] * len(turns))]
        return play(suite, turns, gold, states=states).success

    assert success(told_, ended)
    assert not success(ended)
    assert not success(told_, step(call("finish", status="infeasible")))
    assert not success(told_, ended, state=START)
    product = GOLDEN["tau2"]
    assert (product["product(DB=1,COMM=1)"], product["product(DB=1,COMM=0)"]) == (1, 0)
    with pytest.raises(ConfigError, match="task_success needs gold"):
        suite.check(Task("t", "q", trace(call("f"))))


@pytest.mark.parametrize("empty", [{}, []])
def test_a_gold_state_that_is_empty_is_asked_for_like_any_other(empty: JSON) -> None:
    gold = Gold(final_state=empty, communicate=(Answer("hello"),))
    for component in ("state_match", "task_success"):
        alone(component).check(Task("t", "Empty it.", gold), {"state"})
    for state, right in ((empty, True), ({"left": 1}, False)):
        turns = [reaching(dialogue.call("f"), state), (dialogue.reply("hello"), state)]
        done = scored(alone("task_success"), record(turns, gold=gold))
        assert done.success is right, done.scores["task_success"].reason
