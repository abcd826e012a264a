"""Checklists from files and from gold: TOML, recorded dialogues, and what writes them."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server as srv
import pytest
from checklist_episodes import call, record, reply, scored

from agentgym import hooks, schema
from agentgym.criterion import Criterion
from agentgym.endpoint import Endpoint, EndpointConfig
from agentgym.errors import ConfigError, DataError, ServiceError
from agentgym.gold import Assertion, Constraint, GoldCall, Milestone
from agentgym.judges import RuleJudge, StubJudge, judge_service
from agentgym.rewards import build_suite, load_checklists
from agentgym.rewards.checklist_reward import ChecklistReward
from agentgym.rewards.cm2 import read_cm2
from agentgym.rewards.rubric_writer import checklist_from_gold, rubrics_from_path, write_checklist
from agentgym.task import Answer, Entity, Gold, Task

TOML = """
title = "other things in the file are left alone"

[checklist.refund]
assignment = "step"
items = [
  { id = "found", call = "get_order", args = { order_id = "#W23" }, critical = true },
  { id = "refunded", kind = "program", program = "agentgym.rewards.channels:ends_user_turn", after = ["found"], weight = 2 },
  { id = "told", kind = "judge", focus = "reply", question = "States the amount.", after = ["refunded"] },
]

[checklist.short]
items = [{ id = "a", reply = "hi" }]
"""


@pytest.fixture(autouse=True)
def registry() -> Iterator[None]:
    before = dict(hooks.CHECKLISTS._targets)
    yield
    hooks.CHECKLISTS._targets.clear()
    hooks.CHECKLISTS._targets.update(before)
    hooks.CHECKLISTS._loaded.clear()


def test_toml_says_the_same_as_code(tmp_path: Path) -> None:
    path = tmp_path / "lists.toml"
    path.write_text(TOML)
    refund, short = load_checklists(path)
    assert (refund.assignment, refund.judged, [c.id for c in refund.criteria]) == (
        "step",
        True,
        ["found", "refunded", "told"],
    )
    assert refund.criteria[0] == Criterion("found", call="get_order", args={"order_id": "#W23"}, critical=True)
    assert scored(build_suite("checklist:short"), record([reply("hi")])).success
    assert short.criteria[0].reply == "hi"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("critical = true", "critcal = true"),
            r"lists\.toml:7: checklist\.refund\.items\[0\]: critcal: unknown key; did you mean",
        ),
        (("weight = 2", "weight = -2"), r"lists\.toml:4: checklist 'refund': weights .*'refunded': -2"),
        (('after = ["found"]', 'after = ["told"]'), r"lists\.toml:4: .*circle among '.*told'"),
        (('after = ["refunded"]', 'after = ["refund"]'), r"'told' is after 'refund'.*did you mean 'refunded'"),
        (
            ("agentgym.rewards.channels:ends", "no_such_module:ends"),
            r"lists\.toml:4: .*'refunded': program 'no_such_module",
        ),
        (("assignment", "asignment"), r"lists\.toml:4: .*unknown key 'asignment'; did you mean 'assignment'"),
        (('focus = "reply"', "focus = 3"), r"lists\.toml:9: checklist\.refund\.items\[2\]: focus: expected one of"),
        (("[checklist.refund]", "[checklist.refund"), r"lists\.toml: not TOML"),
        (("[checklist", "[cecklist"), r"lists\.toml: holds no table \[checklist\.NAME\]"),
    ],
)
def test_mistakes_in_toml_are_named_with_their_line(tmp_path: Path, change: tuple[str, str], message: str) -> None:
    path = tmp_path / "lists.toml"
    path.write_text(TOML.replace(*change))
    with pytest.raises(ConfigError, match=message):
        load_checklists(path)
    assert "refund" not in hooks.CHECKLISTS._targets


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: no such file"):
        load_checklists(tmp_path / "none.toml")


def test_gold_refuses_a_bad_checklist_with_file_and_line() -> None:
    row = {"checklist": [{"id": "a", "call": "f", "after": ["a2"]}, {"id": "a1", "call": "f"}]}
    with pytest.raises(
        DataError, match=r"tasks\.jsonl:3: .*'a' is after 'a2', which does not exist; did you mean 'a1'"
    ):
        schema.from_json(Gold, row, "tasks.jsonl:3")


# ---- written from gold

GOLD = Gold(
    trace=(
        GoldCall("g1", "get_order", {"order_id": "#W23"}),
        GoldCall("g2", "refund", {"order_id": "#W23", "amount": 12.5}, {"amount": "number(0.005)"}, after=("g1",)),
    ),
    assertions=(Assertion("orders.#W23.status", "eq", "open"),),
    communicate=(Answer("12.50", type="number"), Answer("your card")),
    minefields=(Milestone("m1", (Constraint(call="cancel_order"),)),),
)


def test_gold_becomes_a_checklist_by_rule() -> None:
    task = Task("shop-4", "Refund order #W23 to my card.", GOLD)
    checklist = checklist_from_gold(task)
    assert [c.id for c in checklist.criteria] == ["g1", "g2", "state1", "told1", "told2", "m1"]
    suite = build_suite(ChecklistReward(checklist))
    good = [
        call("get_order", order_id="#W23"),
        call("refund", order_id="#W23", amount=12.502),
        reply("12.50 is on your card"),
    ]
    assert scored(suite, record(good)).success
    assert not scored(suite, record([good[2], good[0], good[1]])).success, "told before it was done"
    assert scored(suite, record([call("cancel_order"), *good])).total == 0.0
    with pytest.raises(ConfigError, match="has no trace, assertions"):
        checklist_from_gold(Task("x", "q"))


def test_a_path_becomes_single_hop_rubrics() -> None:
    gold = Gold(
        entities=(
            Entity("f", "Blue Harbour", hop=0, role="start"),
            Entity("p", "Mira Halvorsen", hop=1),
            Entity("y", "1961", hop=2, role="answer"),
        ),
        path=(("f", "directed_by", "p"), ("p", "born_in", "y")),
    )
    assert [r.text for r in rubrics_from_path(gold)] == ["Blue Harbour directed by <E1>", "<E1> born in <E0>"]


def test_a_model_writes_what_rules_cannot_and_is_checked() -> None:
    good = {"criteria": [{"id": "tone", "question": "The reply is polite.", "focus": "reply", "weight": 1}]}
    bad = [
        "no JSON",
        json.dumps({"criteria": []}),
        json.dumps({"criteria": [{"id": "a", "question": "x", "weight": 0}]}),
        json.dumps({"criteria": [{"id": "a", "question": "x", "program": "os:abort"}]}),
        json.dumps({"criteria": [{"id": "a", "question": "x", "focus": "thought"}]}),
    ]
    task = Task("shop-4", "Refund order #W23 to my card.", GOLD)
    with srv.serving() as server:
        endpoint = Endpoint(EndpointConfig(server.url, "writer", backoff_s=0.01, max_attempts=6))
        server.replies, server.default = [srv.say(text) for text in bad], srv.say(json.dumps(good))
        checklist = asyncio.run(write_checklist(task, endpoint))
        assert [c.id for c in checklist.criteria][-1] == "tone"
        assert checklist.judged
        assert len(server.requests) == len(bad) + 1
        assert "#W23" in server.requests[0]["body"]["messages"][1]["content"]
        server.default = srv.say("never")
        with pytest.raises(ServiceError, match="no checklist"):
            asyncio.run(write_checklist(task, endpoint))


# ---- recorded dialogues


@pytest.mark.data
def test_a_recorded_dialogue_meets_its_own_checklist(data_dir: Path) -> None:
    path = data_dir / "tools" / "cm2_checklist_example.json"
    suite = build_suite("checklist")
    (trajectory,) = read_cm2(path)
    done = scored(suite, trajectory, judge_service(RuleJudge()))
    assert [len(t.calls) for t in done.turns] == [1, 1, 1, 1]
    assert [round(t.reward, 6) for t in done.turns] == [0.0, 0.333333, 0.333333, 0.333333]
    assert done.success
    stub = StubJudge({"Did the tool response": False}, default=True)
    part = scored(suite, trajectory, judge_service(stub, canary_every=0))
    assert part.total == pytest.approx(2 / 3 + (0.25 + 0.1) / 3), "what comes after C1 falls with it"
    with pytest.raises(DataError, match="which=3"):
        list(read_cm2(path, which=3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"messages": None}, "not the form of CM2"),
        ({"checklists": [[[{"id": "C0"}]]]}, "focus_on"),
        ({"checklists": []}, "has 0 checklists"),
    ],
)
def test_a_broken_dialogue_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    item = {
        "id": "C0", "evidence": [], "focus_on": "assistant.tool_calls", "question": "q", "pass_condition": "p",
        "failure_examples": [], "required_for_next_turn": False, "dependence": [], "weight": 1,
    }  # fmt: skip
    row = {"uuid": "u", "messages": [{"role": "user", "content": "hi"}], "checklists": [[[item]]]}
    path = tmp_path / "d.json"
    path.write_text(json.dumps([row | change]))
    with pytest.raises(DataError, match=rf"d\.json: dialogue 0.*{message}"):
        list(read_cm2(path))
    path.write_text(json.dumps([row]))
    assert [c["id"] for c in next(read_cm2(path)).gold["checklist"]] == ["0.C0"]
