"""The synchronous object that reward components ask: cleans requests, answers the trivial ones, runs the rest."""

import asyncio
import threading
import warnings
from collections.abc import Coroutine, Sequence
from dataclasses import replace
from typing import Any

from agentgym.errors import ConfigError
from agentgym.judges.combine import Comparison, Preference, comparison_requests, preference
from agentgym.judges.protocol import Judge, JudgeRequest, JudgeService, Verdict, abstention
from agentgym.sanitize import sanitize

BY_ENVIRONMENT = frozenset(("results", "state", "document"))
"""Channels that the environment writes: cutting them is no fault of the policy."""
_CONTEXT_CHARS = 16_000


class JudgeRunner:
    """A `JudgeService` over one judge. Cheap to make; keep one per run, for its counts.

    Before anything is sent: text is cleaned of what transports choke on and cut to `max_chars`; an empty text
    fails (code "empty"); an over-long text of the policy fails a criterion about absence (code "over_length"),
    since what is beyond the cut was not seen. Equal requests of one call are asked once.
    """

    def __init__(self, judge: Judge) -> None:
        """Serve a judge."""
        self.judger = judge
        self.counts = {"requests": 0, "abstained": 0, "empty": 0, "over_length": 0}

    def __deepcopy__(self, memo: dict[int, Any]) -> "JudgeRunner":
        """Return itself: limits and counts belong to the run."""
        return self

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request, in order.

        Raises:
            ConfigError: A request has labels that make no scale.
        """
        prepared = [_prepared(request) for request in requests]
        verdicts = {request: early for request, early in prepared if early is not None}
        asked = list(dict.fromkeys(request for request, _ in prepared if request not in verdicts))
        if asked:
            verdicts.update(zip(asked, _run(self._decide(asked)), strict=True))
        answers = [verdicts[request] for request, _ in prepared]
        self._count(answers)
        return answers

    def compare(self, pairs: Sequence[Comparison]) -> list[Preference]:
        """Return which text of each pair is better, each asked in both orders."""
        answers = self.judge([request for pair in pairs for request in comparison_requests(pair)])
        return [preference(answers[i], answers[i + 1]) for i in range(0, len(answers), 2)]

    def metrics(self) -> dict[str, float]:
        """Return counts for tables: judge/requests, judge/abstained, judge/abstain_rate, judge/calls and the like."""
        own = {name: float(n) for name, n in self.counts.items()}
        own["abstain_rate"] = own["abstained"] / own["requests"] if own["requests"] else 0.0
        return {f"judge/{name}": value for name, value in {**self.judger.metrics(), **own}.items()}

    async def _decide(self, requests: list[JudgeRequest]) -> list[Verdict]:
        verdicts = await self.judger.decide(requests)
        if len(verdicts) != len(requests):
            reason = f"{self.judger.id} gave {len(verdicts)} verdicts for {len(requests)} requests"
            return [abstention("service", reason, self.judger.id) for _ in requests]
        return verdicts

    def _count(self, verdicts: Sequence[Verdict]) -> None:
        before = self.counts["abstained"]
        self.counts["requests"] += len(verdicts)
        for verdict in verdicts:
            self.counts["abstained"] += verdict.abstained
            if verdict.code in ("empty", "over_length"):
                self.counts[verdict.code] += 1
        first = next((v for v in verdicts if v.abstained), None)
        if first is not None and not before:
            warnings.warn(
                f"the judge abstained ({first.reasons or first.code}); what it should have scored is invalid and leaves"
                " loss and statistics. Further abstentions are only counted (judge/abstained)",
                UserWarning,
                stacklevel=3,
            )


class AskedOnce:
    """A judge service that remembers its verdicts: what several components ask about one batch is asked once.

    Abstentions are remembered too, so that the components of a batch agree about what is not known.
    """

    def __init__(self, service: JudgeService) -> None:
        """Remember the verdicts of a service."""
        self.service = service
        self._known: dict[JudgeRequest, Verdict] = {}

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request, in order. Raises ConfigError for a service that gives fewer or more."""
        new = [request for request in requests if request not in self._known]
        if new:
            verdicts = self.service.judge(new)
            if len(verdicts) != len(new):
                raise ConfigError(f"the judge returned {len(verdicts)} verdicts for {len(new)} requests")
            self._known.update(zip(new, verdicts, strict=True))
        return [self._known[request] for request in requests]

    def __getattr__(self, name: str) -> Any:
        """Return what else the service offers."""
        return getattr(self.service, name)


def _prepared(request: JudgeRequest) -> tuple[JudgeRequest, Verdict | None]:
    """Return the request as it may be sent, and its verdict where none needs to be asked."""
    if request.labels and (len(request.labels) not in range(2, 9) or request.polarity == "absent"):
        raise ConfigError(
            f"judge request {request.criterion[:60]!r}: labels={request.labels!r}; allowed: 2 to 8, from worst to best,"
            " and none for polarity 'absent'"
        )
    text = sanitize(request.text)
    over = len(text) > request.max_chars
    ready = replace(
        request,
        criterion=sanitize(request.criterion),
        text=text[: request.max_chars],
        context=sanitize(request.context)[:_CONTEXT_CHARS],
        condition=sanitize(request.condition),
        evidence=tuple(sanitize(e) for e in request.evidence),
        fail_examples=tuple(sanitize(e) for e in request.fail_examples),
    )
    label = ready.labels[0] if ready.labels else ""
    if not text.strip():
        return ready, Verdict(False, 0.0, code="empty", reasons=f"the {request.channel} is empty", label=label)
    if over and request.polarity == "absent" and request.channel not in BY_ENVIRONMENT:
        reason = f"{len(text)} characters; only the first {request.max_chars} would be seen"
        return ready, Verdict(False, 0.0, code="over_length", reasons=reason)
    return ready, None


def _run(work: Coroutine[Any, Any, list[Verdict]]) -> list[Verdict]:
    """Run a coroutine to its end, also when the caller's thread already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    box: list[tuple[list[Verdict] | None, BaseException | None]] = []

    def target() -> None:
        try:
            box.append((asyncio.run(work), None))
        except BaseException as error:  # noqa: BLE001 (handed to the caller's thread)
            box.append((None, error))

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    verdicts, error = box[0]
    if verdicts is None:
        raise error or RuntimeError("the judge's thread ended without an answer")
    return verdicts
