"""`ToolEnv` with a small family of its own: limits, budgets, several calls a turn, tools that wait, fail or change state."""

import asyncio
import json
import time
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
import pytest

from agentgym.env import ToolEnv
from agentgym.episode import Episode, canonical
from agentgym.errors import ConfigError, EnvError, ServiceError, ToolError
from agentgym.rewards import Component, EpisodeView, Gate, all_valid, answer_em
from agentgym.task import Answer, Gold, Limits, Task
from agentgym.tools import Tool, ToolContext, ToolOutput, tool
from agentgym.types import JSON, Change, DocRef, Message, Passage, Score, ToolCall, ToolResult

TASKS = [Task(f"t{i}", f"Count to {i}.", Gold(answers=(Answer(str(i)),))) for i in range(1, 4)]


class Counting:
    """A task source of three tasks."""

    default_split = "all"

    def split(self, name: str) -> list[Task]:
        return TASKS

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        return TASKS[int(rng.integers(len(TASKS)))]

    def by_id(self, task_id: str) -> Task:
        return next(t for t in TASKS if t.id == task_id)


@tool(mutates=True)
def add(n: int, ctx: ToolContext) -> int:
    """Add to the counter."""
    ctx.state["count"] += n
    if ctx.state["count"] > 100:
        raise ToolError("add: the counter ends at 100; add less")
    return ctx.state["count"]


@tool
def dice(ctx: ToolContext) -> int:
    """Throw a die."""
    return int(ctx.rng.integers(1_000_000))


@tool
def read(name: str) -> ToolOutput:
    """Read a page."""
    return ToolOutput({"name": name}, (Passage(name, name.upper(), f"Text of {name}."), Passage("same", "S", "Same.")))


@tool(final=True)
def answer(text: str) -> dict:
    """Answer."""
    return {"answer": text, "citations": ["a", "b"]}


@tool(final=True)
def stop() -> None:
    """Stop without an answer."""


@tool
async def wait(s: float) -> str:
    """Wait."""
    await asyncio.sleep(s)
    return "waited"


@tool(timeout_s=0.05, mutates=True)
def slow(ctx: ToolContext) -> str:
    """Take too long, and change something on the way."""
    ctx.state["count"] = -1
    time.sleep(0.4)
    return "done"


@tool
def outage() -> str:
    """Fail for reasons of its own."""
    raise ServiceError("the service is down")


@tool
def broken() -> str:
    """Hold a mistake of its author."""
    raise ZeroDivisionError


class CountEnv(ToolEnv):
    """Counts."""

    example_actions: ClassVar[tuple[str, ...]] = ("<add>1</add>",)

    def __init__(self, tools: list[Tool], reward: Any = answer_em, **kwargs: Any) -> None:
        super().__init__(env_id="Count-v0", source=Counting(), tools=tools, reward=reward, **kwargs)

    def prompt(self, task: Task) -> tuple[Message, ...]:
        return (Message.of("user", task.question),)

    def initial_state(self, task: Task) -> dict[str, JSON]:
        return {"count": 0}

    def render_result(self, call: ToolCall, result: ToolResult) -> str:
        return json.dumps(result.data)

    def oracle_call(self, episode: Episode, rng: np.random.Generator, noise: float) -> ToolCall:
        return ToolCall("answer", {"text": episode.task.gold.answers[0].text})


def started(*tools: Tool, **kwargs: Any) -> CountEnv:
    env = CountEnv([*tools, answer], **kwargs)
    env.reset(seed=0, options={"task": "t2", "key": (7,)})
    return env


def state(env: CountEnv) -> JSON:
    return json.loads(env.snapshot())["state"]


class SawTheEnd(Component):
    """Pays at the end for the turns that saw an answer or an end; its evidence names gold."""

    name, scope, range, supply = "saw_the_end", "turn", (0.0, 1.0), "once"

    def score(self, view: EpisodeView, state: Any) -> Score:
        return Score("turn", float(bool(view.end_reason or view.answer)), evidence=(f"SECRET {view.gold.answers}",))


# ---- ends and limits


def test_a_right_answer_ends_the_episode_as_success() -> None:
    env = started(add)
    observation, reward, terminated, truncated, info = env.step("<answer>2</answer>")
    assert (observation, reward, terminated, truncated) == ("", 1.0, True, False)
    assert info["end_reason"] == "answered"
    record = env.trajectory
    assert (record.success, record.answer, record.citations) == (True, "2", ("a", "b"))


def test_a_final_tool_need_not_give_an_answer() -> None:
    env = started(stop)
    assert env.step("<stop/>")[2] is True
    assert not env.trajectory.success


@pytest.mark.parametrize(
    ("limits", "actions", "end", "terminated"),
    [
        (Limits(max_turns=3), ["<add>1</add>", "<add>2</add>", "<add>3</add>"], "max_turns", False),
        (Limits(max_invalid=2), ["???", "<add>x</add>"], "too_many_invalid", True),
        (Limits(max_invalid=2), ["???", "<add>1</add>", "???", "<ad>1</ad>"], "too_many_invalid", True),
        (Limits(max_repeats=2), ["<dice/>", "<read>a</read>", "<read>a</read>"], "loop", True),
        (Limits(max_turns=2, max_invalid=2), ["???", "???"], "too_many_invalid", True),
        (Limits(max_turns=1), ["<answer>2</answer>"], "answered", True),
    ],
)
def test_every_end_has_its_reason(limits: Limits, actions: list[str], end: str, terminated: bool) -> None:
    env = started(add, dice, read, limits=limits)
    for n, action in enumerate(actions, 1):
        assert not env.ended
        observation, _, ended, cut, info = env.step(action)
        assert info["end_reason"] == (end if n == len(actions) else "")
    assert (ended, cut) == (terminated, not terminated)
    assert observation or end == "answered"


def test_the_same_call_with_another_result_is_no_loop() -> None:
    env = started(add, dice, limits=Limits(max_repeats=2, max_turns=9))
    for _ in range(4):
        assert env.step("<add>1</add>")[4]["end_reason"] == ""
        assert env.step("<dice/>")[4]["end_reason"] == ""


def test_a_budget_is_an_observation_and_does_not_end() -> None:
    env = started(add, limits=Limits(max_turns=9, tool_budgets={"add": 2}))
    infos = [env.step(f"<add>{n}</add>")[4] for n in (1, 2, 3, 4)]
    assert [i["action"]["error_code"] for i in infos] == ["", "", "E_BUDGET", "E_BUDGET"]
    assert [i["budget_left"]["add"] for i in infos] == [1, 0, 0, 0]
    assert state(env) == {"count": 3}
    assert not env.ended


def test_a_tasks_own_limits_go_first() -> None:
    env = CountEnv([add, answer], limits=Limits(max_turns=5))
    own = Task("own", "?", TASKS[0].gold, limits=Limits(max_turns=1, max_calls_per_turn=2))
    _, info = env.reset(options={"task": own})
    assert info["limits"].get("max_turns") == 1
    assert env.stop_strings == ()
    assert env.step("<add>1</add><add>2</add>")[3] is True
    env.reset(options={"task": "t1"})
    assert env.stop_strings == ("</add>", "</answer>")


@pytest.mark.parametrize("reason", ["max_tokens", "time_limit", "env_error", "service_error"])
def test_an_end_from_outside_truncates_and_faults_leave_the_statistics(reason: str) -> None:
    env = started(add)
    env.step("<add>1</add>")
    env.end(reason, "because")
    record = env.trajectory
    assert (record.end_reason, record.truncated, record.terminated, record.error) == (reason, True, False, "because")
    assert record.in_loss is record.in_statistics is (reason in ("max_tokens", "time_limit"))
    assert record.scores["answer_em"].raw == 0.0


# ---- several calls


def test_calls_run_in_order_and_stop_at_the_answer() -> None:
    env = started(add, limits=Limits(max_calls_per_turn=4))
    env.step("<add>1</add><add>2</add><answer>2</answer><add>50</add>")
    assert [r.data for r in env.trajectory.turns[0].results[:2]] == [1, 3]
    assert len(env.trajectory.turns[0].results) == 3
    assert state(env) == {"count": 3}


def test_a_failed_call_changes_nothing_and_the_next_ones_run() -> None:
    env = started(add, limits=Limits(max_calls_per_turn=4))
    observation, *_ = env.step("<add>90</add><add>20</add><add>5</add>")
    results = env.trajectory.turns[0].results
    assert [r.ok for r in results] == [True, False, True]
    assert "ends at 100; add less" in observation
    assert state(env) == {"count": 95}
    assert [r.mutated for r in results] == [True, False, True]


def test_seen_documents_are_marked_within_a_turn_and_after() -> None:
    env = started(read, limits=Limits(max_calls_per_turn=2))
    assert env.step("<read>a</read><read>b</read>")[4]["docs_new"] == 3
    assert env.step("<read>b</read>")[4]["docs_new"] == 0


# ---- tools


def test_random_tools_follow_the_key_and_survive_a_snapshot() -> None:
    def throws(env: CountEnv) -> list[str]:
        return [env.step("<dice/>")[0] for _ in range(3)]

    first, again = throws(started(dice)), started(dice)
    assert throws(again) == first
    assert len(set(first)) == 3
    env = started(dice)
    env.step("<dice/>")
    middle = env.snapshot()
    env.reset(options={"task": "t2", "key": (8,)})
    assert throws(env) != first
    env.restore(middle)
    assert [env.step("<dice/>")[0] for _ in range(2)] == first[1:]


def test_a_tool_that_waits_works_with_and_without_a_running_loop() -> None:
    assert "waited" in started(wait).step("<wait>0.001</wait>")[0]

    async def inside() -> str:
        env = started(wait)
        first = env.step("<wait>0.001</wait>")[0]  # as in a notebook
        second, *_ = await env.astep("<wait>0.002</wait>")
        return first + second

    assert asyncio.run(inside()).count("waited") == 2


def test_a_late_tool_is_given_up_and_changes_nothing() -> None:
    env = started(slow)
    *_, info = env.step("<slow/>")
    assert info["action"]["error_code"] == "E_TIMEOUT"
    assert state(env) == {"count": 0}
    assert env.toolbox.abandoned == 1
    time.sleep(0.5)
    assert state(env) == {"count": 0}


def test_a_broken_tool_is_an_observation_and_an_outage_is_not_the_policys_fault() -> None:
    env = started(broken, outage)
    *_, info = env.step("<broken/>")
    assert info["action"]["error_code"] == "E_TOOL"

    env = started(add, read, outage, limits=Limits(max_calls_per_turn=3))
    env.step("<add>1</add>")
    before = env.snapshot()
    for action in ("<outage/>", "<add>2</add><read>a</read><outage/>"):
        with pytest.raises(ServiceError, match="down"):
            env.step(action)
        assert env.snapshot() == before, "the turn did not happen"
    assert env.step("<read>a</read>")[4]["docs_new"] == 2


def test_a_turn_that_is_given_up_did_not_happen() -> None:
    @tool
    async def wait() -> str:
        """Wait for long."""
        await asyncio.sleep(60)
        return "done"

    env = started(add, wait, limits=Limits(max_calls_per_turn=3))
    before = env.snapshot()

    async def given_up() -> None:
        turn = asyncio.ensure_future(env.astep("<add>2</add><wait/>"))
        await asyncio.sleep(0.01)
        turn.cancel()
        with pytest.raises(asyncio.CancelledError):
            await turn

    asyncio.run(given_up())
    assert env.snapshot() == before


def test_a_tool_that_waits_in_secret_is_named() -> None:
    class Waiting:
        def __await__(self) -> Any:
            yield

    env = started(add)
    original = env.toolbox.run

    async def run(*args: Any) -> Any:
        await Waiting()
        return await original(*args)

    env.toolbox.run = run  # pyright: ignore[reportAttributeAccessIssue]
    with pytest.raises(EnvError, match="async def"):
        env.step("<add>1</add>")


# ---- records


def test_the_state_hash_follows_the_state() -> None:
    env = started(add, dice)
    fresh = env.state_hash
    for action, changes in (("<add>1</add>", True), ("<dice/>", False), ("<add>x</add>", False), ("<add>200</add>", False)):
        before = env.state_hash
        *_, info = env.step(action)
        turn = env.trajectory.turns[-1]
        assert (turn.state_hash_before, turn.state_hash_after) == (before, info["state_hash"])
        assert (info["state_hash"] != before) is changes
        assert info["state_hash"] == env.state_hash
    env.step("<add>-1</add>")
    assert env.state_hash == fresh, "equal states have equal hashes"


@pytest.mark.parametrize("end", ["answered", "max_tokens"])
def test_a_restored_episode_is_scored_by_what_each_turn_could_see(end: str) -> None:
    reward = 2 * answer_em + Gate(all_valid, SawTheEnd(), 0.1)
    env, other = started(add, reward=reward), started(add, reward=reward)
    env.step("<add>1</add>")
    env.step("<add>2</add>")
    if end == "answered":
        env.step("<answer>2</answer>")
    else:
        env.end(end)
    assert env.trajectory.scores["saw_the_end"].raw == float(end == "answered")
    other.restore(env.snapshot())
    assert other.trajectory == env.trajectory


def test_evidence_stays_in_the_record() -> None:
    env = started(add, reward=answer_em + 0.1 * SawTheEnd())
    *_, info = env.step("<answer>2</answer>")
    assert "SECRET" in repr(env.trajectory.turns[0].scores)
    assert "SECRET" not in repr(info)


# ---- options


def test_keys_and_tasks_of_reset() -> None:
    env = CountEnv([add, answer])
    assert env.reset(seed=3)[1]["task_id"] == env.reset(seed=3)[1]["task_id"]
    env.reset(options={"key": (np.int64(3), "a")})
    assert json.loads(env.snapshot())["key"] == [3, "a"]
    env.reset(options={"key": 5})
    assert env.trajectory.seed == (5,)
    with pytest.raises(ConfigError, match="Task or a task id"):
        env.reset(options={"task": 5})
    with pytest.raises(ConfigError, match="needs gold answers, which task 'empty'"):
        env.reset(options={"task": Task("empty", "?")})


def test_two_resets_draw_different_tasks_and_streams() -> None:
    env = CountEnv([add, answer])
    env.reset(seed=1)
    keys = set()
    for _ in range(20):
        env.reset()
        keys.add(env.trajectory.seed)
    assert len(keys) == 20


def test_infos_are_not_shared() -> None:
    env = CountEnv([add, answer], limits=Limits(tool_budgets={"add": 2}))
    _, first = env.reset(seed=0)
    first["limits"]["tool_budgets"]["add"] = 99
    _, second = env.reset(seed=0)
    assert second["limits"]["tool_budgets"] == {"add": 2}
    assert env.limits.tool_budgets == {"add": 2}


def test_quick_copies_keep_every_field() -> None:
    env = CountEnv([add, answer])
    env.reset(seed=0)
    env.step("<add>2</add>")
    turn = replace(env.trajectory.turns[0], entropies=(0.5,), thought="so", dropped_chars=3, error="e", changes=(Change(("a",), 1),))
    assert turn.scored({"x": Score("turn", 1.0)}, 2.5) == replace(turn, scores={"x": Score("turn", 1.0)}, reward=2.5)
    result = replace(turn.results[0], code="E", error="e", truncated=True, mutated=True, events={"a": 1})
    assert result.showing((DocRef("d", "t", "x"),)) == replace(result, documents=(DocRef("d", "t", "x"),))


@pytest.mark.parametrize("value", ["ü\n", 1.5, [], {"b": [1, True, None, 1e300], "a": {"ß": "\u2028", "": -0.0}}, float("nan")])
def test_canonical_json_is_that_of_the_standard_library(value: object) -> None:
    assert canonical(value) == json.dumps(value, sort_keys=True, separators=(",", ":"))


def test_a_state_that_holds_itself_is_refused_by_name() -> None:
    state: dict[str, object] = {}
    state["self"] = state
    with pytest.raises(ValueError, match="Circular"):
        canonical(state)
