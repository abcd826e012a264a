"""The protocol of reward components: small classes that read typed events and give raw scores.

A component is also an expression (see `expression`), so it can be weighed, added, gated and capped.
Rules that keep stored trajectories re-scorable and loops worthless:

- `score` reads events (calls, results, error codes, documents) and gold, never a concatenated transcript.
- A turn score depends on the turns so far only, and on nothing outside the view and the private state.
- The supply is finite: a *potential* emits differences of a bounded potential, *once* pays each thing one
  time, a *cost* is never positive, *terminal* is paid at the end. The suite clips what leaves `range`. What is
  *unbounded* (a flag that pays every turn) must be bounded by the expression, or the suite refuses it.
- Only "success" is a matter of the outcome: `failure_max` says how near a failed outcome may come to 1.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, Protocol, runtime_checkable

from agentgym.rewards.expression import Named
from agentgym.task import Gold
from agentgym.types import JSON, Message, Scope, Score, Trajectory, Turn

Supply = Literal["potential", "once", "cost", "terminal", "unbounded"]


@dataclass(slots=True)
class EpisodeView:
    """What a component may read: events and gold, never a transcript."""

    question: str
    gold: Gold
    prompt: tuple[Message, ...] = ()
    turns: Sequence[Turn] = ()
    """All turns so far; at turn scope the last one is the turn to score."""
    answer: str | None = None
    citations: tuple[str, ...] = ()
    end_reason: str = ""
    """Empty while the episode runs."""
    initial_state: JSON = None
    """State before the first turn (`ToolEnv.scored_state`); None where the environment shows none. Read only."""
    state: JSON = None
    """The same after the last of `turns`. Read only."""
    progress: float | None = None
    """Progress of training, 0 to 1, where the collector gave it (`expression.Schedule`)."""


class Component(Named):
    """One named reward. Subclasses set the class attributes and write `score`.

    `score` is a pure function of the view and of the private state that `start` made, so that a stored
    trajectory scores to the same number without its environment. Options go to `__init__`; an option that
    changes name or range sets them on the instance.
    """

    name: str
    scope: Scope
    range: tuple[float, float]
    """Bounds of one raw value (turn costs) or of the sum over the episode (potential, once, terminal)."""
    supply: Supply
    needs: frozenset[str] = frozenset()
    """What must be there; alternatives are joined by "|". Checked when the suite meets its tasks.

    "gold.<field>": the task's gold has it (any field of `Gold`). "events.<kind>": the environment records it
    (`ToolEnv.events`). "scorer", "reference", "judge": services that `Suite.complete` is given.
    """
    outcome: "Component | None" = None
    """Turn scope: the outcome that belongs to it. A success then implies that its sum is the upper bound of `range`,
    a failure that it is at most `failure_max`."""
    failure_max: float | None = None
    """Largest raw value of an outcome that is no success (raw < 1): 0 for yes-no outcomes; None if unknown."""
    tied: Mapping[str, tuple[tuple[float, float], tuple[float, float]]] = MappingProxyType({})
    """Trajectory scope: by name of an outcome, the bounds of the raw value after its failure and after its success,
    for components that know the outcome themselves."""
    is_outcome: bool = True
    """Trajectory scope: its 1 may count as success in a suite that names no outcome. False for evidence and style."""
    reads_thought: bool = False
    """The score depends on what the policy wrote beside its calls; all others must not change with it."""

    def complaint(self, gold: Gold) -> str:
        """Return what is wrong with the gold of a task that has all that `needs` names; empty for nothing.

        For gold that is there but says nothing, so that no task is scored 0 for reasons of its own.
        """
        return ""

    def named_tools(self, gold: Gold) -> Iterable[tuple[str, str]]:
        """Return the tools whose calls it waits for, each after the place that names it; checked by environments."""
        return ()

    def start(self, view: EpisodeView) -> Any:
        """Return the private state of one episode (mutable; rebuilt by replay, never stored)."""
        return None

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the last turn (turn scope) or the finished episode (trajectory scope)."""
        raise NotImplementedError

    def stop(self, view: EpisodeView, state: Any) -> str:
        """Return the end_reason with which the episode must end after this turn (critical_unmet); empty: none.

        Asked once after each turn was scored, live only: a record keeps how it ended.
        """
        return ""

    def __repr__(self) -> str:
        return self.name


class DeferredComponent(Component):
    """A component that needs a service after the rollouts: `score` returns a deferred score."""

    defers: bool = True
    """False: this instance scores at once after all (what it was given needs no service)."""

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Return the place holder that `complete` fills."""
        return Score(self.scope, None, deferred=True, reason="deferred")

    def complete(self, trajectories: Sequence[Trajectory], service: Any) -> list[dict[int, Score]]:
        """Return, per trajectory, the score of each turn index (trajectory scope: key -1).

        `service` is the one that `needs` names, or a mapping from name to service where it names several. One that
        fails gives scores with `valid=False`; everything that is needed to score again
        without the service goes to `Score.parts`.
        """
        raise NotImplementedError

    def recompute(self, stored: Mapping[int, Score]) -> dict[int, Score]:
        """Return the scores of one trajectory again from the parts of its completed ones; no service."""
        return dict(stored)


@runtime_checkable
class Scorer(Protocol):
    """Gives log-probabilities of a target after a context (no gradient)."""

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        """Return for each pair (contexts[i], targets[i]) the natural log-probabilities of the target's tokens.

        The context is rendered afresh with the generation prompt; `prefix + target + suffix` is tokenised
        together, and the target's tokens are those that overlap its characters.
        """
        ...


@runtime_checkable
class EntropyScorer(Scorer, Protocol):
    """A scorer that can also say how sure the model is: policies whose distributions are at hand have it."""

    def score_with_entropies(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Return what `score` returns, and for each token the entropy of its distribution, in nats."""
        ...
