"""Stand-ins for the services that deferred scores need: functions of what they read, so audits repeat exactly."""

from collections.abc import Sequence
from typing import Any

from agentgym.judges import JudgeRequest, Verdict
from agentgym.types import Message

KNOWN, UNKNOWN = -0.05, -3.0
"""Log-probability per token of a target that the context holds, and of one that it does not, in nats."""


class LexicalScorer:
    """Finds a target likely where the context says it: what a model that can read would do."""

    def __init__(self, known: float = KNOWN) -> None:
        """Set the log-probability of what the context says."""
        self.known = known

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        """Return one log-probability a word of each target; a little less the longer its context."""
        rows = []
        for context, target in zip(contexts, targets, strict=True):
            text = "\n".join(message.text for message in context).casefold()
            value = (self.known if target.casefold() in text else UNKNOWN) - 0.001 * len(context) - 1e-5 * len(text)
            rows.append([value] * max(1, len(target.split())))
        return rows


class LexicalJudge:
    """Finds a criterion met where its text shares most words with what is judged."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict a request."""
        return [_verdict(request) for request in requests]


def _verdict(request: JudgeRequest) -> Verdict:
    wanted = {w for w in request.criterion.casefold().split() if len(w) > 3}
    share = sum(w in request.text.casefold() for w in wanted) / len(wanted) if wanted else 0.0
    passed = share > 0.75
    label = request.labels[-1 if passed else 0] if request.labels else ""
    return Verdict(passed, float(passed), label=label)


SERVICES: dict[str, Any] = {
    "scorer": LexicalScorer(),
    "reference": LexicalScorer(-0.5),
    "judge": LexicalJudge(),
}
