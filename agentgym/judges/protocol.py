"""What a judge is asked and what it answers: typed requests in, typed verdicts out.

A judge decides one yes-no statement (or picks one of a few ordered labels) about one text. Reward components
reach judges only through the small synchronous `JudgeService`; everything asynchronous stays behind it.

    verdicts = service.judge([JudgeRequest("The reply names the refunded amount.", text=reply)])
    if not verdicts[0].valid: ...        # the service failed: the score is invalid, never zero
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

Channel = Literal["calls", "results", "reply", "thought", "state", "answer", "document"]
Polarity = Literal["present", "absent"]
MAX_CHARS = 16_000
"""Default length of the text that a judge reads, in characters."""


@dataclass(frozen=True, slots=True)
class JudgeRequest:
    """One question to a judge: does the criterion hold of the text?

    All text in it may come from a policy: the service cleans and cuts it, so that nothing a policy writes can make
    the call fail.
    """

    criterion: str
    """One statement that holds or does not hold of the text alone, e.g. "The reply names the refunded amount."."""
    text: str
    """The candidate: the text of one channel of one turn, taken from events. A passing verdict quotes from it."""
    channel: Channel = "reply"
    """Where the text comes from; the judge is told."""
    context: str = ""
    """What the judge may need to understand the text (the question, an earlier result); never quoted from."""
    condition: str = ""
    """When exactly the criterion holds, where the statement alone leaves room."""
    evidence: tuple[str, ...] = ()
    """Reference snippets: what a passing text looked like elsewhere."""
    fail_examples: tuple[str, ...] = ()
    """Descriptions of texts that must not pass."""
    polarity: Polarity = "present"
    """"absent": the criterion says that something is not there. A fail must quote the offending text, and an empty
    or over-long text fails."""
    labels: tuple[str, ...] = ()
    """Empty: pass or fail. Otherwise two to eight labels from worst to best; the score of label i of n is
    i / (n − 1), and only the best one passes. An absent polarity takes no labels."""
    max_chars: int = MAX_CHARS
    """The text is cut to this length: its head stays."""
    grounded: bool = True
    """Whether a verdict must rest on a quote that occurs in the text (off for comparisons of two texts)."""
    sample: int = 0
    """Which of several votes this is; part of the cache key."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a judge decided."""

    passed: bool
    score: float = 0.0
    """0..1: 1 or 0 without labels, otherwise the label's place."""
    quote: str = ""
    """Verbatim part of the text that the verdict rests on."""
    span: tuple[int, int] | None = None
    """[start, end) of the quote in the text that was judged, where it could be located."""
    reasons: str = ""
    label: str = ""
    """The chosen label, for requests with labels."""
    code: str = ""
    """Why the verdict is not the judge's own: ungrounded, empty, over_length, unreadable; or, when it abstains:
    service, budget, members."""
    abstained: bool = False
    """The judge gave no answer, for reasons of its own. Never caused by the text."""
    judge: str = ""
    """Id of the judge that decided."""
    cached: bool = False
    members: tuple[bool, ...] = field(default=())
    """For votes and ensembles: what each member that answered said."""

    @property
    def valid(self) -> bool:
        """Whether there is a verdict; an invalid one makes a score invalid, never zero."""
        return not self.abstained


def decided(passed: bool, *, quote: str = "", reasons: str = "", judge: str = "", code: str = "") -> Verdict:
    """Return a yes-no verdict whose score is 1 or 0."""
    return Verdict(passed, float(passed), quote=quote, reasons=reasons, judge=judge, code=code)


def abstention(code: str, reasons: str, judge: str = "") -> Verdict:
    """Return the verdict of a judge that gave no answer; `code` is service, budget or members."""
    return Verdict(False, code=code, reasons=reasons, judge=judge, abstained=True)


@runtime_checkable
class Judge(Protocol):
    """Decides requests. Registered in `hooks.JUDGES` under a name, made with options."""

    id: str
    """Names everything that a verdict depends on beside the request: name, revision, decoding, template version.
    It is part of the cache key."""

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request, in order. A fault of a service is an abstention, never an exception."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return running counts since the judge was made, by short name."""
        ...


@runtime_checkable
class JudgeService(Protocol):
    """What reward components get: `DeferredComponent.complete(trajectories, service)`."""

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request, in order; requests run concurrently, equal ones are asked once."""
        ...
