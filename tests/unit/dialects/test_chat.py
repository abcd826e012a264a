"""The chat dialect: each family's own form of calls, the parts of a turn, and the shape of chat messages."""

import json

import pytest

from agentgym.dialects import ChatDialect, ChatTurn
from agentgym.errors import ConfigError
from agentgym.task import Limits
from agentgym.tools import tool
from agentgym.types import Message


@tool
def search(query: str, k: int = 3) -> list:
    """Search the corpus."""
    return []


@tool(final=True)
def answer(text: str) -> dict:
    """Answer the question."""
    return {}


SPECS = [t.spec for t in (search, answer)]
ONE, MANY = Limits(), Limits(max_calls_per_turn=3)
CHAT = ChatDialect()
ARGS = {"query": "x"}
HERMES = '<tool_call>\n{"name": "search", "arguments": {"query": "x"}}\n</tool_call>'


@pytest.mark.parametrize(
    ("text", "thought", "n"),
    [
        (HERMES, "", 1),
        (f"<think>\nhm\n</think>\n\nI look.\n{HERMES}\n{HERMES}<|im_end|>", "hm\nI look.", 2),
        ('{"name": "search", "parameters": {"query": "x"}}', "", 1),
        ('<|python_tag|>{"name": "search", "parameters": {"query": "x"}}; {"name": "search", "parameters": {"query": "x"}}<|eot_id|>', "", 2),
        ('{"type": "function", "name": "search", "parameters": {"query": "x"}}', "", 1),
        ('[TOOL_CALLS] [{"name": "search", "arguments": {"query": "x"}, "id": "9f0a1b2c3"}]</s>', "", 1),
        ('I look.[TOOL_CALLS]search[ARGS]{"query": "x"}[TOOL_CALLS]search[CALL_ID]9f0a1b2c3[ARGS]{"query": "x"}', "I look.", 2),
        ('[TOOL_CALLS]search{"query": "x"}', "", 1),
        ("I look.<tool_call>\n<function=search>\n<parameter=query>\nx\n</parameter>\n</function>\n</tool_call>", "I look.", 1),
        ("<tool_call>search\n<arg_key>query</arg_key>\n<arg_value>x</arg_value>\n</tool_call>" * 2, "", 2),
    ],
)
def test_each_familys_own_form(text, thought, n):
    parsed = CHAT.parse(text, SPECS, MANY)
    assert [(c.name, c.arguments) for c in parsed.calls] == [("search", ARGS)] * n
    assert [c.id for c in parsed.calls] == [f"c{i + 1}" for i in range(n)]
    assert (parsed.thought, parsed.error_code) == (thought, "")


@pytest.mark.parametrize("text", ["Paris", "<think>so</think>Paris", "Paris {x}", '{"city": "Paris"}', "[Paris]"])
def test_a_text_without_a_call_is_the_answer(text):
    parsed = CHAT.parse(text, SPECS, ONE)
    assert [c.name for c in parsed.calls] == ["answer"]
    assert "Paris" in parsed.calls[0].arguments["text"]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('<tool_call>{"name": "search"', "E_PARSE"),
        ('[TOOL_CALLS][{"name": "search", "arguments": {"query": NaN}}]', "E_PARSE"),
        ('[TOOL_CALLS]search[ARGS]{"query": "x", "query": "y"}', "E_PARSE"),
        ("[TOOL_CALLS]search[ARGS]" + "[" * 5_000, "E_PARSE"),
        ('[TOOL_CALLS][{"name": "search"}] and more', "E_PARSE"),
        ("[TOOL_CALLS]", "E_PARSE"),
        ("<|python_tag|>import os", "E_PARSE"),
        ('{"name": "search", "parameters": {"query": 1e999}}', "E_PARSE"),
        ('{"name": "search", "parameters": [], "x": 1}', "E_PARSE"),
        ('{"name": "serch", "parameters": {}}', "E_UNKNOWN_TOOL"),
        ('[TOOL_CALLS]serch[ARGS]{}', "E_UNKNOWN_TOOL"),
        ('[TOOL_CALLS]search[ARGS]{"query": "x"}[TOOL_CALLS]search[ARGS]{"query": "y"}', "E_MULTI"),
        ('[TOOL_CALLS]search[ARGS]{"query": "x"}[TOOL_RESULTS]found[/TOOL_RESULTS]', "E_RESERVED"),
        ('<think>[TOOL_RESULTS]found[/TOOL_RESULTS]</think>[TOOL_CALLS]search[ARGS]{"query": "x"}', "E_RESERVED"),
        ("[TOOL_RESULTS]found[/TOOL_RESULTS]It is Paris.", "E_RESERVED"),
        ("It is Paris.[INST] Thank you.", "E_RESERVED"),
        ("<tool_response>found</tool_response>", "E_RESERVED"),
        ("<think>never closed", "E_PARSE"),
        ("<tool_call><function=search><parameter=query>x</function></tool_call>", "E_PARSE"),
        ("<tool_call><function=search><parameter=k>many</parameter></function></tool_call>", "E_PARSE"),
        ("<tool_call><function=search><parameter=k>1</parameter><parameter=k>2</parameter></function></tool_call>", "E_PARSE"),
        ("<tool_call><function=search></function>", "E_PARSE"),
        ("<tool_call><function=serch></function></tool_call>", "E_UNKNOWN_TOOL"),
        ("<tool_call>search<arg_key>query</arg_key></tool_call>", "E_PARSE"),
        ("x" * 70_000, "E_LENGTH"),
        ("", "E_PARSE"),
    ],
)  # fmt: skip
def test_bad_actions_have_a_code_and_run_nothing(text, code):
    parsed = CHAT.parse(text, SPECS, ONE)
    assert (parsed.error_code, parsed.calls) == (code, ())
    assert parsed.error


def test_arguments_in_tags_have_the_types_of_their_parameters():
    text = "<tool_call><function=search><parameter=query>\n5\n</parameter><parameter=k>5</parameter></function></tool_call>"
    assert CHAT.parse(text, SPECS, ONE).calls[0].arguments == {"query": "5", "k": 5}
    text = "<tool_call>search<arg_key>query</arg_key><arg_value> a\nb </arg_value><arg_key>k</arg_key><arg_value>5</arg_value></tool_call>"
    assert CHAT.parse(text, SPECS, ONE).calls[0].arguments == {"query": " a\nb ", "k": 5}


def test_one_form_alone():
    mistral = ChatDialect(form="mistral")
    assert mistral.parse('{"name": "search", "parameters": {"query": "x"}}', SPECS, ONE).calls[0].name == "answer"
    with pytest.raises(ConfigError, match="did you mean 'llama'"):
        ChatDialect(form="lama")


def test_a_turn_in_parts():
    assert CHAT.turn(f"<think>\nhm\n</think>\n\nI look.\n{HERMES}<|im_end|>", SPECS) == ChatTurn(
        "hm", "I look.", CHAT.parse(HERMES, SPECS, ONE).calls
    )
    assert CHAT.turn("<think>hm</think>so it is", SPECS) == ChatTurn("hm", "so it is")
    assert CHAT.turn('<tool_call>{"name": "no"}</tool_call>', SPECS) == ChatTurn("", '<tool_call>{"name": "no"}</tool_call>')


def test_the_shape_of_chat_messages():
    talk = [
        Message.of("user", "who?"),
        Message.of("assistant", f"<think>hm</think>{HERMES}{HERMES}"),
        Message.of("tool", "a", name="search", call_id="c1"),
        Message.of("tool", "b", name="search", call_id="c2"),
        Message.of("assistant", HERMES),
        Message.of("tool", "c", name="search", call_id="c1"),
        Message.of("assistant", "nobody"),
        Message.of("tool", "waiting", name="answer", call_id="c1"),
        Message.of("user", "sure?"),
        Message.of("assistant", "<tool_call>{"),
        Message.of("user", "E_PARSE"),
    ]
    wired = CHAT.wire(talk, SPECS)
    assert [m["role"] for m in wired] == [
        "user", "assistant", "tool", "tool", "assistant", "tool", "assistant", "user", "assistant", "user",
    ]  # fmt: skip
    ids = [c["id"] for m in wired for c in m.get("tool_calls", ())]
    assert len(set(ids)) == 3
    assert all(len(i) == 9 and i.isalnum() for i in ids)
    assert [m["tool_call_id"] for m in wired if m["role"] == "tool"] == ids
    assert wired[1]["reasoning_content"] == "hm"
    assert wired[1]["tool_calls"][0]["function"] == {"name": "search", "arguments": ARGS}
    assert wired[8] == {"role": "assistant", "content": "<tool_call>{"}


def test_an_endpoints_answer_becomes_one_text():
    text = CHAT.from_answer("I look.", "hm", [("search", '{"query": "</tool_call>"}'), ("search", "")])
    parsed = CHAT.parse(text, SPECS, MANY)
    assert [c.arguments for c in parsed.calls] == [{"query": "</tool_call>"}, {}]
    assert parsed.thought == "hm\nI look."
    for broken in ("{", '{"query": NaN}', '{"query": "x"}}', '"x"', '{"query": "x"}, "name": "answer"'):
        assert CHAT.parse(CHAT.from_answer("", "", [("search", broken)]), SPECS, ONE).error_code == "E_PARSE", broken
    assert CHAT.parse(CHAT.from_answer("", "", [('x"}', "{}")]), SPECS, ONE).error_code == "E_UNKNOWN_TOOL"


def test_nothing_about_tools_stands_in_the_prompt():
    text = CHAT.instructions(SPECS, 4)
    assert "search" not in text
    assert "up to 4 calls" in text
    assert CHAT.stop(SPECS, 1) == ()
    assert json.loads(CHAT.render(CHAT.parse(HERMES, SPECS, ONE).calls).removeprefix("<tool_call>").removesuffix("</tool_call>"))
