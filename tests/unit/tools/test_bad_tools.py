"""Arguments and tools of the worst kind in a running environment: each is something the policy reads, and the run goes on."""

import json

import gymnasium as gym
import pytest

import agentgym
from agentgym.errors import ServiceError
from agentgym.rollout import EnvPool, run_groups
from agentgym.tools import ToolContext
from agentgym.types import Completion

WORLD = "synthetic:natural?entities=100&seed=0"


@agentgym.tool(mutates=True, timeout_s=0.2)
def keep(items: list[int], note: str = "", deep: dict | None = None, *, ctx: ToolContext) -> dict:
    """Keep numbers.

    Args:
        items: numbers.
        note: a word.
        deep: anything.
    """
    ctx.state["kept"] = [*ctx.state.get("kept", []), *items]
    if note == "raise":
        raise ValueError("secret")
    if note == "exit":
        raise SystemExit(3)
    if note == "hang":
        import time

        time.sleep(1)
    if note == "nan":
        return {"x": float("inf")}
    if note == "object":
        return {"x": object()}
    if note == "huge":
        return {"x": "y" * 3_000_000}
    if note == "down":
        raise ServiceError("the warehouse is down")
    return {"n": len(ctx.state["kept"]), "at": ctx.now.isoformat(), "task": ctx.task_id, "drawn": int(ctx.rng.integers(10**9))}


def make(**options):
    options = {"world": WORLD, "tools": [keep], "dialect": "json", "limits": {"max_turns": 60, "max_calls_per_turn": 4, "max_invalid": 50}} | options
    env = gym.make("SearchQA-v0", **options).unwrapped
    env.reset(seed=0)
    return env


def call(arguments):
    return f'<tool_call>{{"name": "keep", "arguments": {arguments}}}</tool_call>'


BAD = {
    "wrong type": ('{"items": "1"}', "E_ARGS"),
    "wrong inner type": ('{"items": [1, "2"]}', "E_ARGS"),
    "a float": ('{"items": [1.5]}', "E_ARGS"),
    "a truth value": ('{"items": [true]}', "E_ARGS"),
    "missing": ("{}", "E_ARGS"),
    "extra": ('{"items": [], "itmes": []}', "E_ARGS"),
    "null": ('{"items": null}', "E_ARGS"),
    "not an object": ("[1]", "E_PARSE"),
    "NaN": ('{"items": [NaN]}', "E_PARSE"),
    "infinite": ('{"items": [1e999]}', "E_PARSE"),
    "duplicate keys": ('{"items": [1], "items": [2]}', "E_PARSE"),
    "deeply nested": ('{"items": [], "deep": ' + '{"a":' * 5_000 + "1" + "}" * 5_001, "E_PARSE"),
    "not closed": ('{"items": [1', "E_PARSE"),
    "huge number": ('{"items": [' + "9" * 5_000 + "]}", "E_PARSE"),
    "huge": ('{"items": [], "note": "' + "x" * 70_000 + '"}', "E_LENGTH"),
    "raises": ('{"items": [1], "note": "raise"}', "E_TOOL"),
    "exits": ('{"items": [1], "note": "exit"}', "E_TOOL"),
    "hangs": ('{"items": [1], "note": "hang"}', "E_TIMEOUT"),
    "gives infinity": ('{"items": [1], "note": "nan"}', "E_TOOL"),
    "gives an object": ('{"items": [1], "note": "object"}', "E_TOOL"),
    "gives megabytes": ('{"items": [1], "note": "huge"}', "E_TOOL"),
}


def test_each_is_an_observation_without_a_change_and_the_episode_goes_on():
    env = make()
    for name, (arguments, code) in BAD.items():
        before = env.state_hash
        observation, _, terminated, truncated, info = env.step(call(arguments))
        assert info["action"]["error_code"] == code, name
        assert code in observation, name
        assert "secret" not in observation
        assert len(observation) < 2_000, name
        assert (env.state_hash, terminated, truncated) == (before, False, False), name
    observation, *_ = env.step(call('{"items": [1, 2]}'))
    assert '"n": 2' in observation
    assert env.toolbox.abandoned == 1


def test_calls_of_one_turn_run_in_order_and_a_failed_one_stops_none():
    env = make()
    notes = ("", "raise", "", "nan")
    env.step("".join(call(json.dumps({"items": [i], "note": n})) for i, n in enumerate(notes)))
    (turn,) = env.trajectory.turns
    assert [r.code for r in turn.results] == ["", "E_TOOL", "", "E_TOOL"]
    assert [r.data["n"] for r in turn.results if r.ok] == [1, 2]
    assert len({r.data["drawn"] for r in turn.results if r.ok}) == 2, "each call has a stream of its own"
    assert [r.data["at"][11:19] for r in turn.results if r.ok] == ["09:00:00", "09:00:02"]


def test_clock_and_chance_are_the_same_again():
    seen = []
    for _ in range(2):
        env = make()
        for _ in range(3):
            env.step(call('{"items": [1]}'))
        seen.append([t.results[0].data for t in env.trajectory.turns])
    assert seen[0] == seen[1]
    assert [d["at"][11:16] for d in seen[0]] == ["09:00", "09:01", "09:02"]
    assert seen[0][0]["task"] == env.task.id


class Says:
    """Makes the same call in every episode, then answers."""

    privileged, served = False, False

    def __init__(self, action):
        self.action = action

    async def act(self, requests):
        return [Completion("nobody" if any(m.role == "assistant" for m in r.messages) else self.action) for r in requests]

    def release(self, episodes): ...


def test_a_service_that_is_down_abstains_alone_and_is_counted():
    pool = EnvPool("SearchQA-v0", world=WORLD, tools=[keep], dialect="json")
    down, fine = call('{"items": [1], "note": "down"}'), call('{"items": [1]}')
    tasks = pool.first.tasks()[:2]
    (first,), (second,) = (run_groups(pool, Says(a), tasks[:1], group_size=1, key=(0, 0)) for a in (down, fine))
    (lost,), (kept,) = first.trajectories, second.trajectories
    assert (lost.end_reason, lost.in_loss, lost.in_statistics) == ("service_error", False, False)
    assert "the warehouse is down" in lost.error
    assert (kept.end_reason, kept.in_loss) == ("answered", True)


def test_what_a_tool_opened_is_closed_with_the_episode():
    opened = []

    class Session:
        def __init__(self):
            self.closed = 0
            opened.append(self)

        def close(self):
            self.closed += 1
            raise OSError("it resists")

    @agentgym.tool
    def use(ctx: ToolContext) -> int:
        """Use a session."""
        ctx.opened("session", Session)
        return len(opened)

    env = make(tools=[use])
    used = '<tool_call>{"name": "use"}</tool_call>'
    env.step(used), env.step(used)
    assert [s.closed for s in opened] == [0]
    env.step("nobody")
    assert [s.closed for s in opened] == [1], "the answer ended the episode"
    env.reset(seed=1)
    env.step(used)
    env.reset(seed=2)
    assert [s.closed for s in opened] == [1, 1]
    env.step(used)
    env.close()
    assert [s.closed for s in opened] == [1, 1, 1]


@pytest.mark.parametrize("now", ["yesterday", 5])
def test_a_clock_that_cannot_be_read_is_refused(now):
    from dataclasses import replace

    env = make()
    with pytest.raises(agentgym.errors.ConfigError, match=r"meta\['now'\]"):
        env.reset(options={"task": replace(env.task, meta={"now": now})})
    env.reset(options={"task": replace(env.task, meta={"now": "2020-02-29T12:00"})})
    env.step(call('{"items": [1]}'))
    assert env.trajectory.turns[0].results[0].data["at"] == "2020-02-29T12:00:00+00:00"
