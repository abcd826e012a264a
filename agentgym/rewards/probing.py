"""Probing: how likely the gold answer would be if the policy had to answer now, in its own conversation."""

from collections.abc import Iterator
from typing import Any

from agentgym.rewards.information import InformationGain, Means
from agentgym.rewards.probability import spoken_context
from agentgym.types import Message, Score, Trajectory

BEFORE, AFTER = "potential.before", "potential.after"
"""Parts of a score: the potential on both sides of its turn."""


class StepPotential(InformationGain):
    """Φ_t − Φ_{t−1}, Φ_t the probability of the best gold answer if the policy answered after turn t.

    As information_gain, but after the policy's own conversation: its actions are part of the context (cut to 4,000
    characters), so reasoning and queries that lead to the answer count, and so does guessing it aloud. A probe of how
    far an episode has come rather than a reward to train on without an outcome beside it; with weight 0 it is measured
    only, for the recipes that read potentials (`credit.options.component = "step_potential"`). The turn that answers
    changes nothing.

    Source: SPAE (step potentials by probing), with the probability alone in the place of its accuracy and confidence.
    Deviations: teacher-forced gold answers in the place of sampled ones; the aliases of information_gain.
    """

    name = "step_potential"
    reads_thought = True

    def __init__(self, prefix: str = "<answer>", suffix: str = "</answer>") -> None:
        """Set how the dialect opens and closes an answer."""
        super().__init__(prefix, suffix)

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


def potentials(trajectory: Trajectory, name: str) -> list[float] | None:
    """Return Φ before each own turn and after the last, from a probing component's scores: [K + 1]; None without."""
    found: list[Any] = [turn.scores.get(name) for turn in trajectory.own_turns]
    if not found or any(score is None or not score.valid or AFTER not in score.parts for score in found):
        return None
    return [found[0].parts[BEFORE], *(score.parts[AFTER] for score in found)]
