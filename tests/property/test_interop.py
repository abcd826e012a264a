"""Any record survives ATIF, whatever its texts look like; any text is read as a transcript without an exception."""

import json
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentgym import schema
from agentgym.errors import DataError
from agentgym.interop.atif import from_atif, to_atif
from agentgym.interop.conversation import composed
from agentgym.interop.search_r1 import pieces
from agentgym.rollout import read_logs
from agentgym.types import Block, Message, Segment, Span, ToolCall, ToolResult, Trajectory, Turn

MARKUP = ("<think>", "</think>", "<tool_call>", "</tool_call>", "<search>", "</search>", "<information>", "</information>", "{", "}", "\n", " ", "a")
texts = st.lists(st.sampled_from(MARKUP) | st.text(max_size=4), max_size=8).map("".join)
scalars = st.none() | st.booleans() | st.integers(-9, 9) | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(texts, inner, max_size=2), max_leaves=4)
blocks = st.builds(lambda t: Block(text=t), texts) | st.builds(lambda s: Block("image", source=s), texts)
messages = st.builds(
    Message, st.sampled_from(("system", "user", "assistant", "tool")), st.lists(blocks, max_size=3).map(tuple), texts, texts
)


@st.composite
def turn(draw: st.DrawFn, index: int) -> Turn:
    names = draw(st.lists(texts, max_size=2))
    calls = tuple(ToolCall(n, draw(st.dictionaries(texts, values, max_size=2)), f"c{i}") for i, n in enumerate(names))
    results = tuple(ToolResult(c.id, c.name, draw(st.booleans()), draw(values)) for c in calls)
    thought = draw(texts)
    action = draw(texts | st.just(composed(thought, "", calls)) | texts.map(lambda t: composed(thought, t, ())))
    answered = draw(st.lists(messages.filter(lambda m: m.role != "assistant"), max_size=3))
    code = draw(st.sampled_from(("", "E_PARSE")))
    return Turn(index, action, calls, results, code, messages=tuple(answered), thought=thought)


@st.composite
def trajectory(draw: st.DrawFn) -> Trajectory:
    turns = tuple(draw(turn(i)) for i in range(draw(st.integers(1, 3))))
    segments = ()
    if draw(st.booleans()):
        ids, mask, logprobs, spans = [], [], [], []
        for t in turns:
            n_context, n = draw(st.integers(0, 2)), draw(st.integers(0, 2))
            spans.append(Span(t.index, len(ids) + n_context, len(ids) + n_context + n))
            ids += draw(st.lists(st.integers(0, 9), min_size=n_context + n, max_size=n_context + n))
            mask += [0] * n_context + [1] * n
            logprobs += [0.0] * n_context + [-0.5] * n
        segments = (Segment(tuple(ids), tuple(mask), tuple(logprobs), tuple(spans)),)
    # a copied example at the edge of prompt and turns is told apart by its mark
    prompt = tuple(draw(st.lists(messages, max_size=3)))
    return Trajectory("t", "Own-v0", "k", prompt, turns, segments=segments, info={"x": draw(values)})


@settings(max_examples=150, deadline=None)
@given(trajectory())
def test_any_record_survives_atif(record: Trajectory) -> None:
    document = json.loads(json.dumps(to_atif(record, gold=True)))
    assert from_atif(document) == record


@settings(max_examples=200, deadline=None)
@given(texts)
def test_a_transcript_is_taken_apart_without_loss(text: str) -> None:
    found = list(pieces(text))
    assert "".join(p.action for p in found).strip() == "" or all(p.action in text for p in found)
    assert [p.kind == "end" for p in found][:-1].count(True) == 0, "only the last piece is an end"
    assert sum(len(p.action) + len(p.answered or "") for p in found) <= len(text)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place of a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(p for k, v in inner for p in places(v, (*path, k)))]


def replaced(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The value with another one at a place."""
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(value[path[0]], path[1:], new)
    return copy


CHAT = {
    "id": "n", "question": "q", "answers": ["x"], "aliases": ["y"], "tools": [{"function": {"name": "f", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}}}],
    "gold": {"answers": [{"text": "x"}]},
    "messages": [
        {"role": "user", "content": [{"type": "text", "text": "q"}, {"type": "image_url", "image_url": {"url": "u"}}]},
        {"role": "assistant", "content": None, "reasoning_content": "hm",
         "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "a", "name": "f", "content": "{}"},
        {"role": "assistant", "content": "x"},
    ],
}  # fmt: skip
TEXT_CHAT = {**CHAT, "messages": [CHAT["messages"][0], {"role": "assistant", "content": "<search>q</search>"}, *CHAT["messages"][2:]]}
TRANSCRIPT = {
    "id": "t", "question": "q", "golden_answers": ["x"], "metadata": {},
    "output": {"query": "q", "final_response": "<answer>x</answer>", "pred": "x", "metric_score": {"em": 1.0}, "stop_reason": "stop"},
}  # fmt: skip
OURS = to_atif(
    Trajectory(
        "t", "Own-v0", "k", (Message.of("user", "q"), Message.of("tool", "r", name="f")),
        (Turn(0, "<think>h</think>a", (ToolCall("f", {"x": [1]}, "c1"),), (ToolResult("c1", "f", True),), thought="h",
              messages=(Message.of("tool", "r", name="f", call_id="c1"),)),),
        segments=(Segment((1, 2), (0, 1), (0.0, -1.0), (Span(0, 1, 2),)),),
    )
)  # fmt: skip
THEIRS = {**OURS, "steps": [{k: v for k, v in s.items() if k != "extra"} for s in OURS["steps"]], "extra": {"a": 1}}
ROWS = {"chat": CHAT, "chat (text)": TEXT_CHAT, "search_r1": TRANSCRIPT, "atif (ours)": OURS, "atif (theirs)": THEIRS}


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_row_with_anything_anywhere_is_read_or_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(ROWS)))
    row = ROWS[name]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(places(row)[1:]))
        row = replaced(row, place, data.draw(values))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        try:
            (record,) = read_logs(path, name.split()[0])
        except DataError as error:
            refused = str(error)
        else:
            refused = ""
    if refused:
        assert refused.startswith(f"{path}:1"), "the error does not name its place"
        return
    assert schema.from_json(Trajectory, schema.to_json(record)) == record
    if name.startswith("atif"):
        to_atif(record)
