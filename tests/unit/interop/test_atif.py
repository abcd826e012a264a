"""ATIF out and in: nothing is lost either way, others' own schema accepts what we write, broken documents are named."""

import copy
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import agentgym  # noqa: F401 (registers the ids)
from agentgym.errors import DataError
from agentgym.interop.atif import from_atif, read_atif, to_atif
from agentgym.policies.scripted import ScriptedPolicy
from agentgym.rewards import build_suite
from agentgym.rollout import EnvPool, SamplingConfig, run_groups
from agentgym.rollout.logs import score_logs
from agentgym.types import Block, DocRef, Message, Segment, Span, ToolCall, ToolResult, Trajectory, Turn


def episodes(dialect: str) -> list[Trajectory]:
    """Finished episodes with bad actions among them, in one dialect."""
    pool = EnvPool("SearchQA-v0", world="synthetic:closed?worlds=4", dialect=dialect)
    tasks = list(pool.first.tasks("test"))[:4]
    groups = run_groups(
        pool, ScriptedPolicy(), tasks, group_size=2, key=(0, 0), sampling=SamplingConfig(oracle_noise=0.4)
    )
    return [t for g in groups for t in g.trajectories]


def with_tokens() -> Trajectory:
    """A record with tokens in two segments, an image, a worked example and two calls in one turn."""
    first = Segment((1, 2, 7, 8, 3, 9), (0, 0, 1, 1, 0, 1), (0.0, 0.0, -0.5, -1.25, 0.0, -0.125), (Span(0, 2, 4), Span(1, 5, 6)))
    second = Segment((4, 5, 6), (0, 0, 1), (0.0, 0.0, -2.0), (Span(2, 2, 3),))
    calls = (ToolCall("look", {"x": None, "y": [1.0, 2]}, "c1"), ToolCall("read", {}, "c2"))
    results = (
        ToolResult("c1", "look", True, {"a": None}, documents=(DocRef("d", "T", "text", 0, 0.5),), events={"element": "b"}),
        ToolResult("c2", "read", False, code="E_ARGS", error="no page"),
    )
    answered = (
        Message("tool", (Block(text="seen"), Block("image", source="shots/1.webp")), "look", "c1"),
        Message.of("tool", "no page", name="read", call_id="c2"),
        Message.of("user", "go on"),
    )
    turns = (
        Turn(0, "<think>hm</think>two calls", calls, results, messages=answered, thought="hm", entropies=(0.1, 0.2)),
        Turn(1, "<nonsense", error_code="E_PARSE", error="no call", messages=(Message.of("user", "write a call"),)),
        Turn(2, "done", (ToolCall("answer", {"text": "done"}, "c1"),), (ToolResult("c1", "answer", True),)),
    )
    prompt = (
        Message.of("system", "Be brief."),
        Message.of("user", "example?"),
        Message.of("assistant", "example!"),
        Message.of("tool", "yes", name="look", call_id="e1"),
        Message("user", (Block("image", source="data:image/gif;base64,R0lGOD"), Block(text="What is it?"))),
    )
    return Trajectory(
        "t/1", "Own-v0", "task", prompt, turns, "What is it?", "done", end_reason="answered", terminated=True,
        segments=(first, second), group_id="g", seed=(1, 2), parent=("p", 3), info={"kind": "x"}, gold={"answers": [{"text": "done"}]},
    )  # fmt: skip


def foreign() -> dict[str, Any]:
    """A document of another agent that uses every part of the format."""
    return {
        "schema_version": "ATIF-v1.7",
        "session_id": "run-1",
        "agent": {
            "name": "walker", "version": "2.1", "model_name": "m-1", "extra": {"mode": "fast"},
            "tool_definitions": [{"type": "function", "function": {"name": "grep", "parameters": {"default": None}}}],
        },
        "notes": "a note",
        "extra": {"cluster": "a"},
        "final_metrics": {"total_cost_usd": 0.5, "total_steps": 9, "extra": {"peak": 3}},
        "continued_trajectory_ref": "next.json",
        "subagent_trajectories": [
            {"schema_version": "ATIF-v1.7", "trajectory_id": "sub", "agent": {"name": "s", "version": "1", "extra": {}},
             "steps": [{"step_id": 1, "source": "user", "message": "hi"}]},
        ],
        "steps": [
            {"step_id": 1, "source": "system", "message": "You are a walker.", "timestamp": "2026-01-02T03:04:05Z"},
            {"step_id": 2, "source": "agent", "message": "earlier", "is_copied_context": True,
             "tool_calls": [{"tool_call_id": "z", "function_name": "grep", "arguments": {"a": None}}],
             "observation": {"results": [{"source_call_id": "z", "content": "old"}]}},
            {"step_id": 3, "source": "user", "message": [{"type": "text", "text": "Where is it?"}], "extra": {"lang": "en"}},
            {"step_id": 4, "source": "agent", "message": "Looking.", "model_name": "m-2", "reasoning_effort": "high",
             "reasoning_content": "two places", "llm_call_count": 1,
             "tool_calls": [
                 {"tool_call_id": "a", "function_name": "grep", "arguments": {"q": "x"}, "extra": {"retry": 1}},
                 {"tool_call_id": "b", "function_name": "shot", "arguments": {}},
             ],
             "observation": {"results": [
                 {"source_call_id": "b", "content": [{"type": "image", "source": {"media_type": "image/webp", "path": "a.png"}}]},
                 {"source_call_id": "a", "content": '{"hits": 2}', "extra": {"score": 0.25}},
             ]},
             "metrics": {"prompt_tokens": 3, "completion_tokens": 2, "cached_tokens": 1, "cost_usd": 0.25,
                         "prompt_token_ids": [5, 6, 7], "completion_token_ids": [8, 9], "logprobs": [-1, -0.5],
                         "extra": {"reasoning_tokens": 1}}},
            {"step_id": 5, "source": "user", "message": "Go on."},
            {"step_id": 6, "source": "system", "message": "10 minutes left",
             "observation": {"results": [{"content": "tick"}]}},
            {"step_id": 7, "source": "agent", "message": "typing keys", "observation": {"results": [{"content": "$ "}]}},
            {"step_id": 8, "source": "agent", "message": "", "llm_call_count": 0,
             "tool_calls": [{"tool_call_id": "c", "function_name": "delegate", "arguments": {"to": "s"}}],
             "observation": {"results": [{"source_call_id": "c", "subagent_trajectory_ref": [{"trajectory_id": "sub"}]}]}},
            {"step_id": 9, "source": "agent", "message": "In the attic.", "extra": {"agent": True}},
        ],
    }  # fmt: skip


def without_ours(document: Any) -> Any:
    """The document without extra["agentgym"], wherever it is."""
    if isinstance(document, list):
        return [without_ours(item) for item in document]
    if not isinstance(document, dict):
        return document
    bare = {k: without_ours(v) for k, v in document.items() if k != "agentgym"}
    return {k: v for k, v in bare.items() if not (k == "extra" and v == {} and "agentgym" in document["extra"])}


def schemas() -> list[Callable[[Any], Any]]:
    """What others check a document with: Harbor's own models, or an independent package."""
    found = []
    for name in ("harbor.models.trajectories", "atif"):
        try:
            found.append(importlib.import_module(name).Trajectory.model_validate)
        except ImportError:
            continue
    return found


# ---- without loss


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_our_records_come_back_equal(dialect: str) -> None:
    records = [*episodes(dialect), with_tokens()]
    assert any(t.error_code for r in records for t in r.turns), "the episodes hold no bad action"
    for record in records:
        document = json.loads(json.dumps(to_atif(record, gold=True), allow_nan=False))
        assert from_atif(document) == record


def test_gold_and_evidence_stay_at_home_unless_asked_for() -> None:
    record = episodes("tags")[0]
    assert record.gold
    back = from_atif(to_atif(record))
    assert back.gold is None
    assert not any(s.evidence for t in back.turns for s in t.scores.values())
    assert [(t.action, t.calls, t.results) for t in back.turns] == [(t.action, t.calls, t.results) for t in record.turns]


def test_what_both_know_has_its_own_place() -> None:
    steps = to_atif(with_tokens())["steps"]
    assert [s["source"] for s in steps] == ["system", "user", "agent", "agent", "user", "agent", "user", "agent", "agent"]
    assert [s["step_id"] for s in steps] == list(range(1, 10))
    turn = steps[5]
    assert (turn["message"], turn["reasoning_content"]) == ("two calls", "hm")
    assert [(c["tool_call_id"], c["function_name"]) for c in turn["tool_calls"]] == [("0:c1", "look"), ("0:c2", "read")]
    assert turn["tool_calls"][0]["arguments"] == {"x": None, "y": [1.0, 2]}
    shot = {"type": "image", "source": {"media_type": "image/webp", "path": "shots/1.webp"}}
    assert turn["observation"]["results"][0]["source_call_id"] == "0:c1"
    assert turn["observation"]["results"][0]["content"] == [{"type": "text", "text": "seen"}, shot]
    assert turn["metrics"]["prompt_token_ids"] == [1, 2]
    assert turn["metrics"]["completion_token_ids"] == [7, 8]
    assert turn["metrics"]["logprobs"] == [-0.5, -1.25]
    assert steps[7]["metrics"]["prompt_token_ids"] == [1, 2, 7, 8, 3]
    assert steps[8]["metrics"]["prompt_token_ids"] == [4, 5]


def test_documents_of_others_come_back_equal() -> None:
    document = foreign()
    record = from_atif(copy.deepcopy(document), "d.json")
    again = to_atif(record)
    assert without_ours(again) == document
    assert without_ours(to_atif(from_atif(again))) == document, "and once more, through what we wrote"
    assert from_atif(again) == record


def test_a_document_of_others_is_read_as_turns() -> None:
    record = from_atif(foreign(), "d.json")
    assert record.in_statistics
    assert [m.role for m in record.prompt] == ["system", "assistant", "user"]
    assert record.question == "Where is it?"
    assert (record.answer, record.end_reason) == ("In the attic.", "answered")
    assert [[c.name for c in t.calls] for t in record.turns] == [["grep", "shot"], [], ["delegate"], ["answer"]]
    assert [r.data for r in record.turns[0].results] == [{"hits": 2}, ""]
    assert record.turns[0].thought == "two places"
    assert record.turns[0].action.startswith('<think>two places</think>Looking.<tool_call>{"name": "grep"')
    (segment,) = record.segments
    assert (segment.ids, segment.mask) == ((5, 6, 7, 8, 9), (0, 0, 0, 1, 1))
    assert segment.logprobs == (0.0, 0.0, 0.0, -1.0, -0.5)


def test_scores_of_a_document_of_others_are_written_into_it() -> None:
    document = foreign()
    record = from_atif(document).with_(gold={"answers": [{"text": "in the attic"}]})
    (scored,) = score_logs([record], build_suite("answer_em")).records
    assert scored.success
    written = to_atif(scored)
    assert written["extra"]["cluster"] == "a"
    assert written["extra"]["agentgym"]["scores"]["answer_em"]["raw"] == 1.0
    assert without_ours(written) == document


def test_others_accept_what_we_write() -> None:
    checks = schemas()
    if not checks:
        pytest.skip("neither harbor nor atif is installed: pip install atif")
    for record in (*episodes("tags")[:3], *episodes("json")[:3], with_tokens(), from_atif(foreign())):
        for check in checks:
            check(to_atif(record))


# ---- what cannot be read or written


def broken(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    document = foreign()
    change(document)
    return document


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(schema_version="ATIF-v2.0"), r"schema_version is 'ATIF-v2.0'; this version reads"),
        (lambda d: d.update(steps=[]), r"steps is empty"),
        (lambda d: d.pop("agent"), r"agent must be an object, found nothing"),
        (lambda d: d["steps"][3].update(step_id=9), r"steps\[3\]: step_id is 9; .* 4 is next"),
        (lambda d: d["steps"][3].update(source="agnet"), r"source is 'agnet'; .*did you mean 'agent'"),
        (lambda d: d["steps"][3].update(mesage="x"), r"unknown key 'mesage'; did you mean 'message'"),
        (lambda d: d["steps"][4].update(model_name="m"), r"model_name belongs to agent steps"),
        (lambda d: d["steps"][3]["tool_calls"][0].update(arguments="{}"), r"tool_calls\[0\]: arguments must be an object"),
        (
            lambda d: d["steps"][3]["observation"]["results"][0].update(source_call_id="q"),
            r"results\[0\] answers the call 'q'",
        ),
        (lambda d: d["steps"][3]["metrics"].update(logprobs=[-1.0]), r"2 completion_token_ids but 1 logprobs"),
        (lambda d: d["steps"][2].update(message=[1]), r"message must be a string or a list of parts"),
    ],
)
def test_a_broken_document_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(json.dumps(d) + "\n" for d in (foreign(), broken(change))), encoding="utf-8")
    rows = read_atif(path)
    next(rows)
    with pytest.raises(DataError, match=rf"log\.jsonl:2: .*{message}"):
        next(rows)


def test_a_call_without_an_observation_is_no_zero() -> None:
    document = foreign()
    document["steps"][3]["observation"]["results"].pop()
    record = from_atif(document)
    assert not record.in_statistics
    assert not record.in_loss
    assert record.error == "turn 0: the log does not hold the result of grep"
    assert without_ours(to_atif(record)) == document


def test_files_and_folders(tmp_path: Path) -> None:
    (tmp_path / "a" / "agent").mkdir(parents=True)
    (tmp_path / "a" / "agent" / "trajectory.json").write_text(json.dumps(foreign(), indent=2))
    (tmp_path / "a" / "result.json").write_text("{}")
    (tmp_path / "two.json").write_text(json.dumps([foreign(), foreign()]))
    assert [r.id for r in read_atif(tmp_path)] == ["run-1"]
    assert len(list(read_atif(tmp_path / "two.json"))) == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"holds no \.json file"):
        list(read_atif(tmp_path / "empty"))


def test_what_atif_cannot_hold_is_refused() -> None:
    with pytest.raises(DataError, match="at least one step"):
        to_atif(Trajectory("t", "e", "k", (), ()))
    record = from_atif(foreign())
    with pytest.raises(DataError, match="read from ATIF with 9 steps, has 8 now"):
        to_atif(record.with_(turns=record.turns[:-1]))
