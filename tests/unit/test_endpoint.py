"""The endpoint client against a real server that misbehaves on purpose."""

import asyncio
import email.utils
import gc
import time
import weakref
from collections.abc import Iterator
from typing import Any

import chat_server as srv
import pytest

from agentgym.endpoint import ChatAnswer, Endpoint, EndpointConfig, read_chat
from agentgym.errors import ConfigError, ServiceError

HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[srv.ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with srv.serving() as running:
        yield running


def client(server: srv.ChatServer, **settings: Any) -> Endpoint:
    quick: dict[str, Any] = {"backoff_s": 0.01, "timeout_s": 5.0, "deadline_s": 20.0, "max_attempts": 3}
    return Endpoint(EndpointConfig(server.url, "model-x", **(quick | settings)))


def ask(endpoint: Endpoint, **body: Any) -> ChatAnswer:
    return asyncio.run(endpoint.chat(HELLO, key=("test", 1), **body))


def test_request_is_what_the_wire_expects(server: srv.ChatServer) -> None:
    endpoint = client(server, extra_body={"top_p": 0.9})
    answer = ask(endpoint, temperature=0.0, max_tokens=7, stop=("</a>",), seed=5, logprobs=True)
    assert (answer.text, answer.finish_reason) == ("fine", "stop")
    request = server.requests[0]
    assert request["path"] == "/v1/chat/completions"
    assert request["body"] == {
        "model": "model-x", "messages": HELLO, "temperature": 0.0, "max_tokens": 7, "stop": ["</a>"], "seed": 5,
        "logprobs": True, "top_p": 0.9,
    }  # fmt: skip
    assert "authorization" not in {name.lower() for name in request["headers"]}


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (srv.raw(b"too many", 429), "HTTP 429: too many"),
        (srv.raw(b"oops", 500), "HTTP 500: oops"),
        (srv.raw(b"", 503), "HTTP 503"),
        (srv.raw(b"<html>proxy</html>"), "not JSON: '<html>proxy"),
        (srv.raw(b"[" * 100_000), "not JSON"),
        (srv.raw(b"\xff\xfe\x00"), "not JSON"),
        (srv.raw(b"[1, 2]"), "unknown shape: expected an object with 'choices', got list"),
        (srv.raw(b'{"choices": []}'), "'choices' is empty"),
        (srv.raw(b'{"choices": [{"text": "x"}]}'), "'message' is NoneType"),
        (srv.say(None), "'message.content' is NoneType, expected text"),
        (srv.half, "RemoteProtocolError"),
        (srv.reset, "ReadError|RemoteProtocolError"),
        (srv.slow(0.6, srv.say("late")), "no complete answer within 0.3 s"),
        (srv.drip, "no complete answer within 0.3 s"),
        (srv.raw(b"not gzip", content_encoding="gzip"), "DecodingError"),
    ],
)
def test_a_fault_is_tried_again_and_named_when_it_stays(server: srv.ChatServer, reply: srv.Reply, named: str) -> None:
    endpoint = client(server, timeout_s=0.3 if "0.3 s" in named else 5.0)
    server.replies, server.default = [reply], srv.say("recovered")
    assert ask(endpoint).text == "recovered"
    assert len(server.requests) >= 2
    server.default = reply
    with pytest.raises(ServiceError, match=rf"{server.url}/chat/completions: no usable answer after 3 of 3.*({named})"):
        ask(endpoint)


@pytest.mark.parametrize("status", [400, 401, 404, 422, 307])
def test_a_refusal_is_not_tried_again(server: srv.ChatServer, status: int) -> None:
    server.replies = [srv.raw(b"context too long", status)]
    with pytest.raises(ServiceError, match=f"HTTP {status}: context too long"):
        ask(client(server))
    assert len(server.requests) == 1


def test_retry_after_is_honoured_in_seconds_and_as_a_date(server: srv.ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = srv.waits(monkeypatch)
    for value, least in (("0.4", 0.4), (email.utils.formatdate(time.time() + 900, usegmt=True), 300.0)):
        server.replies = [srv.raw(b"", 429, retry_after=value)]
        waits.clear()
        assert ask(client(server, deadline_s=3600.0)).text == "fine"
        assert [wait >= least for wait in waits] == [True]


def test_retry_after_beyond_the_deadline_gives_up_at_once(server: srv.ChatServer) -> None:
    server.replies = [srv.raw(b"", 429, retry_after="3600")]
    with pytest.raises(ServiceError, match=r"after 1 of 3 attempts.*next attempt only after 3\.6e\+03 s"):
        ask(client(server))
    assert len(server.requests) == 1


def test_deadline_ends_all_attempts(server: srv.ChatServer) -> None:
    server.default = srv.raw(b"", 500)
    with pytest.raises(ServiceError, match=r"of 1000 attempts.*deadline 0\.5 s"):
        ask(client(server, deadline_s=0.5, backoff_s=0.05, max_backoff_s=0.05, max_attempts=1000))
    assert len(server.requests) <= 21  # a pause is at least 25 ms


def test_backoff_doubles_with_keyed_jitter(server: srv.ChatServer) -> None:
    endpoint = client(server, backoff_s=1.0, max_backoff_s=4.0)
    pauses = [endpoint._backoff(attempt, ("k",)) for attempt in range(5)]
    assert pauses == [endpoint._backoff(attempt, ("k",)) for attempt in range(5)]
    assert pauses != [endpoint._backoff(attempt, ("l",)) for attempt in range(5)]
    for pause, full in zip(pauses, (1, 2, 4, 4, 4), strict=True):
        assert full / 2 <= pause <= full


def test_no_more_requests_than_allowed_are_in_flight(server: srv.ChatServer) -> None:
    server.default = srv.slow(0.02, srv.say("fine"))
    endpoint = client(server, max_concurrent=3)

    async def many() -> list[ChatAnswer]:
        return await asyncio.gather(*(endpoint.chat(HELLO) for _ in range(12)))

    assert len(asyncio.run(many())) == 12
    assert server.most_in_flight == 3


def test_one_client_serves_several_event_loops_and_closes_by_itself(server: srv.ChatServer) -> None:
    endpoint = client(server)
    for _ in range(3):  # an unclosed connection would be a ResourceWarning, and so an error
        assert ask(endpoint).text == "fine"


def test_api_key_is_sent_and_never_shown(server: srv.ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "secret-123\n")
    endpoint = client(server, api_key_env="SOME_KEY")
    server.replies = [srv.raw(b"wrong key secret-123", 401)]
    with pytest.raises(ServiceError, match=r"wrong key \*\*\* \(the key in \$SOME_KEY was sent\)") as caught:
        ask(endpoint)
    assert server.requests[0]["headers"]["authorization"] == "Bearer secret-123"
    assert "secret" not in str(caught.value) + repr(endpoint.config)


def test_user_and_query_of_the_url_are_not_shown() -> None:
    endpoint = Endpoint(EndpointConfig("http://me:pw@127.0.0.1:9/v1?token=t", max_attempts=1))
    with pytest.raises(ServiceError, match=r"^http://127.0.0.1:9/v1: no usable answer after 1 of 1.*ConnectError"):
        asyncio.run(endpoint.post("", {}, lambda answer: answer))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base_url": "localhost:8000"}, "base_url is 'localhost:8000'"),
        ({"base_url": "http://"}, "base_url"),
        ({"base_url": "http://x", "max_attempts": 0}, "max_attempts is 0; allowed: 1 or more"),
        ({"base_url": "http://x", "timeout_s": 0}, "timeout_s is 0"),
        ({"base_url": "http://x", "api_key_env": "NOT_SET_ANYWHERE"}, r"\$NOT_SET_ANYWHERE, which is not set"),
    ],
)
def test_bad_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Endpoint(EndpointConfig(**settings))


def test_read_chat_knows_blocks_calls_and_logprobs() -> None:
    message = {
        "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
        "tool_calls": [{"id": "1", "function": {"name": "search", "arguments": '{"query": "x"}'}}],
    }
    logprobs = {"content": [{"token": "a", "logprob": -0.5}, {"token": "b", "logprob": 0}]}
    choice = {"message": message, "finish_reason": "tool_calls", "logprobs": logprobs, "stop_reason": "</a>"}
    answer = read_chat({"choices": [choice]})
    assert (answer.text, answer.stop_reason, answer.logprobs) == ("ab", "</a>", (-0.5, 0))
    assert answer.tool_calls == (("search", '{"query": "x"}'),)


def test_loops_that_ended_are_let_go(server: srv.ChatServer) -> None:
    endpoint, loops = client(server, max_concurrent=1), []

    async def several() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(endpoint.chat(HELLO) for _ in range(3)))

    for _ in range(5):
        asyncio.run(several())
    gc.collect()
    assert sum(loop() is not None for loop in loops) <= 1
    assert len(endpoint._sessions) <= 1
