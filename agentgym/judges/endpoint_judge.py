"""A model behind an OpenAI-compatible endpoint as judge.

What may go wrong is told apart by whose fault it is. A service that does not answer, or not as a service should, is
an abstention. A model that answers everything else with verdicts but not this text was talked out of its form by the
text: that is a fail (code "unreadable"), because no text may buy itself out of being scored.
"""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

from agentgym import schema
from agentgym.endpoint import Endpoint, EndpointConfig, RefusedError, read_chat
from agentgym.errors import ConfigError, ServiceError
from agentgym.judges import prompts
from agentgym.judges.grounding import ground
from agentgym.judges.limits import JudgeLimits, Meter, estimate_tokens
from agentgym.judges.protocol import JudgeRequest, Verdict, abstention
from agentgym.types import JSON

MAX_BLOCK = 8
CONTROL_TEXT = "The sky was grey in the morning and cleared later in the day."
"""A text without claims, put in the place of one that the judge could not be made to answer about."""


@dataclass(frozen=True, slots=True)
class JudgeModel:
    """Which model judges, and how it is asked."""

    base_url: str
    """Up to and including the version, e.g. "http://127.0.0.1:8000/v1"."""
    model: str = ""
    revision: str = ""
    """Names the weights where the model's name does not; part of the cache key."""
    api_key_env: str = ""
    temperature: float = 0.0
    max_completion: int = 400
    """Longest answer in tokens."""
    block: int = 1
    """Statements about one text asked in one call, 1 to 8."""
    structured: bool = True
    """Send the JSON schema of the answer (response_format); off for services that refuse it."""
    timeout_s: float = 60.0
    deadline_s: float = 300.0
    """Longest one request may take, all attempts and pauses together."""
    max_attempts: int = 3
    backoff_s: float = 0.5
    """Pause before the second attempt; doubles, with jitter."""
    max_concurrent: int = 16
    limits: JudgeLimits = field(default_factory=JudgeLimits)
    extra_body: dict[str, JSON] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raise ConfigError for a block of another size."""
        if not 1 <= self.block <= MAX_BLOCK:
            raise ConfigError(f"judge: block is {self.block}; allowed: 1 to {MAX_BLOCK} statements in one call")
        if self.max_completion < 1:
            raise ConfigError(f"judge: max_completion is {self.max_completion}; allowed: 1 token or more")


class _UnreadableError(ValueError):
    """The model answered, but with no verdict."""


class _UnwantedError(_UnreadableError):
    """The service refused the request for what it says: too long for the model, or filtered."""


class EndpointJudge:
    """Asks a model; temperature 0, one statement a call unless `block` says otherwise."""

    def __init__(self, model: JudgeModel) -> None:
        """Make the client; nothing is sent yet. Raises ConfigError for settings that cannot work."""
        self.model = model
        self.endpoint = Endpoint(
            EndpointConfig(
                base_url=model.base_url,
                model=model.model,
                api_key_env=model.api_key_env,
                timeout_s=model.timeout_s,
                deadline_s=model.deadline_s,
                max_attempts=model.max_attempts,
                backoff_s=model.backoff_s,
                max_concurrent=model.max_concurrent,
                extra_body=model.extra_body,
            )
        )
        extra = json.dumps(model.extra_body, sort_keys=True)
        self.id = (
            f"endpoint:{model.model}@{model.revision};temperature={model.temperature:g};"
            f"max_completion={model.max_completion};block={model.block};structured={model.structured};"
            f"template={prompts.TEMPLATE_VERSION};extra={extra}"
        )
        self.meter = Meter(model.limits)
        self.counts = dict.fromkeys(("decided", "abstained", "unreadable", "ungrounded"), 0)

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request; all calls are in flight together, as far as the limits allow."""
        blocks = list(_blocks(requests, self.model.block))
        answers = await asyncio.gather(*(self._decide_block(block) for block in blocks))
        verdicts = [
            ground(r, v) for b, answer in zip(blocks, answers, strict=True) for r, v in zip(b, answer, strict=True)
        ]
        for verdict in verdicts:
            self.counts["abstained" if verdict.abstained else "decided"] += 1
            if verdict.code in self.counts:
                self.counts[verdict.code] += 1
        return verdicts

    def metrics(self) -> dict[str, float]:
        """Return calls, tokens, refusals for lack of budget, and what became of the requests."""
        spent = {"calls": self.meter.n_calls, "tokens": self.meter.tokens, "over_budget": self.meter.n_refused}
        return {name: float(n) for name, n in {**self.counts, **spent}.items()}

    async def _decide_block(self, block: list[JudgeRequest]) -> list[Verdict]:
        try:
            return await self._ask(block)
        except _UnreadableError as unreadable:
            if len(block) > 1:  # one statement may have spoilt the answer for all
                single = await asyncio.gather(*(self._decide_block([request]) for request in block))
                return [verdict for one in single for verdict in one]
            return [await self._blame(block[0], unreadable)]

    async def _blame(self, request: JudgeRequest, problem: _UnreadableError) -> Verdict:
        """Find out whose fault an unreadable answer is: ask the same about a text that can do no harm."""
        control = JudgeRequest(
            request.criterion, CONTROL_TEXT, request.channel, condition=request.condition, labels=request.labels
        )
        if isinstance(problem, _UnwantedError):  # what stands beside the text may be what is refused
            control = replace(request, text=CONTROL_TEXT)
        try:
            answer = await self._ask([control])
        except _UnreadableError:
            return abstention("service", f"the judge gives no verdicts: {problem}", self.id)
        if answer[0].abstained:
            return abstention(answer[0].code, answer[0].reasons, self.id)
        reason = f"the judge answers about other texts, but about this one: {problem}"
        return Verdict(False, 0.0, code="unreadable", reasons=reason, judge=self.id)

    async def _ask(self, block: list[JudgeRequest]) -> list[Verdict]:
        """Make one call. Raises _UnreadableError if the model answered every attempt with something else."""
        body, max_completion = self._body(block)
        estimate = estimate_tokens(json.dumps(body["messages"]), max_completion)
        if refusal := self.meter.refusal(estimate):
            return [abstention("budget", refusal, self.id) for _ in block]
        entry = await self.meter.admit(estimate)
        unreadable: list[str] = []

        def read(answer: JSON) -> list[Verdict]:
            said = ""
            try:
                chat = read_chat(answer)
                said = f" (finish_reason {chat.finish_reason})"
                verdicts = prompts.read(chat.text, block, self.id)
            except ValueError as problem:
                unreadable.append(f"{problem}{said}")
                raise
            usage = answer.get("usage")
            used = usage.get("total_tokens") if isinstance(usage, dict) else None
            self.meter.settle(entry, used if isinstance(used, int) and used >= 0 else estimate - max_completion)
            return verdicts

        key = ("judge", prompts.nonce(block[0]))
        try:
            return await self.endpoint.post("/chat/completions", body, read, key=key)
        except RefusedError as error:
            self.meter.settle(entry, 0)
            raise _UnwantedError(str(error)) from None
        except ServiceError as error:
            if not unreadable:  # nothing was answered: an outage must not use up the budget of the run
                self.meter.settle(entry, 0)
            if len(unreadable) >= self.model.max_attempts:
                raise _UnreadableError(unreadable[-1]) from None
            return [abstention("service", str(error), self.id) for _ in block]

    def _body(self, block: list[JudgeRequest]) -> tuple[dict[str, JSON], int]:
        model, max_completion = self.model, self.model.max_completion * len(block)
        body: dict[str, JSON] = {
            "model": model.model,
            "messages": prompts.messages(block),
            "temperature": model.temperature,
            "max_tokens": max_completion,
            "seed": block[0].sample,
            **model.extra_body,
        }
        if model.structured:
            body["response_format"] = prompts.response_format(block)
        return body, max_completion


def endpoint_judge(**options: Any) -> EndpointJudge:
    """Make the judge of an endpoint from the settings of `JudgeModel`; unknown ones are named with a suggestion."""
    return EndpointJudge(schema.from_json(JudgeModel, options, "judge 'endpoint'", error=ConfigError))


def _blocks(requests: Sequence[JudgeRequest], size: int) -> list[list[JudgeRequest]]:
    """Split requests, in order, into runs about one text of at most `size`."""
    runs = groupby(requests, key=lambda r: (r.text, r.channel, r.context, r.sample))
    blocks = []
    for _, run in runs:
        rows = list(run)
        blocks += [rows[i : i + size] for i in range(0, len(rows), size)]
    return blocks
