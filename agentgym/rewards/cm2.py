"""Recorded tool dialogues with a checklist per user turn, in the JSON form of CM2, as trajectories to be scored.

    suite = build_suite("checklist")
    records = [suite.rescore(t) for t in read_cm2(path)]
    scored = suite.complete(records, judge=judge_service("endpoint", base_url=…, model=…))

An assistant message with tool calls is one turn with the results that follow it; one without is a turn that replies,
which ends the user turn. What a recorded tool answered counts as its result also where it reports an error, since the
criteria are about it.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.criterion import Criterion, Focus
from agentgym.errors import DataError
from agentgym.jsonl import parse_json
from agentgym.task import Gold
from agentgym.types import JSON, Message, ToolCall, ToolResult, Trajectory, Turn

_FOCUS: dict[str, Focus] = {
    "assistant.tool_calls": "calls",
    "assistant.content.thinking": "thought",
    "assistant.content.user_visible_reply": "reply",
    "tool.content": "results",
}
_ABSENT = re.compile(
    r"\b(?:(?:contains?|provides?|includes?|has|makes?|presents?) no|avoids?|does not|do not|never)\b", re.I
)
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)


def read_cm2(path: str | Path, which: int = 0) -> Iterator[Trajectory]:
    """Yield the dialogues of a file, each with one of its checklists as gold.

    Args:
        path: a JSON file with a list of dialogues (messages, checklists).
        which: index of the checklist, where a dialogue has several.

    Raises:
        DataError: The file cannot be read, a dialogue lacks a part, or its checklist cannot score; with the number of
            the dialogue and the key.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    rows = parse_json(text, str(path))
    if not isinstance(rows, list):
        raise DataError(f"{path}: expected a list of dialogues")
    for number, row in enumerate(rows):
        where = f"{path}: dialogue {number}"
        try:
            turns = tuple(_turns(row["messages"]))
            lists = row["checklists"]
            if not which < len(lists):
                raise DataError(f"{where}: has {len(lists)} checklists; which={which} is none of them")
            criteria = tuple(c for turn, items in enumerate(lists[which]) for c in _criteria(items, turn, where))
            gold = Gold(checklist=criteria)
            question = row["messages"][0]["content"]
            id_ = str(row["uuid"])
        except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
            raise DataError(f"{where}: not the form of CM2: {type(error).__name__}: {error}") from error
        prompt = (Message.of("user", question),)
        yield Trajectory(
            id=id_,
            env_id="cm2",
            task_id=id_,
            prompt=prompt,
            turns=turns,
            question=question,
            end_reason="finished",
            terminated=True,
            gold=schema.to_json(gold),
        )


def _turns(messages: Sequence[dict[str, Any]]) -> Iterator[Turn]:
    index, at = 0, 0
    while at < len(messages):
        message = messages[at]
        at += 1
        if message["role"] != "assistant":
            continue
        thought, said = _split(message["content"] or "")
        answers = []
        while at < len(messages) and messages[at]["role"] in ("tool", "user"):
            answers.append(messages[at])
            at += 1
        calls = [_call(c, n) for n, c in enumerate(message.get("tool_calls") or (), 1)]
        results = [_result(c, a) for c, a in zip(calls, (a for a in answers if a["role"] == "tool"), strict=False)]
        if not calls:
            calls = [ToolCall("reply", {"text": said}, "c1")]
            results = [ToolResult("c1", "reply", True)]
        shown = tuple(Message.of(a["role"], a["content"] or "") for a in answers)
        action = said or json.dumps([{"name": c.name, "arguments": c.arguments} for c in calls], ensure_ascii=False)
        yield Turn(index, action, tuple(calls), tuple(results), messages=shown, thought=thought)
        index += 1


def _split(content: str) -> tuple[str, str]:
    """Return (thought, what the user reads) of an assistant's content."""
    found = _THOUGHT.match(content)
    return (found.group(1).strip(), content[found.end() :]) if found else ("", content)


def _call(row: dict[str, Any], number: int) -> ToolCall:
    function = row["function"]
    arguments = function["arguments"]
    return ToolCall(function["name"], json.loads(arguments) if isinstance(arguments, str) else arguments, f"c{number}")


def _result(call: ToolCall, message: dict[str, Any]) -> ToolResult:
    content = message["content"]
    try:
        data: JSON = json.loads(content)
    except (TypeError, ValueError):
        data = content
    return ToolResult(call.id, call.name, True, data)


def _criteria(items: Sequence[dict[str, Any]], turn: int, where: str) -> Iterator[Criterion]:
    for item in items:
        focus = _FOCUS.get(item["focus_on"])
        if focus is None:
            raise DataError(f"{where}: focus_on {item['focus_on']!r} is none of {', '.join(_FOCUS)}")
        absent = bool(_ABSENT.search(item["pass_condition"]))
        snippets = (e["snippet"] for e in item["evidence"] if _FOCUS.get(e["from"]) == focus)
        yield Criterion(
            id=f"{turn}.{item['id']}",
            kind="judge",
            question=item["question"],
            condition=item["pass_condition"],
            focus=focus,
            polarity="absent" if absent else "present",
            # A snippet beside a statement of absence shows a text without the offence: nothing to look for.
            evidence=() if absent else tuple(_plain(s) if focus == "calls" else s for s in snippets),
            fail_examples=tuple(item["failure_examples"]),
            weight=float(item["weight"]),
            critical=bool(item["required_for_next_turn"]),
            after=tuple(f"{turn}.{id_}" for id_ in item["dependence"]),
            turn=turn,
        )


def _plain(snippet: str) -> str:
    """Return a snippet of a call with its arguments as an object instead of as quoted JSON."""
    return snippet.replace('\\"', '"').replace('"{', "{").replace('}"', "}")
