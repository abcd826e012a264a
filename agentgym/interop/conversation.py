"""What readers of others' logs share: assistant messages and their answers become turns, calls and results.

What a recorded tool answered counts as its result, errors it reports included: nobody else can say what failed. A
result that the log does not hold makes the record faulty: it is in neither statistics nor loss, and says why.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentgym.dialects import JsonDialect
from agentgym.rewards.costs import SERVICE_CODES
from agentgym.types import JSON, Message, ToolCall, ToolResult, Trajectory, Turn

CLOSING = {"answer": "answered", "finish": "finished"}
"""Tools that end an episode, and how such an end is called."""
SAID = ("text", "answer", "message")
"""Arguments of a closing call that hold the answer."""
_LOST = min(SERVICE_CODES)


@dataclass(frozen=True, slots=True)
class Draft:
    """One assistant message with what followed it."""

    text: str
    """What it said, without thought and calls that are fields of their own."""
    thought: str = ""
    calls: tuple[ToolCall, ...] = ()
    messages: tuple[Message, ...] = ()
    """Results and other people's messages up to the next assistant message."""
    error_code: str = ""
    error: str = ""
    action: str | None = None
    """The whole text as the policy wrote it, where the log has it; None: put together by `composed`."""


def composed(thought: str, text: str, calls: Sequence[ToolCall]) -> str:
    """Return thought, text and calls as one action in the json dialect's form."""
    head = f"<think>{thought}</think>" if thought else ""
    return head + text + (JsonDialect("").render(calls) if calls else "")


def recorded(drafts: Sequence[Draft], **fields: Any) -> Trajectory:
    """Return the trajectory of a whole conversation.

    Args:
        drafts: its assistant messages, in order.
        fields: the other fields of the `Trajectory` (id, env_id, task_id, prompt, question, gold, info).
    """
    turns, faults = [], []
    for index, draft in enumerate(drafts):
        last = index == len(drafts) - 1
        calls = draft.calls or _spoken(draft, last=last)
        results, lost = _results(calls, draft.messages, last=last)
        if lost:
            faults.append(f"turn {index}: the log does not hold the result of {', '.join(c.name for c in lost)}")
        action = draft.action if draft.action is not None else composed(draft.thought, draft.text, draft.calls)
        turns.append(
            Turn(index, action, calls, results, draft.error_code, draft.error, draft.messages, thought=draft.thought)
        )
    record = Trajectory(turns=tuple(turns), **fields)
    if not turns:
        return faulty(record, "the log holds no assistant message")
    return faulty(_ended(record), faults[0]) if faults else _ended(record)


def faulty(record: Trajectory, error: str) -> Trajectory:
    """Return a record whose log is incomplete: it is in neither statistics nor loss."""
    return record.with_(
        end_reason="env_error",
        terminated=False,
        truncated=True,
        answer=None,
        in_statistics=False,
        in_loss=False,
        error=error,
    )


def value_of(text: str) -> JSON:
    """Return a tool's answer as JSON where it is an object or a list, else as text."""
    if text.lstrip()[:1] in ("{", "["):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return text
    return text


def _spoken(draft: Draft, *, last: bool) -> tuple[ToolCall, ...]:
    """Return the call that a message without calls amounts to: the final answer, or a reply that the user answers.

    Its id is empty: the log has no such call.
    """
    if draft.error_code or not draft.text.strip():
        return ()
    if last and not draft.messages:
        return (ToolCall("answer", {"text": draft.text.strip()}),)
    if draft.messages and all(m.role == "user" for m in draft.messages):
        return (ToolCall("reply", {"text": draft.text.strip()}),)
    return ()


def _results(
    calls: Sequence[ToolCall], messages: Sequence[Message], *, last: bool
) -> tuple[tuple[ToolResult, ...], list[ToolCall]]:
    """Return the result of every call, and the calls whose result the log does not hold."""
    tools = [m for m in messages if m.role == "tool"]
    by_id = {m.call_id: m for m in tools if m.call_id}
    unnamed = [m for m in tools if not m.call_id]
    shared = next((m for m in messages if m.role == "user"), None) if not tools else None
    results, lost = [], []
    for call in calls:
        found = by_id.get(call.id) or (unnamed.pop(0) if unnamed else shared)
        if found is not None:
            results.append(ToolResult(call.id, call.name, True, value_of(found.text)))
        elif not call.id or (last and call.name in CLOSING):
            results.append(ToolResult(call.id, call.name, True))
        else:
            lost.append(call)
            results.append(ToolResult(call.id, call.name, False, code=_LOST, error="the log does not hold this result"))
    return tuple(results), lost


def _ended(record: Trajectory) -> Trajectory:
    """Return the record with its end and answer, read from its last turn."""
    last = record.turns[-1]
    closing = next((c for c in reversed(last.calls) if c.name in CLOSING), None)
    if closing is None:
        spoke = bool(last.calls or last.messages)
        # Nothing says why the log stops before an answer: a limit of its own system, most likely.
        reason = "max_turns" if spoke or last.error_code else "gave_up"
        return record.with_(end_reason=reason, truncated=reason == "max_turns", terminated=reason == "gave_up")
    answer = next((closing.arguments[a] for a in SAID if isinstance(closing.arguments.get(a), str)), None)
    return record.with_(end_reason=CLOSING[closing.name], terminated=True, answer=answer and answer.strip())
