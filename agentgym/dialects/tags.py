"""Calls as tags: the tag is the tool, the body its first parameter, attributes are the others.

    <think>Chad is a country.</think><search k="5">capital of Chad</search>

Values of string parameters are written as they are, others as JSON (`<answer citations='["ada-1"]'>…`).
Rendering escapes `&`, `<` and blanks at the edges of a body as character references; parsing accepts a bare
`&` or `<`. One exception: `</think>` and the environment's tags must be escaped everywhere.
"""

import json
import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

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
from agentgym.dialects.strict_json import JsonRefusedError, loads
from agentgym.errors import EnvError
from agentgym.sanitize import RESERVED_NAMES, escape_reserved, sanitize
from agentgym.task import Limits
from agentgym.toolspec import Writing, about, example_arguments, first_parameter, properties, signature, writing
from agentgym.types import JSON, Message, ToolCall, ToolSpec

# Each pattern is matched at one place and its parts share no characters: no attempt costs more than it reads.
_NAME = re.compile(r"<([^\s<>/\"'=]{1,64})")
_ATTRIBUTE = re.compile(r"[ \n\t]+([^\s<>/\"'=]+)[ \n\t]*=[ \n\t]*(?:\"([^\"]*)\"|'([^']*)')")
_OPEN_END = re.compile(r"[ \n\t]*(/?)>")
_CLOSER = re.compile(r"</([^\s<>/\"'=]{1,64})>")
_PLAIN = re.compile(r"[ \n\t]*<([^\s<>/\"'=]{1,64})>([^<&]*)</\1>[ \n\t]*")
_REFERENCE = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|(lt|gt|amp|quot|apos));")
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"', "apos": "'"}
_AFTER_NAME = ("", " ", "\n", "\t", ">", "/", "=")
_UNKNOWN_WINDOW = 1_000
"""How far an unknown opening tag is searched for its end."""


class TagsDialect:
    """`<search k="5">capital of Chad</search>`: short, and readable for small models."""

    name = "tags"
    reserved = RESERVED_NAMES

    def parse(self, text: str, specs: Sequence[ToolSpec], limits: Limits) -> Parsed:
        """Read an action: an optional thought, then calls; prose after the first call is counted and dropped."""
        text, error = read(text, limits)
        if error:
            return error
        thought, rest, error = split_thought(text)
        error = reserved_error(text, thought) or error
        return error or _plain(rest, thought, specs, limits) or _Scan(rest, thought, specs, limits).run()

    def render(self, calls: Sequence[ToolCall], specs: Sequence[ToolSpec] = ()) -> str:
        """Write calls as tags, one a line; see `Dialect.render`."""
        if not calls:
            raise EnvError("render: no calls to write")
        table = {spec.name: spec for spec in specs}
        return "\n".join(_written(call, table.get(call.name)) for call in calls)

    def observation(
        self, parts: Sequence[tuple[ToolCall | None, str]], *, compact: bool = False
    ) -> tuple[Message, ...]:
        """Return one user message: the texts inside <information>, on lines of their own unless compact."""
        if not parts:
            return ()
        text = escape_reserved("\n".join(part for _, part in parts))
        edge = "" if compact else "\n"
        return (Message.of("user", f"<information>{edge}{text}{edge}</information>"),)

    def stop(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> tuple[str, ...]:
        """Return the closing tag of every tool."""
        if max_calls > 1:
            return ()
        return tuple(f"</{spec.name}>" if properties(spec) else f"<{spec.name}/>" for spec in specs)

    def instructions(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> str:
        """Return one line a tool: the call with placeholders, then what the tool and its parameters are."""
        n = "one call" if max_calls == 1 else f"up to {max_calls} calls"
        lines = [f"You may think first inside <think>…</think>. Then write {n}, as a tag, and nothing after it:"]
        lines += [f"{self.example(spec)}  {signature(spec)}: {about(spec)}".rstrip(": ") for spec in specs]
        if any(len(properties(spec)) > 1 for spec in specs):
            lines.append("The text of a tag is the first parameter; others are attributes, lists and numbers as JSON.")
        return "\n".join(lines)

    def example(self, spec: ToolSpec) -> str:
        """Return `<search>your query</search>` for the tool search(query: string, …)."""
        return _written(ToolCall(spec.name, example_arguments(spec)), spec)


class _Form:
    """How the calls of one tool are written."""

    def __init__(self, spec: ToolSpec) -> None:
        self.spec, self.closer, self.first = spec, f"</{spec.name}>", first_parameter(spec)

    @cached_property
    def kinds(self) -> dict[str, Writing]:
        return {name: writing(part, self.spec.parameters) for name, part in properties(self.spec).items()}


_FORMS: dict[int, tuple[Sequence[ToolSpec], dict[str, _Form]]] = {}
_MOST_FORMS = 64


def _forms(specs: Sequence[ToolSpec]) -> dict[str, _Form]:
    """Return the form of each tool by name; an environment hands over the same tuple turn after turn."""
    known = _FORMS.get(id(specs))
    if known is not None:  # it holds the tuple, so no other one can have its number
        return known[1]
    table = {spec.name: _Form(spec) for spec in specs}
    if isinstance(specs, tuple):
        if len(_FORMS) >= _MOST_FORMS:
            _FORMS.clear()
        _FORMS[id(specs)] = specs, table
    return table


def _plain(text: str, thought: str, specs: Sequence[ToolSpec], limits: Limits) -> Parsed | None:
    """Read an action of the usual form, one tag around plain text: as `_Scan` does, for a fifth of its time."""
    found = _PLAIN.fullmatch(text)
    form = _forms(specs).get(found[1]) if found else None
    if found is None or form is None or not form.first or form.kinds[form.first] != "text" or limits.max_calls_per_turn < 1:
        return None
    return Parsed((ToolCall(form.spec.name, {form.first: found[2].strip(BLANKS)}, "c1"),), thought)


class _Scan:
    """One pass over the text after the thought."""

    def __init__(self, text: str, thought: str, specs: Sequence[ToolSpec], limits: Limits) -> None:
        self.text, self.thought, self.specs, self.limits = text, thought, specs, limits
        self.table = _forms(specs)
        self.calls: list[ToolCall] = []
        self.dropped = 0
        self.prose_from = 0
        self.last_closer: dict[str, int] | None = None

    def run(self) -> Parsed:
        position = 0
        while (at := self.text.find("<", position)) >= 0:
            opening = _NAME.match(self.text, at)
            if opening is None or self.text[opening.end() : opening.end() + 1] not in _AFTER_NAME:
                position = at + 1
                continue
            form = self.table.get(opening[1])
            if form is None:
                if self._call_shaped(opening):
                    return self._stranger(opening[1])
                position = opening.end()
                continue
            found = self._call(form, at, opening.end())
            if isinstance(found, Parsed):
                return found
            if found < 0:  # not closed, after a complete call: prose
                break
            position = found
        return self._finish()

    def _finish(self) -> Parsed:
        if not self.calls:
            allowed = ", ".join(f"<{spec.name}>…</{spec.name}>" for spec in self.specs)
            what = "the action is empty" if not self.text.strip(BLANKS) else "the action holds no call"
            return Parsed(thought=self.thought, error_code="E_PARSE", error=f"{what}; write one of {allowed}")
        self.dropped += len(self.text[self.prose_from :].strip(BLANKS))
        return Parsed(tuple(self.calls), self.thought, dropped_chars=self.dropped)

    def _call(self, form: _Form, at: int, position: int) -> "int | Parsed":
        """Read the call that opens at `at`; return where to go on, -1 if it is prose, or the error."""
        spec, attributes = form.spec, dict[str, str]()
        while attribute := _ATTRIBUTE.match(self.text, position):
            key = _unescape(attribute[1])
            if key in attributes:
                return self._refuse(spec, f"the attribute {key[:80]!r} is given twice")
            attributes[key] = _unescape(attribute[2] if attribute[2] is not None else attribute[3])
            position = attribute.end()
        end = _OPEN_END.match(self.text, position)
        if end is None:
            if self.calls and ">" not in self.text[position:]:
                return -1
            return self._refuse(spec, 'the opening tag cannot be read; write attributes as name="value"')
        body, stop = None, end.end()
        if not end[1]:
            closer = form.closer
            close = self.text.find(closer, stop)
            if close < 0:
                return -1 if self.calls else self._refuse(spec, f"{closer} is missing")
            body, stop = self.text[end.end() : close].strip(BLANKS), close + len(closer)
        if len(self.calls) >= self.limits.max_calls_per_turn:
            return too_many(len(self.calls) + 1, self.limits, self.thought)
        arguments = self._arguments(form, attributes, None if body is None else _unescape(body))
        if isinstance(arguments, Parsed):
            return arguments
        prose = self.text[self.prose_from : at].strip(BLANKS)
        if self.calls:
            self.dropped += len(prose)
        else:
            self.thought = join_thought(self.thought, prose)
        self.calls.append(ToolCall(spec.name, arguments, f"c{len(self.calls) + 1}"))
        self.prose_from = stop
        return stop

    def _arguments(self, form: _Form, attributes: dict[str, str], body: str | None) -> "dict[str, JSON] | Parsed":
        spec, first, kinds = form.spec, form.first, form.kinds
        given: dict[str, str] = {}
        if body is not None and first:
            # an empty body of a parameter that is not text means that it is left out
            if body and first in attributes:
                return self._refuse(spec, f"{first!r} is given twice, as text and as attribute")
            if first not in attributes and (body or kinds[first] != "json"):
                given[first] = body
        elif body:
            return self._refuse(spec, f"{spec.name} takes no text", "E_ARGS")
        given.update(attributes)
        arguments: dict[str, JSON] = {}
        for key, text in given.items():
            try:
                arguments[key] = _value(text, kinds.get(key, "mixed"))
            except JsonRefusedError as error:
                return self._refuse(spec, f"{key!r} must be JSON: {error}")
        return arguments

    def _call_shaped(self, opening: "re.Match[str]") -> bool:
        """Say whether an unknown tag is closed somewhere later, or closes itself."""
        if self.last_closer is None:
            self.last_closer = {m[1]: m.start() for m in _CLOSER.finditer(self.text)}
        if self.last_closer.get(opening[1], -1) > opening.start():
            return True
        end = self.text.find(">", opening.end(), opening.end() + _UNKNOWN_WINDOW)
        return end > 0 and self.text[end - 1] == "/" and "<" not in self.text[opening.end() : end]

    def _stranger(self, name: str) -> Parsed:
        if name == "think":
            message = "a second think tag; write one thought, before the call"
            return Parsed(thought=self.thought, error_code="E_PARSE", error=message)
        return unknown_tool(name, self.specs, self.thought)

    def _refuse(self, spec: ToolSpec, message: str, code: str = "E_PARSE") -> Parsed:
        form = _written(ToolCall(spec.name, example_arguments(spec)), spec)
        return Parsed(thought=self.thought, error_code=code, error=f"{spec.name}: {message}; expected {form}")


def _value(text: str, kind: str) -> JSON:
    """Decode the text of one argument. Raises JsonRefusedError where only JSON is allowed."""
    if kind == "text":
        return text
    try:
        return loads(text)
    except JsonRefusedError:
        if kind == "mixed":
            return text
        raise


def _written(call: ToolCall, spec: ToolSpec | None) -> str:
    known = properties(spec) if spec else {}
    first = first_parameter(spec) if spec else next(iter(call.arguments), "")
    texts = {}
    for key, value in call.arguments.items():
        if spec is None:
            kind = "text" if isinstance(value, str) else "json"
        else:
            kind = writing(known[key], spec.parameters) if key in known else "mixed"
        texts[key] = _text(call.name, key, value, kind)
    attributes = "".join(
        f" {_escape_name(key)}={_quoted(text, json_text=not isinstance(call.arguments[key], str))}"
        for key, text in texts.items()
        if key != first
    )
    if first not in texts:
        return f"<{call.name}{attributes}/>"
    return f"<{call.name}{attributes}>{_escape_body(texts[first])}</{call.name}>"


def _text(tool: str, key: str, value: Any, kind: str) -> str:
    """Encode one argument: the inverse of `_value`."""
    if kind == "text":
        if not isinstance(value, str):
            raise EnvError(f"render: {key!r} of {tool} is a string parameter, got {value!r:.80}")
        return value
    if kind == "mixed" and isinstance(value, str):
        try:
            loads(value)
        except JsonRefusedError:
            return value
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise EnvError(f"render: {key!r} of {tool} is not JSON: {error}") from error


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


def _escape_body(text: str) -> str:
    core = text.strip(BLANKS)
    if core == text:
        return _escape(text)
    if not core:
        return "".join(f"&#{ord(c)};" for c in text)
    start = len(text) - len(text.lstrip(BLANKS))
    head, tail = text[:start], text[start + len(core) :]
    return "".join(f"&#{ord(c)};" for c in head) + _escape(core) + "".join(f"&#{ord(c)};" for c in tail)


def _quoted(text: str, *, json_text: bool) -> str:
    text = _escape(text)
    if json_text and '"' in text:
        return "'" + text.replace("'", "&#39;") + "'"
    return '"' + text.replace('"', "&quot;") + '"'


def _escape_name(name: str) -> str:
    return "".join(f"&#{ord(c)};" if c in "<>/\"'=&" or c.isspace() else c for c in name)


def _unescape(text: str) -> str:
    """Decode character references; what they decode to is sanitised. Other uses of & stay."""
    return sanitize(_REFERENCE.sub(_decoded, text)) if "&" in text else text


def _decoded(match: "re.Match[str]") -> str:
    if match[3]:
        return _NAMED[match[3]]
    code = int(match[1]) if match[1] else int(match[2], 16)
    return chr(code) if code < 0x110000 else ""
