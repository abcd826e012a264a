"""Any domain with tools that a model imitates: calls of the solution give what they gave, others are made up.

For checklists, which read calls and replies and no state. Source: CM2 (recorded outputs where the arguments are those
of the record, a model that imitates the tool elsewhere). Deviation: the record is made by running the solution here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from agentgym import schema
from agentgym.endpoint import Endpoint, EndpointConfig
from agentgym.envs.tool_calls.domain import Domain
from agentgym.envs.tool_calls.draft import recording
from agentgym.envs.tool_calls.talk import User
from agentgym.errors import ConfigError
from agentgym.gold import GoldCall
from agentgym.rewards import Suite
from agentgym.task import Task
from agentgym.tools import Tool
from agentgym.tools.recorded import Recording, recorded_tools
from agentgym.tools.simulated import SimulatedAnswers, simulated_tool
from agentgym.types import ToolSpec

KEPT_TASKS = 4_096


class Simulator:
    """A model that stands in for tools, and what it answered so far."""

    def __init__(self, config: EndpointConfig | Mapping[str, Any]) -> None:
        """Take the settings of the endpoint, with `answers` for a file that keeps what was answered.

        Raises:
            ConfigError: An unknown setting, or an address that is none.
        """
        path = None
        if isinstance(config, Mapping):
            table = dict(config)
            path = table.pop("answers", None)
            config = schema.from_json(EndpointConfig, table, "ToolCalls-v0: simulate", error=ConfigError)
        self.endpoint = Endpoint(config)
        self.answers = SimulatedAnswers(path)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Simulator":
        """Return itself: siblings see one world."""
        return self

    def tools(self, specs: Sequence[ToolSpec], found: Recording) -> tuple[Tool, ...]:
        """Return tools that replay a record and ask the model for the rest."""
        behind = [simulated_tool(s, self.endpoint, examples=found, answers=self.answers) for s in specs]
        return recorded_tools(specs, found, otherwise=behind)


class SimulatedDomain(Domain):
    """A domain whose tools do not run. It has no state."""

    def __init__(self, inner: Domain, simulator: Simulator) -> None:
        """Stand in front of a domain."""
        self.inner, self.simulator = inner, simulator
        self.name, self.talk, self.terse = inner.name, inner.talk, inner.terse
        self._made: dict[str, tuple[Tool, ...]] = {}

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the domain's tools, replayed or imitated."""
        if task.id not in self._made:
            specs = [t.spec for t in self.inner.tools(task) if t.name not in self.talk]
            if len(self._made) >= KEPT_TASKS:
                self._made.pop(next(iter(self._made)))
            self._made[task.id] = self.simulator.tools(specs, recording(self.inner, task))
        return self._made[task.id]

    def rules(self, task: Task) -> str:
        """Return the rules of the domain."""
        return self.inner.rules(task)

    def user(self, task: Task) -> User:
        """Return the user of the domain."""
        return self.inner.user(task)

    def solution(self, task: Task) -> Sequence[GoldCall]:
        """Return the solution of the domain."""
        return self.inner.solution(task)


def check_suite(suite: Suite) -> None:
    """Refuse rewards that read a state. Raises ConfigError."""
    for component in suite.components.values():
        if any("final_state" in need or "assertions" in need for need in component.needs):
            raise ConfigError(
                f"ToolCalls-v0: simulated tools change no state, which {component.name} reads; use reward='checklist'"
            )
