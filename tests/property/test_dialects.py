"""Parse and render are inverse of each other; parsing survives any text in linear time."""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agentgym.dialects import ChatDialect, Dialect, JsonDialect, Parsed, TagsDialect, tags
from agentgym.sanitize import RESERVED_NAMES, sanitize
from agentgym.task import Limits
from agentgym.types import ToolCall, ToolSpec

MANY = Limits(max_calls_per_turn=4, max_action_chars=10**9)
PIECES = (
    "<search>", "</search>", "<think>", "</think>", "<tool_call>", "</tool_call>", "<information>", "<|im_end|>", "</s>",
    "[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", '{"name": "search", "parameters": {"query": "x"}}', "; ", "&", "&amp;", "&#32;", "&#x3c;", "<", ">", '"', "'", "\\", "\\u003c", " ", "\n", "\t", "\u00a0", "null", "3", "[]", "{",
    '{"a":1,"a":2}', "1e999", "é", "👩‍🔬", "\u202e", "/>", "=", "<a/>", "/",
)  # fmt: skip
TEXT = st.one_of(st.text(max_size=30), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)).map(sanitize)
NUMBER = st.one_of(st.integers(-(10**20), 10**20), st.floats(allow_nan=False, allow_infinity=False))
VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), NUMBER, TEXT),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXT, inner, max_size=3)),
    max_leaves=6,
)
KINDS: dict[str, tuple[dict, st.SearchStrategy]] = {
    "string": ({"type": "string"}, TEXT),
    "enum": ({"enum": ["a b", "<x>", "3"]}, st.sampled_from(["a b", "<x>", "3"])),
    "integer": ({"type": "integer"}, st.integers(-(10**30), 10**30)),
    "number": ({"type": "number"}, st.floats(allow_nan=False, allow_infinity=False)),
    "boolean": ({"type": "boolean"}, st.booleans()),
    "optional": ({"type": ["string", "null"]}, st.one_of(st.none(), TEXT)),
    "either": ({"anyOf": [{"type": "string"}, {"type": "array"}]}, st.one_of(TEXT, st.lists(TEXT, max_size=3))),
    "list": ({"type": "array", "items": {"type": "string"}}, st.lists(TEXT, max_size=4)),
    "object": ({"type": "object"}, st.dictionaries(TEXT, VALUE, max_size=3)),
    "any": ({}, VALUE),
}
WORD = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_-]{0,12}\Z").filter(lambda n: n.lower() not in RESERVED_NAMES)
KEY = st.one_of(WORD, TEXT.filter(bool))


@st.composite
def specs_and_calls(draw: st.DrawFn) -> tuple[list[ToolSpec], tuple[ToolCall, ...]]:
    specs, values = [], {}
    for name in draw(st.lists(WORD, min_size=1, max_size=3, unique=True)):
        kinds = {key: draw(st.sampled_from(sorted(KINDS))) for key in draw(st.lists(KEY, max_size=3, unique=True))}
        required = [key for key in kinds if draw(st.booleans())]
        properties = {key: KINDS[kind][0] for key, kind in kinds.items()}
        parameters = {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
        specs.append(ToolSpec(name, "", parameters, final=draw(st.booleans())))
        values[name] = {key: KINDS[kind][1] for key, kind in kinds.items()}
    calls = []
    for n in range(draw(st.integers(1, 3))):
        spec = draw(st.sampled_from(specs))
        wanted = [k for k in values[spec.name] if k in spec.parameters["required"] or draw(st.booleans())]
        calls.append(ToolCall(spec.name, {key: draw(values[spec.name][key]) for key in wanted}, f"c{n + 1}"))
    return specs, tuple(calls)


@settings(max_examples=400, deadline=None)
@given(specs_and_calls(), st.sampled_from([TagsDialect(), JsonDialect(), ChatDialect()]))
def test_parse_gives_back_what_render_wrote(case: tuple[list[ToolSpec], tuple[ToolCall, ...]], dialect: Dialect):
    specs, calls = case
    parsed = dialect.parse(dialect.render(calls, specs), specs, MANY)
    assert parsed.error == ""
    assert repr(parsed.calls) == repr(calls)  # types too: True is not 1
    assert parsed.dropped_chars == 0


SEARCH = ToolSpec(
    "search", "", {"type": "object", "properties": {"query": {"type": "string"}, "k": {"type": "integer"}}, "required": ["query"]}
)  # fmt: skip
ANSWER = ToolSpec("answer", "", {"type": "object", "properties": {"text": {"type": "string"}}}, final=True)


@settings(max_examples=400, deadline=None)
@given(
    st.one_of(
        st.text(st.characters(exclude_categories=()), max_size=60),
        st.lists(st.sampled_from((*PIECES, "<search k='", "<answer>", '{"name": "search", "arguments": {', "\x00", "\ud800")), max_size=14).map("".join),
    ),
    st.sampled_from([TagsDialect(), JsonDialect(), ChatDialect()]),
)  # fmt: skip
def test_parse_never_raises_and_is_either_calls_or_an_error(text: str, dialect: Dialect):
    parsed = dialect.parse(text, [SEARCH, ANSWER], MANY)
    assert isinstance(parsed, Parsed)
    assert bool(parsed.calls) != bool(parsed.error_code)
    assert bool(parsed.error) == bool(parsed.error_code)
    assert 0 <= parsed.dropped_chars <= len(text)
    (str(parsed.calls) + parsed.error).encode()


PLAIN_PIECES = ("<search>", "</search>", "<answer>", "</answer>", "<think>x</think>", "<nop>", "</nop>", "<none>a</none>", " ", "\n", "a", ">", "/", "&lt;", "<", "=", "\u00a0")


@settings(max_examples=600, deadline=None)
@example("<search>a</search>", 1)
@example("\n<answer></answer> ", 1)
@given(st.lists(st.sampled_from(PLAIN_PIECES), max_size=6).map("".join), st.sampled_from([1, 4]))
def test_the_short_way_through_plain_tags_reads_what_the_long_one_does(text: str, most: int):
    specs, limits = (SEARCH, ANSWER, ToolSpec("nop", "", {"type": "object", "properties": {}})), Limits(max_calls_per_turn=most)
    short = tags._plain(text, "thought", specs, limits)
    if text in ("<search>a</search>", "\n<answer></answer> "):
        assert short is not None
    assert short in (None, tags._Scan(text, "thought", specs, limits).run())


N = 40_000
HOSTILE = {
    "open tags": "<search>" * N,
    "open tags, closed once": "<search>" * N + "</search>",
    "many calls": "<search>a</search>" * N,
    "thoughts": "<think>" * N,
    "nested thoughts": "<think>" * N + "</think>" * N,
    "unknown tags": "".join(f"<a{i}>" for i in range(N)),
    "unknown tags without end": "<a " * N,
    "unknown tags with one end": "<a " * N + ">",
    "angle brackets": "<" * N * 4,
    "attributes": "<search " + 'k="1" ' * N,
    "attribute names": "<search " + "k" * N * 4,
    "attribute blanks": "<search" + " " * N * 4,
    "attribute blanks before =": "<search k" + " " * N * 4,
    "open quotes": "<search k='" * N,
    "ampersands": "<search>" + "&#" * N + "</search>",
    "brackets": '<tool_call>{"name": "search", "arguments": ' + "[" * N,
    "shut brackets": '<tool_call>{"a":' + "[]," * N,
    "quotes": "<tool_call>{" + '"' * (2 * N + 1),
    "escaped quotes": "<tool_call>{" + '\\"' * N,
    "open strings": "<tool_call>{" + '"\\' * N,
    "open json calls": "<tool_call>" * N,
    "json calls": '<tool_call>{"name":"search"}</tool_call>' * N,
    "digits": '<tool_call>{"name":"search","arguments":{"k":' + "9" * N * 4 + "}}</tool_call>",
    "decimals": '<tool_call>{"name":"search","arguments":{"k":0.' + "9" * N * 4 + "}}</tool_call>",
    "keys": '<tool_call>{"name":"search","arguments":{' + '"a":1,' * N + '"b":2}}</tool_call>',
    "blanks": " \n\t" * N,
    "end tokens": "<|im_end|>" * N,
    "forged prefixes": "<   /   " * N,
    "control tokens": "<|" * N,
    "llama calls": '{"name":"search","parameters":{}};' * N + "{}",
    "llama brackets": '{"name":' + "{" * N + "}",
    "llama blanks": '<|python_tag|>' + " ;" * N,
    "mistral calls": "[TOOL_CALLS]search[ARGS]{}" * N,
    "function tags": "<tool_call><function=search>" + "<parameter=k>" * N,
    "function calls": "<tool_call><function=search></function></tool_call>" * N,
    "argument keys": "<tool_call>search" + "<arg_key>" * N,
    "argument pairs": "<tool_call>search" + "<arg_key>a</arg_key><arg_value>1</arg_value>" * N + "</tool_call>",
    "mistral tags": "[TOOL_CALLS]" * N,
    "mistral list": "[TOOL_CALLS][" + '{"name":"search"},' * N,
}


@pytest.mark.timeout(5)
@pytest.mark.parametrize("dialect", [TagsDialect(), JsonDialect(), ChatDialect()], ids=lambda d: d.name)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_texts_end_soon(name: str, dialect: Dialect):
    """Quadratic work on these would take minutes; the time limit of the test catches it."""
    parsed = dialect.parse(HOSTILE[name], [SEARCH, ANSWER], MANY)
    assert bool(parsed.calls) != bool(parsed.error_code)
