"""A small environment with state, events and a user: what rewards see live is what a record gives back."""

import json
from typing import Any, ClassVar

import numpy as np
import pytest
from tool_episodes import stored

from agentgym.env import ToolEnv
from agentgym.errors import ConfigError
from agentgym.gold import Constraint, GoldCall, HiddenFact, Milestone
from agentgym.rewards.changes import final_state
from agentgym.task import Answer, Gold, Limits, Task
from agentgym.tools import ToolContext, ToolOutput, tool
from agentgym.types import JSON, Message, ToolCall, ToolResult

SECRET = "blue-envelope-secret"
REWARD = (
    "task_success + 0.2 * trace_match + 0.1 * ask_gain + 0.1 * state_partial + 0.1 * milestones + 0.1 * communicate"
)
TASK = Task(
    "t1",
    "Refund order #1.",
    Gold(
        trace=(GoldCall("g1", "refund", {"order": "#1"}),),
        final_state={"orders": {"#1": "refunded", "#2": "open"}},
        communicate=(Answer("12.50", type="number"),),
        milestones=(Milestone("m1", (Constraint(path="orders.#1", value="refunded"),)),),
        minefields=(Milestone("mine", (Constraint(path="orders.#2", value="refunded"),)),),
        hidden_facts=(HiddenFact("h1", SECRET),),
    ),
)


class One:
    """A task source of one task."""

    default_split = "all"

    def split(self, name: str) -> list[Task]:
        return [TASK]

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        return TASK

    def by_id(self, task_id: str) -> Task:
        return TASK


@tool(mutates=True)
def refund(order: str, ctx: ToolContext) -> dict:
    """Refund an order."""
    ctx.state["orders"][order] = "refunded"
    return {"refunded": order, "amount": 12.5}


@tool(mutates=True)
def reopen(order: str, ctx: ToolContext) -> str:
    """Open an order again."""
    ctx.state["orders"][order] = "open"
    return "ok"


@tool
def ask_user(question: str) -> ToolOutput:
    """Ask the user."""
    return ToolOutput("To my card.", events={"revealed": ["h1"], "note": "only-for-rewards"})


@tool
def reply(text: str) -> str:
    """Tell the user something."""
    return "ok"


@tool(final=True)
def finish(message: str = "") -> dict:
    """End."""
    return {"answer": message}


class Shop(ToolEnv):
    default_limits: ClassVar[Limits] = Limits(max_turns=8, max_repeats=9)
    scored_state = "*"
    events = frozenset({"revealed", "said"})

    def prompt(self, task: Task) -> tuple[Message, ...]:
        return (Message.of("user", task.question),)

    def initial_state(self, task: Task) -> dict[str, JSON]:
        return {"orders": {"#1": "open", "#2": "open"}, "_script": 0}

    def absorb(self, state: dict[str, JSON], call: ToolCall, result: ToolResult) -> None:
        state["_script"] += 1

    def render_result(self, call: ToolCall, result: ToolResult) -> str:
        return json.dumps(result.data)


def shop(reward: Any = REWARD, cls: type[ToolEnv] = Shop) -> ToolEnv:
    tools = (refund, reopen, ask_user, reply, finish)
    return cls(env_id="Shop-v0", source=One(), tools=tools, reward=reward)


ACTIONS = [
    "<ask_user>Where to?</ask_user>",
    "<refund>#1</refund>",
    "<reply>You get 12.50 back.</reply>",
    "<finish></finish>",
]
HARM = ["<refund>#2</refund>", "<reopen>#2</reopen>"]


def run(env: ToolEnv, actions: list[str]) -> tuple[float, str]:
    seen, total = env.reset(seed=1)[0], 0.0
    for action in actions:
        observation, reward, *_, info = env.step(action)
        seen += observation + json.dumps(info, default=str)
        total += float(reward)
    return total, seen


def test_a_solved_task_scores_live_as_from_its_record() -> None:
    env = shop()
    total, seen = run(env, ACTIONS)
    record = env.trajectory
    assert record.success
    assert total == pytest.approx(1.0 + 0.2 + 0.4)
    assert SECRET not in seen
    assert "only-for-rewards" not in seen
    line = stored(record)
    assert line == record
    assert env.suite.rescore(line) == line
    assert line.initial_state == {"orders": {"#1": "open", "#2": "open"}}  # nothing with an underscore
    assert final_state(line.initial_state, line.turns) == {"orders": {"#1": "refunded", "#2": "open"}}
    assert [len(t.changes) for t in line.turns] == [0, 1, 0, 0]


def test_harm_that_was_undone_and_a_task_that_was_left_open() -> None:
    env = shop()
    run(env, [*HARM, *ACTIONS])
    assert not env.trajectory.success
    assert "mine" in env.trajectory.scores["task_success"].reason
    assert env.suite.rescore(stored(env.trajectory)) == stored(env.trajectory)
    run(env, ACTIONS[:3])
    env.end("time_limit")
    assert not env.trajectory.success
    assert env.suite.rescore(stored(env.trajectory)) == stored(env.trajectory)


def test_a_snapshot_keeps_the_states_that_rewards_read() -> None:
    env, other = shop(), shop()
    run(env, ACTIONS[:2])
    other.restore(env.snapshot())
    for action in ACTIONS[2:]:
        assert env.step(action)[:4] == other.step(action)[:4]
    assert other.trajectory == env.trajectory
    assert other.trajectory.success


def test_rewards_that_the_environment_cannot_feed_are_refused_at_reset() -> None:
    class Stateless(Shop):
        scored_state = None

    for reward, cls, words in (
        ("state_match", Stateless, "state_match needs the events state"),
        ("task_success + 0.2 * action_match", Shop, "action_match needs (gold actions|the events elements)"),
        ("webshop_score", Shop, "webshop_score needs (gold product|the events purchase)"),
    ):
        with pytest.raises(ConfigError, match=words):
            shop(reward, cls).reset(seed=0)
    lean = shop("communicate", Stateless)
    run(lean, ACTIONS)
    assert lean.trajectory.initial_state is None
    assert not any(t.changes for t in lean.trajectory.turns)
