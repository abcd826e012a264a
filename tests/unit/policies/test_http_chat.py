"""The chat policy: what it sends, how an answer becomes a completion, and what a failing service becomes."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server as srv
import pytest

from agentgym.endpoint import ChatAnswer
from agentgym.policies.http_chat import HttpChatPolicy, end_at_stop, to_wire
from agentgym.rollout.policy import Policy, Request
from agentgym.types import Block, Message

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
