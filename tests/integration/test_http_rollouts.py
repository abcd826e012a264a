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
