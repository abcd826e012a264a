"""The suite: an expression of components, run over an episode or a record, with what can be promised about it."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from dataclasses import fields as dataclass_fields
from typing import Any, get_args

from agentgym.errors import ConfigError, suggestion
from agentgym.rewards import expression as ex
from agentgym.rewards import replay
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView, Scorer, Supply
from agentgym.rewards.program import Program
from agentgym.rewards.registering import component_named
from agentgym.rewards.scoring import Scoring
from agentgym.task import Gold, Task
from agentgym.types import JSON, Scope, Score, Trajectory


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the total of an episode can be, by interval arithmetic over declared ranges."""

    success: tuple[float, float]
    """(lowest, highest) total of a success."""
    failure: tuple[float, float]
    """(lowest, highest) total of an episode that is no success."""
    margin: float
    """success[0] − failure[1]; positive: every success beats every failure."""


class Suite(Scoring):
    """The composed rewards of an environment.

    Immutable once built; one suite serves any number of episodes at a time. `score_turn` after each turn and
    `score_trajectory` at the end give every component's contribution; those values, summed in the order of
    the dict, are the reward.
    """

    def __init__(self, expression: ex.Expression, success: Component | str = "answer_em", name: str = "") -> None:
        """Compile the expression.

        Args:
            expression: a component or an expression of components.
            success: the outcome component (trajectory scope), or the name of one that the expression holds.
            name: what records call the suite; by default the expression as text.

        Raises:
            ConfigError: for components that are declared badly, two of one name, an unknown outcome.

        Warns:
            UserWarning: a failure can earn as much as a success (`warnings` keeps the text).
        """
        if not isinstance(expression, ex.Expression):
            raise ConfigError(f"a suite needs a component or an expression of components, got {expression!r}")
        self.expression = expression
        self.name = name or repr(expression)
        used = list(ex.components(expression))
        self.outcome = _outcome(success, used)
        for component in (*used, self.outcome):
            _check_declaration(component)
        program = Program(expression)
        program.trajectory.index(self.outcome)  # scored with weight 0 where the expression does not hold it
        super().__init__(program)
        self.needs = frozenset().union(*(c.needs for c in self.components.values()))
        """What the tasks and the services must offer."""
        self.deferred = tuple(c.name for c in self.components.values() if isinstance(c, DeferredComponent))
        """Components that `complete` fills after the rollouts."""
        self.warnings: tuple[str, ...] = ()
        if complaint := self._complaint():
            self.warnings = (complaint,)
            warnings.warn(complaint, UserWarning, stacklevel=2)

    # ---- promises

    def bounds(self, turn_factor: float = 1.0) -> Bounds:
        """Return what totals are possible.

        Args:
            turn_factor: weight of the turn scores beside the trajectory scores; a learner that weighs turn
                scores by w gives w.
        """
        lo, hi = self.outcome.range
        failed_hi = hi if self.outcome.failure_max is None else self.outcome.failure_max
        success = self._interval({self.outcome.name: (1.0, 1.0)}, turn_factor)
        failure = self._interval({self.outcome.name: (lo, failed_hi)}, turn_factor)
        return Bounds(success, failure, round(success[0] - failure[1], 12))

    def _interval(self, known: Mapping[str, ex.Interval], turn_factor: float) -> ex.Interval:
        turn, trajectory = ex.intervals(self.expression, known)
        lo, hi = ex.plus(ex.times((turn_factor, turn_factor), turn), trajectory)
        return round(lo, 12), round(hi, 12)

    def _complaint(self) -> str:
        bounds = self.bounds()
        if bounds.margin > 0 or self.expression is self.outcome:
            return ""
        return (
            f"suite {self.name}: a failure may earn up to {bounds.failure[1]:g}, a success as little as"
            f" {bounds.success[0]:g} (margin {bounds.margin:g}); cap or lower the other terms, or raise the weight"
            f" of {self.outcome.name}"
        )

    def check(self, task: Task) -> None:
        """Refuse a task that the suite cannot score.

        Raises:
            ConfigError: naming the component, what it needs and the task.
        """
        for component in self.components.values():
            for need in component.needs:
                if not _offered(task.gold, need, component.name):
                    fields = " or ".join(option.removeprefix("gold.") for option in need.split("|"))
                    raise ConfigError(
                        f"{component.name} needs gold {fields}, which task {task.id!r} does not have; add it to the"
                        f" task's gold or choose a reward without {component.name}"
                    )

    def describe(self) -> str:
        """Return the suite as readable text: terms, bounds, and what is special about it."""
        bounds = self.bounds()
        rows = [f"{self.name}", f"  = {self.expression!r}", f"  success: {self.outcome.name} = 1"]
        rows.append("  component            scope       supply     weight  range           needs")
        for component in self.components.values():
            lo, hi = component.range
            rows.append(
                f"  {component.name:<20} {component.scope:<11} {component.supply:<10}"
                f" {self.program.weights.get(component.name, 0.0):<7g} {f'{lo:g} .. {hi:g}':<15}"
                f" {', '.join(sorted(component.needs))}".rstrip()
            )
        rows.append(
            f"  total of a failure {bounds.failure[0]:g} .. {bounds.failure[1]:g}, of a success"
            f" {bounds.success[0]:g} .. {bounds.success[1]:g}, margin {bounds.margin:g}"
        )
        if self.deferred:
            rows.append(f"  filled after the rollouts: {', '.join(self.deferred)}")
        if self.program.retrospective:
            rows.append(f"  paid at the end (gated by the outcome): {', '.join(sorted(self.program.retrospective))}")
        rows.extend(f"  warning: {text}" for text in self.warnings)
        return "\n".join(rows)

    def __repr__(self) -> str:
        return f"Suite({self.expression!r}, success={self.outcome.name!r})"

    def success(self, view: EpisodeView) -> bool:
        """Whether the outcome is a success; False while the outcome waits for a service."""
        return replay.is_success(self.outcome.score(view, self.outcome.start(view)))

    # ---- scoring a record

    def rescore(self, trajectory: Trajectory) -> Trajectory:
        """Return the record scored again from its events and gold, without its environment or any service.

        Raises:
            DataError: The record has no gold, or gold that cannot be read.
        """
        return replay.rescore(self, self.outcome, trajectory)

    def complete(
        self, trajectories: Sequence[Trajectory], scorer: Scorer | None = None, judge: Any = None
    ) -> list[Trajectory]:
        """Return the records with their deferred scores filled, all values recomputed, success set.

        Each deferred component is asked once for the whole batch. A trajectory with an invalid score leaves loss
        and statistics. Records without deferred scores keep theirs; records that are in neither mask stay as
        they are.

        Args:
            trajectories: records that this suite scored.
            scorer: gives log-probabilities; needed if a component needs "scorer".
            judge: decides criteria; needed if a component needs "judge".

        Raises:
            ConfigError: A service is needed and missing, or a record was scored by another suite.
        """
        return replay.complete(self, self.outcome, trajectories, {"scorer": scorer, "judge": judge})


def as_info(scores: Mapping[str, Score]) -> dict[str, dict[str, JSON]]:
    """Return scores as `info["rewards"]` shows them: numbers and reasons, never evidence (it may name gold)."""
    return {
        name: {
            "raw": s.raw,
            "weight": s.weight,
            "value": s.value,
            "scope": s.scope,
            "valid": s.valid,
            "reason": s.reason,
        }
        for name, s in scores.items()
    }


def _outcome(success: Component | str, used: Sequence[Component]) -> Component:
    """Return the success component: one of the expression's where the name fits, else a registered one."""
    if isinstance(success, str):
        success = next((c for c in used if c.name == success), None) or component_named(success)
    if not isinstance(success, Component) or success.scope != "trajectory":
        raise ConfigError(f"success={success!r} must be a component of trajectory scope, e.g. 'answer_em'")
    return success


def _check_declaration(component: Component) -> None:
    """Raise ConfigError for a component whose class attributes do not add up to a finite supply."""
    name = getattr(component, "name", "")
    where = f"component {name or type(component).__name__!r}"
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: set `name` to a non-empty string")
    for attribute, allowed in (("scope", get_args(Scope)), ("supply", get_args(Supply))):
        given = getattr(component, attribute, None)
        if given not in allowed:
            raise ConfigError(f"{where}: {attribute}={given!r}; allowed: {', '.join(allowed)}{suggestion(str(given), allowed)}")
    try:
        lo, hi = component.range
        in_order = lo <= hi
    except (AttributeError, TypeError, ValueError):
        in_order = False
    if not in_order:
        raise ConfigError(f"{where}: range={getattr(component, 'range', None)!r} must be (lowest, highest)")
    if component.supply == "cost" and hi > 0:
        raise ConfigError(f"{where}: a cost is never positive, but range is {component.range}")
    if component.scope == "turn" and component.supply == "terminal":
        raise ConfigError(f"{where}: supply 'terminal' belongs to trajectory scope; a turn score is potential, once or cost")
    if component.scope == "turn" and component.supply in ("potential", "once") and not lo <= 0 <= hi:
        raise ConfigError(f"{where}: the sum of a {component.supply} starts at 0, so range {component.range} must hold 0")


def _offered(gold: Gold, need: str, component: str) -> bool:
    """Whether gold has one of the alternatives of a need; needs that are no gold are services and always offered."""
    for option in need.split("|"):
        kind, _, attribute = option.partition(".")
        if kind != "gold":
            return True
        try:
            if getattr(gold, attribute):
                return True
        except AttributeError:
            fields = tuple(f.name for f in dataclass_fields(Gold))
            raise ConfigError(
                f"{component}: needs {option!r}, but gold has the fields {', '.join(fields)}{suggestion(attribute, fields)}"
            ) from None
    return False
