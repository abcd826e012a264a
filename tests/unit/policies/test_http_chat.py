"""The chat policy: what it sends, how an answer becomes a completion, and what a failing service becomes."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server as srv
import pytest

from agentgym.dialects import ChatDialect
from agentgym.endpoint import ChatAnswer
from agentgym.policies.http_chat import HttpChatPolicy, end_at_stop, to_wire
from agentgym.rollout.policy import Policy, Request
from agentgym.task import Limits
from agentgym.types import Block, Message, ToolSpec

STOP = ("</search>", "</answer>")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[srv.ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with srv.serving() as running:
        yield running


def policy(server: srv.ChatServer, **settings: Any) -> HttpChatPolicy:
    return HttpChatPolicy(server.url, "m", backoff_s=0.01, max_attempts=2, timeout_s=5.0, **settings)


def request(member: int = 0, text: str = "question", **changes: Any) -> Request:
    fields: dict[str, Any] = {
        "episode": f"e{member}", "messages": (Message.of("system", "rules"), Message.of("user", text)), "tools": (),
        "stop": STOP, "key": (0, 0, 0, member, 0), "max_tokens": 9, "temperature": 0.5,
    }  # fmt: skip
    return Request(**fields | changes)


def test_it_is_a_policy_and_sends_what_was_asked(server: srv.ChatServer) -> None:
    acting = policy(server)
    assert isinstance(acting, Policy)
    assert not acting.privileged
    done = asyncio.run(acting.act([request(0), request(1)]))
    assert [c.finish_reason for c in done] == ["stop", "stop"]
    bodies = [r["body"] for r in server.requests]
    assert bodies[0]["messages"] == [{"role": "system", "content": "rules"}, {"role": "user", "content": "question"}]
    assert {k: bodies[0][k] for k in ("model", "stop", "max_tokens", "temperature")} == {
        "model": "m", "stop": list(STOP), "max_tokens": 9, "temperature": 0.5,
    }  # fmt: skip
    assert bodies[0]["seed"] != bodies[1]["seed"], "siblings need different noise"


def test_seed_depends_on_the_key_alone_and_can_be_left_out(server: srv.ChatServer) -> None:
    for _ in range(2):
        asyncio.run(policy(server).act([request(3)]))
    asyncio.run(policy(server, send_seed=False).act([request(3)]))
    first, second, third = (r["body"] for r in server.requests)
    assert first == second
    assert "seed" not in third


def test_rows_run_at_once_keep_their_order_and_fail_alone(server: srv.ChatServer) -> None:
    rows = [request(i, f"row {i}") for i in range(8)]

    def reply(handler: srv.Handler) -> None:
        content = handler.body["messages"][-1]["content"]
        if content == "row 3":
            srv.raw(b"broken", 500)(handler)
        else:
            srv.slow(0.05, srv.say(f"<answer>{content}"))(handler)

    server.default = reply
    done = asyncio.run(policy(server).act(rows))
    assert [c.text for i, c in enumerate(done) if i != 3] == [f"<answer>row {i}</answer>" for i in range(8) if i != 3]
    assert server.most_in_flight > 1
    assert done[3].finish_reason == "error"
    assert done[3].text == ""
    assert f"{server.url}/chat/completions: no usable answer after 2 of 2 attempts" in done[3].error
    assert "HTTP 500: broken" in done[3].error


def test_withheld_answer_is_a_fault_of_the_service(server: srv.ChatServer) -> None:
    server.default = srv.say("", "content_filter")
    (done,) = asyncio.run(policy(server).act([request()]))
    assert done.finish_reason == "error"
    assert "content_filter" in done.error


def test_missing_image_fails_its_row_only(server: srv.ChatServer, tmp_path: Path) -> None:
    picture = Message("user", (Block("image", source=str(tmp_path / "none.png")),))
    bad, good = asyncio.run(policy(server).act([request(messages=(picture,)), request()]))
    assert (bad.finish_reason, good.finish_reason) == ("error", "stop")
    assert "none.png" in bad.error


@pytest.mark.parametrize(
    ("answer", "text", "finish_reason"),
    [
        (srv.say("<search>Chad"), "<search>Chad</search>", "stop"),
        (srv.say("<search>Chad</search>"), "<search>Chad</search>", "stop"),
        (srv.say("<search>Chad</search>\n<result>made up"), "<search>Chad</search>", "stop"),
        (srv.say("<search>Cha", "length"), "<search>Cha", "length"),
        (srv.say("<search>Chad</search>", "length"), "<search>Chad</search>", "stop"),
        (srv.say("so", stop_reason="</answer>"), "so</answer>", "stop"),
        (srv.say("I do not know"), "I do not know", "stop"),
    ],
)
def test_answer_becomes_a_completion(server: srv.ChatServer, answer: srv.Reply, text: str, finish_reason: str) -> None:
    server.default = answer
    (done,) = asyncio.run(policy(server).act([request()]))
    assert (done.text, done.finish_reason) == (text, finish_reason)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<search k="5">Chad', '<search k="5">Chad</search>'),
        ("<think>a <search> is due</think><answer>Chad", "<think>a <search> is due</think><answer>Chad</answer>"),
        ("<answer/>", "<answer/>"),
        ("a < b and searching", "a < b and searching"),
        ("<searching>x", "<searching>x"),
        ("", ""),
    ],
)
def test_stripped_stop_string_comes_back_for_the_tag_that_is_open(text: str, expected: str) -> None:
    assert end_at_stop(ChatAnswer(text, "stop"), STOP) == expected


def test_no_stop_strings_leave_the_text_alone() -> None:
    assert end_at_stop(ChatAnswer("<search>x", "stop"), ()) == "<search>x"


def test_more_stop_strings_than_a_service_takes_still_end_the_text(server: srv.ChatServer) -> None:
    server.default = srv.say("<e>1</e> and more")
    (done,) = asyncio.run(policy(server).act([request(stop=("</a>", "</b>", "</c>", "</d>", "</e>"))]))
    assert server.requests[0]["body"]["stop"] == ["</a>", "</b>", "</c>", "</d>"]
    assert done.text == "<e>1</e>"


def test_wire_messages(tmp_path: Path) -> None:
    image = tmp_path / "screen.png"
    image.write_bytes(b"abc")
    wire = to_wire(
        [
            Message.of("user", "q"),
            Message.of("assistant", "<search>a</search>"),
            Message.of("tool", "Doc 1", name="search", call_id="c1"),
            Message.of("user", "2 turns left"),
            Message("user", (Block(text="see"), Block("image", source=str(image)))),
        ]
    )
    assert [m["role"] for m in wire] == ["user", "assistant", "user"]
    assert wire[2]["content"] == [
        {"type": "text", "text": "Doc 1\n\n2 turns left"},
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}},
    ]


# ---- native tool calls


def native(member: int = 0, *, messages: tuple[Message, ...] = (Message.of("user", "question"),)) -> Request:
    spec = ToolSpec("search", "Search.", {"type": "object", "properties": {"query": {"type": "string"}}, "required": ["query"]})
    return request(member, messages=messages, tools=(spec,), stop=(), dialect=ChatDialect())


def calling(*calls: tuple[str, str], text: str | None = None, **message: Any) -> srv.Reply:
    listed = [{"id": f"x{i}", "type": "function", "function": {"name": n, "arguments": a}} for i, (n, a) in enumerate(calls)]
    body = {"role": "assistant", "content": text, "tool_calls": listed, **message}
    return srv.raw(json.dumps({"choices": [{"message": body, "finish_reason": "tool_calls"}]}).encode())


def test_native_calls_go_out_as_tools_and_come_back_as_text(server: srv.ChatServer) -> None:
    server.replies = [calling(("search", '{"query": "a"}'), ("search", '{"query": "b"}'), reasoning_content="hm"), srv.say("nobody")]
    (first,) = asyncio.run(policy(server).act([native()]))
    calls = ChatDialect().parse(first.text, native().tools, Limits(max_calls_per_turn=4))
    assert [c.arguments for c in calls.calls] == [{"query": "a"}, {"query": "b"}]
    assert calls.thought == "hm"
    answers = tuple(Message.of("tool", f"found {q}", name="search", call_id=f"c{i}") for i, q in enumerate("ab", 1))
    (last,) = asyncio.run(policy(server).act([native(messages=(Message.of("user", "question"), Message.of("assistant", first.text), *answers))]))
    assert last.text == "nobody"
    sent = [r["body"] for r in server.requests]
    assert [t["function"]["name"] for t in sent[0]["tools"]] == ["search"]
    assert "stop" not in sent[0]
    said = sent[1]["messages"]
    assert [m["role"] for m in said] == ["user", "assistant", "tool", "tool"]
    assert [json.loads(c["function"]["arguments"]) for c in said[1]["tool_calls"]] == [{"query": "a"}, {"query": "b"}]
    assert [c["id"] for c in said[1]["tool_calls"]] == [m["tool_call_id"] for m in said[2:]]
    assert "hm" not in json.dumps(said), "thoughts stay behind"


@pytest.mark.parametrize("arguments", ["{", '{"query": NaN}', '{"query": "a", "query": "b"}', "null", "[" * 3_000, '{"query": "x"}}'])
def test_bad_native_arguments_are_the_policys_fault(server: srv.ChatServer, arguments: str) -> None:
    server.replies = [calling(("search", arguments))]
    (done,) = asyncio.run(policy(server).act([native()]))
    assert done.finish_reason == "stop"
    assert ChatDialect().parse(done.text, native().tools, Limits()).error_code == "E_PARSE"


def test_a_whole_episode_of_native_calls(server: srv.ChatServer) -> None:
    import agentgym  # noqa: F401 (registers the ids)
    from agentgym.rollout import EnvPool, run_groups

    server.replies = [calling(("search", '{"query": "founder"}'), ("open", '{"doc_id": "nowhere"}')), calling(("serch", "{}"))]
    server.default = srv.say("nobody")
    pool = EnvPool("SearchQA-v0", world="synthetic:natural?entities=100&seed=0", dialect="chat", limits={"max_calls_per_turn": 4})
    (group,) = run_groups(pool, policy(server), pool.first.tasks()[:1], group_size=1, key=(0, 0))
    (record,) = group.trajectories
    assert (record.end_reason, record.answer) == ("answered", "nobody")
    assert [[r.code for r in t.results] for t in record.turns[:2]] == [["", "E_TOOL"], []]
    assert record.turns[1].error_code == "E_UNKNOWN_TOOL"
    last = server.requests[-1]["body"]["messages"]
    assert [m["role"] for m in last if m["role"] != "system"] == ["user", "assistant", "tool", "tool", "assistant", "user"]
