"""Tools that nobody runs: replayed from a log, or imitated by a model."""

import asyncio
import json

import chat_server as srv
import pytest

from agentgym.endpoint import EndpointConfig
from agentgym.errors import ConfigError, DataError, ServiceError
from agentgym.tools import Toolbox, ToolContext
from agentgym.tools.recorded import read_recording, recorded_tools
from agentgym.tools.simulated import SimulatedAnswers, simulated_tool
from agentgym.types import ToolCall, ToolResult, ToolSpec

SPEC = ToolSpec(
    "weather",
    "Weather of a city.",
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "number"}},
        "required": ["city"],
        "additionalProperties": False,
    },
)


def pair(city, data=None, error="", **more):
    call = ToolCall("weather", {"city": city, **more})
    return call, ToolResult("", "weather", not error, data, "E_TOOL" if error else "", error)


def call(box, ctx=None, **arguments):
    ctx = ctx or ToolContext(state={}, task_id="t1")
    return asyncio.run(box.run(ToolCall("weather", arguments, "c1"), ctx))


# ---- recorded


def test_calls_are_replayed_in_order_whatever_the_order_of_their_arguments():
    log = [pair("Oslo", 1, days=2), pair("Oslo", 2, days=2), pair("Rome", error="no such city"), pair("Bern", {"a": [1]})]
    box, ctx = Toolbox(recorded_tools([SPEC], log)), ToolContext(state={})
    assert [call(box, ctx, days=2, city="Oslo").data for _ in range(3)] == [1, 2, 2]
    assert call(box, ctx, city="Rome").error == "no such city"
    unseen = call(box, ctx, city="Paris")
    assert (unseen.code, "no call with these arguments was recorded" in unseen.error) == ("E_TOOL", True)
    assert call(box, ctx, city=5).code == "E_ARGS"
    fresh = ToolContext(state={})
    assert call(box, fresh, city="Oslo", days=2.0).data == 1, "an episode of its own begins at the first"


def test_each_task_has_its_own_recording_and_what_it_lacks_may_go_on_to_another_tool():
    logs = {"t1": [pair("Oslo", 1)], "t2": [pair("Oslo", 2)]}
    box = Toolbox(recorded_tools([SPEC], logs))
    assert [call(box, ToolContext(task_id=t), city="Oslo").data for t in ("t1", "t2")] == [1, 2]
    assert call(box, ToolContext(task_id="t3"), city="Oslo").code == "E_TOOL"
    behind = recorded_tools([SPEC], [pair("Rome", 3)])
    assert call(Toolbox(recorded_tools([SPEC], logs, otherwise=behind)), city="Rome").data == 3
    with pytest.raises(ConfigError, match=r"'whether' has no spec.*did you mean 'weather'"):
        recorded_tools([SPEC], [(ToolCall("whether", {}), ToolResult("", "whether", True))])


def test_a_recording_is_a_file(tmp_path):
    path = tmp_path / "calls.jsonl"
    path.write_text('{"name": "weather", "arguments": {"city": "Oslo"}, "result": 1}\n{"name": "weather", "error": "no city"}\n')
    assert [r.ok for _, r in read_recording(path)] == [True, False]
    path.write_text('\n{"name": "weather"}\n')
    with pytest.raises(DataError, match=r"calls.jsonl:2: a recorded call is"):
        read_recording(path)


# ---- simulated


@pytest.fixture
def server():
    with srv.serving() as running:
        yield running


def imitation(server, **options):
    config = EndpointConfig(server.url, "imitator", max_attempts=2, backoff_s=0.0)
    options.setdefault("result", {"type": "object", "properties": {"sun": {"type": "boolean"}}, "required": ["sun"]})
    return simulated_tool(SPEC, config, **options)


GOOD = '{"result": {"sun": true}}'


def test_siblings_see_the_same_world_and_it_is_asked_once(server):
    server.default = srv.slow(0.05, srv.say(GOOD))
    box = Toolbox([imitation(server)])

    async def siblings():
        contexts = [ToolContext(state={}, task_id="t1") for _ in range(8)]
        return await asyncio.gather(*(box.run(ToolCall("weather", {"city": "Oslo"}), c) for c in contexts))

    assert [r.data for r in asyncio.run(siblings())] == [{"sun": True}] * 8
    assert len(server.requests) == 1
    assert call(box, city="Oslo").data == {"sun": True}
    assert len(server.requests) == 1
    call(box, ToolContext(state={}, task_id="t2"), city="Oslo")
    assert len(server.requests) == 2, "another task is another world"


def test_what_was_answered_before_is_part_of_the_world(server):
    server.default = srv.say(GOOD)
    box, ctx = Toolbox([imitation(server)]), ToolContext(state={}, task_id="t1")
    for city in ("Oslo", "Bern", "Oslo"):
        call(box, ctx, city=city)
    assert len(server.requests) == 3, "the second call for Oslo comes after other calls"
    assert '"Bern"' in server.requests[2]["body"]["messages"][1]["content"]
    forgetful, ctx = Toolbox([imitation(server, remembers=False)]), ToolContext(state={}, task_id="t1")
    for city in ("Oslo", "Bern", "Oslo"):
        call(forgetful, ctx, city=city)
    assert (len(server.requests), ctx.state) == (5, {})


def test_an_answer_in_the_wrong_form_is_asked_for_again_then_abstains(server):
    server.replies = [srv.say("Sure! The weather is fine."), srv.say('{"result": {"sun": "yes"}}'), srv.say(f"```json\n{GOOD}\n```")]
    assert call(Toolbox([imitation(server)]), city="Oslo").data == {"sun": True}
    assert "'result.sun' must be true or false" in json.dumps(server.requests[2]["body"], ensure_ascii=False)
    for bad in ("", "{", '{"result": NaN}', '{"result": {"sun": 1}, "error": "x"}', '{"error": 5}', "[" * 5_000, '{"result": ' + "[" * 5_000):
        server.default = srv.say(bad)
        with pytest.raises(ServiceError, match="no usable answer"):
            call(Toolbox([imitation(server)]), city="Oslo")


def test_a_refusal_of_the_imitated_tool_is_the_policys_to_read(server):
    server.default = srv.say('{"error": "unknown city"}')
    box = Toolbox([imitation(server)])
    result = call(box, city="Atlantis")
    assert (result.code, result.error) == ("E_TOOL", "unknown city")
    assert call(box, city="Atlantis") == result
    assert len(server.requests) == 1


def test_a_model_that_is_down_abstains(server):
    server.default = srv.raw(b"{}", status=500)
    with pytest.raises(ServiceError, match="HTTP 500"):
        call(Toolbox([imitation(server)]), city="Oslo")


def test_a_call_that_is_too_long_for_the_model_is_the_policys_fault(server):
    server.default = srv.raw(b"This model's maximum context length is 64 tokens.", status=400)
    result = call(Toolbox([imitation(server)]), city="Oslo")
    assert (result.code, "too long" in result.error) == ("E_TOOL", True)


def test_answers_that_cannot_be_kept_are_no_fault_of_the_policy(server, tmp_path):
    server.default = srv.say(GOOD)
    box = Toolbox([imitation(server, answers=SimulatedAnswers(tmp_path / "world.sqlite"))])
    (tmp_path / "world.sqlite").write_bytes(b"something else" * 100)
    with pytest.raises(ServiceError, match=r"world\.sqlite: .*cannot be kept"):
        call(box, city="Oslo")


def test_answers_are_kept_in_a_file(server, tmp_path):
    server.default = srv.say(GOOD)
    path = tmp_path / "world.sqlite"
    for _ in range(2):
        answers = SimulatedAnswers(path)
        assert call(Toolbox([imitation(server, answers=answers)]), city="Oslo").ok
    assert (len(server.requests), len(answers)) == (1, 1)
    path.write_bytes(b"something else" * 100)
    with pytest.raises(DataError, match="cannot be kept"):
        SimulatedAnswers(path)
