"""Information gain: how much an observation raises the probability of the gold answer.

Deferred: the probabilities come from a `Scorer` (the sampling policy, without gradient), for all turns of all
trajectories of a batch in one call. The log-probabilities are stored in `Score.parts`, so that a trajectory can
be scored again, also in the other form, without the model.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agentgym import schema
from agentgym.errors import ConfigError, ServiceError
from agentgym.rewards.answers import gold_texts
from agentgym.rewards.component import DeferredComponent, EpisodeView, Scorer
from agentgym.rewards.costs import policy_error
from agentgym.task import Gold
from agentgym.types import JSON, Block, Message, Score, Trajectory, Turn

LOG_FLOOR = -10.0
"""Smallest mean log-probability inside Φ of form "log", in nats per token."""

Means = dict[int, float]
"""Mean log-probability in nats per token, by index of the target."""


@dataclass(slots=True)
class Plan:
    """What one trajectory needs to have scored."""

    targets: list[str]
    contexts: list[tuple[Message, ...]]
    """Distinct contexts, in order; the first is before any turn."""
    after: list[int]
    """[K] index of the context that holds after each turn."""
    results: list[list[list[float]]] = field(default_factory=list)
    """[context][target] log-probabilities of the target's tokens."""
    entropies: list[list[list[float]]] = field(default_factory=list)
    """[context][target] entropies of the same distributions in nats, where they were asked for."""


class InformationGain(DeferredComponent):
    """Φ_t − Φ_{t−1}, Φ_t the probability of the best gold answer after what turn t showed.

    p = exp(mean log-probability of the target's tokens), the maximum over answers and aliases is taken first,
    then the difference. Increments are never clipped, so they add up to Φ_last − Φ_first: asking nonsense first
    and restoring later earns nothing. Φ_0 is before the first turn, so the question's own hints are no gain.

    The context holds observations only: the prompt, then what the environment answered, joined to the last user
    message (every chat template renders that). The policy's own words are left out, and so are the answers to
    turns with an error, because error messages may quote the policy: neither guessing aloud nor calling a tool
    named like the guess raises p. A turn that shows nothing (the answer) gains 0.

    With form="log" Φ is max(mean log-probability, −10), the range −10..10.

    Source: IGPO (information gain per turn). Deviations: aliases are scored one by one instead of as one joined
    string; the thoughts are left out; the prefix is the dialect's answer opening alone.
    """

    name = "information_gain"
    scope = "turn"
    range = (-1.0, 1.0)
    supply = "potential"
    needs = frozenset({"gold.answers", "scorer"})

    def __init__(
        self, prefix: str = "<answer>", suffix: str = "</answer>", form: Literal["prob", "log"] = "prob"
    ) -> None:
        """Set how the dialect opens and closes an answer, and the form of Φ. Raises ConfigError for another form."""
        if form not in ("prob", "log"):
            raise ConfigError(f"information_gain: form={form!r} is not known; allowed: 'prob', 'log'")
        self.prefix, self.suffix, self.form = prefix, suffix, form
        if form == "log":
            self.range = (LOG_FLOOR, -LOG_FLOOR)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Return the place holder; a turn that showed nothing waits too, since caps are shared in order."""
        return Score("turn", None, deferred=True, reason="waits for the scorer")

    def complete(self, trajectories: Sequence[Trajectory], service: Scorer) -> list[dict[int, Score]]:
        """Return the score of every turn of every trajectory; the scorer is called once.

        A ServiceError of the scorer makes all of them invalid.

        Raises:
            ConfigError: A trajectory has no gold answers, or the scorer returned another number of rows.
        """
        known: dict[str, tuple[JSON, list[str]]] = {}
        plans = [self._plan(trajectory, known) for trajectory in trajectories]
        rows = [(context, target) for plan in plans for context in plan.contexts for target in plan.targets]
        if not rows:
            return [{} for _ in plans]
        contexts, targets = [context for context, _ in rows], [target for _, target in rows]
        try:
            found, entropies = self._ask(service, contexts, targets)
        except ServiceError as error:
            invalid = Score("turn", None, valid=False, reason=f"the scorer failed: {error}")
            return [dict.fromkeys(range(len(plan.after)), invalid) for plan in plans]
        if len(found) != len(rows) or len(entropies) not in (0, len(rows)):
            raise ConfigError(f"{self.name}: the scorer returned {len(found)} rows for {len(rows)} pairs")
        unread, unsure = iter(found), iter(entropies)
        for plan in plans:
            plan.results = [[list(next(unread)) for _ in plan.targets] for _ in plan.contexts]
            if entropies:
                plan.entropies = [[list(next(unsure)) for _ in plan.targets] for _ in plan.contexts]
        return [self._scores(plan) for plan in plans]

    def _ask(
        self, service: Scorer, contexts: Sequence[Sequence[Message]], targets: Sequence[str]
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Return log-probabilities per pair, and entropies, or nothing where the component reads none."""
        return service.score(contexts, self.prefix, targets, self.suffix), []

    def recompute(self, stored: Mapping[int, Score]) -> dict[int, Score]:
        """Return the scores again, in this component's form, from the stored log-probabilities."""
        scores = {}
        for turn, score in stored.items():
            before, after = _means(score.parts, "before"), _means(score.parts, "after")
            known = before and after
            scores[turn] = self._gain(before, after, score.parts, score.evidence) if known else score
        return scores

    def _plan(self, trajectory: Trajectory, known: dict[str, tuple[JSON, list[str]]]) -> Plan:
        read, targets = known.get(trajectory.task_id, (None, []))
        if read is None or read != trajectory.gold:  # siblings have the same gold
            gold = schema.from_json(Gold, trajectory.gold or {}, f"trajectory {trajectory.id}: gold")
            targets = gold_texts(gold)
            known[trajectory.task_id] = trajectory.gold, targets
        if not targets:
            raise ConfigError(
                f"{self.name}: trajectory {trajectory.id} has no gold answers (gold is stripped on export;"
                " score before exporting)"
            )
        if not trajectory.turns:
            return Plan([], [], [])
        plan = Plan(targets, [tuple(trajectory.prompt)], [])
        for context in self.contexts(trajectory):
            if context is not None:
                plan.contexts.append(context)
            plan.after.append(len(plan.contexts) - 1)
        return plan

    def contexts(self, trajectory: Trajectory) -> Iterator[tuple[Message, ...] | None]:
        """Yield what the answer would follow after each turn; None where that is as it was before the turn."""
        shown: list[str] = []
        for turn in trajectory.turns:
            text = shown_text(turn)
            shown += [text] if text else []
            yield observed_context(trajectory.prompt, shown) if text else None

    def _scores(self, plan: Plan) -> dict[int, Score]:
        means = [{k: sum(row) / len(row) for k, row in enumerate(rows) if row} for rows in plan.results]
        scores, previous = {}, 0
        for turn, context in enumerate(plan.after):
            before, after = means[previous], means[context]
            parts = {f"before.{k}": mean for k, mean in before.items()}
            parts |= {f"after.{k}": mean for k, mean in after.items()}
            parts |= {f"tokens.{k}": float(len(row)) for k, row in enumerate(plan.results[context])}
            parts |= self._more(plan, context)
            scores[turn] = self._gain(before, after, parts, tuple(plan.targets))
            previous = context
        return scores

    def _more(self, plan: Plan, context: int) -> dict[str, float]:
        """Return further parts of the score of a turn, after which a context holds."""
        return {}

    def _gain(self, before: Means, after: Means, parts: dict[str, float], evidence: tuple[str, ...] = ()) -> Score:
        numbers = [*before.values(), *after.values()]
        if not before or not after or not all(math.isfinite(x) and x <= 1e-3 for x in numbers):
            reason = "the scorer gave no finite log-probabilities"
            return Score("turn", None, valid=False, reason=reason, evidence=evidence)
        first, last = self._potential(before), self._potential(after)
        label = "p" if self.form == "prob" else "log p"
        reason = f"{label} {first:.3f} -> {last:.3f}"
        return Score("turn", last - first, reason=reason, parts=parts, evidence=evidence)

    def _potential(self, means: Means) -> float:
        best = min(max(means.values()), 0.0)
        return math.exp(best) if self.form == "prob" else max(best, LOG_FLOOR)


def shown_text(turn: Turn) -> str:
    """Return what the environment showed in a turn; empty where the answer may quote the policy."""
    if policy_error(turn) or any(not result.ok for result in turn.results):
        return ""
    return "\n\n".join(message.text for message in turn.messages if message.text)


def observed_context(prompt: Sequence[Message], shown: Sequence[str]) -> tuple[Message, ...]:
    """Return the prompt with the observations joined to its last user message."""
    if not shown:
        return tuple(prompt)
    text = "\n\n".join(shown)
    if not prompt or prompt[-1].role != "user":
        return (*prompt, Message.of("user", text))
    last = prompt[-1]
    return (*prompt[:-1], Message("user", (*last.content, Block(text=f"\n\n{text}")), last.name))


def _means(parts: Mapping[str, float], when: str) -> Means:
    return {int(key.rpartition(".")[2]): value for key, value in parts.items() if key.startswith(f"{when}.")}


class LogInformationGain(InformationGain):
    """Information gain with Φ = max(mean log-probability of the best gold answer, −10), in nats per token."""

    name = "information_gain_log"

    def __init__(self, prefix: str = "<answer>", suffix: str = "</answer>") -> None:
        """Set how the dialect opens and closes an answer."""
        super().__init__(prefix, suffix, "log")


information_gain = InformationGain()
