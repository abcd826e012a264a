"""What each dialect reads in a text, and how it writes a call: tables over tools of every form, with the known results.

The tools are not those of the environment: parameters of every type in the first place and behind it, none at all,
references, choices, and parameters of no declared type. Texts are composed of parts, so that every opening meets every
body and every rest.
"""

import hashlib
import itertools
import json
import math
from collections.abc import Iterator
from functools import cache
from typing import Any

from agentgym.dialects.json_calls import JsonDialect
from agentgym.dialects.protocol import Dialect
from agentgym.dialects.tags import TagsDialect
from agentgym.errors import AgentGymError
from agentgym.task import Limits
from agentgym.types import JSON, ToolCall, ToolSpec

_TYPES: dict[str, JSON] = {
    "text": {"type": "string"}, "whole": {"type": "integer"}, "list": {"type": "array", "items": {"type": "string"}},
    "flag": {"type": "boolean"}, "any": {}, "choice": {"enum": ["a", 1]}, "either": {"type": ["string", "number"]},
    "table": {"type": "object"}, "one": {"const": "x"}, "linked": {"$ref": "#/$defs/size"}, "or": {"anyOf": [{"type": "null"}, {"type": "string"}]},
}  # fmt: skip


def _spec(name: str, *kinds: str, required: tuple[str, ...] = (), final: bool = False) -> ToolSpec:
    parameters: dict[str, Any] = {"type": "object", "properties": {kind: _TYPES[kind] for kind in kinds}, "required": list(required)}
    if "linked" in kinds:
        parameters["$defs"] = {"size": {"type": "integer"}}
    return ToolSpec(name, f"Tool {name}.", parameters, final=final)


TOOLS = (
    _spec("say", "text", "whole", "list", required=("text",)),
    _spec("count", "whole", "text"),
    _spec("many", "list", "flag", required=("list",)),
    _spec("mixed", "any", "choice", "either"),
    _spec("deep", "table", "linked", "one", "or"),
    _spec("now"),
    _spec("reply", "text", "list", required=("text",), final=True),
)
"""Every type first and behind; `now` takes nothing, `reply` ends the episode."""
FORMS: dict[str, tuple[ToolSpec, ...]] = {
    "all": TOOLS,
    "no text at the end": (*TOOLS[:6], _spec("close", "whole", required=("whole",), final=True)),
    "two needed at the end": (TOOLS[0], _spec("reply", "text", "list", required=("text", "list"), final=True)),
    "the end first": (TOOLS[6], *TOOLS[:4]),
    "one": TOOLS[:1],
    "none": (),
}
_OPENINGS = ("<say>", "<say whole='2'>", '<say text="a" >', "<say whole='2' whole='3'>", "<count>", "<count whole='1'>", '<count text="a">',
             "<many>", "<many flag='true'>", "<mixed>", "<mixed choice='1' either='a'>", "<deep>", "<deep linked='2' one='x' or='null'>",
             "<now>", "<now x='1'>", "<say other='1'>", "<say a&#98;='2'>", "<say\n whole = \"2\"\t>", "<say whole=2>", "<say whole>", "<say '>", "<other>", "<other x='1'>")  # fmt: skip
_BODIES = ("", " ", "a", " a\n", "1", "[1]", '["a"]', "{}", '{"a": NaN}', "null", "a < b", "&lt;b&gt;&amp;&quot;&apos;", "&#32;a&#x20;", "&#x110000;&#1114111;&bad; & &;",
           "<say>b</say>", "<now/>", "</say", "<b>", "x</other>")  # fmt: skip
_SINGLE = (
    "", " \n", "plain", "<", "<>", "a<b", "a < b > c", "<say/>", "<now/>", "<now />", "<now>", "<now></now>", "<say a", "<say", "<other/>", "<other a/>", "<other",
    "<other <b/>", "<other>", "x</other><other>", "<SAY>a</SAY>", "<say>a</say>", " <say>a</say> ", "<say>a</say>rest", "before <say>a</say> rest", "<say>a</say> <b",
    "<say>a</say><say", "<say>a</say><say whole='1", "<say>a</say><say>b", "<say>a</say><say>b</say>", "<say>a</say> mid <now/> rest", "<now/><now/><now/><now/>",
    "<say>a</say><other>b</other>", "<say>a</say><other", "<say>a</say><count>x</count>", "<reply>a</reply>", "<reply list='[\"d\"]'>a</reply>", "<reply list='[\"d\"'>a</reply>",
    "<think>t</think><say>a</say>", "<think>t</think>", "t</think><say>a</say>", "<think>t<say>a</say>", "<think>never", "<think>t</think>p<say>a</say>", "<think>a</think><think>b</think><now/>",
    "<think></think>p <say>a</say>", "<information>x</information>", "<say><information></say>", "<say>&lt;information></say>", "<say>a</say></information>", "<|im_start|>",
    "<say>a</say><|im_end|>", "<say>a<|im_end|></say>", "<tool_call>", "</tool_call>", "<say-more>a</say-more>", "<say.>a</say>", "<" + "n" * 65 + "></x>",
    "<other " + "x" * 1_001 + "/>", "<say>" + "a" * 400 + "</say>",
)  # fmt: skip
_MARKS = "\t\r\x0b\xa0!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
_NAMES = ('"say"', '"now"', '"count"', '"reply"', '"other"', "5", '""')
_ARGUMENTS = ("{}", '{"text": "a"}', '{"whole": 1}', '{"text": "a", "list": ["b"]}', '{"text": "a", "text": "b"}', '{"text": NaN}', "[]", '"a"', "null",
              '{"text": "\\u0000\\ud800a"}', '{"text": "<information>"}', '{"text": "</tool_call>"}', '{"other": {"a": [1, 2.50, 1e3, true, null]}}', '{"a":')  # fmt: skip
_CALL = '<tool_call>{"name": "say", "arguments": {"text": "a"}}</tool_call>'
_WRAPPED = (
    _CALL, f" {_CALL} ", f"before {_CALL} rest", f"{_CALL}{_CALL}", f"{_CALL} mid {_CALL} rest", f"{_CALL}<tool_call>", f"{_CALL}<tool_calls>", f"{_CALL}{_CALL}{_CALL}{_CALL}",
    f"<think>t</think>{_CALL}", f"t</think>p {_CALL}", f"<think>t{_CALL}", f"<information></information>{_CALL}", f"{_CALL}<information>", f"{_CALL}<|im_end|>",
    "<tool_call>\n\t {\"name\": \"now\"} \n</tool_call>", '<tool_call>{"name": "now"}', '<tool_call>{"name": "now"} x</tool_call>', '<tool_call >{"name": "now"}</tool_call>',
    '<tool_call>"now"</tool_call>', "<tool_call></tool_call>", '<tool_call>{"name": "now", "argument": {}}</tool_call>', '<tool_call>{"name": "now"}}</tool_call>',
    f"{_CALL}<tool_call>{{\"name\": \"other\"}}</tool_call>", "<tool_call>{}</tool_call>", '<tool_call>{"arguments": {}}</tool_call>', "x <tool_call",
)  # fmt: skip
_VALUES: tuple[Any, ...] = (
    "a", "", " a ", "\n", "a&b<c>\"'", "</say>", "</think>", "é𝄞", "1", "null", "[1]", "true", "NaN", 1, 0, -1.5, True, None, [], ["é", "a'b\"c"], [1], {}, {"é": "</think>"},
    math.nan, math.inf, [math.nan], object(), {1, 2}, b"a",
)  # fmt: skip
_ROOM = Limits(max_calls_per_turn=3, max_action_chars=1_200)
_NARROW = Limits(max_calls_per_turn=1, max_action_chars=300)


def _dialects() -> dict[str, Any]:
    return {"tags": TagsDialect(), "json": JsonDialect(), "json, say": JsonDialect("say"), "json, mixed": JsonDialect("mixed"), "json, count": JsonDialect("count")}


def _texts(tags: bool) -> Iterator[str]:
    yield from _SINGLE
    yield from (f"\n {text}\t" for text in _SINGLE)
    if tags:
        for name, mark in itertools.product(("say", "other"), _MARKS):  # what may stand behind a name, and what may not
            yield f"<{name}{mark}a>b</{name}>"
            yield f"<{name} a{mark}'1'>b</{name}{mark}>"
        for opening, body in itertools.product(_OPENINGS, _BODIES):
            yield f"{opening}{body}</{opening[1:].split()[0].rstrip('>')}>"
        return
    yield from _WRAPPED
    yield from (f'<tool_call>{{"name": {name}, "arguments": {given}}}</tool_call>' for name, given in itertools.product(_NAMES, _ARGUMENTS))


def _calls() -> Iterator[list[ToolCall]]:
    for spec in TOOLS:
        names = [*spec.parameters["properties"], "other"]
        for name, value in itertools.product(names, _VALUES):
            yield [ToolCall(spec.name, {name: value})]
            if name != names[0]:
                yield [ToolCall(spec.name, {names[0]: 1, name: value})]
    yield []
    yield [ToolCall("nope", {"a b&'\"<>=/": "x", "b": 1})]
    yield [ToolCall("reply", {"text": "a", "list": ["b"]})]
    yield [ToolCall("now", {}), ToolCall("say", {"text": "a", "whole": 2})]


def _read(dialect: Dialect, text: str, specs: tuple[ToolSpec, ...], limits: Limits) -> JSON:
    try:
        parsed = dialect.parse(text, specs, limits)
    except AgentGymError as error:
        return type(error).__name__
    calls = [[c.name, c.arguments, c.id] for c in parsed.calls]
    return [parsed.error_code, bool(parsed.error), calls, parsed.thought, parsed.dropped_chars]


def _write(dialect: Dialect, calls: list[ToolCall], specs: tuple[ToolSpec, ...]) -> JSON:
    try:
        return dialect.render(calls, specs)
    except AgentGymError as error:
        return type(error).__name__


def _said(dialect: Dialect, specs: tuple[ToolSpec, ...]) -> JSON:
    try:
        shown = [dialect.instructions(specs, 1), dialect.instructions(specs, 3), [dialect.example(s) for s in specs]]
        call = ToolCall("say", {"text": "a"}, "c1")
        parts = [(call, "</information> a"), (None, "<|im_start|> b")]
        for compact, given in itertools.product((False, True), (parts, parts[:1], parts[1:], [])):
            shown.append([[m.role, m.text, m.name, m.call_id] for m in dialect.observation(given, compact=compact)])
        return [*shown, dialect.stop(specs, 1), dialect.stop(specs, 3)]
    except AgentGymError as error:
        return type(error).__name__


@cache
def wordings() -> dict[str, JSON]:
    """Return digests of what every dialect reads and writes, a few rows each, by name of the rows."""
    found: dict[str, JSON] = {}
    for name, dialect in _dialects().items():
        for form, specs in FORMS.items():
            found[f"{name}, {form}: says"] = _hex(_said(dialect, specs))
            if form == "all":
                rows = [[text, _read(dialect, text, specs, _ROOM)] for text in _texts(name == "tags")]
                for n, some in enumerate(_batched(rows)):
                    found[f"{name}: reads {n} from {some[0][0]:.40}"] = _hex(list(some))
            found[f"{name}, {form}: reads the rest"] = _hex([_read(dialect, t, specs, _NARROW) for t in (*_SINGLE, *_WRAPPED)])
        for given, specs in (("with tools", TOOLS), ("without", ())):
            rows = [_write(dialect, calls, specs) for calls in _calls()]
            for n in range(0, len(rows), 40):
                found[f"{name}, {given}: writes from {n}"] = _hex(rows[n : n + 40])
    return found


def _batched(rows: list[Any]) -> Iterator[list[Any]]:
    yield from (rows[n : n + 16] for n in range(0, len(rows), 16))


def _hex(value: JSON) -> str:
    return hashlib.blake2b(json.dumps(value, sort_keys=True, default=str).encode("utf-8", "backslashreplace"), digest_size=5).hexdigest()
