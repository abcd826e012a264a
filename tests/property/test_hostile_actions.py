"""Whatever a policy writes: an observation that names the fix, no change of state, never an exception."""

import functools
import itertools
import json
import math
import re
import sys
import time
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import agentgym
from agentgym.check import HOSTILE
from agentgym.envs import ENVIRONMENTS
from agentgym.sanitize import sanitize

CASES = list(itertools.product(sorted(ENVIRONMENTS), ("tags", "json"), ("full", "compact")))
every_case = pytest.mark.parametrize(("env_id", "dialect", "observation"), CASES)
WIDE = 12_000_000
"""Characters that an action may have where the parser itself is to meet the long ones."""
FIX = re.compile(r"write|allowed|expected|at most|must be|use |others:|call \w+ first|drop|missing")
"""Words of a message that says what to do."""
NUMBERS = ("NaN", "-Infinity", "1e999", "-1e999", "9" * 5_000, "-" + "9" * 5_000, "1.5", "true", "null", '"3"', "[3]", "{}")
PIECES = [
    "<search>", "</search>", "<search k=", '<search k="3">', "<search/>", "<open>", "</open>", "<answer>", "</answer>",
    "<answer citations='[", "<think>", "</think>", "<information>", "</information>", "<tool_response>", "< / information >",
    "<tool_call>", "</tool_call>", "<tool_call", '{"name": "search", "arguments": {"query": "a"}}', '{"name": "search"',
    '"arguments": {"k": NaN', '{"name": "x", "name": "y"}', "[[[[[[", "]]]", "{{", "}", '"', "'", "\\", "\\ud800", "\\u0000",
    "&lt;", "&#60;information&#62;", "&#0;", "&#55296;", "&#x110000;", "&", "<", ">", "\x00", "\ud800", "\udfff", "\x1b[2J",
    "<|im_end|>", "<|im_start|>system\n", "</s>", "<unknown>x</unknown>", "[doc:", "]", "\u202e", "😀", "e\u0301", " ", "\n", "a",
]  # fmt: skip
texts = st.one_of(
    st.text(st.characters(), max_size=80),
    st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=14).map("".join),
    st.tuples(st.sampled_from(PIECES), st.integers(1, 400)).map(lambda piece: piece[0] * piece[1]),
)


@functools.cache
def environment(env_id: str, dialect: str, observation: str, wide: bool = False) -> agentgym.ToolEnv:
    limits = {"max_action_chars": WIDE} if wide else {}
    env = gym.make(env_id, dialect=dialect, observation=observation, limits=limits).unwrapped
    assert isinstance(env, agentgym.ToolEnv)
    return env


def facts(env: agentgym.ToolEnv) -> dict[str, Any]:
    """Everything that a snapshot stores and a bad action may not touch."""
    body = json.loads(env.snapshot())
    return {name: body[name] for name in ("task", "key", "state", "used")}


def take(env: agentgym.ToolEnv, action: str) -> dict[str, Any]:
    """Take one turn and check what holds for every action; return info."""
    before, n = facts(env), env.n_turns
    observation, reward, terminated, truncated, info = env.step(action)
    after, turn = facts(env), env.trajectory.turns[-1]
    assert env.n_turns == n + 1
    assert env.observation_space.contains(observation)
    assert observation == sanitize(observation)
    assert math.isfinite(float(reward))
    assert not (terminated and truncated)
    assert float(reward) == sum(r["value"] for r in info["rewards"].values())
    assert len(turn.action) <= max(env.limits.max_action_chars, 1_100)
    assert turn.action == sanitize(turn.action)
    json.dumps(info, allow_nan=False)
    failed = [r for r in turn.results if not r.ok]
    if turn.error_code:
        assert not turn.results
        assert after == before, "a bad action changed something"
        assert turn.state_hash_after == turn.state_hash_before
    if turn.error_code or failed:
        code, message = (turn.error_code, turn.error) if turn.error_code else (failed[0].code, failed[0].error)
        assert info["action"]["error_code"] == code
        assert code in observation
        assert code.startswith("E_")
        assert FIX.search(message), message
        assert len(message) < 1_500
        assert float(reward) <= env.suite.bounds().failure[1]
    if failed and len(turn.results) == 1:
        assert after["state"] == before["state"]
        assert not any(r.documents for r in turn.results)
    if not turn.error_code and not turn.results:
        pytest.fail("neither an error nor a result")
    return info


@every_case
@settings(max_examples=120, deadline=None)
@given(actions=st.lists(texts, min_size=1, max_size=4))
def test_any_text_is_taken(env_id: str, dialect: str, observation: str, actions: list[str]) -> None:
    env = environment(env_id, dialect, observation)
    env.reset(seed=1)
    for action in actions:
        if env.ended:
            break
        take(env, action)
    assert not env.ended or not env.trajectory.success
    state = env.snapshot()
    env.restore(state)
    assert env.snapshot() == state


@every_case
@pytest.mark.parametrize("name", sorted(HOSTILE))
@pytest.mark.parametrize("wide", [False, True], ids=["limited", "parsed"])
def test_known_attacks(env_id: str, dialect: str, observation: str, name: str, wide: bool) -> None:
    env = environment(env_id, dialect, observation, wide)
    env.reset(seed=2)
    started = time.process_time()
    info = take(env, HOSTILE[name])
    print(f"{name}: {1000 * (time.process_time() - started):.1f} ms of CPU")  # shown by -s: no bound that a busy machine breaks
    if not wide and len(HOSTILE[name]) > env.limits.max_action_chars:
        assert info["action"]["error_code"] == "E_LENGTH"
    if "forged" in name:
        assert info["action"]["error_code"] == "E_RESERVED"
    assert not env.trajectory.success


@pytest.mark.parametrize(("env_id", "dialect"), sorted({case[:2] for case in CASES}))
@pytest.mark.parametrize("piece", [p for p in PIECES if p.strip()])
def test_repeated_pieces_of_syntax_are_read_to_the_end(env_id: str, dialect: str, piece: str) -> None:
    """A text of one piece over and over is where a parser that looks back at every step would hang."""
    env = environment(env_id, dialect, "compact", True)
    for text in (piece * 10_000, "<search>" + piece * 10_000 + "</search>", '<tool_call>{"name": "' + piece * 10_000):
        env.reset(seed=3)
        take(env, text)


@pytest.mark.parametrize(("env_id", "dialect"), sorted({case[:2] for case in CASES}))
def test_work_grows_with_the_length_alone(env_id: str, dialect: str) -> None:
    """Counts Python calls instead of seconds: four times the text, at most about four times the calls."""
    env = environment(env_id, dialect, "compact", True)

    def calls(text: str) -> int:
        env.reset(seed=3)
        count = 0

        def profile(frame: Any, event: str, arg: Any) -> None:
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(profile)
        try:
            env.step(text)
        finally:
            sys.setprofile(None)
        return count

    for piece in ("<search>", "<a>", "</search>", "<tool_call>{", "[", "&lt;", "<think>", '"k', "<search k='1' "):
        small, large = calls(piece * 2_000), calls(piece * 8_000)
        assert large <= 5 * small + 2_000, piece


def calls_with(dialect: str, tool: Any, name: str, value: str) -> str:
    """One call of a tool with raw JSON as one argument and harmless text as the other required ones."""
    others = [p for p in tool.parameters.get("required", []) if p != name]
    first = next(iter(tool.parameters["properties"]))
    if dialect == "json":
        pairs = [f'"{p}": "a"' for p in others] + [f'"{name}": {value}']
        return f'<tool_call>{{"name": "{tool.name}", "arguments": {{{", ".join(pairs)}}}}}</tool_call>'
    attributes = "".join(f' {p}="a"' for p in others if p != first)
    quoted = value.replace("'", "&#39;")
    if name == first:
        return f"<{tool.name}{attributes}>{value}</{tool.name}>"
    return f"<{tool.name}{attributes} {name}='{quoted}'>a</{tool.name}>"


@pytest.mark.parametrize(("env_id", "dialect"), sorted({case[:2] for case in CASES}))
@pytest.mark.parametrize("value", NUMBERS, ids=[v[:12] for v in NUMBERS])
def test_odd_values_of_every_parameter(env_id: str, dialect: str, value: str) -> None:
    env = environment(env_id, dialect, "full")
    for tool in env.specs:
        for name, shape in tool.parameters["properties"].items():
            env.reset(seed=4)
            action = calls_with(dialect, tool, name, value)
            info = take(env, action)
            typed_as_text = shape.get("type") == "string" and (dialect == "tags" or value == '"3"')
            if not typed_as_text and not (shape.get("type") == "array" and value == "[3]"):
                assert info["action"]["error_code"] in ("E_PARSE", "E_ARGS"), action[:200]


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_duplicate_keys_are_refused_in_both_dialects(env_id: str) -> None:
    for dialect, action in (
        ("json", '<tool_call>{"name": "search", "arguments": {"query": "a", "query": "b"}}</tool_call>'),
        ("json", '<tool_call>{"name": "search", "arguments": {"query": "a"}, "arguments": {}}</tool_call>'),
        ("tags", '<search k="1" k="2">a</search>'),
        ("tags", '<search k="1" &#107;="2">a</search>'),
    ):
        env = environment(env_id, dialect, "full")
        env.reset(seed=5)
        info = take(env, action)
        assert info["action"]["error_code"] in ("E_PARSE", "E_UNKNOWN_TOOL")


@every_case
def test_more_calls_than_allowed_run_none(env_id: str, dialect: str, observation: str) -> None:
    env = environment(env_id, dialect, observation)
    allowed = env.limits.max_calls_per_turn
    for n in (allowed + 1, allowed + 30):
        env.reset(seed=6)
        one = env.dialect.example(env.specs[0])
        info = take(env, "\n".join([one] * n))
        assert info["action"]["error_code"] == "E_MULTI"
        assert info["docs_new"] == 0
    env.reset(seed=6)
    info = take(env, one + "\nI am sure that this helps.")
    assert info["action"]["kind"] == env.specs[0].name
    assert env.trajectory.turns[-1].dropped_chars > 0
