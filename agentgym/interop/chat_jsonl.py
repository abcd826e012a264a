"""Plain chat logs: JSON lines, one conversation each, calls as `tool_calls` fields or as text in the messages.

    {"messages": [{"role": "user", "content": "…"},
                  {"role": "assistant", "tool_calls": [{"id": "a", "function": {"name": "search", "arguments": "{…}"}}]},
                  {"role": "tool", "tool_call_id": "a", "content": "…"},
                  {"role": "assistant", "content": "the answer"}],
     "id": …, "task_id": …, "question": …, "answers": ["…"]}

All but messages is optional. `answer`, `answers`, `golden_answers` and `aliases` become gold, `gold` is gold as
AgentGym writes it. A conversation without `tool_calls` fields whose assistant writes <tool_call> or <search>, <answer>
tags is read with the json or tags dialect. The last assistant message without a call is the answer.
"""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agentgym import hooks, schema
from agentgym.dialects import Dialect
from agentgym.errors import AgentGymError, ConfigError, DataError, suggestion
from agentgym.interop.conversation import Draft, recorded
from agentgym.jsonl import json_type, read_objects
from agentgym.rollout.logs import EVENTS
from agentgym.sanitize import RESERVED_NAMES
from agentgym.task import Gold, Limits
from agentgym.types import JSON, Block, Message, Role, ToolCall, ToolSpec, Trajectory
from agentgym.worlds.question_rows import ANSWER_FIELDS, row_task

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
    "tool": "tool",
}
_KNOWN = ("messages", "id", "task_id", "question", "gold", "tools", "aliases", *ANSWER_FIELDS)
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_TAG = re.compile(r"<([A-Za-z_][\w.-]{0,63})(?:\s[^<>]*)?>[^<]*</\1>")
_JSON_NAME = re.compile(r'<tool_call>\s*\{\s*"name"\s*:\s*"([^"]+)"')
_TALK = ("search", "answer")
"""Tags that tell a conversation in the tags dialect from one that merely quotes markup."""
_FIRST = {"search": "query", "open": "doc_id", "find": "pattern"}
"""First parameters of tools whose definitions a log leaves out."""


def read_chat(path: str | Path, *, dialect: str = "auto") -> Iterator[Trajectory]:
    """Yield the conversations of a JSON lines file (.gz too).

    Args:
        path: the file.
        dialect: how calls are written in texts: "tags", "json", "none" (only `tool_calls` are calls), or "auto".

    Raises:
        ConfigError: unknown dialect.
        DataError: a line is not of this form; names file, line and message.
    """
    if dialect not in ("auto", "tags", "json", "none"):
        known = ("auto", "tags", "json", "none")
        raise ConfigError(f"dialect {dialect!r}: allowed: {', '.join(known)}{suggestion(dialect, known)}")
    path = Path(path)
    for line, row in read_objects(path):
        yield conversation(row, f"{path}:{line}", f"{path.name}:{line}", dialect)


def conversation(row: dict[str, JSON], where: str, name: str, dialect: str) -> Trajectory:
    """Return the trajectory of one row; `where` is named in messages, `name` stands in for a missing id."""
    rows = row.get("messages")
    if not isinstance(rows, list) or not rows:
        found = json_type(rows) if "messages" in row else f"the fields {', '.join(row) or 'none'}"
        raise DataError(f"{where}: field 'messages' must be a list of messages, found {found}{suggestion('messages', row)}")
    messages = [_message(m, f"{where}: message {n}") for n, m in enumerate(rows)]
    start = next((i for i, m in enumerate(messages) if m.role == "assistant"), len(messages))
    reader = None if any("tool_calls" in m for m in rows) else _dialect(messages, dialect)
    specs = _specs(row, messages, reader)
    drafts = []
    for at in range(start, len(messages)):
        if messages[at].role != "assistant":
            continue
        end = next((i for i in range(at + 1, len(messages)) if messages[i].role == "assistant"), len(messages))
        at_message = f"{where}: message {at}"
        drafts.append(_draft(rows[at], messages[at], tuple(messages[at + 1 : end]), reader, specs, at_message))
    prompt = tuple(messages[:start])
    question = row.get("question") or next((m.text for m in reversed(prompt) if m.role == "user"), "")
    id_ = str(row.get("id") or name)
    return recorded(
        drafts,
        id=id_,
        env_id="chat",
        task_id=str(row.get("task_id") or row.get("id") or name),
        prompt=prompt,
        question=str(question),
        gold=_gold(row, str(question), id_, where),
        info={EVENTS: [], "extra": {k: v for k, v in row.items() if k not in _KNOWN}},
    )


def _message(row: JSON, where: str) -> Message:
    if not isinstance(row, dict):
        raise DataError(f"{where}: must be an object with role and content, found {json_type(row)}")
    role = ROLES.get(str(row.get("role")))
    if role is None:
        raise DataError(f"{where}: role is {row.get('role')!r}; allowed: {', '.join(ROLES)}{suggestion(str(row.get('role')), ROLES)}")
    call_id = row.get("tool_call_id") if role == "tool" else None
    return Message(role, tuple(_blocks(row.get("content"), where)), str(row.get("name") or ""), str(call_id or ""))


def _blocks(content: JSON, where: str) -> Iterator[Block]:
    if isinstance(content, str) or content is None:
        yield Block(text=content or "")
        return
    for part in content if isinstance(content, list) else [content]:
        match part:
            case {"type": "text", "text": str(text)}:
                yield Block(text=text)
            case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
                yield Block("image", source=url)
            case _:
                raise DataError(f"{where}: content must be text, or a list of text and image_url parts; found {part!r:.80}")


def _draft(
    row: dict[str, Any],
    message: Message,
    answered: tuple[Message, ...],
    reader: Dialect | None,
    specs: Sequence[ToolSpec],
    where: str,
) -> Draft:
    text = message.text
    if reader is not None:
        limits = Limits(max_calls_per_turn=64, max_action_chars=len(text) + 1)
        read = reader.parse(text, specs, limits)
        return Draft(text, read.thought, read.calls, answered, read.error_code, read.error, text)
    found = _THOUGHT.match(text)
    thought = row.get("reasoning_content") or row.get("reasoning") or (found.group(1).strip() if found else "")
    said = text[found.end() :] if found else text
    given = row.get("tool_calls") or []
    if not isinstance(given, list):
        raise DataError(f"{where}: tool_calls must be a list, found {json_type(given)}")
    calls, error = [], ""
    for n, call in enumerate(given, 1):
        try:
            calls.append(_call(call, n, where))
        except _PolicyError as bad:
            error = str(bad)
    ids = {call.id for call in calls}
    for m in answered:
        if m.role == "tool" and m.call_id and not error and m.call_id not in ids:
            raise DataError(f"{where}: the tool message for call {m.call_id!r} answers no call of it ({', '.join(ids) or 'none'})")
    if error:
        return Draft(said, str(thought), (), answered, "E_PARSE", error)
    return Draft(said, str(thought), tuple(calls), answered)


class _PolicyError(Exception):
    """A call that the model wrote badly: its fault, not the log's."""


def _call(row: JSON, number: int, where: str) -> ToolCall:
    function = row.get("function") if isinstance(row, dict) else None
    if not isinstance(row, dict) or not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise DataError(f"{where}: tool call {number} must be {{id, function: {{name, arguments}}}}, found {row!r:.80}")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        try:
            arguments = json.loads(arguments or "{}")
        except (ValueError, RecursionError) as error:
            raise _PolicyError(f"the arguments of call {number} are no JSON: {error}") from error
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, dict):
        raise _PolicyError(f"the arguments of call {number} are no JSON object")
    return ToolCall(function["name"], arguments, str(row.get("id") or f"c{number}"))


def _dialect(messages: Sequence[Message], wanted: str) -> Dialect | None:
    """Return the dialect in which the assistant writes calls as text; None: it does not."""
    texts = [m.text for m in messages if m.role == "assistant"]
    if wanted == "json" or (wanted == "auto" and any("<tool_call>" in text for text in texts)):
        return hooks.DIALECTS.resolve("json")()
    tags = {found for text in texts for found in _TAG.findall(text)} if wanted == "auto" else set()
    return hooks.DIALECTS.resolve("tags")() if wanted == "tags" or tags & set(_TALK) else None


def _specs(row: dict[str, JSON], messages: Sequence[Message], reader: Dialect | None) -> tuple[ToolSpec, ...]:
    """Return the tools of a conversation: as it defines them, else those whose calls its texts hold."""
    if reader is None:
        return ()
    specs = {}
    for tool in row["tools"] if isinstance(row.get("tools"), list) else ():
        match tool.get("function", tool) if isinstance(tool, dict) else None:
            case {"name": str(name), "parameters": {"properties": {**shown}, **rest}} if _readable(shown, rest):
                specs[name] = ToolSpec(name, "", {**rest, "properties": shown})
    pattern = _TAG if reader.name == "tags" else _JSON_NAME
    for name in ("answer", *(n for m in messages if m.role == "assistant" for n in pattern.findall(m.text))):
        if name not in specs and name not in RESERVED_NAMES:
            first = _FIRST.get(name, "text")
            parameters = {"type": "object", "properties": {first: {"type": "string"}}, "required": [first]}
            specs[name] = ToolSpec(name, "", parameters, final=name == "answer")
    return tuple(specs.values())


def _readable(properties: dict[str, JSON], rest: dict[str, JSON]) -> bool:
    named = rest.get("required", [])
    return isinstance(named, list) and all(isinstance(value, dict) for value in properties.values())


def _gold(row: dict[str, JSON], question: str, id_: str, where: str) -> JSON:
    if isinstance(row.get("gold"), dict):
        return schema.to_json(schema.from_json(Gold, row["gold"], f"{where}: gold"))
    if not any(row.get(name) not in (None, "", []) for name in ANSWER_FIELDS):
        return None
    given = {name: row[name] for name in (*ANSWER_FIELDS, "aliases") if name in row}
    try:
        return schema.to_json(row_task({"id": id_, "question": question or "?", **given}, where, "").gold)
    except AgentGymError as error:
        raise DataError(str(error)) from error
