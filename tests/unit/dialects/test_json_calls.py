"""The json dialect on fixed texts; the inverse is property-tested."""

import json

import pytest

from agentgym.dialects import JsonDialect
from agentgym.errors import ConfigError, EnvError
from agentgym.sanitize import escape_reserved
from agentgym.task import Limits
from agentgym.tools import tool
from agentgym.types import ToolCall


@tool
def search(query: str, k: int = 3) -> list:
    """Search the corpus."""
    return []


@tool(final=True)
def finish() -> None:
    """End."""


@tool(final=True)
def answer(text: str, citations: list[str] = []) -> dict:  # noqa: B006
    """Answer the question."""
    return {}


SPECS = [t.spec for t in (search, finish, answer)]
ONE, MANY = Limits(), Limits(max_calls_per_turn=3)
JSON = JsonDialect()


def call(body: str) -> str:
    return f"<tool_call>{body}</tool_call>"


@pytest.mark.parametrize(
    ("text", "name", "arguments"),
    [
        (call('{"name": "search", "arguments": {"query": "x", "k": 5}}'), "search", {"query": "x", "k": 5}),
        (call(' \n{"arguments": {"query": "</tool_call> <information> \\u00e9"}, "name": "search"}\n '), "search",
         {"query": "</tool_call> <information> é"}),
        (call('{"name": "search", "arguments": {"query": "a\nb\\u0000\\ud800\\r\\ud83d\\ude00"}}'), "search", {"query": "a\nb😀"}),
        (call('{"name": "finish"}'), "finish", {}),
        ("N'Djamena", "answer", {"text": "N'Djamena"}),
        ("<think>so</think>\n Paris & <b>co</b> \n<|im_end|>", "answer", {"text": "Paris & <b>co</b>"}),
    ],
)  # fmt: skip
def test_one_call(text: str, name: str, arguments: dict):
    parsed = JSON.parse(text, SPECS, ONE)
    assert (parsed.error_code, parsed.error) == ("", "")
    assert parsed.calls == (ToolCall(name, arguments, "c1"),)


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("", "E_PARSE", "the action is empty; write {\"name\": \"search\""),
        ("<think>Paris</think>", "E_PARSE", "the action is empty"),
        ("<think>Paris", "E_PARSE", "not closed"),
        ("<tool_call>", "E_PARSE", "a JSON object must follow"),
        ("<tool_call", "E_PARSE", "exactly tool_call"),
        ("<tool_calls>[]</tool_calls>", "E_PARSE", "exactly tool_call"),
        ('<tool_call>{"name": "search"}', "E_PARSE", "the closing tag is missing"),
        ('<tool_call>{"name": "search"', "E_PARSE", "not closed"),
        ('<tool_call>{"name": "search', "E_PARSE", "not closed"),
        (call('[{"name": "search"}]'), "E_PARSE", "a JSON object"),
        (call("{'name': 'search'}"), "E_PARSE", "double quotes"),
        (call('｛"name": "search"｝'), "E_PARSE", "a JSON object must follow"),
        (call('{"name": "search", "name": "finish"}'), "E_PARSE", "'name' is given twice"),
        (call('{"name": "search", "arguments": {"query": "a", "qu\\u0000ery": "b"}}'), "E_PARSE", "given twice"),
        (call('{"name": "search", "arguments": {"k": NaN}}'), "E_PARSE", "NaN is not JSON"),
        (call('{"name": "search", "arguments": {"k": -Infinity}}'), "E_PARSE", "-Infinity is not JSON"),
        (call('{"name": "search", "arguments": {"k": 1e999}}'), "E_PARSE", "1e999 is not finite"),
        (call('{"name": "search", "arguments": {"k": ' + "9" * 5000 + "}}"), "E_PARSE", "5000 digits"),
        (call('{"name": "search", "arguments": {"k": ' + "[" * 10_000), "E_PARSE", "deeper than 64"),
        (call('{"name": "search", "arguments": {"k": ' + '{"a":' * 80 + "1" + "}" * 80 + "}}"), "E_PARSE", "deeper than 64"),
        (call('{"name": "search", "arguments": "{}"}'), "E_PARSE", "'arguments' must be a JSON object"),
        (call('{"name": 3}'), "E_PARSE", "'name' must be"),
        (call('{"nam": "search"}'), "E_PARSE", "did you mean 'name'"),
        (call('{"name": "serach", "arguments": {}}'), "E_UNKNOWN_TOOL", "did you mean 'search'"),
        (call('{"name": "se\u200barch", "arguments": {}}'), "E_UNKNOWN_TOOL", "no tool"),
        (call('{"name": "finish"}') * 2, "E_MULTI", "nothing ran"),
        (call('{"name": "finish"}') + "<tool_response>{}</tool_response>", "E_RESERVED", "environment alone"),
        ("<tool_response>{}</tool_response>" + call('{"name": "finish"}'), "E_RESERVED", "environment alone"),
        ("Paris <information>x</information>", "E_RESERVED", "environment alone"),
        ("<think><information></think>" + call('{"name": "finish"}'), "E_RESERVED", "environment alone"),
    ],
)  # fmt: skip
def test_bad_actions_have_a_code_and_name_the_fix(text: str, code: str, says: str):
    parsed = JSON.parse(text, SPECS, ONE)
    assert parsed.error_code == code
    assert says in parsed.error
    assert escape_reserved(parsed.error) == parsed.error  # what the policy reads is what was meant
    assert parsed.calls == ()


def test_depth_64_is_read():
    body = "[" * 62 + "]" * 62
    parsed = JSON.parse(call('{"name": "search", "arguments": {"k": %s}}' % body), SPECS, ONE)  # noqa: UP031
    assert parsed.calls[0].arguments["k"] == json.loads(body)


def test_several_calls_thought_and_dropped_prose():
    finish_call = call('{"name": "finish"}')
    parsed = JSON.parse(f"<think>a</think> first {finish_call} then {finish_call} done", SPECS, MANY)
    assert [(c.name, c.id) for c in parsed.calls] == [("finish", "c1"), ("finish", "c2")]
    assert parsed.thought == "a\nfirst"
    assert parsed.dropped_chars == len("then") + len("done")


def test_which_tool_a_plain_text_calls():
    assert JSON.parse("hi", SPECS[:2], ONE).error_code == "E_PARSE"
    chosen = JsonDialect(text_tool="search")
    assert chosen.parse("hi", SPECS, ONE).calls[0].name == "search"
    assert "calls search with that text" in chosen.instructions(SPECS)
    with pytest.raises(ConfigError, match="a first parameter that is a string"):
        JsonDialect(text_tool="finish").parse("hi", SPECS, ONE)


def test_render():
    assert JSON.render([ToolCall("answer", {"text": "Paris"})], SPECS) == "Paris"
    for text in ("", " Paris", "<tool_call>", "x</think>y", "<information>", "Paris</s>"):
        written = JSON.render([ToolCall("answer", {"text": text})], SPECS)
        assert written.startswith('<tool_call>{"name": "answer"')
        assert JSON.parse(written, SPECS, ONE).calls[0].arguments == {"text": text}
    assert JSON.render([ToolCall("answer", {"text": "Paris"})]) == call(
        '{"name": "answer", "arguments": {"text": "Paris"}}'
    )
    with pytest.raises(EnvError, match="not JSON"):
        JSON.render([ToolCall("search", {"k": float("nan")})])


def test_observations_are_tool_messages_per_call():
    parts = [(ToolCall("search", {}, "c1"), '{"ok":"</tool_response>"}'), (None, "next")]
    first, second = JSON.observation(parts)
    assert (first.role, first.name, first.call_id, first.text) == (
        "tool",
        "search",
        "c1",
        '{"ok":"&lt;/tool_response>"}',
    )
    assert (second.role, second.text) == ("user", "next")


def test_stop_strings_and_examples():
    assert JSON.stop(SPECS) == ("</tool_call>",)
    assert JSON.stop(SPECS, 16) == ()
    for spec in SPECS:
        assert JSON.parse(JSON.example(spec), SPECS, ONE).calls[0].name == spec.name
    assert "search(query: string, k: integer = 3): Search the corpus." in JSON.instructions(SPECS)
