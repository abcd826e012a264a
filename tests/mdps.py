"""Small decision problems that are enumerated exactly, to compare an estimator's expectation with the true gradient.

A problem is a function from the probabilities p of action 1 at each decision to all paths. The expectation over
groups of G independent paths is a sum over multisets with multinomial probabilities: every group that can occur is
built once and goes through the code under test, all in one batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from agentgym.credit.arrays import CreditArrays


@dataclass(frozen=True)
class Path:
    """One way an episode can go."""

    probability: Any
    decisions: tuple[tuple[int, int], ...]
    """Per turn: which decision, which action (0 or 1)."""
    rewards: tuple[float, ...]
    outcome: float = 0.0
    cut: bool = False
    tokens: int = 1


@dataclass(frozen=True)
class Mdp:
    """A problem: `paths(p)` yields every path for the probabilities p of action 1."""

    name: str
    n_decisions: int
    paths: Callable[[Sequence[Any]], Iterator[Path]]


def _bet(q: float) -> tuple[tuple[float, float], ...]:
    """Outcome 1 with probability q, else 0."""
    return ((1.0, q), (0.0, 1.0 - q))


def bandit(second: float) -> Mdp:
    """A: turn 0 pays .5 always; "continue" buys a second turn that pays `second`."""

    def paths(p: Sequence[Any]) -> Iterator[Path]:
        yield Path(1 - p[0], ((0, 0),), (0.5,))
        yield Path(p[0], ((0, 1), (-1, 0)), (0.5, second))

    return Mdp(f"A({second:g})", 1, paths)


def _search(p: Sequence[Any]) -> Iterator[Path]:
    for o, q in _bet(1 / 4):
        yield Path((1 - p[0]) * q, ((0, 0),), (0.0,), o)
    for found, r in _bet(1 / 2):
        for a, pa in ((1, p[1]), (0, 1 - p[1])):
            for o, q in _bet(3 / 4 if a else 1 / 4):
                yield Path(p[0] * r * pa * q, ((0, 1), (1, a)), (found, float(a)), o)


def _two_searches(p: Sequence[Any]) -> Iterator[Path]:
    for o, q in _bet(1 / 4):
        yield Path((1 - p[0]) * q, ((0, 0),), (0.0,), o)
    for o, q in _bet(1 / 2):
        yield Path(p[0] * (1 - p[1]) * q, ((0, 1), (1, 0)), (0.5, 0.0), o)
    for a, pa in ((1, p[2]), (0, 1 - p[2])):
        for o, q in _bet(3 / 4 if a else 1 / 4):
            yield Path(p[0] * p[1] * pa * q, ((0, 1), (1, 1), (2, a)), (0.5, 0.25, 0.5 * a), o)


def _cut(p: Sequence[Any]) -> Iterator[Path]:
    for o, q in _bet(1 / 2):
        yield Path((1 - p[0]) * q, ((0, 0),), (0.0,), o)
    for o, q in _bet(3 / 4):
        yield Path(p[0] * (1 - p[1]) * q, ((0, 1), (1, 0)), (0.0, 0.0), o)
    yield Path(p[0] * p[1], ((0, 1), (1, 1)), (0.0, 0.0), 0.0, cut=True)


def _flip(p: Sequence[Any]) -> Iterator[Path]:
    for o, q in _bet(0.6):
        yield Path(p[0] * q, ((0, 1),), (0.0,), o, tokens=30 if o else 6)
    for o, q in _bet(0.5):
        yield Path((1 - p[0]) * q, ((0, 0),), (0.0,), o, tokens=18)


def _early(p: Sequence[Any]) -> Iterator[Path]:
    yield Path(1 - p[0], ((0, 0),), (0.3,))
    yield Path(p[0], ((0, 1), (-1, 0)), (0.0, 0.5))


A = bandit(0.5)
B = Mdp("B", 2, _search)
"""Answer (outcome 1 with .25) or search (pays 0 or 1); then good (pays 1, outcome 1 with .75) or bad (.25)."""
C = Mdp("C", 3, _two_searches)
"""As B with up to two searches that pay .5 and .25, and a last turn that pays .5 if good."""
T = Mdp("T", 2, _cut)
"""Answer (.5) or search; then answer (.75) or search again, which the turn limit cuts at outcome 0."""
FLIP = Mdp("flip", 1, _flip)
"""Continue: success .6 with 30 tokens, failure with 6. Stop: success .5, 18 tokens."""
EARLY = Mdp("early", 1, _early)
"""Stop pays .3 now; continue pays 0, then .5."""


def even(mdp: Mdp) -> tuple[float, ...]:
    """Return the probabilities of logits 0."""
    return (0.5,) * mdp.n_decisions


def outcome(path: Path) -> float:
    """Return the trajectory-scope score of a path."""
    return path.outcome


def turns(path: Path) -> float:
    """Return the sum of the turn-scope scores of a path."""
    return sum(path.rewards)


def total(path: Path) -> float:
    """Return the sum of all scores of a path."""
    return path.outcome + sum(path.rewards)


def gradient(mdp: Mdp, value: Callable[[Path], float], p: Sequence[float] | None = None) -> np.ndarray:
    """Return d E[value] / d logits by complex-step differentiation: no score function, no credit code. [D]"""
    p = even(mdp) if p is None else p
    logits = np.log(np.asarray(p) / (1 - np.asarray(p))).astype(complex)
    step = 1e-30
    out = np.zeros(mdp.n_decisions)
    for d in range(mdp.n_decisions):
        moved = logits.copy()
        moved[d] += 1j * step
        expected = sum(path.probability * value(path) for path in mdp.paths(list(1 / (1 + np.exp(-moved)))))
        out[d] = np.imag(expected) / step
    return out


@dataclass(frozen=True)
class Enumeration:
    """All groups of a problem, one after the other: B = n_groups * G rows."""

    arrays: CreditArrays
    probability: np.ndarray
    """[n_groups]"""
    score: np.ndarray
    """[B, K, D]: d log-probability of the turn's action / d logits."""
    tokens: np.ndarray
    """[B]"""

    def expectation(self, advantages: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
        """Return E[(1/G) sum over members and turns of weight * score * advantage]: [D].

        Args:
            advantages: [B, K].
            weights: [B], what the loss multiplies a trajectory with; 1 for a constant denominator.
        """
        per_row = np.einsum("bk,bkd->bd", advantages, self.score)
        if weights is not None:
            per_row = per_row * weights[:, None]
        n_groups = len(self.probability)
        return self.probability @ per_row.reshape(n_groups, -1, per_row.shape[1]).mean(1)

    def single(self, index: int) -> CreditArrays:
        """Return one group as a batch of its own."""
        size = len(self.tokens) // len(self.probability)
        rows = slice(index * size, (index + 1) * size)
        a = self.arrays
        return CreditArrays(
            a.turn_scores[rows], a.turn_mask[rows], a.outcome[rows], np.zeros(size, np.int64),
            a.in_statistics[rows], a.in_loss[rows],
        )  # fmt: skip


@lru_cache(maxsize=64)
def enumerate_groups(
    mdp: Mdp,
    size: int,
    *,
    p: tuple[float, ...] | None = None,
    cut_in_statistics: bool = True,
    cut_in_loss: bool = True,
    levels: str = "both",
) -> Enumeration:
    """Return every group of `size` paths with its probability.

    Args:
        mdp: the problem.
        size: members per group.
        p: probabilities of action 1 per decision; logits 0 if left out.
        cut_in_statistics: whether cut paths count in the statistics.
        cut_in_loss: whether cut paths count in the loss.
        levels: "both"; "turn": outcomes set to 0; "trajectory": everything as one trajectory-scope score.
    """
    p = even(mdp) if p is None else p
    paths = list(mdp.paths(p))
    n_turns = max(len(path.rewards) for path in paths)
    rewards, mask = np.zeros((len(paths), n_turns)), np.zeros((len(paths), n_turns), bool)
    score = np.zeros((len(paths), n_turns, mdp.n_decisions))
    for i, path in enumerate(paths):
        rewards[i, : len(path.rewards)] = path.rewards
        mask[i, : len(path.rewards)] = True
        for k, (d, a) in enumerate(path.decisions):
            if d >= 0:
                score[i, k, d] = a - p[d]
    outcomes = np.array([path.outcome for path in paths], float)
    if levels == "turn":
        outcomes = np.zeros_like(outcomes)
    elif levels == "trajectory":
        outcomes, rewards = outcomes + rewards.sum(1), np.zeros_like(rewards)
    multisets = np.array(list(combinations_with_replacement(range(len(paths)), size)))
    counts = np.stack([(multisets == i).sum(1) for i in range(len(paths))], axis=1)
    factorial = np.array([float(math.factorial(n)) for n in range(size + 1)])
    probability = np.array([path.probability for path in paths])[multisets].prod(1)
    probability = probability * factorial[size] / factorial[counts].prod(1)
    rows = multisets.ravel()
    cut = np.array([path.cut for path in paths])[rows]
    arrays = CreditArrays(
        turn_scores=rewards[rows],
        turn_mask=mask[rows],
        outcome=outcomes[rows],
        group=np.repeat(np.arange(len(multisets)), size),
        in_statistics=~cut | cut_in_statistics,
        in_loss=~cut | cut_in_loss,
    )
    return Enumeration(arrays, probability, score[rows], np.array([path.tokens for path in paths])[rows])
