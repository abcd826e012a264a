"""Random expressions: what a suite makes of each must stay what it was, down to the bounds and the refusals.

The trees are drawn from a fixed stream, over components that the records feed. Per tree one digest is known: of the
refusal, or of bounds, form, and all values on a few records, alone, as one group and from the record again.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from agentgym.audit.services import SERVICES
from agentgym.errors import AgentGymError
from agentgym.rewards import Suite
from agentgym.rewards.parse import parse_expression
from agentgym.rewards.registering import component_named
from agentgym.rewards.scoring import attributed
from agentgym.seeding import stream
from agentgym.types import JSON, Trajectory

N_TREES = 64
TURN = ("retrieval_gain", "query_novelty", "step_cost", "invalid_action", "path_potential", "information_gain")
END = ("answer_em", "answer_f1", "all_valid", "citation_precision", "info_density", "citation_rubric")
OUTCOMES = ("answer_em", "answer_em", "answer_f1", "all_valid")


@dataclass(frozen=True, slots=True)
class Words:
    """Names of components that random expressions are made of."""

    turn: tuple[str, ...]
    end: tuple[str, ...]
    """The first three decide gates and conditions; the others are divided by their group's maximum."""
    outcomes: tuple[str, ...]


BUILT_IN = Words(TURN, END, OUTCOMES)


def trees(name: str = "trees", n_trees: int = N_TREES, words: Words = BUILT_IN) -> Iterator[tuple[str, str]]:
    """Yield (expression as text, name of the outcome)."""
    for n in range(n_trees):
        rng = stream("audit", name, n)
        outcome = words.outcomes[int(rng.integers(len(words.outcomes)))]
        terms = [_end(rng, 2, words) if rng.random() < 0.5 else _turn(rng, 3, words) for _ in range(int(rng.integers(1, 4)))]
        if rng.random() < 0.7:
            terms.append(outcome)
        yield " + ".join(terms), outcome


def _number(rng: np.random.Generator, values: Sequence[float] = (-1.0, -0.4, -0.1, 0.2, 0.5, 2.0)) -> float:
    return float(values[int(rng.integers(len(values)))])


def _limits(rng: np.random.Generator) -> str:
    return f"{_number(rng, (-0.6, -0.3, -0.05, 0.0))}, {_number(rng, (0.0, 0.1, 0.3, 1.0))}"


def _weights(rng: np.random.Generator) -> str:
    if rng.random() < 0.5:
        return f"[{_number(rng)}, {_number(rng)}]"
    return f"[[{_number(rng, (0.0, 0.2))}, {_number(rng)}], [0.4, {_number(rng)}], [{_number(rng, (0.7, 1.0))}, {_number(rng)}]]"


def _turn(rng: np.random.Generator, depth: int, words: Words) -> str:
    if depth == 0 or rng.random() < 0.2:
        return words.turn[int(rng.integers(len(words.turn)))]
    inner = _turn(rng, depth - 1, words)
    other = _turn(rng, depth - 1, words)
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"{_number(rng)} * ({inner})",
        lambda: f"({inner} + {other})",
        lambda: f"Cap({inner}, {_limits(rng)})",
        lambda: f"Clip({inner}, {_limits(rng)})",
        lambda: f"Once({inner})",
        lambda: f"Product({inner}, {other})",
        lambda: f"Min({inner}, {other})",
        lambda: f"Shaped({inner}, {_number(rng, (1.0, 1.0, 0.8))})",
        lambda: f"Schedule({inner}, {_weights(rng)})",
    )
    return forms[int(rng.integers(len(forms)))]()


def _end(rng: np.random.Generator, depth: int, words: Words) -> str:
    if depth == 0 or rng.random() < 0.2:
        return words.end[int(rng.integers(len(words.end)))]
    inner = _end(rng, depth - 1, words) if rng.random() < 0.6 else _turn(rng, 1, words)
    by = words.end[int(rng.integers(3))]
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"{_number(rng)} * ({inner})",
        lambda: f"({inner} - {_number(rng)})",
        lambda: f"Cap({inner}, {_limits(rng)})",
        lambda: f"Clip({inner}, {_limits(rng)})",
        lambda: f"Gate({by}, {inner}, {_number(rng, (0.0, 0.7, 1.0))})",
        lambda: f"OnlyIf({int(rng.integers(2))}, {inner})",
        lambda: f"OnlyIf({int(rng.integers(2))}, {inner}, {by})",
        lambda: f"Mean({_turn(rng, 1, words)})",
        lambda: f"Product({inner}, {by})",
        lambda: f"Min({inner}, {by}, {_end(rng, 0, words)})",
        lambda: f"MaxNorm({words.end[3 + int(rng.integers(3))]})",
        lambda: f"Schedule({inner}, {_weights(rng)})",
    )
    return forms[int(rng.integers(len(forms)))]()


def digest_of(text: str, outcome: str, records: Sequence[Trajectory]) -> str:
    """Return what is known of one expression, as a digest."""
    return hashlib.blake2b(json.dumps(_facts(text, outcome, records), default=str).encode(), digest_size=5).hexdigest()


def _facts(text: str, outcome: str, records: Sequence[Trajectory]) -> JSON:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            Suite(parse_expression(text, component_named), success=outcome)
            free = False
        except AgentGymError:
            free = True
        try:
            suite = Suite(parse_expression(text, component_named), success=outcome, allow_unbounded=True)
        except AgentGymError as error:
            return type(error).__name__
    bounds = [suite.bounds(factor) for factor in (1.0, 0.5, 2.0)]
    facts: list[Any] = [free, repr(suite.expression), suite.is_causal, [[_round(x) for x in (*b.failure, *b.success)] for b in bounds]]
    again = [replace(suite.rescore(record), group_id="g") for record in records]
    done = suite.complete(again, **SERVICES)
    for record in done:
        facts += [record.success, record.error, [_round(t.reward) for t in record.turns]]
        facts.append([[n, _round(s.raw), _round(s.value), _round(s.weight)] for n, s in sorted(record.scores.items())])
        facts.append([[n, *map(_round, shares)] for n, shares in sorted(attributed(record).items())])
        facts.append(_round(suite.rescore(record).total - record.total))
    return facts


def _round(value: float | None) -> JSON:
    return None if value is None else str(value) if not math.isfinite(value) else round(value, 8) + 0.0
