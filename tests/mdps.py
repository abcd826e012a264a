"""Small decision problems that are enumerated exactly, to compare an estimator's expectation with the true gradient.

A problem is a function from the probabilities p of action 1 at each decision to all paths. The expectation over
groups of G independent paths is a sum over multisets with multinomial probabilities: every group that can occur is
built once and goes through the code under test, all in one batch.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
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
    states: tuple[int, ...] = ()
    """Per turn the observation in front of it; left out: the turn's index."""


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
                yield Path(p[0] * r * pa * q, ((0, 1), (1, a)), (found, float(a)), o, states=(0, 1 + int(found)))


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
            extras={n: v[rows] if len(v) == len(a.group) else v for n, v in a.extras.items()},
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
    state = np.zeros((len(paths), n_turns), np.int64)
    for i, path in enumerate(paths):
        state[i, : len(path.rewards)] = path.states or range(len(path.rewards))
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
        extras={"state": state[rows]},
    )
    return Enumeration(arrays, probability, score[rows], np.array([path.tokens for path in paths])[rows])


def noisy(mdp: Mdp, rho0: float, rho1: float) -> Mdp:
    """Return the problem with a verifier that accepts failures with rho0 and refuses successes with rho1."""

    def paths(p: Sequence[Any]) -> Iterator[Path]:
        for path in mdp.paths(p):
            wrong = rho1 if path.outcome else rho0
            yield replace(path, probability=path.probability * (1 - wrong))
            yield replace(path, probability=path.probability * wrong, outcome=1.0 - path.outcome)

    return Mdp(f"noisy {mdp.name}", mdp.n_decisions, paths)


def blindfold(mdp: Mdp) -> Mdp:
    """Return the problem with the same observation in front of every turn, so that episodes meet it repeatedly."""

    def paths(p: Sequence[Any]) -> Iterator[Path]:
        for path in mdp.paths(p):
            yield replace(path, states=(0,) * len(path.rewards))

    return Mdp(f"blindfold {mdp.name}", mdp.n_decisions, paths)


def potential(rewards: Sequence[float], k: int) -> float:
    """Return a potential of the history before turn k: any function of it will do."""
    return 0.3 - 0.2 * k + 0.7 * sum(rewards[:k])


def last_potential(path: Path) -> float:
    """Return the potential after the last turn."""
    return potential(path.rewards, len(path.rewards))


def log_ratio(rewards: np.ndarray) -> np.ndarray:
    """Return a made-up log-ratio of each turn."""
    return 0.4 - rewards


def prospects(groups: Enumeration) -> dict[str, np.ndarray]:
    """Return the true expected outcome and turn scores to come before each turn, given turn scores so far: [B, K + 1].

    They stand for the mean of any number of continuations: the estimate is linear in them.
    """
    a = groups.arrays
    weight = groups.probability.repeat(len(a.group) // len(groups.probability))
    n, k = a.turn_mask.shape
    found = {"continued_outcome": np.full((n, k + 1), np.nan), "continued_turns": np.full((n, k + 1), np.nan)}
    for place in range(1, k):
        rows = np.flatnonzero(a.turn_mask[:, place])
        _, history = np.unique(a.turn_scores[rows, :place], axis=0, return_inverse=True)
        mass = np.bincount(history.ravel(), weight[rows])
        for name, value in (("continued_outcome", a.outcome), ("continued_turns", a.turn_scores[:, place:].sum(1))):
            mean = np.bincount(history.ravel(), weight[rows] * value[rows]) / mass
            found[name][rows, place] = mean[history.ravel()]
    return found


def with_extras(groups: Enumeration) -> Enumeration:
    """Return the enumeration with everything that any recipe reads, made up from turn scores and outcomes."""
    a = groups.arrays
    lengths, (n, k) = a.turn_mask.sum(1), a.turn_mask.shape
    earned = a.turn_scores.sum(1)
    phi = np.array([[potential(row[:m].tolist(), j) for j in range(k + 1)] for row, m in zip(a.turn_scores, lengths, strict=True)])
    support = np.stack([phi, 1.0 - phi], axis=2)
    extras = {
        **a.extras,
        **prospects(groups),
        "n_tokens": 40 + 20 * lengths,
        "mean_logprob": -0.5 - 0.3 * earned,
        "entropy": np.broadcast_to(0.9 - 0.25 * np.arange(k), (n, k)) + 0.1 * a.turn_scores,
        "accuracy": phi[:, :-1],
        "confidence": 0.5 + 0.5 * a.turn_scores,
        "masked": (a.outcome[:, None] > 0) & (a.turn_scores == 0.25),
        "log_ratio": log_ratio(a.turn_scores),
        "potential": phi,
        "mode_support": support,
        "mode_reliability": np.tile([1.5, 0.5], (n, 1)),
        "channels": np.stack([a.outcome, earned], axis=1),
        "items": (a.turn_scores > 0)[:, :, None].repeat(2, axis=2).astype(float),
        "eligible": np.ones((n, k, 2), bool),
        "item_weights": np.array([0.75, 0.25]),
        **{f"score:{name}": earned / 1.25 for name in ("entity_match", "citation_rubric", "atomic_thought", "self_aligned")},
    }
    return replace(groups, arrays=a.but(extras=extras))


def each_group(groups: Enumeration, run: Callable[[CreditArrays], np.ndarray]) -> np.ndarray:
    """Return the advantages of every group computed as a batch of its own: for recipes that look at the whole batch."""
    return np.concatenate([run(groups.single(i)) for i in range(len(groups.probability))])
