"""Who plays an audited environment: a `Player` has what a policy has, a script says what it does each turn."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from agentgym.audit.services import SERVICES
from agentgym.env import ToolEnv
from agentgym.errors import EnvError
from agentgym.rewards import Suite
from agentgym.rewards.channels import TURN_ENDING_TOOLS
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.tools import Tool, tool
from agentgym.types import JSON, DocRef, ToolCall, ToolSpec, Trajectory

NAME = re.compile(r"\b[A-Z][\w'-]*(?:\s+(?:of\s+the\s+|of\s+)?[A-Z][\w'-]*)*")
DOC_ID = re.compile(r"\(doc:([^()\s]+)\)")
BAD = ("<bad", "<tool_call>{", "")
"""Actions one of which no dialect can read."""
MAX_ACTIONS = 200
"""Turns after which an episode that does not end is given up: limits must end it long before."""


@dataclass(slots=True)
class Player:
    """One episode as a policy meets it: observations, infos, tools and dialect; no gold."""

    env: ToolEnv
    question: str
    """The last message of the prompt."""
    observations: list[str]
    infos: list[dict[str, Any]] = field(default_factory=list)
    flags: list[tuple[bool, bool]] = field(default_factory=list)
    """(terminated, truncated) of every turn."""

    @property
    def turn(self) -> int:
        """Turns taken so far."""
        return len(self.observations) - 1

    @property
    def names(self) -> list[str]:
        """The capitalised names that were shown, in order."""
        found = NAME.findall("\n".join(self.observations[1:]))
        return list(dict.fromkeys(found)) or ["unknown"]

    @property
    def doc_ids(self) -> list[str]:
        """The ids of passages that were shown, in order."""
        return list(dict.fromkeys(DOC_ID.findall("\n".join(self.observations[1:]))))

    @property
    def bad(self) -> str:
        """An action that this dialect cannot read."""
        limits = self.env.limits
        return next(text for text in BAD if self.env.dialect.parse(text, self.env.specs, limits).error_code)

    def call(self, name: str, arguments: dict[str, JSON]) -> str:
        """Return one call as policy text."""
        return self.env.dialect.render([ToolCall(name, arguments)], self.env.specs)

    def answer(self, text: str, citations: Sequence[str] = ()) -> str:
        """Return the final answer as policy text, with citations where the tool takes them."""
        spec = answer_tool(self.env)
        if spec is None:
            return self.env.dialect.example(next((s for s in self.env.specs if s.final), self.env.specs[-1]))
        arguments = _fitted(spec, text)
        if citations and "citations" in spec.parameters["properties"]:
            arguments["citations"] = list(citations)
        return self.call(spec.name, arguments)

    def look(self, text: str) -> str:
        """Return a call of the first tool that takes a text and does not end the episode."""
        spec = look_tool(self.env)
        if spec is None:
            return self.env.dialect.example(self.env.specs[0])
        return self.call(spec.name, _fitted(spec, text))


Script = Callable[[Player], str]
"""Gives the next action."""


def answer_tool(env: ToolEnv) -> ToolSpec | None:
    """Return the first final tool whose first parameter is a text or a list; without one, what ends a user turn."""
    takes = [s for s in env.specs if _kind(s) in ("string", "array")]
    return next((s for s in takes if s.final), next((s for s in takes if s.name in TURN_ENDING_TOOLS), None))


def look_tool(env: ToolEnv) -> ToolSpec | None:
    """Return the first tool that takes one text and ends nothing: what an agent looks things up with."""
    ends = [s for s in env.specs if s.final or s.name in TURN_ENDING_TOOLS]
    takes = [s for s in env.specs if s not in ends and _kind(s) == "string" and len(_required(s)) == 1]
    return next((s for s in takes if s.name == look_up.name), takes[0] if takes else None)


@tool
def look_up(text: str) -> dict:
    """Look something up.  text: what to look for."""
    return {"found": f"nothing about {text[:80]}"}


@tool(final=True)
def close_episode(text: str) -> dict:
    """Close the episode with an answer.  text: the answer."""
    return {"answer": text}


def lacking(env: ToolEnv, task: Task) -> tuple[Tool, ...]:
    """Return the tools that checks of the machine need beside the environment's: to look something up, to answer.

    Tasks of the form "call these functions" have neither; what holds of limits, calls and faults is asked all the same.
    """
    player, looks = begin(env, task), ()
    if look_tool(env) is not None:
        advance(player, player.look("something"))
    if look_tool(env) is None or not all(r.ok for r in env.trajectory.turns[0].results):  # or one that takes no plain words
        looks = (look_up,)
    final = any(s.final and _kind(s) in ("string", "array") for s in env.specs)
    return looks if final else (*looks, close_episode)


def play(env: ToolEnv, task: Task, script: Script, key: tuple[int, ...] = (0,)) -> Trajectory:
    """Play one episode to its end and return its record.

    Raises:
        EnvError: The episode does not end.
    """
    player = begin(env, task, key)
    while not env.ended:
        if player.turn >= MAX_ACTIONS:
            raise EnvError(f"{env.env_id}: the episode did not end within {MAX_ACTIONS} turns")
        advance(player, script(player))
    return env.trajectory


def begin(env: ToolEnv, task: Task, key: tuple[int, ...] = (0,)) -> Player:
    """Reset to a task and return the player."""
    options: dict[str, Any] = {"task": task, "key": key}
    if env.suite.is_scheduled:
        options["progress"] = 1.0
    observation, info = env.reset(options=options)
    return Player(env, env.messages[-1].text, [observation], [info])


def advance(player: Player, action: str) -> float:
    """Take one turn; return its reward."""
    observation, reward, terminated, truncated, info = player.env.step(action)
    player.flags.append((terminated, truncated))
    player.observations.append(observation)
    player.infos.append(info)
    return float(reward)


def oracle(noise: float = 0.0, seed: int = 0) -> Script:
    """Return the script that does what the environment's own solution says; `noise` makes it careless."""
    given = {"noise": noise} if noise else {}  # without one, the solution is to be had by default
    return lambda player: player.env.oracle_action(stream(seed, player.env.task.id, player.turn, "audit"), **given)


def completed(suite: Suite, records: Sequence[Trajectory]) -> list[Trajectory]:
    """Return records with deferred scores filled by stub services and group transforms applied, each its own group."""
    alone = [replace(r, group_id=f"audit-{i}") for i, r in enumerate(records)]
    return suite.complete(alone, **SERVICES)


def rescored(suite: Suite, record: Trajectory) -> Trajectory:
    """Return the record scored from its events alone: stored scores are dropped first."""
    bare = replace(record, scores={}, turns=tuple(replace(t, scores={}, reward=0.0) for t in record.turns))
    return completed(suite, [suite.rescore(bare)])[0]


def contributions(record: Trajectory) -> dict[str, float]:
    """Return the contribution of every component over the whole episode."""
    table: dict[str, float] = {}
    for scores in (*(t.scores for t in record.turns), record.scores):
        for name, score in scores.items():
            table[name] = table.get(name, 0.0) + score.value
    return table


def shown_ids(record: Trajectory) -> list[str]:
    """Return the ids of all documents that the record shows."""
    documents: list[DocRef] = [d for t in record.turns for r in t.results for d in r.documents]
    return list(dict.fromkeys(d.id for d in documents))


def _required(spec: ToolSpec) -> list[str]:
    return list(spec.parameters.get("required", ()))


def _kind(spec: ToolSpec) -> str:
    properties = spec.parameters.get("properties", {})
    name = next(iter(properties), "")
    kind = properties[name].get("type", "") if name else ""
    return kind if isinstance(kind, str) else ""


def _fitted(spec: ToolSpec, text: str) -> dict[str, JSON]:
    name = next(iter(spec.parameters["properties"]))
    return {name: [text] if _kind(spec) == "array" else text}
