"""Trajectory rewards from probabilities of texts under a model: of the gold answer, or of the submitted one.

Deferred: a `Scorer` gives the log-probabilities for all trajectories of a batch. Nothing that a policy writes can
make a score invalid: texts of its own are cut before they are scored, and an episode without an answer scores 0.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from agentgym import schema
from agentgym.errors import ConfigError, ServiceError
from agentgym.rewards.answers import empty_answer, gold_texts
from agentgym.rewards.component import DeferredComponent, Scorer
from agentgym.rewards.information import observed_context, shown_text
from agentgym.rewards.normalize import robust
from agentgym.sanitize import shorten
from agentgym.task import Gold
from agentgym.types import Message, Score, Trajectory

MAX_ACTION_CHARS = 4_000
"""An action or thought of the policy is cut to this length inside a context."""
MAX_ANSWER_CHARS = 1_000
"""A submitted answer is cut to this length before it is scored."""
Context = tuple[Message, ...]
NO_ANSWER = Score("trajectory", 0.0, reason="no_answer")


@dataclass(frozen=True, slots=True)
class Row:
    """One text to score."""

    context: Context
    target: str
    prefix: str = ""


def score_rows(name: str, service: Scorer, rows: Sequence[Row], suffix: str) -> list[list[float]] | Score:
    """Return the log-probabilities of each row's tokens, or the invalid score that a failed service gives.

    The scorer is called once for each distinct prefix.

    Raises:
        ConfigError: the scorer returned another number of rows.
    """
    found: list[list[float]] = [[] for _ in rows]
    by_prefix: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        by_prefix.setdefault(row.prefix, []).append(i)
    for prefix, indices in by_prefix.items():
        contexts, targets = [rows[i].context for i in indices], [rows[i].target for i in indices]
        try:
            values = service.score(contexts, prefix, targets, suffix)
        except ServiceError as error:
            return Score("trajectory", None, valid=False, reason=f"the scorer failed: {error}")
        if len(values) != len(indices):
            raise ConfigError(f"{name}: the scorer returned {len(values)} rows for {len(indices)} pairs")
        for i, value in zip(indices, values, strict=True):
            found[i] = list(value)
    return found


def spoken_context(trajectory: Trajectory, turns: int) -> Context:
    """Return the conversation before a turn as the policy had it: prompt, its actions (cut), what was answered."""
    talk = list(trajectory.prompt)
    for turn in trajectory.turns[:turns]:
        talk.append(Message.of("assistant", shorten(turn.action, MAX_ACTION_CHARS)[0]))
        talk.extend(turn.messages)
    return tuple(talk)


class _ProbabilityComponent(DeferredComponent):
    """Plans rows per trajectory, scores them together, reads each trajectory's share."""

    scope = "trajectory"
    supply = "terminal"
    is_outcome = False
    suffix = ""

    def plan(self, trajectory: Trajectory) -> list[Row]:
        """Return what to score; nothing for an episode that scores 0."""
        raise NotImplementedError

    def read(self, means: Mapping[str, float]) -> Score:
        """Return the score from the named numbers of `parts`."""
        raise NotImplementedError

    def numbers(self, rows: Sequence[Row], values: Sequence[Sequence[float]]) -> dict[str, float]:
        """Return the named numbers that the score is read from."""
        raise NotImplementedError

    def complete(self, trajectories: Sequence[Trajectory], service: Scorer) -> list[dict[int, Score]]:
        """Return the score of every trajectory; a ServiceError of the scorer makes all of them invalid."""
        plans = [self.plan(trajectory) for trajectory in trajectories]
        rows = [row for plan in plans for row in plan]
        found = score_rows(self.name, service, rows, self.suffix) if rows else []
        if isinstance(found, Score):
            return [{-1: found if plan else NO_ANSWER} for plan in plans]
        scores, at = [], 0
        for plan in plans:
            values, at = found[at : at + len(plan)], at + len(plan)
            scores.append({-1: self._score(plan, values) if plan else NO_ANSWER})
        return scores

    def recompute(self, stored: Mapping[int, Score]) -> dict[int, Score]:
        """Return the score again from its numbers; no service."""
        return {turn: self.read(score.parts) if score.parts else score for turn, score in stored.items()}

    def _score(self, plan: Sequence[Row], values: Sequence[Sequence[float]]) -> Score:
        if any(not row or not all(math.isfinite(x) and x <= 1e-3 for x in row) for row in values):
            return Score("trajectory", None, valid=False, reason="the scorer gave no finite log-probabilities")
        return self.read(self.numbers(plan, values))


class ReferenceProbability(_ProbabilityComponent):
    """max(0, p − p_0), p the mean probability of the gold answer's tokens in the place of the submitted answer.

    p = mean of exp(log-probability) over the tokens (arithmetic, so that one unlikely token does not decide), the
    best alias; p_0 the same after the prompt alone, so that what the question gives away is no merit. The context is
    the policy's own conversation up to its answer, its last thought included: reasoning that leads to the gold
    answer is what it pays for, and guessing the answer aloud raises p as well. With context="observations" the
    policy's words are left out, as in information_gain. No answer is 0.

    Source: RLPR (reference-probability rewards). Deviations: its .9·d + .1·format is an expression,
    `0.9 * reference_probability + 0.1 * all_valid`; p_0 needs no second data set; aliases.
    """

    name = "reference_probability"
    range = (0.0, 1.0)
    needs = frozenset({"gold.answers", "scorer"})

    def __init__(
        self,
        prefix: str = "<answer>",
        suffix: str = "</answer>",
        context: Literal["conversation", "observations"] = "conversation",
    ) -> None:
        """Set how the dialect opens and closes an answer, and what the answer follows."""
        if context not in ("conversation", "observations"):
            raise ConfigError(f"{self.name}: context={context!r} is not known; allowed: 'conversation', 'observations'")
        self.prefix, self.suffix, self.context = prefix, suffix, context
        self.reads_thought = context == "conversation"

    def complaint(self, gold: Gold) -> str:
        """Refuse answers of which nothing is left after normalisation."""
        return empty_answer(gold)

    def plan(self, trajectory: Trajectory) -> list[Row]:
        """Return each alias after the prompt, then each alias in the place of the answer."""
        gold = schema.from_json(Gold, trajectory.gold or {}, f"trajectory {trajectory.id}: gold")
        targets = gold_texts(gold)
        if not targets:
            raise ConfigError(
                f"{self.name}: trajectory {trajectory.id} has no gold answers (gold is stripped on export; score"
                " before exporting)"
            )
        if trajectory.answer is None or not trajectory.turns:
            return []
        if self.context == "observations":
            shown = [text for turn in trajectory.turns if (text := shown_text(turn))]
            context, prefix = observed_context(trajectory.prompt, shown), self.prefix
        else:
            context, thought = spoken_context(trajectory, len(trajectory.turns) - 1), trajectory.turns[-1].thought
            prefix = f"<think>{shorten(thought, MAX_ACTION_CHARS)[0]}</think>{self.prefix}" if thought else self.prefix
        before = [Row(tuple(trajectory.prompt), target, self.prefix) for target in targets]
        return before + [Row(context, target, prefix) for target in targets]

    def numbers(self, rows: Sequence[Row], values: Sequence[Sequence[float]]) -> dict[str, float]:
        """Return the mean token probability of each alias before and after."""
        half = len(rows) // 2
        means = [sum(map(math.exp, row)) / len(row) for row in values]
        named = [f"before.{k}" for k in range(half)] + [f"after.{k}" for k in range(half)]
        return dict(zip(named, means, strict=True))

    def read(self, means: Mapping[str, float]) -> Score:
        """Return max(0, p − p_0)."""
        p, p_0 = (max((v for k, v in means.items() if k.startswith(side)), default=0.0) for side in ("after", "before"))
        raw = min(max(0.0, p - p_0), 1.0)
        return Score("trajectory", raw, reason=f"p {p_0:.3f} -> {p:.3f}", parts=dict(means))


class SelfAligned(_ProbabilityComponent):
    """clip((ppl(a) − ppl(a|q)) / ppl(a), −1, 1): how much the question explains the submitted answer a.

    ppl = exp(−mean log-probability); ppl(a) after an empty message, ppl(a|q) after the prompt. It says how specific
    the answer is to the question, not whether it is right, and copying words of the question raises it: pay it
    behind the outcome, `answer_em + Gate(answer_em, 0.2 * self_aligned)`.

    Source: SAR (self-aligned reward), α = .2. Deviation: a is the submitted answer, not the whole response.
    """

    name = "self_aligned"
    range = (-1.0, 1.0)
    needs = frozenset({"scorer"})

    def __init__(self, prefix: str = "<answer>", suffix: str = "</answer>") -> None:
        """Set how the dialect opens and closes an answer."""
        self.prefix, self.suffix = prefix, suffix

    def plan(self, trajectory: Trajectory) -> list[Row]:
        """Return the answer after nothing and after the prompt."""
        if trajectory.answer is None or not robust(trajectory.answer):
            return []
        target = shorten(trajectory.answer, MAX_ANSWER_CHARS)[0]
        contexts = (Message.of("user", ""),), tuple(trajectory.prompt)
        return [Row(context, target, self.prefix) for context in contexts]

    def numbers(self, rows: Sequence[Row], values: Sequence[Sequence[float]]) -> dict[str, float]:
        """Return the mean log-probability of the answer alone and after the prompt."""
        alone, asked = (sum(row) / len(row) for row in values)
        return {"alone": alone, "asked": asked}

    def read(self, means: Mapping[str, float]) -> Score:
        """Return 1 − ppl(a|q) / ppl(a), clipped."""
        raw = 1.0 - math.exp(min(means["alone"] - means["asked"], 50.0))
        return Score("trajectory", min(max(raw, -1.0), 1.0), reason=f"1 - ppl ratio {1.0 - raw:.3f}", parts=dict(means))


reference_probability = ReferenceProbability()
self_aligned = SelfAligned()
