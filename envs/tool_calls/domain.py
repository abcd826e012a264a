"""`Domain`: what a tool world is made of. The seam at which foreign worlds, with state and tools of their own, plug in.

A task source that has a method `domain(task) -> Domain` brings its own; else the task's `world` names one; else the
task brings all it needs (`PlainDomain`). Domains are read-only and shared by all episodes of a process.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from agentgym import schema
from agentgym.envs.tool_calls.talk import TALK_TOOLS, Script, ScriptedUser, User
from agentgym.errors import ConfigError, DataError
from agentgym.gold import GoldCall
from agentgym.task import Task
from agentgym.tools import Tool
from agentgym.types import JSON, ToolCall, Turn
from agentgym.worlds.tables import Tables


class Domain:
    """Tools over some state, the rules, the user. Subclasses override what they have; gold is never handed to tools."""

    name: str = "domain"
    talk: tuple[str, ...] = tuple(TALK_TOOLS)
    """Talking tools that the policy gets beside the world's own; a world's tool of the same name comes first."""
    terse: bool = False
    """In compact mode the opening is the request alone: the same few tools and rules in every task."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "Domain":
        """Return the same object: gymnasium copies keyword arguments."""
        return self

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the tools that a policy has in a user turn (from 0). The same tuple for the same set, please."""
        raise NotImplementedError

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return the JSON state of a fresh episode, a new object each time.

        Rewards compare all keys that begin with no underscore with `Gold.final_state`. Large databases stay out of
        it: a frozen base in `services`, the changes in the state (`agentgym.worlds.tables`).
        """
        return {}

    def services(self, task: Task) -> Mapping[str, Any]:
        """Return what tools may use beside the state: a database to read, a sandbox."""
        return {}

    def rules(self, task: Task) -> str:
        """Return the policy of the house, for the system prompt; empty for none."""
        return ""

    def user(self, task: Task) -> User:
        """Return the user: by default one who follows the script in `task.meta["user"]`."""
        given = task.meta.get("user")
        script = schema.from_json(Script, given, f"task {task.id}: meta.user", error=DataError) if given else Script()
        return ScriptedUser(script)

    def solution(self, task: Task) -> Sequence[GoldCall]:
        """Return the calls of a solution, talk included, in order: what the oracle does."""
        return task.gold.trace

    def slip(self, task: Task, turns: Sequence[Turn], rng: np.random.Generator) -> ToolCall | None:
        """Return a careless call for noisy demonstrations, or None for one that suits any domain."""
        return None


@runtime_checkable
class DomainSource(Protocol):
    """A task source whose tasks have domains of their own (beside what `TaskSource` asks for)."""

    def domain(self, task: Task) -> Domain:
        """Return the domain of a task."""
        ...


class TableDomain(Domain):
    """A domain over frozen tables, which all episodes share; their state holds what they changed."""

    rows: Tables
    """Set when the domain is made."""

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return no changes yet."""
        return dict(self.rows.unchanged())

    def services(self, task: Task) -> Mapping[str, Any]:
        """Return the frozen tables."""
        return {"tables": self.rows}


class PlainDomain(Domain):
    """For tasks that bring all they need: the first state in `meta["state"]`, rules in `meta["rules"]`.

    The tools are those that gym.make is given.
    """

    name = "plain"

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return none."""
        return ()

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return the state of the task's meta."""
        state = task.meta.get("state", {})
        if not isinstance(state, dict):
            raise ConfigError(f"task {task.id!r}: meta['state'] must be an object, not {type(state).__name__}")
        return dict(state)

    def rules(self, task: Task) -> str:
        """Return the rules of the task's meta."""
        return str(task.meta.get("rules", ""))


PLAIN = PlainDomain()
