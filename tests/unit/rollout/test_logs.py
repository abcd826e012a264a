"""Logs scored again: what can be scored is, what cannot abstains with a reason and is counted."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

import agentgym  # noqa: F401 (registers the ids)
from agentgym import hooks, schema
from agentgym.errors import DataError, NotRegisteredError
from agentgym.judges import StubJudge, judge_service
from agentgym.rewards import build_suite
from agentgym.rollout import write_trajectories
from agentgym.rollout.logs import read_logs, score_logs, with_gold
from agentgym.task import Answer, Gold, Task
from agentgym.types import DocRef, Message, ToolCall, ToolResult, Trajectory, Turn

PARIS = Gold(answers=(Answer("Paris"),))


def record(id_: str = "r", answer: str | None = "Paris", gold: Gold | None = PARIS) -> Trajectory:
    found = ToolResult("c1", "search", True, documents=(DocRef("d1", "T", "It is Paris."),))
    turns = (
        Turn(0, "s", (ToolCall("search", {"query": "x"}, "c1"),), (found,)),
        Turn(1, "a", (ToolCall("answer", {"text": answer or ""}, "c1"),), (ToolResult("c1", "answer", True),)),
    )
    return Trajectory(
        id_, "e", "t", (Message.of("user", "Which city?"),), turns, "Which city?", answer,
        end_reason="answered", terminated=True, gold=None if gold is None else schema.to_json(gold),
    )  # fmt: skip


def test_what_can_be_scored_is_and_the_rest_abstains() -> None:
    fault = record("fault").with_(in_statistics=False, in_loss=False, error="the log does not hold turn 3")
    bare = record("bare", gold=None)
    wrong = record("wrong", "Rome")
    blind = record("blind").with_(info={"events": []})
    scored = score_logs([record(), fault, bare, wrong, blind], build_suite("answer_em + 0.25*retrieval_gain"))
    assert [(r.id, r.success, r.total) for r in scored.records] == [("r", True, 1.25), ("wrong", False, 0.25)]
    assert {a.id: a.reason for a in scored.abstained} == {
        "fault": "the log does not hold turn 3",
        "bare": "no gold; give the tasks of the log",
        "blind": "retrieval_gain needs events.documents, which the log does not have",
    }
    body = scored.to_json()
    assert (body["records"], body["scored"], body["abstained"]) == (5, 2, 3)
    assert body["means"] == {"success": 0.5, "total": 0.75, "answer_em": 0.5, "retrieval_gain": 1.0}
    assert json.loads(json.dumps(body)) == body


def test_gold_that_a_reward_needs_and_lacks_is_named() -> None:
    (lacking,) = score_logs([record()], build_suite("answer_em + 0.1*entity_match")).abstained
    assert "entity_match needs gold.entities" in lacking.reason
    (broken,) = score_logs([record().with_(gold={"anwers": []})], build_suite("answer_em")).abstained
    assert "anwers: unknown key; did you mean 'answers'" in broken.reason


def test_a_reward_that_waits_for_a_service_abstains_until_it_is_given() -> None:
    suite = build_suite("answer_em + 0.1*atomic_thought")
    thinking = record().with_(turns=tuple(replace(t, thought="<plan>search first</plan>") for t in record().turns))
    (waiting,) = score_logs([thinking], suite).abstained
    assert waiting.reason == "atomic_thought waits for a service (a scorer or a judge)"
    done = score_logs([thinking], suite, judge=judge_service(StubJudge({}, default=True), canary_every=0))
    assert [r.scores["answer_em"].raw for r in done.records] == [1.0]
    assert not done.abstained


def test_nothing_scored_gives_no_means() -> None:
    assert score_logs([record("x", gold=None)], build_suite("answer_em")).to_json()["means"] == {}


def test_gold_comes_by_id_then_by_question() -> None:
    bare = [record("a", gold=None), record("b", gold=None).with_(task_id="q2"), record("c", gold=None).with_(question="?")]
    tasks = [Task("q1", "which  CITY", Gold(answers=(Answer("Paris"),))), Task("q2", "other", Gold(answers=(Answer("Rome"),)))]
    golds = [r.gold and r.gold["answers"][0]["text"] for r in with_gold(bare, tasks)]
    assert golds == ["Paris", "Rome", None]
    twice = [*tasks, Task("q3", "Which city?", Gold(answers=(Answer("Lyon"),)))]
    with pytest.raises(DataError, match="trajectory a: the tasks q1, q3 ask its question with different gold"):
        list(with_gold(bare, twice))
    assert next(with_gold([record()], twice)).gold == record().gold, "gold that is there stays"


def test_formats_are_found_by_name(tmp_path: Path) -> None:
    assert {"agentgym", "atif", "chat", "cm2", "search_r1"} <= set(hooks.TRAJECTORY_FORMATS.names())
    path = tmp_path / "t.jsonl"
    write_trajectories(path, [record()])
    assert list(read_logs(path)) == [record()]
    with pytest.raises(NotRegisteredError, match="did you mean 'atif'"):
        read_logs(path, "atfi")
    with pytest.raises(DataError, match="no such file"):
        read_logs(tmp_path / "none", "chat")


def test_a_turn_component_that_is_paid_at_the_end_counts_once_in_the_means() -> None:
    means = score_logs([record("wrong", "Rome")], build_suite("answer_em + OnlyIf(0, 0.25*retrieval_gain)")).means()
    assert (means["retrieval_gain"], means["total"]) == (1.0, 0.25)
