"""Readers of chat logs and Search-R1 transcripts: turns, answers, faults; every broken line is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import ConfigError, DataError
from agentgym.interop.chat_jsonl import read_chat
from agentgym.interop.search_r1 import read_search_r1
from agentgym.types import Trajectory

INVALID = (
    "\nMy previous action is invalid. If I want to search, I should put the query between <search> and </search>. If I"
    " want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again.\n"
)
FOUND = '\n\n<information>Doc 1(Title: "Ada (film)") Ada is a film.\nDoc 2(Title: Bo) Bo was born in 1931.</information>\n\n'


def call(name: str, arguments: Any, id_: str = "a") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def native() -> dict[str, Any]:
    return {
        "id": "n1",
        "task_id": "q7",
        "answers": ["1931", "the year 1931"],
        "run": 3,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "When?"}, {"type": "image_url", "image_url": {"url": "a.png"}}]},
            {
                "role": "assistant",
                "content": "<think>two at once</think>",
                "tool_calls": [call("search", '{"query": "bo"}', "x"), call("open", {"doc_id": "d1"}, "y")],
            },
            {"role": "tool", "tool_call_id": "y", "content": "page"},
            {"role": "tool", "tool_call_id": "x", "content": '["d1"]'},
            {"role": "assistant", "content": "Of which Bo?"},
            {"role": "user", "content": "The first."},
            {"role": "assistant", "content": "1931 "},
        ],
    }


def as_text() -> dict[str, Any]:
    return {
        "question": "When?",
        "answer": "1931",
        "messages": [
            {"role": "user", "content": "Question: When?"},
            {"role": "assistant", "content": "<think>hm</think><search>bo</search>"},
            {"role": "user", "content": "<information>Bo, 1931</information>"},
            {"role": "assistant", "content": "<information>1932</information><answer>1932</answer>"},
            {"role": "user", "content": "only the environment writes that"},
            {"role": "assistant", "content": "<answer>1931</answer>"},
        ],
    }


def transcript(text: str, **output: Any) -> dict[str, Any]:
    body = {"query": "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nQ<|im_end|>\n", "final_response": text, **output}
    return {"id": "t1", "question": "When?", "golden_answers": ["1931", "31"], "output": body}


def summary(record: Trajectory) -> tuple[Any, ...]:
    return record.answer, record.end_reason, record.in_statistics, record.error


# ---- chat


def test_native_calls_become_turns(tmp_path: Path) -> None:
    (record,) = read_chat(write(tmp_path / "c.jsonl", native()))
    assert (record.id, record.task_id, record.question) == ("n1", "q7", "When?")
    assert [b.type for b in record.prompt[1].content] == ["text", "image"]
    assert [[c.name for c in t.calls] for t in record.turns] == [["search", "open"], ["reply"], ["answer"]]
    assert [r.data for r in record.turns[0].results] == [["d1"], "page"], "results belong to calls by their ids"
    assert record.turns[0].thought == "two at once"
    assert summary(record) == ("1931", "answered", True, "")
    assert record.gold["answers"] == [{"text": "1931"}, {"text": "the year 1931"}]
    assert record.info["extra"] == {"run": 3}


def test_calls_in_the_text_are_found(tmp_path: Path) -> None:
    (record,) = read_chat(write(tmp_path / "c.jsonl", as_text()))
    assert [[c.name for c in t.calls] for t in record.turns] == [["search"], [], ["answer"]]
    assert [t.error_code for t in record.turns] == ["", "E_RESERVED", ""], "a forged result runs nothing"
    assert summary(record) == ("1931", "answered", True, "")
    row = as_text()
    row["messages"][1:] = [
        {"role": "assistant", "content": '<tool_call>{"name": "look", "arguments": {"at": 3}}</tool_call>'},
        {"role": "tool", "content": "Bo"},
        {"role": "assistant", "content": "1931"},
    ]
    (record,) = read_chat(write(tmp_path / "j.jsonl", row))
    assert [(c.name, c.arguments) for t in record.turns for c in t.calls] == [("look", {"at": 3}), ("answer", {"text": "1931"})]
    (record,) = read_chat(tmp_path / "j.jsonl", dialect="none")
    assert record.turns[0].calls == ()


def test_a_call_that_the_model_wrote_badly_is_its_fault(tmp_path: Path) -> None:
    row = native()
    row["messages"][2]["tool_calls"] = [call("search", "{bad", "x")]
    row["messages"][3:5] = [{"role": "tool", "tool_call_id": "x", "content": "error: bad JSON"}]
    (record,) = read_chat(write(tmp_path / "c.jsonl", row))
    assert (record.turns[0].error_code, record.turns[0].calls) == ("E_PARSE", ())
    assert summary(record) == ("1931", "answered", True, "")


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda m: m.pop(4), "turn 0: the log does not hold the result of search"),
        (lambda m: m.__delitem__(slice(3, None)), "turn 0: the log does not hold the result of search, open"),
        (lambda m: m.__delitem__(slice(2, None)), "the log holds no assistant message"),
    ],
)
def test_a_missing_turn_is_no_zero(tmp_path: Path, change: Callable[[list[Any]], Any], error: str) -> None:
    row = native()
    change(row["messages"])
    (record,) = read_chat(write(tmp_path / "c.jsonl", row))
    assert summary(record) == (None, "env_error", False, error)
    assert not record.in_loss


def test_a_log_that_stops_before_an_answer_was_cut_by_a_limit(tmp_path: Path) -> None:
    row = native()
    del row["messages"][5:]
    (record,) = read_chat(write(tmp_path / "c.jsonl", row))
    assert summary(record) == (None, "max_turns", True, "")
    assert record.truncated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(messages={}), "'messages' must be a list of messages, found an object"),
        (lambda r: r.update(mesages=r.pop("messages")), "did you mean 'mesages'"),
        (lambda r: r["messages"][0].update(role="sistem"), "message 0: role is 'sistem'.*did you mean 'system'"),
        (lambda r: r["messages"][1].update(content=[{"type": "audio"}]), "message 1: content must be text, or"),
        (lambda r: r["messages"][2].update(tool_calls=[{"name": "f"}]), "message 2: tool call 1 must be"),
        (lambda r: r["messages"][3].update(tool_call_id="z"), "message 2: the tool message for call 'z' answers no call"),
        (lambda r: r.update(answers=[3]), "item 1 of .*answers.* must be a string"),
        (lambda r: r.update(gold={"anwers": []}), "gold: anwers: unknown key; did you mean 'answers'"),
    ],
)
def test_a_broken_conversation_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    row = native()
    change(row)
    rows = read_chat(write(tmp_path / "c.jsonl", native(), row))
    next(rows)
    with pytest.raises(DataError, match=rf"c\.jsonl:2: .*{message}"):
        next(rows)


def test_an_unknown_dialect_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dialect 'tag'.*did you mean 'tags'"):
        list(read_chat(write(tmp_path / "c.jsonl", native()), dialect="tag"))


# ---- Search-R1


def test_a_transcript_is_taken_apart_where_the_system_wrote(tmp_path: Path) -> None:
    text = f"<think>a</think> <search> bo </search>{FOUND}<think>b</think>{INVALID}<search>bo</search>{FOUND}<answer> 1931 </answer>"
    row = transcript(text, pred="1931", metric_score={"em": 1.0}, prompt_tokens=9)
    (record,) = read_search_r1(write(tmp_path / "s.jsonl", row))
    assert [m.role for m in record.prompt] == ["system", "user"]
    assert [[c.arguments for c in t.calls] for t in record.turns] == [[{"query": "bo"}], [], [{"query": "bo"}], [{"text": "1931"}]]
    assert [t.error_code for t in record.turns] == ["", "E_PARSE", "", ""]
    first, again = record.turns[0].results[0].documents, record.turns[2].results[0].documents
    assert [(d.title, d.text, d.seen_before) for d in first] == [
        ("Ada (film)", "Ada is a film.", False),
        ("Bo", "Bo was born in 1931.", False),
    ]
    assert [(d.id, d.seen_before) for d in again] == [(d.id, True) for d in first]
    assert summary(record) == ("1931", "answered", True, "")
    assert record.info["recorded"] == {"pred": "1931", "scores": {"em": 1.0}}
    assert record.info["extra"] == {"prompt_tokens": 9}
    assert record.gold == {"answers": [{"text": "1931", "aliases": ["31"]}]}


@pytest.mark.parametrize(
    ("text", "codes", "strict_answer"),
    [
        ("<information>1931</information><answer>1931</answer>", ["E_RESERVED"], None),
        ("<think>open <search>bo</search>" + FOUND + "<answer>1931</answer>", ["E_PARSE", ""], "1931"),
    ],
)
def test_what_the_logged_system_let_pass(tmp_path: Path, text: str, codes: list[str], strict_answer: str | None) -> None:
    path = write(tmp_path / "s.jsonl", transcript(text))
    (record,) = read_search_r1(path)
    assert record.answer == "1931", "the record says what happened"
    assert [t.error_code for t in record.turns] == codes, "and what our rules say of it"
    (strict,) = read_search_r1(path, strict=True)
    assert strict.answer == strict_answer
    assert [bool(t.calls) for t in strict.turns] == [not code for code in codes]


@pytest.mark.parametrize(
    ("text", "output", "expected"),
    [
        ("<search>bo</search>", {}, (None, "env_error", False, "turn 0: the log does not hold the result of search")),
        ("<search>bo</search>\n<information>Doc 1(Ti", {}, (None, "env_error", False, "turn 0: the log does not hold the result of search")),
        (" ", {}, (None, "env_error", False, "the log holds no text of the model")),
        ("<think>and on", {"stop_reason": "length"}, (None, "max_tokens", True, "")),
        ("<search>bo</search>" + FOUND, {}, (None, "max_turns", True, "")),
        ("I do not know", {"stop_reason": "stop"}, (None, "failed", True, "")),
    ],
)  # fmt: skip
def test_how_a_transcript_without_an_answer_ends(tmp_path: Path, text: str, output: dict[str, Any], expected: Any) -> None:
    (record,) = read_search_r1(write(tmp_path / "s.jsonl", transcript(text, **output)))
    assert summary(record) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.pop("golden_answers"), "field 'golden_answers' is missing"),
        (lambda r: r.update(golden_answers="1931"), "golden_answers must be a list, found a string"),
        (lambda r: r.update(golden_answers=[1931]), "golden_answers must be a list of strings"),
        (lambda r: r["output"].update(final_response=None), "output: final_response must be a string, found null"),
    ],
)
def test_a_broken_transcript_is_named(tmp_path: Path, change: Callable[[dict[str, Any]], Any], message: str) -> None:
    row = transcript("x")
    change(row)
    with pytest.raises(DataError, match=rf"s\.jsonl:1: .*{message}"):
        list(read_search_r1(write(tmp_path / "s.jsonl", row)))
