"""Components as no author should write them, in random expressions: what a suite makes of them must stay what it was.

Their ranges lie off 0, their values leave them, some scores are invalid, some wait for a service, some of the records
that are siblings are out of the loss or the statistics. A score is drawn from a stream named by what it reads, so that
it is a function of the view. Per expression one digest is known.
"""

import hashlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from agentgym.audit.algebra import Words, _round, trees
from agentgym.audit.scripts import RECORDS
from agentgym.errors import AgentGymError
from agentgym.rewards import Component, EpisodeView, Suite
from agentgym.rewards.component import DeferredComponent
from agentgym.rewards.parse import parse_expression
from agentgym.rewards.scoring import attributed
from agentgym.seeding import stream
from agentgym.types import JSON, Score, Trajectory

N_TREES = 72
WORDS = Words(
    ("rises", "sinks", "gift", "toll", "flag", "late", "pair", "shaky"),
    ("grade", "choice", "verdict", "share", "high", "asked", "tied", "low"),
    ("grade", "choice", "verdict"),
)
MEMBERS = (("thinks after", "g", True, True), ("cites twice", "g", False, True), ("looks and keeps", "g", True, False), ("costs beyond the cap", "g", False, False),
           ("no turn", "h", True, True), ("loop", "h", True, True), ("service failed", "", True, True), ("cut by tokens", "", False, True))  # fmt: skip
"""(record, group, in the loss, in the statistics)."""


class _Odd(Component):
    """Gives a number drawn from what it is named and reads: near its range, often at an edge of it, or 0."""

    wild: float = 0.1
    """Chance of a value outside the range."""
    broken: float = 0.0
    """Chance of a score that is invalid."""

    def start(self, view: EpisodeView) -> dict[str, int]:
        """Count how often it was asked."""
        return {"asked": 0}

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Return a score by the number of turns, the answer and the end."""
        state["asked"] += 1
        return self.drawn(f"{len(view.turns)}|{view.answer}|{view.end_reason}|{state['asked']}|{len(view.citations)}")

    def drawn(self, key: str) -> Score:
        """Return the score of one place."""
        rng = stream("audit", "odd", self.name, key)
        lo, hi = self.range
        kind = rng.random()
        if kind < self.broken:
            given = (None, lo, float("nan"))[int(rng.integers(3))]
            return Score(self.scope, given, valid=bool(given != given), reason="broken")
        edge = (lo, hi, 1.0 if self.scope == "trajectory" else 0.0, 0.0)[int(rng.integers(4))]
        raw = edge if rng.random() < 0.5 else float(rng.uniform(lo, hi)) * (1.0 if self.scope == "trajectory" else 0.4)
        if rng.random() >= self.wild:
            raw = min(max(raw, lo), hi) if self.scope == "trajectory" or self.supply == "cost" else raw
        else:
            raw += float(rng.uniform(-0.5, 0.5))
        parts = {"drawn": kind} if rng.random() < 0.3 else {}
        return Score(self.scope, raw, reason="drawn" if rng.random() < 0.5 else "", parts=parts, evidence=("it",) if kind > 0.9 else ())


class _Asked(DeferredComponent, _Odd):
    """The same, known after the rollouts; one record in six stays invalid, one in six without a value."""

    def complete(self, trajectories: Sequence[Trajectory], service: Any) -> list[dict[int, Score]]:
        """Return a score a turn, or one at the end."""
        return [{n: self._one(t, n, service) for n in (range(len(t.turns)) if self.scope == "turn" else (-1,))} for t in trajectories]

    def _one(self, record: Trajectory, n: int, service: Any) -> Score:
        return self.drawn(f"{service}|{len(record.turns)}|{record.answer}|{record.end_reason}|{n}")

    def recompute(self, stored: Mapping[int, Score]) -> dict[int, Score]:
        """Return what was stored."""
        return dict(stored)


def _made(name: str, scope: str, supply: str, limits: tuple[float, float], kind: type[Component] = _Odd, **more: Any) -> Component:
    return type(name.title(), (kind,), {"name": name, "scope": scope, "supply": supply, "range": limits, **more})()


@cache
def components() -> dict[str, Component]:
    """Return the components by name."""
    grade = _made("grade", "trajectory", "terminal", (0.0, 1.0), failure_max=0.6)
    made = (
        grade,
        _made("choice", "trajectory", "terminal", (0.0, 1.0), failure_max=0.0, wild=0.0),
        _made("verdict", "trajectory", "terminal", (-0.5, 1.0), broken=0.3),
        _made("share", "trajectory", "terminal", (0.5, 2.0)),
        _made("high", "trajectory", "terminal", (0.0, 3.0), broken=0.3),
        _made("asked", "trajectory", "terminal", (0.0, 0.8), _Asked, needs=frozenset({"scorer"}), broken=0.25),
        _made("tied", "trajectory", "terminal", (-1.0, 1.0), tied={"grade": ((-1.0, 0.25), (0.5, 1.0)), "choice": ((0.0, 0.0), (1.0, 1.0))}),
        _made("low", "trajectory", "terminal", (-3.0, -1.0)),
        _made("rises", "turn", "potential", (-0.5, 2.0)),
        _made("sinks", "turn", "potential", (-2.0, 0.0)),
        _made("gift", "turn", "once", (0.0, 0.7), wild=0.4),
        _made("toll", "turn", "cost", (-2.0, -0.5)),
        _made("flag", "turn", "unbounded", (0.0, 1.0)),
        _made("late", "turn", "potential", (-1.0, 1.0), _Asked, needs=frozenset({"scorer"}), broken=0.1),
        _made("pair", "turn", "potential", (0.0, 1.5), outcome=grade, failure_max=0.9),
        _made("shaky", "turn", "once", (-0.5, 0.5), broken=0.15),
    )
    return {c.name: c for c in made}


@cache
def _plain() -> Suite:
    """Return a suite without groups, schedules or conditions over the components of the end."""
    every = components()
    return Suite(sum((0.1 * every[name] for name in WORDS.end[1:]), 1.0 * every[WORDS.end[0]]), success=every[WORDS.end[0]])


def _siblings() -> list[Trajectory]:
    return [
        replace(RECORDS[label], id=label, group_id=group, in_loss=in_loss, in_statistics=counted, info={"progress": 0.1 + 0.2 * (n % 4)})
        for n, (label, group, in_loss, counted) in enumerate(MEMBERS)
    ]


@cache
def odd_expressions() -> dict[str, JSON]:
    """Return the digests, by expression."""
    every = components()
    table: dict[str, JSON] = {}
    before: Suite | None = None
    for n, (text, outcome) in enumerate(trees("odd trees", N_TREES, WORDS)):
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                suite = Suite(parse_expression(text, every.__getitem__), success=every[outcome], allow_unbounded=True)
            except AgentGymError as error:
                table[f"{n}: {text}"] = type(error).__name__
                continue
            facts = [[str(w.message) for w in told] == list(suite.warnings), bool(suite.warnings), *_promises(suite)]
            facts += _played(suite, before)
        table[f"{n}: {text}"] = hashlib.blake2b(json.dumps(facts, default=str).encode(), digest_size=5).hexdigest()
        before = suite
    return table


def _promises(suite: Suite) -> Iterator[JSON]:
    for factor in (1.0, 0.4, 2.0):
        bounds = suite.bounds(factor)
        yield [_round(x) for x in (*bounds.failure, *bounds.success, bounds.margin)]
    yield [suite.name, repr(suite), sorted(suite.needs), sorted(suite.deferred), list(suite.group_transforms), suite.is_causal, suite.is_scheduled]
    for progress in (0.0, 0.3, 1.0):
        fixed = suite.at(progress)
        yield [fixed.is_scheduled, repr(fixed.expression), [_round(x) for x in (*fixed.bounds().failure, *fixed.bounds().success)]]


def _played(suite: Suite, other: Suite | None) -> Iterator[JSON]:
    """Yield what is left of siblings: scored, normed before and after the services answered, and scored again."""
    scored = [suite.rescore(r) for r in _siblings()]
    masked = [replace(s, in_loss=r.in_loss and s.in_loss, in_statistics=r.in_statistics and s.in_statistics) for s, r in zip(scored, _siblings(), strict=True)]
    yield [_state(r) for r in masked]
    yield [_state(r) for r in suite.transform_groups(masked)]
    done = suite.complete(masked, scorer="first")  # pyright: ignore[reportArgumentType]
    yield [_state(r) for r in done]
    yield [_state(r) for r in suite.complete(done, scorer="second")]  # pyright: ignore[reportArgumentType]
    half = [replace(d, turns=(*d.turns[:-1], *m.turns[-1:]), scores=m.scores) for d, m in zip(done, masked, strict=True)]
    yield [_state(r) for r in suite.complete(half, scorer="third")]  # pyright: ignore[reportArgumentType]
    yield [_state(r) for r in suite.transform_groups(done)]
    yield [_state(suite.rescore(r)) for r in done]
    for next_ in (other, _plain()):  # what one suite left in a record must not reach the next one
        yield [_state(next_.rescore(r)) for r in done[:3]] if next_ else []


def _state(record: Trajectory) -> JSON:
    every = [*(t.scores for t in record.turns), record.scores]
    return [
        record.success, record.in_loss, record.in_statistics, record.error, record.reward_spec, _round(record.reward), [_round(t.reward) for t in record.turns],
        [[n, _round(s.raw), _round(s.value), _round(s.weight), s.valid, s.deferred, s.reason, [[k, _round(v)] for k, v in sorted(s.parts.items())]]
         for scores in every for n, s in sorted(scores.items())],
        [[n, *map(_round, shares)] for n, shares in sorted(attributed(record).items())],
    ]  # fmt: skip
