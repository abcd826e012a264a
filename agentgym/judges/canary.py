"""Canaries: now and then a text that must fail is judged as well; what the judge says of it is never used as reward.

The running share of canaries that pass estimates the judge's false-positive rate on worthless texts. It stands in
the metrics, warns above 5 %, and may be used to correct rewards for the noise (`corrected`).
"""

import warnings
from collections.abc import Sequence
from dataclasses import replace

from agentgym.errors import ConfigError
from agentgym.judges.protocol import Judge, JudgeRequest, Verdict

EVERY = 200
ALARM = 0.05
MIN_CANARIES = 5
"""Fewer say too little for an alarm."""


class CanaryJudge:
    """Passes requests on, and beside one in `every` of them asks about a known-bad text."""

    def __init__(self, judge: Judge, every: int = EVERY) -> None:
        """Set how often. Raises ConfigError below 1."""
        if every < 1:
            raise ConfigError(f"judge: canary_every={every}; allowed: 1 or more (leave the canaries out to have none)")
        self.judge, self.every, self.id = judge, every, judge.id
        self.n_requests = self.n_canaries = self.n_passed = 0
        self._warned = False

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return the verdicts on the requests alone."""
        canaries = []
        for request in requests:
            self.n_requests += 1
            if self.n_requests % self.every == 0 and request.polarity == "present":
                canaries.append(replace(request, text=self._bad_text(request)))
        verdicts = await self.judge.decide([*requests, *canaries])
        for verdict in verdicts[len(requests) :]:
            if not verdict.abstained:
                self.n_canaries += 1
                self.n_passed += verdict.passed
        self._alarm()
        return verdicts[: len(requests)]

    def metrics(self) -> dict[str, float]:
        """Return the judge's counts, the number of canaries and the share of them that passed."""
        rate = self.false_positive_rate
        return {**self.judge.metrics(), "canaries": float(self.n_canaries), "canary_false_positive_rate": rate}

    @property
    def false_positive_rate(self) -> float:
        """Share of the canaries so far that passed; 0 before the first."""
        return self.n_passed / self.n_canaries if self.n_canaries else 0.0

    def _bad_text(self, request: JudgeRequest) -> str:
        texts = ("", ":", "Thought process:", "Let me solve this step by step.", request.criterion)
        choices = (*texts, request.context) if request.context else texts
        return choices[(self.n_requests // self.every) % len(choices)]

    def _alarm(self) -> None:
        if self._warned or self.n_canaries < MIN_CANARIES or self.false_positive_rate <= ALARM:
            return
        self._warned = True
        warnings.warn(
            f"judge {self.id}: {self.n_passed} of {self.n_canaries} worthless texts passed"
            f" ({self.false_positive_rate:.0%}, alarm above {ALARM:.0%}); policies will find such texts: use a stronger"
            " judge, more votes, or rules",
            UserWarning,
            stacklevel=3,
        )


def corrected(observed: float, false_positive_rate: float, false_negative_rate: float = 0.0) -> float:
    """Return the backward correction of a noisy verdict: unbiased for the true one, of larger variance.

    (observed − fp) / (1 − fp − fn), so that its mean is 1 where the criterion holds and 0 where it does not.

    Args:
        observed: 1 for a pass, 0 for a fail.
        false_positive_rate: share of fails that the judge passes, e.g. the canaries' rate.
        false_negative_rate: share of passes that it fails.

    Raises:
        ConfigError: The rates leave the judge no information (fp + fn >= 1).
    """
    left = 1.0 - false_positive_rate - false_negative_rate
    if not left > 0.0:
        raise ConfigError(
            f"judge: rates fp={false_positive_rate:g}, fn={false_negative_rate:g} leave no information; their sum must"
            " be below 1"
        )
    return (observed - false_positive_rate) / left
