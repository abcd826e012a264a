"""Scripted tool episodes: calls with results, events and states, played through a suite as an environment does."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from agentgym import schema
from agentgym.rewards import EpisodeView, Suite
from agentgym.rewards.changes import applied, diff
from agentgym.task import Gold, GoldCall
from agentgym.types import JSON, Score, ToolCall, ToolResult, Trajectory, Turn

Call = tuple[str, dict[str, JSON]]


def call(name: str, /, **arguments: JSON) -> Call:
    """A call as (name, arguments)."""
    return name, arguments


def step(*calls: Call, ok: bool = True, code: str = "", events: dict[str, JSON] | None = None, thought: str = "") -> Turn:
    """A turn of calls; all succeed, or all fail with a code; `events` belong to the last one."""
    made = tuple(ToolCall(name, dict(arguments), str(i)) for i, (name, arguments) in enumerate(calls))
    results = [ToolResult(c.id, c.name, ok, code=code, error="failed" if code else "") for c in made]
    if results and events:
        results[-1] = replace(results[-1], events=events)
    return Turn(0, "…", made, tuple(results), thought=thought)


def broken(code: str = "E_PARSE") -> Turn:
    """A turn that is no action."""
    return Turn(0, "???", error_code=code, error="not understood")


def trace(*calls: Call, **fields: Any) -> Gold:
    """Gold whose trace is these calls, with ids g0, g1, …"""
    return Gold(trace=tuple(GoldCall(f"g{i}", name, arguments) for i, (name, arguments) in enumerate(calls)), **fields)


def play(
    suite: Suite,
    turns: Sequence[Turn],
    gold: Gold,
    *,
    states: Sequence[JSON] = (),
    end_reason: str = "finished",
    answer: str | None = None,
    question: str = "Do it.",
) -> Trajectory:
    """Score turns as an environment does.

    `states` are the first state and the one after each turn, where the environment shows one to rewards.
    """
    initial = states[0] if states else None
    view = EpisodeView(question, gold, initial_state=initial, state=initial)
    state, done = suite.start(view), []
    for i, turn in enumerate(turns):
        changes = diff(states[i], states[i + 1]) if states else ()
        done.append(replace(turn, index=i, changes=changes))
        view.turns, view.state = done, applied(view.state, changes)
        if i == len(turns) - 1:
            view.answer, view.end_reason = answer, end_reason
        scores = suite.score_turn(view, state)
        done[-1] = replace(done[-1], scores=scores, reward=sum((s.value for s in scores.values()), 0.0))
    view.answer, view.end_reason = answer, end_reason
    scores = suite.score_trajectory(view, state)
    return Trajectory(
        id="t",
        env_id="test",
        task_id="task",
        prompt=(),
        turns=tuple(done),
        question=question,
        answer=answer,
        end_reason=end_reason,
        terminated=end_reason in ("finished", "answered"),
        success=suite.success(view),
        scores=scores,
        reward=sum((s.value for s in scores.values()), 0.0),
        gold=schema.to_json(gold),
        initial_state=initial,
        reward_spec=suite.name,
    )


def stored(trajectory: Trajectory) -> Trajectory:
    """The record as a line of JSON gives it back."""
    return schema.from_json(Trajectory, json.loads(json.dumps(schema.to_json(trajectory))))


def sums(trajectory: Trajectory, name: str) -> float:
    """The sum of a component's raw values over the episode."""
    tables = [*(t.scores for t in trajectory.turns), trajectory.scores]
    return sum(scores[name].raw or 0.0 for scores in tables if name in scores)


def score(trajectory: Trajectory, name: str) -> Score:
    """The trajectory score of a component."""
    return trajectory.scores[name]
