"""Judges without a model: rules over words, a function of one's own, and a table of verdicts for tests."""

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from agentgym.errors import ConfigError
from agentgym.judges.grounding import ground, locate
from agentgym.judges.protocol import JudgeRequest, Verdict, abstention, decided
from agentgym.named import named_object

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
_WORD = re.compile(r"[^\W_]+(?:[.'-][^\W_]+)*")
_STOP_WORDS = (
    "a an the of in on at by for to from with and or is are was were be been has have had does do did that this it its"
    " as who which whose reply text states names says answer"
)
_STOP = frozenset(_WORD.findall(_STOP_WORDS))
ProgramResult = bool | float | Verdict
Program = Callable[[JudgeRequest], ProgramResult]


class LocalJudge:
    """Base of the judges that need no service: one request at a time."""

    id = "local"
    quotes = True
    """Whether its verdicts must rest on quotes."""

    def __init__(self) -> None:
        """Count from zero."""
        self.n_decided = 0

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request, in order."""
        self.n_decided += len(requests)
        return [ground(request, self.one(request)) if self.quotes else self.one(request) for request in requests]

    def metrics(self) -> dict[str, float]:
        """Return how many requests were decided."""
        return {"decided": float(self.n_decided)}

    def one(self, request: JudgeRequest) -> Verdict:
        """Decide one request."""
        raise NotImplementedError


class RuleJudge(LocalJudge):
    """Passes a text by its words: deterministic, offline, and easily fooled by paraphrase in both directions.

    With `evidence` every snippet must occur in the text; without, one sentence of it must hold the share `coverage`
    of the criterion's content words. For an absent polarity the same is what must not be found.
    """

    def __init__(self, coverage: float = 1.0) -> None:
        """Set the share of content words, 0 < coverage <= 1. Raises ConfigError outside of it."""
        super().__init__()
        if not 0.0 < coverage <= 1.0:
            raise ConfigError(f"rule judge: coverage={coverage}; allowed: more than 0, at most 1")
        self.coverage = coverage
        self.id = f"rule:coverage={coverage:g}"

    def one(self, request: JudgeRequest) -> Verdict:
        """Look for the words."""
        share, quote = self._evidence(request) if request.evidence else self._sentence(request)
        found = share >= self.coverage
        if request.polarity == "absent":
            return decided(not found, quote=quote if found else "", judge=self.id)
        if request.labels:
            place = int(share * (len(request.labels) - 1))
            score = place / (len(request.labels) - 1)
            label = request.labels[place]
            return Verdict(score >= 1.0, score, quote if score else "", label=label, judge=self.id)
        return decided(found, quote=quote if found else "", reasons=f"{share:.2f} of the words", judge=self.id)

    def _evidence(self, request: JudgeRequest) -> tuple[float, str]:
        spans = [span for snippet in request.evidence if (span := locate(snippet, request.text))]
        quote = request.text[spans[0][0] : spans[0][1]] if spans else ""
        return len(spans) / len(request.evidence), quote

    def _sentence(self, request: JudgeRequest) -> tuple[float, str]:
        wanted = content_words(request.criterion)
        best, quote = 0.0, ""
        for sentence in _SENTENCE.split(request.text):
            share = len(wanted & content_words(sentence)) / len(wanted) if wanted else 0.0
            if share > best:
                best, quote = share, sentence.strip()
        return best, quote


class ProgramJudge(LocalJudge):
    """Asks a function of the request; what it returns is a pass (bool), a score in 0..1, or a Verdict.

    It needs no quotes: it is code that the user wrote, not a model that can be talked round.
    """

    quotes = False

    def __init__(self, program: Program | str) -> None:
        """Take the function, or its name "module:function". Raises ConfigError if it cannot be imported."""
        super().__init__()
        self.program = import_function(program, "program judge") if isinstance(program, str) else program
        name = program if isinstance(program, str) else getattr(program, "__qualname__", "function")
        self.id = f"program:{name}"

    def one(self, request: JudgeRequest) -> Verdict:
        """Call the function."""
        given = self.program(request)
        if isinstance(given, Verdict):
            return replace(given, judge=self.id)
        score = float(given)
        if not 0.0 <= score <= 1.0:
            raise ConfigError(f"{self.id} returned {given!r}; allowed: True, False, a number in 0..1, a Verdict")
        return Verdict(score >= 1.0, score, judge=self.id)


class StubJudge(LocalJudge):
    """Reads verdicts from a table, for tests: no network, every request kept in `asked`.

    A key is a part of the criterion or of the text, or the 16 hex characters of `StubJudge.key(criterion, text)`; the
    first key that fits decides. A value is a bool, a score, a Verdict, or None for an abstention. A pass quotes the
    text unless it is a Verdict with a quote of its own.
    """

    def __init__(
        self, table: Mapping[str, bool | float | Verdict | None] | None = None, default: bool | None = False
    ) -> None:
        """Set the table, and what happens to requests that no key fits."""
        super().__init__()
        self.table = dict(table or {})
        self.default = default
        self.id = "stub"
        self.asked: list[JudgeRequest] = []

    @staticmethod
    def key(criterion: str, text: str) -> str:
        """Return the key that fits exactly this criterion and text."""
        return hashlib.blake2b(f"{criterion}\x1f{text}".encode(), digest_size=8).hexdigest()

    def one(self, request: JudgeRequest) -> Verdict:
        """Look the request up."""
        self.asked.append(request)
        exact = self.key(request.criterion, request.text)
        fitting = (v for k, v in self.table.items() if k == exact or k in request.criterion or k in request.text)
        given = next(fitting, self.default)
        if given is None:
            return abstention("service", "the table says so", self.id)
        if isinstance(given, Verdict):
            return replace(given, judge=self.id)
        score = float(given)
        quoting = score > 0.0 if request.polarity == "present" else score <= 0.0
        label = request.labels[round(score * (len(request.labels) - 1))] if request.labels else ""
        return Verdict(score >= 1.0, score, request.text if quoting else "", label=label, judge=self.id)


def content_words(text: str) -> frozenset[str]:
    """Return the words of a text that carry meaning, without case."""
    return frozenset(word for word in _WORD.findall(text.casefold()) if word not in _STOP)


def import_function(name: str, where: str, *, of_data: bool = False) -> Callable[..., ProgramResult]:
    """Return the function that "module:function" or "file.py:function" names; `of_data`: an installed module's only.

    Raises:
        ConfigError: naming `where` and what is missing.
    """
    found = named_object(name, f"{where}: program", installed=of_data)
    if not callable(found):
        raise ConfigError(f"{where}: {name!r} is {type(found).__name__}, which cannot be called")
    return found  # pyright: ignore[reportReturnType]
