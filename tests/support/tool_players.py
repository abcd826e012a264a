"""Players of tool tasks: the oracle, those who do nothing, and those who nearly solve a task."""

from collections.abc import Iterator
from typing import Any

import gymnasium as gym

from agentgym.env import ToolEnv
from agentgym.envs.tool_calls.talk import TALK_TOOLS
from agentgym.gold import GoldCall
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.types import ToolCall, Trajectory

WRONG = "none of this 7f3a"
SPOKEN = {"reply": "text", "finish": "message", "refuse": "reason"}


def make(**kwargs: Any) -> Any:
    """A ToolCalls environment."""
    env = gym.make("ToolCalls-v0", disable_env_checker=True, **kwargs).unwrapped
    assert isinstance(env, ToolEnv)
    return env


def play(env: ToolEnv, task: Task, calls: list[ToolCall]) -> Trajectory:
    """Play calls one a turn; what is left open then is closed from outside."""
    env.reset(options={"task": task, "key": (0,)})
    for call in calls:
        if env.ended:
            break
        env.step(env.dialect.render([call], env.specs))
    if not env.ended:
        env.end("time_limit")
    return env.trajectory


def oracle(env: ToolEnv, task: Task, noise: float = 0.0, seed: int = 0) -> Trajectory:
    """Play what the environment's own solution says."""
    env.reset(options={"task": task, "key": (seed,)})
    while not env.ended:
        env.step(env.oracle_action(stream(seed, task.id, env.n_turns), noise))
    return env.trajectory


def plan(task: Task) -> list[ToolCall]:
    """The calls of a solution."""
    return [ToolCall(c.name, dict(c.arguments)) for c in task.gold.trace]


def idlers(task: Task) -> Iterator[tuple[str, list[ToolCall]]]:
    """Ways to do nothing."""
    yield "nothing", []
    for text in ("", "Done.", task.question, WRONG):
        yield f"finish {text!r:.20}", [ToolCall("finish", {"message": text})]
        yield f"refuse {text!r:.20}", [ToolCall("refuse", {"reason": text})]
    yield "ask, then finish", [ToolCall("ask_user", {"question": "Tell me everything."}), ToolCall("finish", {"message": "Done."})]


def near_misses(env: Any, task: Task) -> Iterator[tuple[str, list[ToolCall]]]:
    """Solutions with one thing wrong."""
    calls, mutating = plan(task), {t.name for t in env.domain(task).tools(task) if t.spec.mutates}
    last = calls[-1]
    other = "finish" if last.name == "refuse" else "refuse"
    said = next(iter(last.arguments.values()))
    yield "closed the other way", [*calls[:-1], ToolCall(other, {SPOKEN[other]: said})]
    yield "not closed", calls[:-1]
    for n, call in enumerate(calls):
        if call.name in SPOKEN:
            yield f"words of call {n} wrong", [*calls[:n], ToolCall(call.name, {SPOKEN[call.name]: WRONG}), *calls[n + 1 :]]
        elif call.name in mutating and call.name not in TALK_TOOLS:
            yield f"call {n} left out", [*calls[:n], *calls[n + 1 :]]
            for name in call.arguments:
                changed = {**call.arguments, name: _other(env, task, task.gold.trace[n], name)}
                yield f"call {n} with another {name}", [*calls[:n], ToolCall(call.name, changed), *calls[n + 1 :]]
    harm = _harm(env, task, mutating)
    if harm is not None:
        yield "harm done besides", [*calls[:-1], harm, last]


def _other(env: Any, task: Task, call: GoldCall, name: str) -> Any:
    """Another valid value: an id of the same kind, another allowed value, other words."""
    spec = next(t.spec for t in env.domain(task).tools(task) if t.name == call.name)
    schema, value = spec.parameters["properties"][name], call.arguments[name]
    if "enum" in schema:
        return next(v for v in schema["enum"] if v != value)
    if not isinstance(value, str):
        return value + 1
    tables = env.domain(task).rows
    for table in tables:
        if value in tables[table]:
            return next(i for i in tables[table] if i != value)
    return f"{value[:-1]}{'1' if value[-1] != '1' else '2'}"


def _harm(env: Any, task: Task, mutating: set[str]) -> ToolCall | None:
    """A call that would change something that nobody asked for, and that succeeds on a fresh state."""
    for item in env.domain(task).tools(task):
        properties = item.spec.parameters["properties"]
        if item.name not in mutating or len(properties) != 1:
            continue
        name = next(iter(properties))
        used = {c.arguments.get(name) for c in task.gold.trace}
        for table in env.domain(task).rows:
            for id_ in list(env.domain(task).rows[table])[:40]:
                call = ToolCall(item.name, {name: id_})
                if id_ not in used and any(r.ok and r.mutated for t in play(env, task, [call]).turns for r in t.results):
                    return call
    return None
