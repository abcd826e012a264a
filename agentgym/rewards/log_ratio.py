"""An implicit process reward: how much more likely a model finds each action than a reference does."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards.component import DeferredComponent, EpisodeView, Scorer
from agentgym.rewards.probability import MAX_ACTION_CHARS, Row, score_rows, spoken_context
from agentgym.sanitize import shorten
from agentgym.types import Score, Trajectory


@dataclass(frozen=True, slots=True)
class Sums:
    """Log-probabilities of one turn's action, summed over its tokens."""

    policy: float
    reference: float
    tokens: int = 0
    valid: bool = True


class LogRatio(DeferredComponent):
    """Φ_t − Φ_{t−1}, Φ_t = clip(β·Σ_{s≤t} log(π(a_s) / π_ref(a_s)), −cap, cap): an implicit process reward.

    a_s are the tokens of turn s's action after the conversation so far; π is the scorer (a model trained on outcomes,
    or the policy itself), π_ref the reference; in training the policy as it is, and the weights that it began with.
    The sums are the values of a learned process reward, so they are capped and paid as differences: an episode earns
    at most cap. It trusts a model and reads the policy's own words; no rule of this package can bound what a policy
    learns to please it with.

    Source: Free Process Rewards, PRIME (implicit process reward, β = .05). Deviations: summed per turn, capped;
    actions longer than 4,000 characters are cut before they are scored.
    """

    name = "log_ratio"
    scope = "turn"
    supply = "potential"
    needs = frozenset({"scorer", "reference"})
    reads_thought = True

    def __init__(self, beta: float = 0.05, cap: float = 1.0) -> None:
        """Set β and the cap. Raises ConfigError unless both are positive."""
        if not (beta > 0 and cap > 0):
            raise ConfigError(f"{self.name}: beta={beta!r}, cap={cap!r}; allowed: positive numbers")
        self.beta, self.cap = beta, cap
        self.range = (-cap, cap)

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Return the place holder."""
        return Score("turn", None, deferred=True, reason="waits for scorer and reference")

    def complete(self, trajectories: Sequence[Trajectory], service: Mapping[str, Scorer]) -> list[dict[int, Score]]:
        """Return the score of every turn; a ServiceError of either model makes all of them invalid.

        Args:
            trajectories: the records.
            service: {"scorer": π, "reference": π_ref}.
        """
        rows = [
            Row(spoken_context(trajectory, i), shorten(turn.action, MAX_ACTION_CHARS)[0])
            for trajectory in trajectories
            for i, turn in enumerate(trajectory.turns)
        ]
        both = [score_rows(self.name, service[kind], rows, "") for kind in ("scorer", "reference")]
        scores, at = [], 0
        for trajectory in trajectories:
            n = len(trajectory.turns)
            failed = next((s for s in both if isinstance(s, Score)), None)
            if failed:
                scores.append(dict.fromkeys(range(n), Score("turn", None, valid=False, reason=failed.reason)))
            else:
                pairs = zip(both[0][at : at + n], both[1][at : at + n], strict=True)  # pyright: ignore[reportIndexIssue]
                scores.append(self._scores([_sums(policy, reference) for policy, reference in pairs]))
            at += n
        return scores

    def recompute(self, stored: Mapping[int, Score]) -> dict[int, Score]:
        """Return the scores again, with this component's β and cap, from the stored sums."""
        if not all(score.parts for score in stored.values()):
            return dict(stored)
        ordered = [stored[turn].parts for turn in sorted(stored)]
        again = self._scores([Sums(p["policy"], p["reference"], int(p["tokens"])) for p in ordered])
        return dict(zip(sorted(stored), again.values(), strict=True))

    def _scores(self, turns: Sequence[Sums]) -> dict[int, Score]:
        if not all(turn.valid for turn in turns):
            reason = "the scorer or the reference gave no finite log-probabilities"
            return dict.fromkeys(range(len(turns)), Score("turn", None, valid=False, reason=reason))
        scores, total, phi = {}, 0.0, 0.0
        for i, turn in enumerate(turns):
            total += self.beta * (turn.policy - turn.reference)
            before, phi = phi, min(max(total, -self.cap), self.cap)
            parts = {"policy": turn.policy, "reference": turn.reference, "tokens": float(turn.tokens)}
            scores[i] = Score("turn", phi - before, reason=f"{turn.policy - turn.reference:+.3f} nats", parts=parts)
        return scores


def _sums(policy: Sequence[float], reference: Sequence[float]) -> Sums:
    """Sum a turn's rows. An action without tokens is 0: what a policy writes is no fault of a model."""
    finite = all(math.isfinite(x) for x in (*policy, *reference))
    return Sums(sum(policy), sum(reference), len(policy), finite)


log_ratio = LogRatio()
