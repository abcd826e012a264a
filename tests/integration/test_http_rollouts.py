"""Whole episodes against a chat server: concurrent, and a failing service marks its own episodes only."""

from collections.abc import Iterator

import chat_server as srv
import pytest

from agentgym.policies.http_chat import HttpChatPolicy
from agentgym.rollout import EnvPool, run_groups


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[srv.ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with srv.serving() as running:
        yield running


def test_search_then_answer_while_one_question_breaks_the_server(server: srv.ChatServer) -> None:
    pool = EnvPool("SearchQA-v0")
    tasks = list(pool.first.tasks("train")[:3])

    def model(handler: srv.Handler) -> None:
        messages = handler.body["messages"]
        if tasks[1].question in messages[-1]["content"] + messages[1]["content"]:
            srv.raw(b"out of memory", 500)(handler)
        elif len(messages) < 4:
            srv.slow(0.02, srv.say(f"<search>{messages[-1]['content'][-60:]}"))(handler)
        else:
            srv.say("<answer>nobody")(handler)

    server.default = model
    policy = HttpChatPolicy(server.url, "m", max_attempts=2, backoff_s=0.01)
    groups = run_groups(pool, policy, tasks, group_size=2, key=(0, 0))
    assert server.most_in_flight > 1
    for group, task in zip(groups, tasks, strict=True):
        for trajectory in group.trajectories:
            if task is tasks[1]:
                assert trajectory.end_reason == "service_error"
                assert "HTTP 500: out of memory" in trajectory.error
                assert not trajectory.in_loss
                assert not trajectory.in_statistics
            else:
                assert trajectory.end_reason == "answered"
                assert [turn.error_code for turn in trajectory.turns] == ["", ""]
                assert trajectory.turns[0].action.endswith("</search>")
                assert trajectory.turns[0].results[0].ok
                assert trajectory.in_loss


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, b'{"error": {"message": "This model\'s maximum context length is 64 tokens. However, you requested 99 tokens", "code": "context_length_exceeded"}}'),
        (400, b'{"error": {"message": "the request exceeds the available context size, try increasing it", "type": "exceed_context_size_error"}}'),
        (400, b'{"object": "error", "message": "The decoder prompt (length 99) is longer than the maximum model length of 64."}'),
        (400, b'{"message": "The input (99 tokens) is longer than the model\'s context length (64 tokens)."}'),
        (422, b'{"error": "Input validation error: `inputs` tokens + `max_new_tokens` must be <= 64. Given: 99"}'),
        (413, b'{"error": {"message": "prompt is too long: 99 tokens > 64 maximum"}}'),
    ],
)  # fmt: skip
def test_a_conversation_that_grows_too_long_for_the_model_is_no_abstention(server: srv.ChatServer, status: int, body: bytes) -> None:
    def model(handler: srv.Handler) -> None:
        srv.say("<search>more</search>")(handler) if len(handler.body["messages"]) < 4 else srv.raw(body, status)(handler)

    server.default = model
    pool, policy = EnvPool("SearchQA-v0"), HttpChatPolicy(server.url, "m", max_attempts=2, backoff_s=0.01)
    tasks = list(pool.first.tasks("train")[:1])
    (record,) = run_groups(pool, policy, tasks, group_size=1, key=(0, 0))[0].trajectories
    assert (record.end_reason, len(record.turns), record.error) == ("max_tokens", 1, "")
    assert record.in_loss
    assert record.in_statistics
    server.default = srv.raw(body, status)  # already at the opening: the model does not fit the task
    (record,) = run_groups(pool, policy, tasks, group_size=1, key=(0, 0))[0].trajectories
    assert (record.end_reason, record.in_statistics) == ("service_error", False)
    assert f"HTTP {status}" in record.error


def test_any_other_refusal_of_a_request_abstains(server: srv.ChatServer) -> None:
    server.replies, server.default = [srv.say("<search>more</search>")], srv.raw(b"unknown field: seed", 400)
    pool, policy = EnvPool("SearchQA-v0"), HttpChatPolicy(server.url, "m", max_attempts=2, backoff_s=0.01)
    (record,) = run_groups(pool, policy, list(pool.first.tasks("train")[:1]), group_size=1, key=(0, 0))[0].trajectories
    assert (record.end_reason, record.in_statistics) == ("service_error", False)
