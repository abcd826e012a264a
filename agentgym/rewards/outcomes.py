"""Outcomes made of others: all that a tool task asks for, and the top of a graded outcome."""

from collections.abc import Iterable, Iterator
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView
from agentgym.rewards.declared import says
from agentgym.rewards.expression import Expression
from agentgym.rewards.milestones import minefield_hit
from agentgym.rewards.registering import component_named
from agentgym.rewards.replies import Communicate
from agentgym.rewards.states import StateAssert, StateMatch, unfinished
from agentgym.task import Gold
from agentgym.types import Score

_PARTS: tuple[tuple[Component, str], ...] = (
    (StateMatch(), "final_state"),
    (StateAssert(), "assertions"),
    (Communicate(), "communicate"),
)


class TaskSuccess(Component):
    """1 if all that gold asks for is there: final state, assertions, facts told, status of the closing call.

    And no minefield was reached on the way. The yes-no outcome of tool tasks, whose gold may hold any of them; what gold does not hold is not asked.

    Source: τ²-bench's product over the bases that a task names.
    """

    name = "task_success"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    failure_max = 0.0
    needs = frozenset({"gold.final_state|gold.assertions|gold.communicate|gold.finish", "events.state|gold.communicate"})

    def complaint(self, gold: Gold) -> str:
        """Refuse what the parts refuse."""
        return next((c for part, field in _PARTS if says(gold, field) and (c := part.complaint(gold))), "")

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        if reason := unfinished(view):
            return Score("trajectory", 0.0, reason=reason)
        if hit := view.gold.minefields and minefield_hit(view):
            return Score("trajectory", 0.0, reason=f"minefield {hit}")
        for part in self._asked(view.gold):
            score = part.score(view, None)
            if not score.valid or (score.raw or 0.0) < 1.0:
                raw = 0.0 if score.valid else None
                return Score("trajectory", raw, valid=score.valid, reason=f"{part.name}: {score.reason}")
        return Score("trajectory", 1.0)

    def _asked(self, gold: Gold) -> Iterator[Component]:
        return (part for part, field in _PARTS if says(gold, field))


class Solved(Component):
    """[g = 1] for a graded outcome g: the yes-no outcome beside it.

    A graded outcome enters a suite as `Solved(g) + 0.2 * g` (see `graded`): success is worth a whole point, coming
    near is worth a little, and the margin counts both.
    """

    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    failure_max = 0.0

    def __init__(self, graded: Component | str) -> None:
        """Wrap a component of trajectory scope that scores at once, or the name of a registered one.

        Raises:
            ConfigError: The component has another scope, or waits for a service.
        """
        self.of = component_named(graded) if isinstance(graded, str) else graded
        if self.of.scope != "trajectory" or (isinstance(self.of, DeferredComponent) and self.of.defers):
            raise ConfigError(f"solved: {self.of.name} must be an outcome of trajectory scope that needs no service")
        self.name = f"solved:{self.of.name}"
        self.needs, self.reads_thought = self.of.needs, self.of.reads_thought

    def complaint(self, gold: Gold) -> str:
        """Refuse what the graded outcome refuses."""
        return self.of.complaint(gold)

    def named_tools(self, gold: Gold) -> Iterable[tuple[str, str]]:
        """Return the tools that the graded outcome waits for."""
        return self.of.named_tools(gold)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        score = self.of.score(view, self.of.start(view))
        raw = None if score.raw is None else float(score.raw >= 1.0 - 1e-9)
        return Score("trajectory", raw, valid=score.valid, reason=score.reason)


def graded(outcome: Component, weight: float = 0.2) -> tuple[Solved, Expression]:
    """Return (yes-no outcome, [g = 1] + weight·g) of a graded outcome g.

    Args:
        outcome: an instance of its own, since it is tied to the yes-no outcome.
        weight: of the graded value.
    """
    solved = Solved(outcome)
    outcome.tied = {**outcome.tied, solved.name: (outcome.range, (1.0, 1.0))}
    return solved, solved + weight * outcome


task_success = TaskSuccess()
