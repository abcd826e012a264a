"""Judges made of judges: votes, ensembles, faithfulness before correctness; and comparisons of two texts."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace

from agentgym.errors import ConfigError
from agentgym.judges.protocol import Judge, JudgeRequest, Verdict, abstention

FAITHFUL = "Everything that the text claims follows from the background; nothing in it goes beyond the background."


class Votes:
    """Asks one judge several times (distinct samples) and takes the majority.

    Useful only where the judge's temperature is above 0: at 0 all votes are one.
    """

    def __init__(self, judge: Judge, k: int = 3) -> None:
        """Set the number of votes. Raises ConfigError unless it is odd and positive."""
        if k < 1 or k % 2 == 0:
            raise ConfigError(f"judge: votes={k}; allowed: 1, 3, 5, … (an odd number has no ties)")
        self.judge, self.k, self.id = judge, k, f"votes{k}({judge.id})"

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return the majority of each request's votes."""
        every = [replace(r, sample=r.sample * self.k + i) for r in requests for i in range(self.k)]
        verdicts = await self.judge.decide(every)
        return [majority(verdicts[i : i + self.k], self.id) for i in range(0, len(every), self.k)]

    def metrics(self) -> dict[str, float]:
        """Return the judge's counts."""
        return self.judge.metrics()


class Ensemble:
    """Asks several judges and takes the majority; ties fail."""

    def __init__(self, judges: Sequence[Judge]) -> None:
        """Set the members. Raises ConfigError for none."""
        if not judges:
            raise ConfigError("judge: an ensemble needs at least one member")
        self.judges, self.id = tuple(judges), f"ensemble({' | '.join(j.id for j in judges)})"

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return the majority of the members on each request."""
        columns = await asyncio.gather(*(judge.decide(requests) for judge in self.judges))
        return [majority(row, self.id) for row in zip(*columns, strict=True)]

    def metrics(self) -> dict[str, float]:
        """Return the members' counts, added up."""
        return _added([judge.metrics() for judge in self.judges])


class FaithfulThenCorrect:
    """Asks first whether the text follows from the request's context, and what was asked only of texts that do.

    A right answer without support fails with code "unfaithful". Requests without context are asked directly.
    """

    def __init__(self, judge: Judge, criterion: str = FAITHFUL) -> None:
        """Set the judge of both questions, and the first question."""
        self.judge, self.criterion, self.id = judge, criterion, f"faithful({judge.id};{criterion})"

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return what the second question gives, or the first where it fails."""
        asked = [i for i, request in enumerate(requests) if request.context]
        first = await self.judge.decide([self._faithful(requests[i]) for i in asked])
        verdicts: dict[int, Verdict] = {}
        for i, verdict in zip(asked, first, strict=True):
            if verdict.abstained:
                verdicts[i] = verdict
            elif not verdict.passed:
                verdicts[i] = replace(verdict, score=0.0, code="unfaithful", judge=self.id)
        rest = [i for i in range(len(requests)) if i not in verdicts]
        second = await self.judge.decide([requests[i] for i in rest])
        verdicts.update(zip(rest, second, strict=True))
        return [verdicts[i] for i in range(len(requests))]

    def metrics(self) -> dict[str, float]:
        """Return the judge's counts."""
        return self.judge.metrics()

    def _faithful(self, request: JudgeRequest) -> JudgeRequest:
        return JudgeRequest(
            self.criterion,
            request.text,
            request.channel,
            context=request.context,
            max_chars=request.max_chars,
            sample=request.sample,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """Which of two texts satisfies a criterion better."""

    criterion: str
    first: str
    second: str
    context: str = ""


@dataclass(frozen=True, slots=True)
class Preference:
    """What came of a comparison."""

    value: float
    """1 the first, 0 the second, 0.5 neither (the judge saw a tie, or changed its mind with the order)."""
    consistent: bool
    """Both orders gave the same."""
    abstained: bool = False


_LABELS = ("the second is better", "neither is better", "the first is better")


def comparison_requests(pair: Comparison) -> tuple[JudgeRequest, JudgeRequest]:
    """Return the requests of both orders: a judge that prefers a place cancels out."""

    def ask(first: str, second: str) -> JudgeRequest:
        text = json.dumps({"first": first, "second": second}, ensure_ascii=False)
        criterion = f"Compare the two texts by this criterion: {pair.criterion}"
        return JudgeRequest(criterion, text, context=pair.context, labels=_LABELS, grounded=False, max_chars=len(text))

    return ask(pair.first, pair.second), ask(pair.second, pair.first)


def preference(forward: Verdict, backward: Verdict) -> Preference:
    """Return what the verdicts of both orders say together."""
    if forward.abstained or backward.abstained:
        return Preference(0.5, False, abstained=True)
    if abs(forward.score - (1.0 - backward.score)) < 1e-9:
        return Preference(forward.score, True)
    return Preference(0.5, False)


def majority(verdicts: Sequence[Verdict], judge: str) -> Verdict:
    """Return the majority of those that answered; ties fail; with less than half of the members, an abstention.

    The score is the mean of the members' (with labels) or 1 and 0; the quote is that of the first member on the
    winning side.
    """
    answered = [v for v in verdicts if not v.abstained]
    if 2 * len(answered) <= len(verdicts):
        lost = next(v for v in verdicts if v.abstained)
        reasons = f"{len(answered)} of {len(verdicts)} answered: {lost.reasons}"
        return abstention(lost.code or "members", reasons, judge)
    passed = 2 * sum(v.passed for v in answered) > len(answered)
    spokesman = next((v for v in answered if v.passed == passed), answered[0])
    graded = any(v.label for v in answered)
    score = sum(v.score for v in answered) / len(answered) if graded else float(passed)
    members = tuple(v.passed for v in answered)
    return replace(spokesman, passed=passed, score=score, members=members, judge=judge, cached=False)


def _added(tables: Sequence[dict[str, float]]) -> dict[str, float]:
    total: dict[str, float] = {}
    for table in tables:
        for name, n in table.items():
            total[name] = total.get(name, 0.0) + n
    return total
