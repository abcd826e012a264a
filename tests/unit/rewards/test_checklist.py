"""Checklists over scripted episodes: what latches when, what it pays, what no trick earns."""

import json
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
from checklist_episodes import REFUNDED, STATE, call, of, reaching, record, reply, scored, several, values

import agentgym
from agentgym import hooks
from agentgym.criterion import Criterion
from agentgym.errors import ConfigError, NotRegisteredError, RegistrationError
from agentgym.judges import JudgeRequest, StubJudge, Verdict, judge_service
from agentgym.rewards import Cap, EpisodeView, Suite, build_suite
from agentgym.rewards.checklist_reward import ChecklistReward
from agentgym.rewards.costs import step_cost
from agentgym.task import Gold


def is_refunded(view: EpisodeView) -> bool:
    return view.state["orders"]["#W23"]["status"] == "refunded"


def refunds(**options: Any) -> agentgym.Checklist:
    checklist = agentgym.Checklist("refund", **options)
    checklist.rule("found", call="show_order", args={"order_id": "#W23"})
    checklist.program("refunded", is_refunded, after=["found"], weight=2)
    checklist.judge("told", "The reply states the refunded amount.", focus="reply", after=["refunded"])
    return checklist


def suite_of(checklist: agentgym.Checklist, **options: Any) -> Suite:
    return build_suite(ChecklistReward(checklist, **options))


FOUND = call("show_order", order_id="#W23", data={"status": "open", "amount": 12.5})
REFUND = reaching(call("refund", order_id="#W23", amount=12.5), REFUNDED)


@pytest.fixture
def registered() -> Iterator[str]:
    agentgym.register_checklist(refunds(), replace=True)
    yield "checklist:refund"
    hooks.CHECKLISTS._targets.pop("refund", None)
    hooks.CHECKLISTS._loaded.pop("refund", None)


# ---- what it pays


def golden_list(assignment: str) -> Suite:
    """The worked example of CM2's kind: C2 and C3 need C1 from an earlier step."""
    rows = [("C0", 0.25, ()), ("C1", 0.2, ()), ("C2", 0.2, ("C1",)), ("C3", 0.2, ("C1",)), ("C4", 0.15, ())]
    items = [Criterion(id_, call=f"do_{id_}", weight=weight, after=after) for id_, weight, after in rows]
    return suite_of(agentgym.Checklist("golden", items, assignment=assignment))  # pyright: ignore


@pytest.mark.parametrize(
    ("steps", "paid"),
    [
        ([["C0"], ["C1"], ["C2", "C3", "C4"]], [0.25, 0.2, 0.55]),
        ([["C2", "C3", "C4"], ["C0", "C1"]], [0.15, 0.45]),
        ([["C0"], ["C0"], ["C0"]], [0.25, 0.0, 0.0]),
        ([["C1", "C2"]], [0.2]),
    ],
)
def test_worked_numbers(steps: list[list[str]], paid: list[float]) -> None:
    turns = [several(*(call(f"do_{id_}") for id_ in step)) for step in steps]
    step, end, whole = (scored(golden_list(a), record(turns)) for a in ("step", "turn_end", "trajectory"))
    assert values(step, "checklist:golden") == pytest.approx(paid)
    assert values(end, "checklist:golden") == pytest.approx([0.0] * (len(paid) - 1) + [sum(paid)])
    assert whole.scores["checklist:golden"].raw == pytest.approx(sum(paid))
    assert {t.success for t in (step, end, whole)} == {sum(paid) > 0.99}


def test_user_turns_share_the_whole_and_are_paid_at_their_ends() -> None:
    checklist = agentgym.Checklist("talk")
    checklist.rule("a", reply="hello", turn=0, weight=3).rule("b", call="look", turn=0, weight=1)
    checklist.rule("c", reply="goodbye", turn=1)
    done = scored(suite_of(checklist), record([call("look"), reply("Hello!"), call("look"), reply("goodbye now")]))
    assert values(done, "checklist:talk") == [0.0, 0.5, 0.0, 0.5]
    swapped = scored(suite_of(checklist), record([call("look"), reply("goodbye"), reply("hello")]))
    assert values(swapped, "checklist:talk") == [0.0, 0.125, 0.0]


def test_a_minefield_takes_everything_back_and_nothing_is_earned_afterwards() -> None:
    checklist = agentgym.Checklist("m", assignment="step").rule("a", call="look").rule("b", reply="done")
    checklist.rule("never", call="cancel_order", never=True)
    done = scored(
        suite_of(checklist), record([call("look"), call("cancel_order", order_id="1"), call("look"), reply("done")])
    )
    assert values(done, "checklist:m") == [0.5, -0.5, 0.0, 0.0]
    assert not done.success
    assert "minefield never" in of(done, "checklist:m")[1].reason
    failed = scored(suite_of(checklist), record([call("look"), call("cancel_order", ok=False), reply("done")]))
    assert failed.success, "a call that was refused did no harm"


def test_harm_that_is_undone_is_still_a_minefield() -> None:
    checklist = agentgym.Checklist("u").rule("kept", state="orders.#W23.status", value="open")
    checklist.rule("gone", state="orders.#W23", op="absent", never=True)
    turns = [reaching(call("cancel_order"), {"orders": {}}), reaching(call("restore_order"), STATE)]
    done = scored(suite_of(checklist), record(turns))
    assert (done.total, done.success) == (0.0, False)


def test_deadlines_count_from_the_start_of_the_user_turn() -> None:
    checklist = agentgym.Checklist("d").rule("soon", call="look", turn=1, deadline=1)
    late = [reply("one"), call("other"), call("look")]
    assert scored(suite_of(checklist), record(late)).total == 0.0
    assert scored(suite_of(checklist), record([reply("one"), call("look")])).total == 1.0


def test_an_episode_cut_off_from_outside_is_no_success_and_never_paid_its_last_user_turn() -> None:
    checklist = agentgym.Checklist("cut").rule("a", call="look")
    for reason in ("max_tokens", "time_limit"):
        done = scored(suite_of(checklist), record([call("look")], end_reason=reason))
        assert (done.total, done.success) == (0.0, False)
    assert scored(suite_of(checklist), record([call("look")], end_reason="max_turns")).success


@pytest.mark.parametrize("assignment", ["step", "turn_end", "trajectory"])
@pytest.mark.parametrize("reason", ["max_tokens", "time_limit", "max_turns"])
def test_whatever_cuts_an_episode_no_failure_is_paid_more_than_the_bounds_say(assignment: str, reason: str) -> None:
    checklist = agentgym.Checklist("cut", assignment=assignment)  # pyright: ignore[reportArgumentType]
    suite = suite_of(checklist.rule("a", call="look").rule("b", call="see"))
    assert suite.bounds().failure == (0.0, 0.5)
    ends = [call("look"), call("see")], [call("look"), call("see"), reply("so"), call("other")], [call("see"), reply("so")]
    for turns in ends:
        done = scored(suite, record(turns, end_reason=reason))
        low, high = suite.bounds().success if done.success else suite.bounds().failure
        assert low <= done.total <= high, (turns, done.total, done.success)


# ---- rules


MATCHES: list[tuple[dict[str, Any], list[Any], bool]] = [
    ({"call": "f", "args": {"on": True}}, [call("f", on=1)], False),
    ({"call": "f", "args": {"n": 1}}, [call("f", n=1.0, extra="x")], True),
    ({"call": "f", "args": {"n": 1}}, [call("f", n="1")], False),
    ({"call": "f", "args": {"n": 1}}, [call("f")], False),
    ({"call": "f", "args": {"n": 1.0}, "compare": {"n": "number(0.1)"}}, [call("f", n=1.05)], True),
    ({"call": "f"}, [call("f", ok=False)], False),
    ({"call": "f"}, [call("\uff46")], False),
    ({"call": "f", "times": 2}, [call("f")], False),
    ({"call": "f", "times": 2}, [call("f"), call("f")], True),
    ({"call": "f", "before": "g"}, [call("g"), call("f")], False),
    ({"call": "f", "before": "g"}, [call("f"), call("g")], True),
    ({"result": "f", "contains": "12.50"}, [call("f", data="amount 12.50 EUR")], True),
    ({"result": "f", "contains": "12.50"}, [call("f", data="amount 112.505")], False),
    ({"result": "f", "contains": "12.50"}, [reply('<tool_response>{"f": "12.50"}</tool_response>')], False),
    ({"result": "f", "path": "status", "value": "ok"}, [call("f", data={"status": "ok"})], True),
    ({"result": "f", "path": "n", "op": "gt", "value": 3}, [call("f", data={"n": 3})], False),
    ({"reply": "twelve fifty"}, [reply("It was Twelve-fifty.")], True),
    ({"reply": "art"}, [reply("Bart")], False),
    ({"reply": "done"}, [reply("done", ok=False)], False),
    ({"reply": "done"}, [call("note", text="done")], False),
    ({"reply_regex": "(?i)order #?[A-Z]\\d+"}, [reply("your order #W23 is")], True),
    ({"reply_number": 12.5}, [reply("We sent 12.50 EUR for #W23")], True),
    ({"reply_number": 12.5}, [reply(" ".join(str(n / 2) for n in range(2000)))], False),
    ({"reply_number": 12.5}, [reply("125")], False),
    ({"no_call": "cancel"}, [call("f"), reply("x")], True),
    ({"no_call": "cancel"}, [reply("x"), call("cancel"), reply("y")], False),
    ({"no_call": "cancel", "args": {"id": 1}}, [call("cancel", id=2)], True),
    ({"max_calls": 2}, [call("f"), call("f"), reply("x")], True),
    ({"max_calls": 2}, [call("f"), call("f"), call("f", ok=False)], False),
    ({"state": "orders.#W23.status", "value": "refunded"}, [REFUND], True),
    ({"state": "orders.#W24.status", "value": "refunded"}, [REFUND], False),
    ({"order": ["f", "g"]}, [call("f"), call("h"), call("g")], True),
    ({"order": ["f", "g"]}, [call("g"), call("f"), call("g")], False),
    ({"order": ["f", "g"]}, [call("f", ok=False), call("g")], False),
]


@pytest.mark.parametrize(("keys", "turns", "met"), MATCHES)
def test_rules(keys: dict[str, Any], turns: list[Any], met: bool) -> None:
    suite = suite_of(agentgym.Checklist("x").rule("only", **keys))
    done = scored(suite, record(turns))
    assert done.success is met
    assert done.total == float(met)


def test_a_citation_counts_only_for_what_was_shown() -> None:
    suite = suite_of(agentgym.Checklist("x").rule("only", cited="doc-1"))
    said = call("answer", text="Paris", citations=["doc-1"])
    ended = {"answer": "Paris", "citations": ("doc-1",), "end_reason": "answered"}
    assert scored(suite, record([call("search", documents=("doc-1",)), said], **ended)).success
    assert not scored(suite, record([call("search", documents=("doc-2",)), said], **ended)).success


def test_evidence_names_step_channel_and_place() -> None:
    suite = suite_of(agentgym.Checklist("x").rule("only", reply="12.50", turn=1))
    done = scored(suite, record([reply("one"), reply("You get 12.50 now")]))
    evidence = json.loads(of(done, "checklist:x")[1].evidence[0])
    assert evidence == {
        "criterion": "only", "turn": 1, "step": 1, "channel": "reply", "start": 8, "end": 13, "quote": "12.50",
    }  # fmt: skip


def test_a_program_that_fails_is_not_met_and_says_so() -> None:
    missing = agentgym.Checklist("x").program("p", lambda view: view.state["nothing"]["here"])
    assert not scored(suite_of(missing), record([call("f")])).success
    broken = agentgym.Checklist("x").program("p", lambda view: 1 / 0 > 0)
    with pytest.warns(RuntimeWarning, match=r"program 'p' .*ZeroDivisionError"):
        done = scored(suite_of(broken), record([call("f")]))
    assert done.turns[0].scores["checklist:x"].valid


# ---- judges


def test_judges_are_asked_once_for_the_batch_and_only_where_it_can_matter() -> None:
    suite = suite_of(refunds())
    asked: list[list[JudgeRequest]] = []

    class Service:
        def judge(self, requests: Any) -> list[Verdict]:
            asked.append(list(requests))
            return [Verdict("12.50" in r.text, float("12.50" in r.text), "12.50") for r in requests]

    early = record([reply("I refunded 12.50"), FOUND, REFUND])
    right = record([FOUND, REFUND, reply("ok"), reply("You got 12.50")])
    before = [suite.rescore(t) for t in (early, right)]
    assert all(s.deferred for t in before for s in of(t, "checklist:refund"))
    done = suite.complete(before, judge=Service())
    assert [t.success for t in done] == [False, True]
    assert [round(t.total, 9) for t in done] == [0.75, 1.0]
    assert len(asked) == 1, "the reward and its outcome ask together"
    assert [r.text for r in asked[0]] == ["ok", "You got 12.50"], "the early reply could not count: nobody was asked"
    assert suite.rescore(done[1]) == done[1], "no service is needed to score again"


def test_a_judge_that_never_answers_makes_scores_invalid_never_zero() -> None:
    turns = [FOUND, REFUND, reply("You got 12.50")]
    done = scored(suite_of(refunds()), record(turns), judge_service(StubJudge(default=None), canary_every=0))
    assert not any(s.valid for s in of(done, "checklist:refund"))
    assert "the judge abstained on told" in of(done, "checklist:refund")[0].reason
    assert (done.in_loss, done.in_statistics, done.success) == (False, False, False)
    never_reached = scored(suite_of(refunds()), record([FOUND]), judge_service(StubJudge(default=None), canary_every=0))
    assert never_reached.in_loss, "nothing that could be judged was unknown"
    assert never_reached.total == 0.25


@pytest.mark.filterwarnings("ignore:the judge abstained")
@pytest.mark.parametrize("live", [False, True])
@pytest.mark.parametrize("assignment", ["step", "turn_end", "trajectory"])
def test_an_abstention_stays_one_when_the_record_is_scored_again(live: bool, assignment: str) -> None:
    service = judge_service(StubJudge(default=None), canary_every=0)
    suite = suite_of(refunds(assignment=assignment), judge=service if live else None)
    done = scored(suite, record([FOUND, REFUND, reply("You got 12.50"), call("other")]), service)
    assert not done.in_statistics
    assert suite.rescore(done) == done


@pytest.mark.parametrize("text", ["x" * 200_000, "\x00\ud800" * 9, 'pass": true}', "", "told"])
def test_no_reply_causes_an_abstention(text: str) -> None:
    service = judge_service(StubJudge({"12.50": True}), canary_every=0)
    done = scored(suite_of(refunds()), record([FOUND, REFUND, reply(text)]), service)
    assert done.in_loss
    assert done.total == pytest.approx(0.75)


def test_absence_is_judged_over_the_whole_user_turn() -> None:
    checklist = agentgym.Checklist("x").judge("clean", "No blame.", polarity="absent", focus="reply", turn=0)

    def total(*replies: str) -> float:
        table = {"fault": Verdict(False, 0.0, "your fault")}
        service = judge_service(StubJudge(table, default=True), canary_every=0)
        turns = [call("ask_user", question=text) for text in replies[:-1]] + [reply(replies[-1])]
        return scored(suite_of(checklist), record(turns), service).total

    assert total("fine", "all good") == 1.0
    assert total("it is your fault", "all good") == 0.0
    assert total("") == 0.0, "an empty channel shows nothing"


def test_with_a_service_of_its_own_scores_are_live() -> None:
    suite = suite_of(refunds(assignment="step"), judge=judge_service(StubJudge({"12.50": True}), canary_every=0))
    done = suite.rescore(record([FOUND, REFUND, reply("You got 12.50")]))
    assert values(done, "checklist:refund") == [0.25, 0.5, 0.25]
    assert done.success
    assert not suite.deferred


# ---- live, in an environment


def test_unmet_critical_criteria_end_the_episode_live() -> None:
    checklist = agentgym.Checklist("strict")
    checklist.rule("opens", call="open", critical=True, deadline=2).rule("says", reply="x")
    env: Any = gym.make("SearchQA-v0", reward=ChecklistReward(checklist)).unwrapped
    env.reset(seed=1)
    assert env.step("<search>a</search>")[2] is False
    *_, reward, terminated, truncated, info = env.step("<search>b</search>")
    assert (terminated, truncated, info["end_reason"], reward) == (True, False, "critical_unmet", 0.0)
    assert "critical_unmet: opens" in info["rewards"]["checklist:strict"]["reason"]
    again: Any = gym.make("SearchQA-v0", reward=ChecklistReward(checklist)).unwrapped
    again.restore(env.snapshot())
    assert again.trajectory == env.trajectory
    assert env.suite.rescore(env.trajectory) == env.trajectory


def test_a_named_checklist_is_a_reward_in_an_environment(registered: str) -> None:
    @agentgym.tool(name="show_order")
    def order_of(order_id: str) -> dict:
        """Look an order up."""
        return {"id": order_id}

    with pytest.raises(ConfigError, match=r"rule 'found' \(call\) names the tool 'show_order', which this environment does not"):
        gym.make("SearchQA-v0", reward=registered).reset(seed=1)
    env: Any = gym.make("SearchQA-v0", reward=registered, tools=[order_of]).unwrapped
    env.reset(seed=1)
    *_, info = env.step("<answer>x</answer>")
    assert info["deferred"] == ("checklist:refund", "checklist_met:refund")
    assert env.suite.bounds().margin == pytest.approx(0.25)


def test_a_record_brings_its_own_checklist() -> None:
    gold = Gold(checklist=(Criterion("a", call="look", weight=3), Criterion("b", reply="hi")))
    done = scored(build_suite("checklist"), record([call("look"), reply("no")], gold=gold))
    assert (done.total, done.success) == (0.75, False)
    assert not any(s.deferred for s in of(done, "checklist")), "no judge criteria: nothing waits"
    with pytest.raises(ConfigError, match=r"checklist needs gold checklist, which task 'x' does not have"):
        build_suite("checklist").check(agentgym.Task("x", "q"))
    lost = Gold(checklist=(Criterion("p", kind="program", program="no_such:thing"),))
    with pytest.raises(ConfigError, match=r"task 'x': the task's checklist: criterion 'p': program 'no_such:thing'"):
        build_suite("checklist").check(agentgym.Task("x", "q", lost))


def test_a_checklist_joins_other_terms_with_a_margin() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        suite = build_suite(ChecklistReward(refunds()) + Cap(0.01 * step_cost, -0.1, 0.0))
    assert suite.bounds().margin == pytest.approx(0.15)
    assert suite.outcome.name == "checklist_met:refund"


# ---- mistakes


def test_registering_and_finding() -> None:
    with pytest.raises(NotRegisteredError, match="unknown checklist 'no_such_list'"):
        build_suite("checklist:no_such_list")
    agentgym.register_checklist(refunds(), replace=True)
    with pytest.raises(RegistrationError, match="already registered"):
        agentgym.register_checklist(refunds())
    hooks.CHECKLISTS._targets.pop("refund")
    hooks.CHECKLISTS._loaded.pop("refund", None)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda c: c.rule("a", call="f", after=["b"]).rule("b", call="g", after=["a"]), "circle among 'a', 'b'"),
        (
            lambda c: c.rule("found", call="f").rule("b", call="g", after=["fuond"]),
            "'b' is after 'fuond'.*mean 'found'",
        ),
        (lambda c: c.rule("a", call="f", weight=0), r"weights must be numbers above 0 \('a': 0\)"),
        (lambda c: c.rule("a", call="f", weight=-1.0), r"'a': -1"),
        (lambda c: c.rule("a", call="f").rule("a", call="g"), "the id 'a' is used twice"),
        (lambda c: c.rule("a", cal="f"), "cal: unknown key; did you mean 'call'"),
        (lambda c: c.rule("a"), "needs exactly one of call, result"),
        (lambda c: c.rule("a", call="f", reply="x"), "it has 'call', 'reply'"),
        (lambda c: c.rule("a", call="f", compare={"x": "ci"}), "compare names 'x'"),
        (lambda c: c.rule("a", call="f", args={"x": 1}, compare={"x": "near"}), "compare mode 'near' is not known"),
        (lambda c: c.rule("a", reply_regex="(a"), "no regular expression"),
        (lambda c: c.rule("a", state="x..y"), "empty key"),
        (lambda c: c.rule("a", state="x", op="equals"), "operator 'equals' is not known"),
        (lambda c: c.rule("a", call="f", never=True), "no criteria that could be met"),
        (lambda c: c.rule("a", call="f", never=True, critical=True), "a minefield"),
        (lambda c: c.program("a", "no_such_module:f"), r"'a': program 'no_such_module:f': the module 'no_such_module' cannot be imported"),
        (lambda c: c.program("a", "agentgym.types"), "write MODULE:NAME or FILE"),
        (lambda c: c.judge("a", ""), "needs a question"),
        (lambda c: c.judge("a", "x", focus="replies"), "did you mean 'reply'"),
        (lambda c: c.rule("a", call="f", weight="2"), "weight: expected float, got str '2'"),
        (lambda c: c, "no criteria"),
    ],
)
def test_a_checklist_that_cannot_score_is_refused(build: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        agentgym.register_checklist(build(agentgym.Checklist("bad")))
    assert "bad" not in hooks.CHECKLISTS


@pytest.mark.parametrize(
    ("keys", "warned"),
    [
        ({"question": "If the order is late, the reply says so."}, True),
        ({"question": "The reply is polite.", "condition": "When an order is late, it says so."}, True),
        ({"question": "The reply says when the parcel comes."}, False),
    ],
)
def test_a_conditional_statement_is_warned_of(keys: dict[str, Any], warned: bool) -> None:
    checklist = agentgym.Checklist("c").rule("a", call="f").judge("told", **keys)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        checklist.check()
    assert [("'told'" in str(w.message), "after=" in str(w.message)) for w in caught] == [(True, True)] * warned


@pytest.mark.parametrize(("name", "assignment"), [("", "step"), ("a b", "step"), ("x", "stepp")])
def test_names_and_assignments_are_checked(name: str, assignment: Any) -> None:
    with pytest.raises(ConfigError, match="checklist"):
        agentgym.Checklist(name, assignment=assignment)


def test_environments_may_say_what_was_said_and_when_the_user_turn_ended() -> None:
    quiet = call("reply", text="hi")
    spoken = replace(quiet.results[0], name="send", events={"said": "Your card", "user_turn_ended": True})
    send = replace(quiet, calls=(replace(quiet.calls[0], name="send"),), results=(spoken,))
    waiting = replace(quiet, results=(replace(quiet.results[0], events={"user_turn_ended": False}),))
    suite = suite_of(agentgym.Checklist("x").rule("card", reply="your card", turn=0).rule("next", call="look", turn=1))
    assert values(scored(suite, record([waiting, send, call("look")])), "checklist:x") == [0.0, 0.5, 0.5]
