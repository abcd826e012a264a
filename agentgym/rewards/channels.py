"""What happened in a turn, as text by channel: what was called, returned, said, thought, and the state after it.

Every channel comes from typed events. Nothing that a policy types can appear in the results or in the state, and a
call or a reply counts only if the environment carried it out.
"""

import json
from collections.abc import Sequence

from agentgym.criterion import Focus
from agentgym.rewards.events import TALK, succeeded
from agentgym.types import JSON, ToolCall, ToolResult, Turn

REPLY_TOOLS = TALK
"""Tools whose text arguments the user reads."""
TURN_ENDING_TOOLS = frozenset(("reply",))
"""Tools that hand the word back to the user: a successful call ends the user turn."""


def channel_text(focus: Focus, turn: Turn, state: JSON = None) -> str:
    """Return the text of a channel in one turn; empty where the turn has none.

    Args:
        focus: the channel.
        turn: the turn.
        state: the state after it, for the channel "state".
    """
    if focus == "calls":
        return "\n".join(call_text(call) for call, _ in succeeded(turn))
    if focus == "results":
        return "\n\n".join(result_text(result) for result in turn.results if result.ok)
    if focus == "reply":
        return "\n".join(filter(None, (said(call, result) for call, result in succeeded(turn))))
    if focus == "answer":
        return "\n".join(reply_text(call) for call, _ in succeeded(turn) if call.name == "answer")
    if focus == "thought":
        return turn.thought
    return "" if state is None else json.dumps(state, ensure_ascii=False, sort_keys=True)


def call_text(call: ToolCall) -> str:
    """Return a call as one line of JSON."""
    return json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False)


def result_text(result: ToolResult) -> str:
    """Return what a successful call gave, as the policy was shown it: documents by title and text, else the data."""
    if result.documents:
        return "\n".join(f"{d.title}\n{d.text}" if d.title else d.text for d in result.documents)
    return result.data if isinstance(result.data, str) else json.dumps(result.data, ensure_ascii=False)


def reply_text(call: ToolCall) -> str:
    """Return the words that a call says to the user: its text arguments, joined by line breaks."""
    return "\n".join(value for value in call.arguments.values() if isinstance(value, str))


def said(call: ToolCall, result: ToolResult) -> str:
    """Return what a call told the user: the event "said", else the text arguments of a tool that talks."""
    event = result.events.get("said")
    if isinstance(event, str):
        return event
    return reply_text(call) if call.name in REPLY_TOOLS else ""


def ends_user_turn(turn: Turn) -> bool:
    """Whether the turn hands the word back to the user: by the event "user_turn_ended", else by `reply`."""
    return any(
        bool(result.events.get("user_turn_ended", call.name in TURN_ENDING_TOOLS)) for call, result in succeeded(turn)
    )


def user_turns(turns: Sequence[Turn]) -> list[int]:
    """Return for each turn the user turn that it belongs to, from 0."""
    numbers, current = [], 0
    for turn in turns:
        numbers.append(current)
        current += ends_user_turn(turn)
    return numbers
