"""Records as ATIF documents: the parts that both know, and the rest under extra["agentgym"]."""

import mimetypes
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from agentgym import schema
from agentgym.interop.conversation import composed
from agentgym.types import JSON, Block, Message, Segment, Span, ToolCall, Trajectory, Turn

OURS = "agentgym"
"""Key of `extra`: what only AgentGym knows."""
INFO = "atif"
"""Key of `Trajectory.info`: what only the ATIF document knew. Also the `env_id` of what others wrote."""
VERSION = "ATIF-v1.7"
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
"""Media types that ATIF knows; an image of another type is called the second."""


def document(record: Trajectory) -> dict[str, Any]:
    """Return a record as a document in which every root, step and result has an `extra`, empty ones too."""
    metrics = token_metrics(record.segments)
    steps = [_prompt_step(m) for m in record.prompt]
    for turn in record.turns:
        steps += _turn_steps(turn, record.env_id == INFO, metrics.get(turn.index))
    for number, step in enumerate(steps, 1):
        step["step_id"] = number
    rest = schema.to_json(record)
    for name in ("id", "prompt", "turns"):
        rest.pop(name, None)
    if rebuilt(metrics) == record.segments:
        rest.pop("segments", None)
    if INFO in record.info:
        rest["info"] = {k: v for k, v in record.info.items() if k != INFO}
    return {
        "schema_version": VERSION,
        "session_id": record.group_id or record.id,
        "trajectory_id": record.id,
        "agent": {"name": "agentgym", "version": _own_version(), "extra": {}},
        "steps": steps,
        "final_metrics": {"total_steps": len(steps), **_totals(metrics), "extra": {}},
        "extra": {OURS: rest},
    }


def _own_version() -> str:
    try:
        return version("agentic-gym")
    except PackageNotFoundError:  # a checkout that is not installed
        return "0+unknown"


def content(blocks: Sequence[Block]) -> JSON:
    """Return content blocks as ATIF has them: a string for one text, else a list of parts."""
    if len(blocks) == 1 and blocks[0].type == "text":
        return blocks[0].text
    return [
        {"type": "text", "text": b.text}
        if b.type == "text"
        else {"type": "image", "source": {"media_type": media_type(b.source), "path": b.source}}
        for b in blocks
    ]


def media_type(source: str) -> str:
    """Return the media type of an image by its data URI or its name."""
    named = source[5:].split(";")[0].split(",")[0] if source.startswith("data:") else mimetypes.guess_type(source)[0]
    return named if named in IMAGES else "image/png"


def call_name(turn: int, call_id: str, *, theirs: bool) -> str:
    """Return a call's id in the document: ours are unique within a turn only, ATIF's within the trajectory."""
    return call_id if theirs else f"{turn}:{call_id}"


def _prompt_step(message: Message) -> dict[str, Any]:
    """Return a message of the prompt as a step; worked examples (assistant, tool) as context that was not acted."""
    ours = {k: v for k, v in (("name", message.name), ("call_id", message.call_id)) if v}
    if message.role in ("system", "user"):
        source, copied = message.role, {}
    else:
        source, copied = "agent", {"is_copied_context": True}
        ours["role"] = message.role
    extra = {OURS: ours} if ours else {}
    return {"step_id": 0, "source": source, "message": content(message.content), **copied, "extra": extra}


def _turn_steps(turn: Turn, theirs: bool, metrics: dict[str, JSON] | None) -> list[dict[str, Any]]:
    """Return a turn as one agent step and a step for each message of other people that is no observation."""
    calls = [c for c in turn.calls if c.id] if theirs else list(turn.calls)
    text, form = _text(turn, calls)
    rest = schema.to_json(turn)
    for name in ("index", "action", "messages", "thought", *(("calls",) if len(calls) == len(turn.calls) else ())):
        rest.pop(name, None)
    if form:
        rest["action"] = form
    step: dict[str, Any] = {"step_id": 0, "source": "agent", "message": text}
    if turn.thought:
        step["reasoning_content"] = turn.thought
    if calls:
        step["tool_calls"] = [
            {
                "tool_call_id": call_name(turn.index, c.id, theirs=theirs),
                "function_name": c.name,
                "arguments": c.arguments,
                "extra": {},
            }
            for c in calls
        ]
    observed, told = _observed(turn, calls, theirs)
    if observed:
        step["observation"] = {"results": [_result(m, turn, calls, theirs) for m in observed]}
    if metrics:
        step["metrics"] = {**metrics, "extra": {}}
    step["extra"] = {OURS: rest}
    return [step, *(_prompt_step(m) for m in told)]


def _text(turn: Turn, calls: Sequence[ToolCall]) -> tuple[str, str]:
    """Return the message, and how it makes the action.

    "": thought, message and calls together; "text": thought and message, which holds the calls; "whole": the message.
    """
    head, tail = composed(turn.thought, "", ()), composed("", "", calls)
    if turn.action.startswith(head) and turn.action.endswith(tail) and len(turn.action) >= len(head) + len(tail):
        text = turn.action[len(head) : len(turn.action) - len(tail)]
        return text, ""
    if turn.action.startswith(head):
        return turn.action[len(head) :], "text"
    return turn.action, "whole"


def _observed(turn: Turn, calls: Sequence[ToolCall], theirs: bool) -> tuple[list[Message], list[Message]]:
    """Return (messages that answer the action, messages of other people).

    The tags dialect answers in a message of role user: the first one, if the action was a call or a bad one.
    """
    messages = list(turn.messages)
    n = max((i for i, m in enumerate(messages, 1) if m.role == "tool"), default=0)
    if not n and messages and not theirs and (calls or turn.error_code):
        n = 1
    return messages[:n], messages[n:]


def _result(message: Message, turn: Turn, calls: Sequence[ToolCall], theirs: bool) -> dict[str, Any]:
    ids = [c.id for c in calls]
    call_id = message.call_id or (ids[0] if len(ids) == 1 and message.role == "user" else "")
    result: dict[str, Any] = {"content": content(message.content), "extra": {}}
    if call_id in ids:
        result["source_call_id"] = call_name(turn.index, call_id, theirs=theirs)
    if not theirs:
        result["extra"] = {OURS: {"role": message.role, "name": message.name, "call_id": message.call_id}}
    return result


# ---- tokens


def token_metrics(segments: Sequence[Segment]) -> dict[int, dict[str, JSON]]:
    """Return the tokens of every turn as ATIF's metrics: the whole context, the completion, its log-probabilities."""
    found: dict[int, dict[str, JSON]] = {}
    for segment in segments:
        for span in segment.spans:
            ids = segment.ids[span.start : span.end]
            found[span.turn] = {
                "prompt_tokens": span.start,
                "completion_tokens": len(ids),
                "prompt_token_ids": list(segment.ids[: span.start]),
                "completion_token_ids": list(ids),
                "logprobs": list(segment.logprobs[span.start : span.end]),
            }
    return found


def rebuilt(metrics: dict[int, dict[str, Any]]) -> tuple[Segment, ...]:
    """Return the segments that the metrics of the turns tell: a context that does not go on starts another."""
    segments: list[tuple[list[int], list[int], list[float], list[Span]]] = []
    for turn, row in sorted(metrics.items()):
        context, ids = row["prompt_token_ids"], row["completion_token_ids"]
        if not segments or context[: len(segments[-1][0])] != segments[-1][0]:
            segments.append(([], [], [], []))
        all_ids, mask, logprobs, spans = segments[-1]
        new = context[len(all_ids) :]
        all_ids += [*new, *ids]
        mask += [0] * len(new) + [1] * len(ids)
        logprobs += [0.0] * len(new) + [float(x) for x in row["logprobs"]]
        spans.append(Span(turn, len(context), len(context) + len(ids)))
    return tuple(Segment(tuple(i), tuple(m), tuple(p), tuple(s)) for i, m, p, s in segments)


def _totals(metrics: dict[int, dict[str, Any]]) -> dict[str, JSON]:
    if not metrics:
        return {}
    names = {"total_prompt_tokens": "prompt_tokens", "total_completion_tokens": "completion_tokens"}
    return {total: sum(row[name] for row in metrics.values()) for total, name in names.items()}


def mapped_extras(
    value: Any, change: Callable[[dict[str, JSON]], dict[str, JSON]], *, drop_empty: bool = False
) -> Any:
    """Return a document with every `extra` of its own changed; arguments and foreign extras are not looked into."""
    if isinstance(value, list):
        return [mapped_extras(item, change, drop_empty=drop_empty) for item in value]
    if not isinstance(value, dict):
        return value
    copy: dict[str, Any] = {}
    for key, item in value.items():
        if key == "extra" and isinstance(item, dict):
            new = change(item)
            if new or not drop_empty:
                copy[key] = new
        elif key in ("arguments", "tool_definitions", "subagent_trajectories"):
            copy[key] = item
        else:
            copy[key] = mapped_extras(item, change, drop_empty=drop_empty)
    return copy
