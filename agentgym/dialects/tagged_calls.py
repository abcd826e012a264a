"""Calls whose arguments are tags of their own, as Qwen3-Coder, Qwen3.5 and Nemotron 3 write them, and GLM 4.5.

    <tool_call><function=search><parameter=query>capital of Chad</parameter></function></tool_call>
    <tool_call>search<arg_key>query</arg_key><arg_value>capital of Chad</arg_value></tool_call>

A value of a string parameter is the text between its tags, less one line end on either side; others are JSON.
"""

import re
from collections.abc import Iterator, Sequence

from agentgym.dialects.strict_json import JsonRefusedError, loads
from agentgym.toolspec import properties, writing
from agentgym.types import JSON, ToolSpec

OPEN, CLOSE = "<tool_call>", "</tool_call>"
_BLANKS = " \n\t"
_FUNCTION = re.compile(r"<function=([^<>\s]{1,64})>")
_PARAMETER = re.compile(r"<parameter=([^<>\s]{1,64})>")
_GLM_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_KEY, _KEY_END, _VALUE, _VALUE_END = "<arg_key>", "</arg_key>", "<arg_value>", "</arg_value>"

Calls = list[tuple[str, dict[str, JSON]]]


def is_tagged(text: str, at: int) -> bool:
    """Say whether the call that opens at `at` has tags inside, not JSON."""
    start = _skip(text, at + len(OPEN))
    if not text.startswith(OPEN, at):
        return False
    if text.startswith("<function=", start):
        return True
    name = _GLM_NAME.match(text, start)
    return bool(name) and text.startswith((_KEY, CLOSE), _skip(text, name.end()))


def read_tagged(text: str, specs: Sequence[ToolSpec]) -> tuple[str, Calls | str]:
    """Return the prose before the first call and the calls, or what is wrong with them. Linear time."""
    table = {spec.name: spec for spec in specs}
    found: Calls = []
    at = first = text.find(OPEN)
    try:
        while at >= 0:
            start = _skip(text, at + len(OPEN))
            reader = _function if text.startswith("<function=", start) else _glm
            name, written, end = reader(text, start)
            end = _skip(text, end)
            if not text.startswith(CLOSE, end):
                raise JsonRefusedError("the closing tool_call tag is missing")
            found.append((name, {key: _typed(key, value, table.get(name)) for key, value in _unique(written)}))
            at = text.find(OPEN, end)
    except JsonRefusedError as refused:
        return text[:first], f"call {len(found) + 1}: {refused}"
    return text[:first], found


def _function(text: str, at: int) -> tuple[str, list[tuple[str, str]], int]:
    opening = _FUNCTION.match(text, at)
    if opening is None:
        raise JsonRefusedError("the function tag cannot be read; write function=NAME in it")
    written, at = [], _skip(text, opening.end())
    while parameter := _PARAMETER.match(text, at):
        end = text.find("</parameter>", parameter.end())
        if end < 0:
            raise JsonRefusedError(f"the parameter tag of {parameter[1][:80]!r} is not closed")
        written.append((parameter[1], text[parameter.end() : end]))
        at = _skip(text, end + len("</parameter>"))
    if not text.startswith("</function>", at):
        raise JsonRefusedError("the function tag is not closed")
    return opening[1], written, at + len("</function>")


def _glm(text: str, at: int) -> tuple[str, list[tuple[str, str]], int]:
    name = _GLM_NAME.match(text, at)
    if name is None:
        raise JsonRefusedError("a call begins with the name of a tool")
    written, at = [], _skip(text, name.end())
    while text.startswith(_KEY, at):
        key_end = text.find(_KEY_END, at)
        value = _skip(text, key_end + len(_KEY_END))
        end = text.find(_VALUE_END, value) if key_end >= 0 and text.startswith(_VALUE, value) else -1
        if end < 0:
            raise JsonRefusedError("an arg_key needs an arg_value after it, both closed")
        written.append((text[at + len(_KEY) : key_end].strip(_BLANKS), text[value + len(_VALUE) : end]))
        at = _skip(text, end + len(_VALUE_END))
    return name[0], written, at


def _unique(written: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    seen: set[str] = set()
    for key, value in written:
        if key in seen:
            raise JsonRefusedError(f"{key[:80]!r} is given twice")
        seen.add(key)
        yield key, value


def _typed(key: str, text: str, spec: ToolSpec | None) -> JSON:
    text = text.removeprefix("\n").removesuffix("\n")
    known = properties(spec) if spec else {}
    kind = writing(known[key], spec.parameters) if spec and key in known else "mixed"
    if kind == "text":
        return text
    try:
        return loads(text)
    except JsonRefusedError as refused:
        if kind == "mixed":
            return text
        raise JsonRefusedError(f"{key[:80]!r} must be JSON: {refused}") from None


def _skip(text: str, at: int) -> int:
    while text.startswith((" ", "\n", "\t"), at):
        at += 1
    return at
