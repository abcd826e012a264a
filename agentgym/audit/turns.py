"""What must hold of turns with several calls, of a service that fails in the middle, and of what an environment records."""

import copy
import inspect
import itertools
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym import schema
from agentgym.audit.players import Player, advance, answer_tool, begin, look_tool
from agentgym.audit.refusals import declared
from agentgym.audit.report import Finding, run_checks
from agentgym.env import ToolEnv
from agentgym.errors import AgentGymError, ConfigError, ServiceError
from agentgym.rewards import Suite
from agentgym.rewards.answers import answer_em
from agentgym.task import Answer, Limits, Task
from agentgym.types import JSON, ToolCall, ToolResult

SEVERAL = Limits(max_turns=9, max_calls_per_turn=3, max_invalid=2, max_repeats=9)
KINDS = ("documents", "citations", "state", "triples", "kept", "no such event")


def check_turns(env: ToolEnv, tasks: Sequence[Task], make: Callable[..., ToolEnv]) -> list[Finding]:
    """Run every check on fresh episodes; `make` gives another instance, with other arguments where it gets some."""
    task = replace(tasks[0], limits=SEVERAL)
    checks: tuple[tuple[str, str, Callable[[], Iterator[str]]], ...] = (
        ("secure", "a turn whose service failed leaves nothing behind", lambda: _failed(make(), task)),
        ("secure", "one bad call makes a bad turn", lambda: _mixed(env, task)),
        ("hack-resistant", "rewards read what the environment records, and nothing else", lambda: _recorded(env, tasks[0])),
        ("secure", "what tools opened is closed", lambda: _closed(make(), task)),
        ("self-describing", "tasks may be given in every form", lambda: _given(env, tasks, make)),
        ("self-describing", "results of further tools are shown as they are", lambda: _further(env, task)),
    )
    return run_checks(checks)


def _failed(env: ToolEnv, task: Task) -> Iterator[str]:
    """Take a turn again after its second call met a broken service: all must be as if that had never happened."""
    if look_tool(env) is None:
        return
    run, broken = env.toolbox.run, [False]

    async def flaky(call: ToolCall, ctx: Any, used: Mapping[str, int] | None = None, limits: Limits | None = None) -> ToolResult:
        if broken[0] and call.id == "c2":
            raise ServiceError("down")
        return await run(call, ctx, used, limits)

    spec = look_tool(env)
    task = replace(task, limits=replace(SEVERAL, tool_budgets={spec.name: 5} if spec else {}))
    ways: list[JSON] = []
    for fails in (False, True):
        player = begin(env, task)
        advance(player, player.look("of"))
        turns = [f"{player.look(player.question)}\n{player.look('the')}", player.look(player.question)]
        if fails:
            env.toolbox.run, broken[0] = flaky, True  # pyright: ignore[reportAttributeAccessIssue]
            yield _raises(env, turns[0])
            env.toolbox.run, broken[0] = run, False  # pyright: ignore[reportAttributeAccessIssue]
        for text in turns:
            advance(player, text)
        ways.append([schema.to_json(env.trajectory), player.infos[1:], player.observations])
    if ways[0] != ways[1]:
        yield "after a turn whose second call met a broken service, the same actions show or earn something else"


def _raises(env: ToolEnv, action: str) -> str:
    try:
        env.step(action)
    except ServiceError:
        return ""
    return "a service that fails is no error of the step"


def _mixed(env: ToolEnv, task: Task) -> Iterator[str]:
    """Write a good and a bad call in one turn, in both orders: bad turns end the episode after `max_invalid`."""
    spec = look_tool(env)
    if spec is None:
        return
    for good_first in (True, False):
        player = begin(env, task)
        wrong = player.call(spec.name, {})
        for n in range(2):
            good = player.look(f"thing {n}")
            advance(player, f"{good}\n{wrong}" if good_first else f"{wrong}\n{good}")
        codes = [[r.code for r in t.results] for t in env.trajectory.turns]
        if env.trajectory.end_reason != "too_many_invalid":
            yield f"two turns with a good and a bad call ({codes}) where max_invalid is 2: end_reason {env.trajectory.end_reason!r}"
        if any(i["action"]["error_code"] != "E_ARGS" for i in player.infos[1:]):
            yield f"a bad call beside a good one: codes {[i['action']['error_code'] for i in player.infos[1:]]}"
        if not all(any(r.ok for r in t.results) for t in env.trajectory.turns):
            yield f"a good call beside a bad one does not run: {codes}"
    player = begin(env, task)
    for n in range(4):
        advance(player, player.call(spec.name, {}) if n % 2 else f"{player.look(f'thing {n}')}\n{player.look(f'other {n}')}")
    if env.ended:
        yield f"bad turns between good ones end the episode: {env.trajectory.end_reason!r}"
    player, last = begin(env, replace(task, limits=replace(SEVERAL, max_repeats=2))), "thing"
    for _ in range(2):
        advance(player, f"{player.look(last)}\n{player.look('other')}")
    if env.trajectory.end_reason != "loop":
        yield f"the same two calls twice where max_repeats is 2: end_reason {env.trajectory.end_reason!r}"


class _Resource:
    """What a tool opens for an episode."""

    closed = 0

    def close(self) -> None:
        """Count."""
        self.closed += 1


def _closed(env: ToolEnv, task: Task) -> Iterator[str]:
    """Open a resource in the first call; every way out of an episode must close it once, and nothing before."""
    if look_tool(env) is None:
        return
    run, held, opened = env.toolbox.run, [_Resource()], []

    async def opening(call: ToolCall, ctx: Any, used: Mapping[str, int] | None = None, limits: Limits | None = None) -> ToolResult:
        opened.append(call.name)
        ctx.services.opened("audit", lambda: held[0])
        return await run(call, ctx, used, limits)

    env.toolbox.run = opening  # pyright: ignore[reportAttributeAccessIssue]
    ways: tuple[tuple[str, Callable[[Player], Any]], ...] = (
        ("close()", lambda p: p.env.close()),
        ("the limit of turns", lambda p: advance(p, p.look("b"))),
        ("a reset", lambda p: begin(env, task)),
        ("an end from outside", lambda p: p.env.end("time_limit")),
        *((("an answer", lambda p: advance(p, p.answer("x"))),) if answer_tool(env) else ()),
    )
    for what, leave in ways:
        held[0] = _Resource()
        player = begin(env, replace(task, limits=Limits(max_turns=2)))
        advance(player, player.look("a"))
        if not opened:  # the family makes a toolbox for every task
            return
        if held[0].closed:
            yield "what a tool opened is closed while the episode runs"
        leave(player)
        if held[0].closed != 1:
            yield f"after {what}, what a tool opened was closed {held[0].closed} times"


def _recorded(env: ToolEnv, task: Task) -> Iterator[str]:
    """Ask for every kind of event; with and without a state that rewards may read."""
    task = replace(task, gold=replace(task.gold, answers=task.gold.answers or (Answer("a"),)))
    twin: Any = copy.copy(env)
    for part, kind in itertools.product((None, "*"), KINDS):
        twin.scored_state = part
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            twin.suite = Suite(declared(needs=frozenset({f"events.{kind}"})), success=answer_em)
        wanted = kind in env.events or (kind == "state" and part is not None)
        try:
            twin.check_task(task)
            taken = True
        except ConfigError:
            taken = False
        if taken is not wanted:
            yield f"a reward of {kind!r} {'fits' if taken else 'does not fit'} an environment that records {sorted(env.events)}, scored state {part!r}"


def _given(env: ToolEnv, tasks: Sequence[Task], make: Callable[..., ToolEnv]) -> Iterator[str]:
    """Make the environment with tasks as a list and as a source, beside its index: it must have just those."""
    if "tasks" not in inspect.signature(type(env).__init__).parameters:
        return
    few = list(tasks[:2])
    for what, given, wanted in (("a list", few, few), ("their source", env.source, list(env.source.split(env.split)))):
        made = make(tasks=given, split=env.split)
        if [t.id for t in made.tasks()] != [t.id for t in wanted]:
            yield f"made with tasks={what}, the environment has other tasks"


def _further(env: ToolEnv, task: Task) -> Iterator[str]:
    if "tools" not in inspect.signature(type(env).__init__).parameters:
        return
    begin(env, task)
    call = ToolCall("weigh", {"what": "x"}, "c1")
    for data in ("Ünï\ntext", {"é": [1, "b"]}, [1, None], 5, True, None):
        try:
            text = env.render_result(call, ToolResult("c1", "weigh", True, data))
        except AgentGymError as error:
            yield f"a result {data!r} of a further tool: {error}"
            continue
        wanted = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        if text != wanted and not _wrapped(text, data):
            yield f"a result {data!r} of a further tool is shown as {text!r:.60}, not as {wanted!r}"


def _wrapped(text: str, data: JSON) -> bool:
    """Whether a text is a JSON object that holds the data as one of its values."""
    try:
        body = json.loads(text)
    except ValueError:
        return False
    return isinstance(body, dict) and body != data and data in body.values()
