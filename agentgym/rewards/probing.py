"""Probing: how likely the gold answer would be if the policy had to answer now, in its own conversation."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from agentgym.rewards.component import EntropyScorer, Scorer
from agentgym.rewards.information import InformationGain, Means, Plan
from agentgym.rewards.probability import spoken_context
from agentgym.types import Message, Score, Trajectory

BEFORE, AFTER = "potential.before", "potential.after"
"""Parts of a score: the potential on both sides of its turn."""
ACCURACY, CONFIDENCE = "probe.accuracy", "probe.confidence"
"""Parts of a score: what a probe after the turn says, where the scorer gives entropies."""


class StepPotential(InformationGain):
    """Φ_t − Φ_{t−1}, Φ_t the probability of the best gold answer if the policy answered after turn t.

    As information_gain, but after the policy's own conversation: its actions are part of the context (cut to 4,000
    characters), so reasoning and queries that lead to the answer count, and so does guessing it aloud. A probe of how
    far an episode has come rather than a reward to train on without an outcome beside it; with weight 0 it is measured
    only, for the recipes that read potentials (`credit.options.component = "step_potential"`). The turn that answers
    changes nothing.

    Where the scorer gives entropies (hf: policies do), two further numbers are stored beside the score, for the recipe
    `spae`: accuracy, the mean probability of the best gold answer's tokens, and confidence, exp(-mean entropy) along it.

    Source: SPAE (step potentials by probing), with the probability alone in the place of its accuracy and confidence.
    Deviations: teacher-forced gold answers in the place of sampled ones; the aliases of information_gain.
    """

    name = "step_potential"
    reads_thought = True

    def __init__(self, prefix: str = "<answer>", suffix: str = "</answer>") -> None:
        """Set how the dialect opens and closes an answer."""
        super().__init__(prefix, suffix)

    def _ask(
        self, service: Scorer, contexts: Sequence[Any], targets: Sequence[str]
    ) -> tuple[list[list[float]], list[list[float]]]:
        if isinstance(service, EntropyScorer):
            return service.score_with_entropies(contexts, self.prefix, targets, self.suffix)
        return super()._ask(service, contexts, targets)

    def _more(self, plan: Plan, context: int) -> dict[str, float]:
        if not plan.entropies:
            return {}
        pairs = zip(plan.results[context], plan.entropies[context], strict=True)
        accuracy, confidence = max((probe(*pair) for pair in pairs if pair[0]), default=(math.nan, math.nan))
        return {ACCURACY: accuracy, CONFIDENCE: confidence} if math.isfinite(accuracy + confidence) else {}

    def contexts(self, trajectory: Trajectory) -> Iterator[tuple[Message, ...] | None]:
        """Yield the conversation after each turn that was answered."""
        for k, turn in enumerate(trajectory.turns):
            yield spoken_context(trajectory, k + 1) if turn.messages else None

    def _gain(self, before: Means, after: Means, parts: dict[str, float], evidence: tuple[str, ...] = ()) -> Score:
        score = super()._gain(before, after, parts, evidence)
        if score.raw is None:
            return score
        potentials = {BEFORE: self._potential(before), AFTER: self._potential(after)}
        return Score(score.scope, score.raw, reason=score.reason, parts={**parts, **potentials}, evidence=evidence)


def probe(logprobs: Sequence[float], entropies: Sequence[float]) -> tuple[float, float]:
    """Return accuracy, the mean probability of a target's tokens, and confidence, exp(-mean entropy), both in [0, 1].

    Source: SPAE's two signals. Deviation: entropies along the gold answer in the place of sampled continuations.
    """
    accuracy = sum(math.exp(min(x, 0.0)) for x in logprobs) / len(logprobs)
    return accuracy, math.exp(-max(sum(entropies) / len(entropies), 0.0))


def probes(trajectory: Trajectory, name: str) -> list[tuple[float, float]] | None:
    """Return accuracy and confidence after each own turn, from a probing component's scores: [K]; None without."""
    found: list[Any] = [turn.scores.get(name) for turn in trajectory.own_turns]
    if any(score is None or not score.valid or CONFIDENCE not in score.parts for score in found):
        return None
    return [(score.parts[ACCURACY], score.parts[CONFIDENCE]) for score in found]


def potentials(trajectory: Trajectory, name: str) -> list[float] | None:
    """Return Φ before each own turn and after the last, from a probing component's scores: [K + 1]; None without."""
    found: list[Any] = [turn.scores.get(name) for turn in trajectory.own_turns]
    if not found or any(score is None or not score.valid or AFTER not in score.parts for score in found):
        return None
    return [found[0].parts[BEFORE], *(score.parts[AFTER] for score in found)]
