r"""Calls as JSON objects inside <tool_call> tags; a text without one is the final answer.

    <tool_call>{"name": "search", "arguments": {"query": "capital of Chad"}}</tool_call>

Inside the JSON everything may be written as JSON has it; only `</think>` must be escaped (`\u003c/think>`).
"""

import json
from collections.abc import Sequence

from agentgym.dialects.protocol import (
    BLANKS,
    Parsed,
    join_thought,
    read,
    reserved_error,
    split_thought,
    too_many,
    unknown_tool,
)
from agentgym.dialects.strict_json import JsonRefusedError, loads, value_end
from agentgym.errors import ConfigError, EnvError, suggestion
from agentgym.sanitize import RESERVED_NAMES, escape_reserved
from agentgym.task import Limits
from agentgym.toolspec import about, example_arguments, first_parameter, properties, signature, writing
from agentgym.types import JSON, Message, ToolCall, ToolSpec

_MARK, _OPEN, _CLOSE = "<tool_call", "<tool_call>", "</tool_call>"
_KEYS = ("name", "arguments")
_INSIDE = "write it only inside the JSON of a call"


class JsonDialect:
    """`<tool_call>{"name": …, "arguments": {…}}</tool_call>`, as many chat models are trained to write."""

    name = "json"
    reserved = RESERVED_NAMES

    def __init__(self, text_tool: str = "") -> None:
        """Say which tool a plain text calls.

        Args:
            text_tool: its name; empty: the first tool with `final` whose one required parameter, the first,
                is a string.
        """
        self.text_tool = text_tool

    def parse(self, text: str, specs: Sequence[ToolSpec], limits: Limits) -> Parsed:
        """Read an action: an optional thought, then calls, or a plain text; prose after a call is dropped."""
        text, error = read(text, limits)
        if error:
            return error
        thought, rest, error = split_thought(text)
        if error or _MARK not in rest:
            return reserved_error(text, thought, _INSIDE) or error or self._plain(rest, thought, specs)
        return reserved_error(thought, how=_INSIDE) or _calls(rest, thought, specs, limits)

    def render(self, calls: Sequence[ToolCall], specs: Sequence[ToolSpec] = ()) -> str:
        """Write calls as JSON, one a line; a final answer as plain text where that reads the same."""
        if not calls:
            raise EnvError("render: no calls to write")
        if len(calls) == 1 and (tool := self._text_spec(specs)) and calls[0].name == tool.name:
            text = calls[0].arguments.get(first_parameter(tool))
            if isinstance(text, str) and len(calls[0].arguments) == 1:
                again = self.parse(text, specs, Limits(max_action_chars=len(text)))
                if [(c.name, c.arguments) for c in again.calls] == [(calls[0].name, calls[0].arguments)]:
                    return text
        return "\n".join(_written(call) for call in calls)

    def observation(
        self, parts: Sequence[tuple[ToolCall | None, str]], *, compact: bool = False
    ) -> tuple[Message, ...]:
        """Return a message of role tool for each call, of role user for a text that answers none."""
        return tuple(
            Message.of("tool", escape_reserved(text), name=call.name, call_id=call.id)
            if call
            else Message.of("user", escape_reserved(text))
            for call, text in parts
        )

    def stop(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> tuple[str, ...]:
        """Return the closing tag."""
        return (_CLOSE,) if max_calls == 1 else ()

    def instructions(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> str:
        """Return the form of a call, the tools, and what a text without a call means."""
        n = "one call" if max_calls == 1 else f"up to {max_calls} calls"
        lines = [f"You may think first inside <think>…</think>. Then write {n} and nothing after it:"]
        lines += [self.example(spec) for spec in specs[:1]]
        lines.append("Tools:")
        lines += [f"{signature(spec)}: {about(spec)}".rstrip(": ") for spec in specs]
        if tool := self._text_spec(specs):
            lines.append(f"A text without {_OPEN} calls {tool.name} with that text.")
        return "\n".join(lines)

    def example(self, spec: ToolSpec) -> str:
        """Return a call with placeholder arguments."""
        return _written(ToolCall(spec.name, example_arguments(spec)))

    def _text_spec(self, specs: Sequence[ToolSpec]) -> ToolSpec | None:
        for spec in specs:
            if self.text_tool == spec.name or (not self.text_tool and spec.final and _takes_text(spec)):
                if not _takes_text(spec):
                    need = "a first parameter that is a string, and no other required one"
                    raise ConfigError(f"JsonDialect(text_tool={spec.name!r}): the tool needs {need}")
                return spec
        return None

    def _plain(self, text: str, thought: str, specs: Sequence[ToolSpec]) -> Parsed:
        text = text.strip(BLANKS)
        tool = self._text_spec(specs)
        if tool is None or not text:
            what = "the action holds no call" if text else "the action is empty"
            return Parsed(thought=thought, error_code="E_PARSE", error=f"{what}; write {_form(specs)}")
        return Parsed((ToolCall(tool.name, {first_parameter(tool): text}, "c1"),), thought)


def _calls(text: str, thought: str, specs: Sequence[ToolSpec], limits: Limits) -> Parsed:
    """Read the calls of a text that opens at least one."""
    names = {spec.name for spec in specs}
    calls: list[ToolCall] = []
    dropped, position = 0, 0
    while True:
        at = text.find(_MARK, position)
        prose = text[position : at if at >= 0 else len(text)]
        if error := reserved_error(prose, thought, _INSIDE):
            return error
        if calls:
            dropped += len(prose.strip(BLANKS))
        else:
            thought = join_thought(thought, prose)
        if at < 0:
            return Parsed(tuple(calls), thought, dropped_chars=dropped)
        try:
            name, arguments, position = _call(text, at)
        except JsonRefusedError as refused:
            message = f"call {len(calls) + 1}: {refused}; write {_form(specs)}"
            return Parsed(thought=thought, error_code="E_PARSE", error=message)
        if len(calls) >= limits.max_calls_per_turn:
            return too_many(len(calls) + 1, limits, thought)
        if name not in names:
            return unknown_tool(name, specs, thought)
        calls.append(ToolCall(name, arguments, f"c{len(calls) + 1}"))


def _call(text: str, at: int) -> tuple[str, dict[str, JSON], int]:
    """Read the call that opens at `at`: name, arguments, where it ends. Raises JsonRefusedError."""
    if not text.startswith(_OPEN, at):
        raise JsonRefusedError("the opening tag must be exactly tool_call, without attributes")
    start = _skip_blanks(text, at + len(_OPEN))
    if not text.startswith("{", start):
        raise JsonRefusedError("a JSON object must follow the opening tag")
    end = value_end(text, start)
    close = _skip_blanks(text, end)
    value = loads(text[start:end])
    if not text.startswith(_CLOSE, close):
        raise JsonRefusedError("the closing tag is missing after the JSON")
    for key in value:
        if key not in _KEYS:
            raise JsonRefusedError(f"unknown key {key[:80]!r}{suggestion(key[:80], _KEYS)}; allowed: name, arguments")
    name, arguments = value.get("name"), value.get("arguments", {})
    if not isinstance(name, str):
        raise JsonRefusedError("'name' must be the name of a tool")
    if not isinstance(arguments, dict):
        raise JsonRefusedError("'arguments' must be a JSON object")
    return name, arguments, close + len(_CLOSE)


def _skip_blanks(text: str, position: int) -> int:
    while text.startswith((" ", "\n", "\t"), position):
        position += 1
    return position


def _written(call: ToolCall) -> str:
    try:
        body = json.dumps({"name": call.name, "arguments": call.arguments}, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise EnvError(f"render: an argument of {call.name} is not JSON: {error}") from error
    # in JSON "<" stands only inside strings, where it may be escaped
    return f"{_OPEN}{body.replace('</think>', chr(92) + 'u003c/think>')}{_CLOSE}"


def _takes_text(spec: ToolSpec) -> bool:
    first = first_parameter(spec)
    required = set(spec.parameters.get("required", ()))
    return bool(first) and required <= {first} and writing(properties(spec)[first], spec.parameters) != "json"


def _form(specs: Sequence[ToolSpec]) -> str:
    """Return the expected form in a message. The tag has no brackets there: those would be escaped."""
    call = ToolCall(specs[0].name, example_arguments(specs[0])) if specs else None
    example = _written(call).removeprefix(_OPEN).removesuffix(_CLOSE) if call else "{…}"
    return f"{example} between an opening and a closing tool_call tag (tools: {', '.join(spec.name for spec in specs)})"
