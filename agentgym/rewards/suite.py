"""The suite: an expression of components, run over an episode or a record, with what can be promised about it."""

import functools
import math
import warnings
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards import expression as ex
from agentgym.rewards import replay
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView, Scorer
from agentgym.rewards.declared import check_declaration, check_tools, missing, offered, outcome_of
from agentgym.rewards.intervals import Known, hull, span
from agentgym.rewards.nodes import Mean, Schedule, Shaped, bound_to, cells, check_shaping, frozen_at
from agentgym.rewards.program import Program
from agentgym.rewards.scoring import Scoring
from agentgym.task import Task
from agentgym.types import JSON, Score, Trajectory


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

    def __init__(
        self,
        expression: ex.Expression,
        success: Component | str = "answer_em",
        name: str = "",
        *,
        allow_unbounded: bool = False,
    ) -> None:
        """Compile the expression.

        Args:
            expression: a component or an expression of components.
            success: the outcome component (trajectory scope), or the name of one that the expression holds.
            name: what records call the suite; by default the expression as text.
            allow_unbounded: accept terms that a longer episode can raise without end.

        Raises:
            ConfigError: for components that are declared badly, two of one name, an unknown outcome, and a total
                without an upper bound.

        Warns:
            UserWarning: a failure can earn as much as a success (`warnings` keeps the text).
        """
        if not isinstance(expression, ex.Expression):
            raise ConfigError(f"a suite needs a component or an expression of components, got {expression!r}")
        self.expression = expression
        self.name = name or repr(expression)
        used = list(ex.components(expression))
        self.outcome = outcome_of(success, used)
        scopes: dict[str, str] = {}
        for component in (*used, self.outcome):
            check_declaration(component)
            if scopes.setdefault(component.name, component.scope) != component.scope:
                raise ConfigError(f"suite {self.name}: two components are called {component.name!r}, one a turn; rename one")
        check_shaping(expression)
        self._bound = bound_to(expression, self.outcome)
        self._schedules = [node for node in ex.walk(expression) if isinstance(node, Schedule)]
        self._programs: dict[float, Program] = {}
        super().__init__(self._program(0.0))
        self.needs = frozenset().union(*(c.needs for c in self.components.values()))
        """What the tasks and the services must offer."""
        self.deferred = tuple(c.name for c in self.components.values() if isinstance(c, DeferredComponent) and c.defers)
        """Components that `complete` fills after the rollouts."""
        self._refuse_unbounded(allow_unbounded)
        self.warnings: tuple[str, ...] = ()
        if complaint := self._complaint():
            self.warnings = (complaint,)
            warnings.warn(complaint, UserWarning, stacklevel=2)

    # ---- what is special about it

    @property
    def is_causal(self) -> bool:
        """Whether every turn score is paid in its own turn; False where the outcome decides about turn terms."""
        return not self.program.retrospective

    @property
    def is_scheduled(self) -> bool:
        """Whether weights follow the progress of training, so that episodes must be given one."""
        return bool(self._schedules)

    @property
    def group_transforms(self) -> tuple[str, ...]:
        """Components that are divided by their group's maximum, once the group is known."""
        return self.program.normed

    def at(self, progress: float) -> "Suite":
        """Return the suite with its schedules fixed at some progress of training (0 to 1)."""
        fixed = frozen_at(self.expression, _checked_progress(progress))
        return Suite(fixed, self.outcome, f"{self.name} at {progress:g}", allow_unbounded=self._allow_unbounded)

    def program_at(self, progress: float | None) -> Program:
        """Return the program of an episode at some progress. Raises ConfigError where a schedule lacks it."""
        if not self._schedules:
            return self.program
        if progress is None:
            raise ConfigError(
                f"suite {self.name}: {self._schedules[0]!r} needs the progress of training; give"
                " reset(options={'progress': 0.5}), or fix it with suite.at(0.5)"
            )
        if progress not in self._programs:
            self._programs = {0.0: self.program, progress: self._program(_checked_progress(progress))}
        return self._programs[progress]

    def _program(self, progress: float) -> Program:
        program = Program(frozen_at(self._bound, progress))
        program.trajectory.index(self.outcome)  # scored with weight 0 where the expression does not hold it
        return program

    # ---- promises

    def bounds(self, turn_factor: float = 1.0) -> Bounds:
        """Return what totals are possible.

        Args:
            turn_factor: weight of the turn scores beside the trajectory scores; a learner that weighs turn
                scores by w gives w.

        With schedules: the hull over the progress of training, and the least margin at any time. A function of
        progress is taken to rise or fall all through each hundredth.
        """
        tied = [c for c in self.components.values() if c is self.outcome or c.outcome is self.outcome]
        sure = {c.name: (c.range[1], c.range[1]) for c in tied} | {self.outcome.name: (1.0, 1.0)}
        lost = {c.name: (c.range[0], _failure_max(c)) for c in tied}
        for component in self.components.values():
            if self.outcome.name in component.tied:
                lost[component.name], sure[component.name] = component.tied[self.outcome.name]
        return self._bounds(Known(sure, {self.outcome.name: True}), Known(lost, {self.outcome.name: False}), turn_factor)

    def _bounds(self, sure: Known, lost: Known, turn_factor: float) -> Bounds:
        won, failed, margin = [], [], math.inf
        for progress in cells(self._bound):
            won.append(span(self._bound, replace(sure, progress=progress)).total(turn_factor))
            failed.append(span(self._bound, replace(lost, progress=progress)).total(turn_factor))
            margin = min(margin, won[-1][0] - failed[-1][1])
        success, failure = functools.reduce(hull, won), functools.reduce(hull, failed)
        return Bounds(_rounded(success), _rounded(failure), round(margin, 12))

    def _refuse_unbounded(self, allowed: bool) -> None:
        self._allow_unbounded = allowed
        bounds = self.bounds()
        if not allowed and math.inf in (bounds.success[1], bounds.failure[1]):
            terms = self.expression.terms if isinstance(self.expression, ex.Sum) else (self.expression,)
            free = [t for t in terms if span(bound_to(t, self.outcome), Known(progress=(0.0, 1.0))).total()[1] == math.inf]
            named = " and ".join(map(repr, free)) or repr(self.expression)
            raise ConfigError(
                f"suite {self.name}: {named} has no upper bound, so a loop can earn without end; put a Cap around it, or"
                " say allow_unbounded=True"
            )

    def _complaint(self) -> str:
        bounds = self.bounds()
        alone = self.expression is self.outcome or getattr(self.expression, "outcome", None) is self.outcome
        if bounds.margin > 0 or alone:
            return ""
        return (
            f"suite {self.name}: a failure may earn up to {bounds.failure[1]:g}, a success as little as"
            f" {bounds.success[0]:g} (margin {bounds.margin:g}); cap or lower the other terms, or raise the weight"
            f" of {self.outcome.name}"
        )

    def check(self, task: Task, events: Collection[str] | None = None, tools: Collection[str] | None = None) -> None:
        """Refuse a task that the suite cannot score.

        Args:
            task: the task, gold included.
            events: kinds of events that the environment records (`ToolEnv.events`); None: any.
            tools: names of the environment's tools; None: any.

        Raises:
            ConfigError: naming the component, what it needs and the task.
        """
        for component in self.components.values():
            for need in sorted(component.needs):
                if not offered(task.gold, need, component.name, events):
                    raise ConfigError(missing(component.name, need, task, events or ()))
            if complaint := component.complaint(task.gold):
                raise ConfigError(f"{component.name} cannot score task {task.id!r}: {complaint}")
            if tools is not None:
                check_tools(component, task.gold, tools)

    def describe(self) -> str:
        """Return the suite as readable text: terms, bounds, and what is special about it."""
        bounds = self.bounds()
        terms = [] if self.name == repr(self.expression) else [f"  = {self.expression!r}"]
        rows = [f"{self.name}", *terms, f"  success: {self.outcome.name} = 1"]
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
        rows.extend(f"  {note}" for note in self._notes())
        rows.extend(f"  warning: {text}" for text in self.warnings)
        return "\n".join(rows)

    def _notes(self) -> list[str]:
        """Return what a reader must know of the nodes in use."""
        notes = []
        if self.group_transforms:
            names = ", ".join(self.group_transforms)
            notes.append(f"divided by the group's maximum (no unbiased gradient: it uses the siblings): {names}")
        for node in ex.walk(self.expression):
            if isinstance(node, Schedule):
                notes.append(f"{node!r}: weight {node.at(0.0):g} at first, {node.at(1.0):g} at last")
            elif isinstance(node, Mean):
                notes.append(f"{node!r}: a mean over turns, which turns that do nothing change")
            elif isinstance(node, Shaped):
                notes.append(f"{node!r}: leaves the optimal policies as they are for returns discounted by {node.gamma:g}")
        return notes

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
        self,
        trajectories: Sequence[Trajectory],
        scorer: Scorer | None = None,
        judge: Any = None,
        reference: Scorer | None = None,
    ) -> list[Trajectory]:
        """Return the records with their deferred scores filled, all values recomputed, success set.

        Each deferred component is asked once for the whole batch. A trajectory with an invalid score leaves loss
        and statistics. Records without deferred scores keep theirs; records that are in neither mask stay as
        they are.

        Args:
            trajectories: records that this suite scored.
            scorer: gives log-probabilities; needed if a component needs "scorer".
            judge: decides criteria; needed if a component needs "judge".
            reference: a second scorer to compare with; needed if a component needs "reference".

        Raises:
            ConfigError: A service is needed and missing, or a record was scored by another suite.
        """
        services = {"scorer": scorer, "reference": reference, "judge": judge}
        return replay.complete(self, self.outcome, trajectories, services)

    def transform_groups(self, trajectories: Sequence[Trajectory]) -> list[Trajectory]:
        """Return the records with group transforms applied anew, from stored raw values alone.

        `complete` does it for a batch whose scores wait; this is for evaluations and for records that were scored
        again. Siblings share a `group_id`; a record without one is its own group. Records in neither mask neither
        count nor change.

        Raises:
            ConfigError: A record was scored by another suite.
        """
        return replay.transform_groups(self, self.outcome, trajectories)


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


def _rounded(interval: ex.Interval) -> ex.Interval:
    return round(interval[0], 12), round(interval[1], 12)


def _checked_progress(progress: float) -> float:
    if not 0.0 <= progress <= 1.0:
        raise ConfigError(f"progress is {progress!r}; it goes from 0 (first step) to 1 (last)")
    return float(progress)


def _failure_max(component: Component) -> float:
    return component.range[1] if component.failure_max is None else component.failure_max
