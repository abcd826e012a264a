"""Native tool calls of chat models: the tools are declared to the model, calls come in the model's own form.

A policy behind an endpoint sends the tools with each request and gets calls back as objects; a model in this process
gets them through its chat template and writes calls as its template taught it. Both arrive here as one text, in any of
these forms:

| form | a call | models |
|---|---|---|
| hermes | `<tool_call>{"name": …, "arguments": {…}}</tool_call>`, one after the other | Qwen, Hermes, SmolLM3; what endpoints give |
| hermes with tags inside | `<tool_call><function=name><parameter=key>…` or `<tool_call>name<arg_key>key</arg_key>…` | Qwen3-Coder, Qwen3.5, Nemotron 3; GLM 4.5 |
| llama | `{"name": …, "parameters": {…}}`, several with `;` between, perhaps after `<|python_tag|>` | Llama 3 |
| mistral | `[TOOL_CALLS][{"name": …, "arguments": {…}}, …]`, or `[TOOL_CALLS]name[ARGS]{…}` for each | Mistral |

A text without a call is the final answer, as in the json dialect.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from agentgym.dialects.json_calls import JsonDialect
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
from agentgym.dialects.tagged_calls import is_tagged, read_tagged
from agentgym.errors import ConfigError, suggestion
from agentgym.sanitize import strip_end_tokens
from agentgym.task import Limits
from agentgym.toolspec import about, signature
from agentgym.types import JSON, Message, ToolCall, ToolSpec

FORMS = ("auto", "hermes", "llama", "mistral")
_HERMES, _PYTHON_TAG, _TOOL_CALLS, _ARGS, _CALL_ID = "<tool_call", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"
_ENVIRONMENT = ("[TOOL_RESULTS]", "[/TOOL_RESULTS]", "[AVAILABLE_TOOLS]", "[INST]", "[SYSTEM_PROMPT]")
"""What only an environment writes, and what opens a turn, in Mistral's form."""
_ANY = Limits(max_calls_per_turn=1 << 20, max_action_chars=1 << 30)


@dataclass(frozen=True, slots=True)
class ChatTurn:
    """A completion in the parts that chat messages have."""

    reasoning: str
    """What stands before </think>."""
    content: str
    """The text before the first call, or all of it where there is none."""
    calls: tuple[ToolCall, ...] = ()


class ChatDialect(JsonDialect):
    """Calls in the form that the model was trained to write; nothing about tools in the prompt."""

    name = "chat"
    native = True

    def __init__(self, text_tool: str = "", form: str = "auto") -> None:
        """Choose a form.

        Args:
            text_tool: name of the tool that a plain text calls; see `JsonDialect`.
            form: "hermes", "llama" or "mistral" reads that one alone; "auto" tells them apart.
        """
        super().__init__(text_tool)
        if form not in FORMS:
            raise ConfigError(f"chat dialect: form={form!r}; allowed: {', '.join(FORMS)}{suggestion(form, FORMS)}")
        self.form = form

    def parse(self, text: str, specs: Sequence[ToolSpec], limits: Limits) -> Parsed:
        """Read an action in any of the forms."""
        clean, error = read(text, limits)
        if error:
            return error
        thought, rest, error = split_thought(clean)
        form = "" if error else self._form_of(rest)
        if form in ("", "hermes") and not is_tagged(rest, rest.find(_HERMES)):
            plain = not form and self.form in ("auto", "mistral")  # inside the JSON of a call everything may be written
            return (_forged(clean, thought) if plain else None) or super().parse(text, specs, limits)
        error = reserved_error(clean.replace(_PYTHON_TAG, ""), thought) or _forged(clean, thought)
        if error:
            return error
        prose, found = read_tagged(rest, specs) if form == "hermes" else (_llama if form == "llama" else _mistral)(rest)
        thought = join_thought(thought, prose)
        if isinstance(found, str):
            return Parsed(thought=thought, error_code="E_PARSE", error=found)
        names = {spec.name for spec in specs}
        for n, (name, _) in enumerate(found):
            if n >= limits.max_calls_per_turn:
                return too_many(n + 1, limits, thought)
            if name not in names:
                return unknown_tool(name, specs, thought)
        return Parsed(tuple(ToolCall(name, a, f"c{n}") for n, (name, a) in enumerate(found, 1)), thought)

    def stop(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> tuple[str, ...]:
        """Return nothing: the model ends its turn itself."""
        return ()

    def instructions(self, specs: Sequence[ToolSpec], max_calls: int = 1) -> str:
        """Return what a text without a call means; the tools themselves are declared outside of the prompt."""
        n = "one call" if max_calls == 1 else f"up to {max_calls} calls"
        lines = [f"Use the tools that you were given, with {n} at a time."]
        if tool := self._text_spec(specs):
            lines.append(f"A text without a call calls {tool.name} with that text.")
        return "\n".join(lines)

    def described(self, specs: Sequence[ToolSpec]) -> str:
        """Return the tools and the hermes form of a call, for a chat template that declares no tools."""
        lines = ["You may call these tools. A call is JSON in tags, after which you wait for the result:"]
        lines += [self.example(spec) for spec in specs[:1]]
        lines.append("Tools:")
        lines += [f"{signature(spec)}: {about(spec)}".rstrip(": ") for spec in specs]
        return "\n".join(lines)

    def turn(self, text: str, specs: Sequence[ToolSpec]) -> ChatTurn:
        """Return a completion in parts; one that cannot be read as calls is all content."""
        text = strip_end_tokens(text)
        reasoning, rest, error = split_thought(text)
        if error:
            return ChatTurn("", text)
        form = self._form_of(rest)
        parsed = self.parse(rest, specs, _ANY) if form else Parsed()
        if parsed.error_code or not parsed.calls:
            return ChatTurn(reasoning, rest.strip(BLANKS))
        return ChatTurn(reasoning, rest[: _begins(rest, form)].strip(BLANKS), parsed.calls)

    def wire(self, messages: Sequence[Message], specs: Sequence[ToolSpec]) -> list[dict[str, Any]]:
        """Return a conversation in the shape of chat endpoints and templates: calls as objects, results by call id.

        Calls have ids of nine letters and digits, unique in the conversation. Thoughts are under "reasoning_content".
        A plain text that was read as a call has no call that a result could answer: what came back goes as the user's
        words, or is left out where the user says something too.
        """
        wired: list[dict[str, Any]] = []
        answered: dict[str, str] = {}
        n_turns = 0
        for message, after in zip_longest(messages, messages[1:]):
            if message.role == "assistant":
                turn, n_turns = self.turn(message.text, specs), n_turns + 1
                ids = {call.id: f"{n_turns % 10_000:04d}c{n:04d}" for n, call in enumerate(turn.calls, 1)}
                answered = ids
                wired.append(_assistant(turn, ids))
            elif message.role == "tool" and message.call_id in answered:
                wired.append(
                    {"role": "tool", "content": message.text, "name": message.name, "tool_call_id": answered[message.call_id]}
                )
            elif message.role != "tool":
                wired.append({"role": message.role, "content": message.text})
            elif after is None or after.role != "user":
                wired.append({"role": "user", "content": message.text})
        return wired

    def from_answer(self, content: str, reasoning: str, calls: Sequence[tuple[str, str]]) -> str:
        """Return an endpoint's answer as one text; arguments stay as they were written, good or bad."""
        lines = [f"<think>\n{reasoning}\n</think>"] if reasoning else []
        lines += [content] if content else []
        lines += [
            f'<tool_call>{{"name": {json.dumps(name)}, "arguments": {arguments.strip() or "{}"}}}</tool_call>'
            for name, arguments in calls
        ]
        return "\n".join(lines)

    def _form_of(self, text: str) -> str:
        """Return the form of the first call, or an empty string."""
        if self.form != "auto":
            return self.form if _begins(text, self.form) < len(text) else ""
        begun = [(at, form) for form in FORMS[1:] if (at := _begins(text, form)) < len(text)]
        return min(begun)[1] if begun else ""


def declared(specs: Sequence[ToolSpec]) -> list[JSON]:
    """Return tools as endpoints and chat templates read them."""
    return [
        {"type": "function", "function": {"name": s.name, "description": s.description, "parameters": s.parameters}}
        for s in specs
    ]


def _assistant(turn: ChatTurn, ids: dict[str, str]) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": turn.content}
    if turn.reasoning:
        message["reasoning_content"] = turn.reasoning
    if turn.calls:
        message["tool_calls"] = [
            {"id": ids[c.id], "type": "function", "function": {"name": c.name, "arguments": c.arguments}} for c in turn.calls
        ]
    return message


def _begins(text: str, form: str) -> int:
    """Return where the first call of a form begins; the length of the text where there is none."""
    if form == "llama":
        at = text.find(_PYTHON_TAG)
        if at >= 0:
            return at
        start = len(text) - len(text.lstrip(BLANKS))
        head = text[start : start + 200]
        return start if head.startswith("{") and '"name"' in head and text.rstrip(BLANKS).endswith("}") else len(text)
    at = text.find(_HERMES if form == "hermes" else _TOOL_CALLS)
    return at if at >= 0 else len(text)


def _forged(text: str, thought: str) -> Parsed | None:
    found = next((token for token in _ENVIRONMENT if token in text), "")
    if not found:
        return None
    message = f"the token {found.strip('[]/')} is written by the environment alone"
    return Parsed(thought=thought, error_code="E_RESERVED", error=message)


_Found = list[tuple[str, dict[str, JSON]]]


def _llama(text: str) -> tuple[str, _Found | str]:
    """Return prose and calls, or what is wrong with them."""
    at = _begins(text, "llama")
    prose, found = text[:at], []
    at = _past(text, at + (len(_PYTHON_TAG) if text.startswith(_PYTHON_TAG, at) else 0))
    while at < len(text):
        try:
            if not text.startswith("{", at):
                raise JsonRefusedError('a call is {"name": …, "parameters": {…}}')
            end = value_end(text, at)
            found.append(_named(loads(text[at:end])))
        except JsonRefusedError as refused:
            return prose, f"call {len(found) + 1}: {refused}"
        at = _past(text, end)
    return prose, found or "there is no call after the tag"


def _past(text: str, at: int) -> int:
    """Return where the next thing begins that is neither blank nor a semicolon."""
    while text.startswith((";", " ", "\n", "\t"), at):
        at += 1
    return at


def _mistral(text: str) -> tuple[str, _Found | str]:
    """Return prose and calls, or what is wrong with them."""
    prose, _, rest = text.partition(_TOOL_CALLS)
    found: _Found = []
    try:
        for piece in rest.split(_TOOL_CALLS):
            piece = piece.strip(BLANKS)
            if piece.startswith("["):
                end = value_end(piece)
                if piece[end:].strip(BLANKS):
                    raise JsonRefusedError("nothing may follow the list of calls")
                found += [_named(item) for item in loads(piece)]
                continue
            at = piece.find(_ARGS) if _ARGS in piece else piece.find("{")
            name, value = piece[: max(at, 0)], loads(piece[max(at, 0) :].removeprefix(_ARGS))
            if not isinstance(value, dict):
                raise JsonRefusedError("the arguments must be a JSON object")
            found.append((name.partition(_CALL_ID)[0].strip(BLANKS), value))
    except JsonRefusedError as refused:
        return prose, f"call {len(found) + 1}: {refused}"
    return prose, found or "there is no call after the tag"


def _named(value: JSON) -> tuple[str, dict[str, JSON]]:
    """Return name and arguments of one call object. Raises JsonRefusedError."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise JsonRefusedError("a call is an object with the name of a tool")
    arguments = value.get("arguments", value.get("parameters", {}))
    if unknown := next((key for key in value if key not in ("name", "arguments", "parameters", "id", "type")), ""):
        raise JsonRefusedError(f"unknown key {unknown[:80]!r}; allowed: name, arguments")
    if not isinstance(arguments, dict):
        raise JsonRefusedError("the arguments must be a JSON object")
    return value["name"], arguments
