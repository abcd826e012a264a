"""The audit's tables and its checks of turns: each finds a fault that is planted in what it looks at."""

import json
import warnings
from typing import Any

import gymnasium as gym
import pytest

from agentgym.audit import declarations, odd, probes, turns, wordings
from agentgym.env import ToolEnv
from agentgym.types import ToolCall, ToolResult


def make(**given: Any) -> ToolEnv:
    given = given or {"world": "synthetic:closed?seed=0"}
    env = gym.make("SearchQA-v0", disable_env_checker=True, **given).unwrapped
    assert isinstance(env, ToolEnv)
    return env


def failed() -> list[str]:
    env = make()
    return [f.name for f in turns.check_turns(env, env.tasks()[:2], make) if f.status == "fail"]


def test_turns_hold() -> None:
    assert failed() == []


@pytest.mark.parametrize(
    ("target", "name", "value", "finding"),
    [
        ("agentgym.episode", "BAD_CALL", frozenset(), "one bad call makes a bad turn"),
        ("agentgym.env.EpisodeServices", "close", lambda self: None, "what tools opened is closed"),
    ],
)
def test_planted_faults_of_turns_are_found(
    target: str, name: str, value: Any, finding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{target}.{name}", value)
    assert failed() == [finding]


def test_results_of_further_tools_must_be_shown_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    def quoted(self: ToolEnv, call: ToolCall, result: ToolResult) -> str:
        return json.dumps(result.data)

    monkeypatch.setattr(type(make()), "render_result", quoted)
    assert "results of further tools are shown as they are" in failed()


def test_a_service_that_fails_in_the_middle_must_leave_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ToolEnv, "_call", lambda self, episode, calls: self._call_each(episode, calls))
    assert failed() == ["a turn whose service failed leaves nothing behind"]


def known(name: str) -> Any:
    return json.loads(probes.PATH.read_text(encoding="utf-8"))[name]


def test_a_dialect_that_reads_otherwise_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert wordings.wordings.__wrapped__() == known("dialects")
    monkeypatch.setattr("agentgym.dialects.tags._unescape", lambda text: text)
    changed = {k for k, v in wordings.wordings.__wrapped__().items() if known("dialects")[k] != v}
    assert changed
    assert all(k.startswith("tags") for k in changed)


def test_records_outside_the_masks_must_not_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert odd.odd_expressions.__wrapped__() == known("odd components")
    monkeypatch.setattr("agentgym.rewards.replay._waits", lambda trajectory, name: True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert odd.odd_expressions.__wrapped__() != known("odd components")


def test_declarations_that_are_not_checked_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert declarations.check_declarations() == ""
    monkeypatch.setattr("agentgym.rewards.suite.check_declaration", lambda component: None)
    assert "is accepted" in declarations.check_declarations()
