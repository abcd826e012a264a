"""ToolCalls-v0: serve a user with tools that change a world."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from agentgym.dialects import ChatDialect, JsonDialect, Parsed
from agentgym.env import ToolEnv
from agentgym.envs.tool_calls.domain import Domain
from agentgym.envs.tool_calls.simulated import SimulatedDomain, Simulator, check_suite
from agentgym.envs.tool_calls.talk import TALK_TOOLS
from agentgym.envs.tool_calls.tasks import domain_for, open_source
from agentgym.episode import Episode
from agentgym.sanitize import escape_reserved, shorten
from agentgym.task import Limits, Task
from agentgym.tools import Tool, Toolbox
from agentgym.tools.toolbox import only_tools
from agentgym.toolspec import example_arguments
from agentgym.typed import matches
from agentgym.types import JSON, Message, ToolCall, ToolResult, ToolSpec

LIMITS = Limits(max_turns=30, max_calls_per_turn=16, max_result_chars=4_000)
INSTRUCTIONS = """{rules}

{calls}

You have at most {turns} turns."""
SPOKEN = {"json": JsonDialect, "chat": ChatDialect}
"""Dialects in which a text without a call is a reply to the user."""
EARLY_CLOSE = 0.2
"""Share of an oracle's careless calls that close the task before it is done."""
MAX_BOXES = 512
"""Sets of tools that are kept ready; more than the domains of one training run."""


@dataclass(slots=True)
class Box:
    """One set of tools, ready for use."""

    toolbox: Toolbox
    specs: tuple[ToolSpec, ...]
    waits: bool
    live: bool
    instructions: dict[int, str]


class ToolCallsEnv(ToolEnv):
    """Tools over a world, a user, rules to keep. See CARD.md for worlds, rewards, limits and versions."""

    example_actions: ClassVar[tuple[str, ...]] = ("<finish>Done.</finish>",)
    default_limits: ClassVar[Limits] = LIMITS
    scored_state: ClassVar[str | None] = "*"
    events: ClassVar[frozenset[str]] = frozenset({"revealed", "said", "user_turn_ended", "status"})

    def __init__(
        self,
        *,
        world: Any = None,
        tasks: Any = None,
        tools: Any = (),
        simulate: Any = None,
        reward: Any = "tools",
        dialect: Any = "json",
        observation: str = "full",
        limits: Limits | Mapping[str, Any] | None = None,
        split: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Choose tasks and tools.

        Args:
            world: A world by name with options ("shop?seed=0", "office?size=200", "drawn?worlds=64"), or a source of
                tasks with domains.
            tasks: A file of tasks, a list of Task, or a TaskSource, in the place of the world's own.
            tools: Further tools, by name too ("my_tools.py:refund"); one with the name of a world's tool takes its place.
            simulate: Settings of an endpoint (base_url, model, …): a model imitates the world's tools, which then change
                no state; for reward="checklist".
            reward: A preset, component name, expression or Suite, or the name of one's own ("my_rewards.py:brief").
            dialect: "json", "tags", or another registered one.
            observation: "full" or "compact" (the same facts in few tokens).
            limits: Limits of an episode that a task does not set itself; a table changes some of the default ones.
            split: Where `reset` draws tasks from; the source's own default without it.
            render_mode: "ansi" or None.

        Raises:
            ConfigError: For an unknown option or one of the wrong kind.
            DataError: For a broken file of tasks.
        """
        self._extra = only_tools(tools, "ToolCalls-v0")
        self._boxes: dict[tuple[Tool, ...], Box] = {}
        self._simulator = Simulator(simulate) if simulate is not None else None
        self._simulated: dict[int, SimulatedDomain] = {}
        self.source = source = open_source(world, tasks)
        first = source.split(split or source.default_split)[0]
        spoken: Any = SPOKEN[dialect]("reply") if dialect in SPOKEN and "reply" in self._talk(first) else dialect
        super().__init__(
            env_id="ToolCalls-v0",
            source=source,
            tools=self._tools_of(self.domain(first), first, 0),
            reward=reward,
            dialect=spoken,
            observation=observation,
            limits=limits,
            split=split,
            render_mode=render_mode,
        )
        if self._simulator is not None:
            check_suite(self.suite)
        shown = [self.dialect.example(spec) for spec in self.specs]
        self.example_actions = tuple(shown)  # pyright: ignore[reportAttributeAccessIssue]
        self.action_space.examples = self.example_actions  # pyright: ignore[reportAttributeAccessIssue]

    # ---- which tools there are --------------------------------------------------------------------

    def _talk(self, task: Task) -> tuple[str, ...]:
        return (*self.domain(task).talk, *(t.name for t in self._extra))

    def domain(self, task: Task) -> Domain:
        """Return the domain of a task."""
        found = domain_for(self.source, task)
        if self._simulator is None:
            return found
        if id(found) not in self._simulated:
            if len(self._simulated) >= MAX_BOXES:
                self._simulated.clear()
            self._simulated[id(found)] = SimulatedDomain(found, self._simulator)
        return self._simulated[id(found)]

    def _tools_of(self, domain: Domain, task: Task, user_turn: int) -> tuple[Tool, ...]:
        own = {t.name: t for t in domain.tools(task, user_turn)}
        own |= {name: TALK_TOOLS[name] for name in domain.talk if name not in own}
        own |= {t.name: t for t in self._extra}
        return tuple(own.values())

    def _equip(self, task: Task, user_turn: int = 0) -> None:
        """Take up the tools of a task in a user turn."""
        tools = self._tools_of(self.domain(task), task, user_turn)
        box = self._boxes.get(tools)
        if box is None:
            waits, live = any(t.waits for t in tools), any(t.live for t in tools)
            box = Box(Toolbox(tools, self.limits), tuple(t.spec for t in tools), waits, live, {})
            if len(self._boxes) >= MAX_BOXES:
                self._boxes.pop(next(iter(self._boxes)))
            self._boxes[tools] = box
        self._box = box
        self.toolbox, self.specs = box.toolbox, box.specs
        self._waits, self.can_snapshot = box.waits, type(self).can_snapshot and not box.live

    def check_task(self, task: Task) -> None:
        """Raise ConfigError for a task that the suite cannot score here."""
        self._equip(task)
        super().check_task(task)

    def _begin(self, episode: Episode) -> None:
        self._equip(episode.task)  # the opening shows the first tools
        super()._begin(episode)
        if turn := _user_turn(episode):
            self._equip(episode.task, turn)

    # ---- what the policy reads --------------------------------------------------------------------

    def prompt(self, task: Task) -> tuple[Message, ...]:
        """Return rules, tools and the user's first message; compact, in a terse domain: the message alone."""
        question, domain = Message.of("user", escape_reserved(task.question)), self.domain(task)
        if self.observation == "compact" and domain.terse:
            return (question,)
        limits, ready = task.limits or self.limits, self._box.instructions
        n = limits.max_calls_per_turn
        if n not in ready:
            ready[n] = self.dialect.instructions(self.specs, n)
        system = INSTRUCTIONS.format(rules=domain.rules(task), calls=ready[n], turns=limits.max_turns)
        return (Message.of("system", system.strip()), question)

    def services(self, task: Task) -> Mapping[str, Any]:
        """Return what the domain's tools use, and the user."""
        domain = self.domain(task)
        return {"user": domain.user(task), **domain.services(task)}

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return the domain's first state, and that of the talk."""
        return {"_user": {"turn": 0, "told": []}, **self.domain(task).initial_state(task)}

    def render_result(self, call: ToolCall, result: ToolResult) -> str:
        """Return the result as JSON with the call's id; compact: its words alone."""
        data = {"waiting": True} if call.name == "reply" else result.data
        if self.observation == "compact":
            text = words(data)
        else:
            body = {"id": call.id, "name": call.name, "ok": True, "result": data}
            text = json.dumps(body, ensure_ascii=False, sort_keys=True)
        return shorten(escape_reserved(text, self.toolbox.tools), self.limits.max_result_chars)[0]

    def _reply(self, episode: Episode, parsed: Parsed, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        messages = super()._reply(episode, parsed, results)
        if episode.end_reason == "answered":
            return messages
        told = [r.data["user"] for r in results if r.ok and r.name == "reply" and isinstance(r.data, dict) and r.data.get("user")]
        return (*messages, *(Message.of("user", escape_reserved(str(text), self.toolbox.tools)) for text in told))

    # ---- user turns -------------------------------------------------------------------------------

    async def _call(self, episode: Episode, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        before = _user_turn(episode)
        results = await super()._call(episode, calls)
        if episode.ended:
            return results
        for call, result in zip(calls, results, strict=False):
            if result.ok and result.name == "reply" and isinstance(result.data, dict) and result.data.get("user", "") is None:
                episode.answer = str(next(iter(call.arguments.values()), ""))  # nothing more is wanted
                episode.close("answered", terminated=True)
        if _user_turn(episode) != before:
            self._equip(episode.task, _user_turn(episode))
        return results

    # ---- the oracle -------------------------------------------------------------------------------

    def oracle_call(self, episode: Episode, rng: np.random.Generator, noise: float) -> ToolCall:
        """Return the next call of the solution; with probability `noise` a careless one."""
        domain = self.domain(episode.task)
        plan, at = domain.solution(episode.task), 0
        for turn in episode.turns:
            for call, result in zip(turn.calls, turn.results, strict=False):
                at += at < len(plan) and result.ok and _is(call, plan[at])
        if noise and rng.random() < noise:
            slip = domain.slip(episode.task, episode.turns, rng)
            return slip or self._slip(plan[min(at, len(plan) - 1)], rng)
        if not plan:
            return ToolCall("finish", {"message": "done"})
        step = plan[min(at, len(plan) - 1)]
        return ToolCall(step.name, dict(step.arguments))

    def _slip(self, step: Any, rng: np.random.Generator) -> ToolCall:
        """Close too early, look at the wrong thing, or do what comes next with something else."""
        roll = rng.random()
        if roll < EARLY_CLOSE and "finish" in self.toolbox.tools:
            return ToolCall("finish", {"message": "I am done."})
        spec = self.specs[int(rng.integers(len(self.specs)))]
        if roll < 0.6:
            spec = self.toolbox.tools[step.name].spec if step.name in self.toolbox.tools else spec
        arguments = example_arguments(spec)
        if spec.name == step.name and not spec.mutates and step.arguments and roll >= 0.5:
            arguments = dict(step.arguments)
        return ToolCall(spec.name, arguments)


def words(value: JSON) -> str:
    """Return a JSON value in few words: names and values in order, list items apart by a bar."""
    if isinstance(value, dict):
        return " ".join(f"{name} {words(item)}" if name != "id" else words(item) for name, item in value.items())
    if isinstance(value, list):
        return " | ".join(map(words, value)) or "nothing"
    if value is None or isinstance(value, bool):
        return {None: "none", True: "yes", False: "no"}[value]
    return str(value)


def _user_turn(episode: Episode) -> int:
    own = episode.state.get("_user")
    return int(own.get("turn", 0)) if isinstance(own, dict) else 0


def _is(call: ToolCall, step: Any) -> bool:
    return call.name == step.name and all(
        name in call.arguments and matches(call.arguments[name], value, step.compare.get(name, "exact"))
        for name, value in step.arguments.items()
    )
