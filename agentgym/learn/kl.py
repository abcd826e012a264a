"""Divergence from a frozen reference policy: as a term of the loss, or as part of the reward."""

from dataclasses import replace
from typing import Literal

import numpy as np
import torch

from agentgym.errors import ConfigError, LedgerError
from agentgym.learn.batch import TokenBatch
from agentgym.learn.surrogate import MAX_LOG_RATIO

KlKind = Literal["k1", "k2", "k3"]


def kl_terms(new: torch.Tensor, reference: torch.Tensor, kind: KlKind) -> torch.Tensor:
    """Return an estimate of KL(policy || reference) per sampled token: [n] -> [n].

    With d = reference - new: k1 = -d, k2 = d^2 / 2, k3 = exp(d) - d - 1. k1 and k3 have the KL as expectation, k2
    nearly so; k3 is never negative. As a term of the loss it is the gradient that counts, and on samples of the
    policy its expectation is: k1: zero (it does nothing); k2: the gradient of KL(policy || reference); k3: the
    gradient of KL(reference || policy).

    Args:
        new: [n] log-probabilities under the policy, with gradient.
        reference: [n] under the reference.
        kind: Which estimate.

    Source: Schulman, "Approximating KL Divergence". d is held within 20.
    """
    gap = (reference - new).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if kind == "k1":
        return -gap
    if kind == "k2":
        return 0.5 * gap**2
    if kind == "k3":
        return gap.exp() - gap - 1.0
    raise ConfigError(f"loss.kl = {kind!r}: allowed are 'k1', 'k2', 'k3'")


def with_kl_reward(batch: TokenBatch, reference_logprobs: np.ndarray, coef: float, kind: KlKind) -> TokenBatch:
    """Return the batch with `coef` times the divergence still to come subtracted from every token's advantage.

    Each action token pays coef * KL estimate of its own; its advantage loses what it and all later tokens of the
    episode pay, minus a baseline: the mean of what the other episodes of the batch pay from the same turn on (an
    ended one pays 0). With k1 the expectation of this, at ratio 1 and a constant denominator, is exactly the gradient
    of -coef * E[sum over action tokens of log(policy / reference)], in units of advantage; k2 and k3 in its place
    leave out the gradient of the estimate itself.

    Args:
        batch: All rows of all episodes (`to_batch(..., skip_zero=False)`), before it is shared out.
        reference_logprobs: [B, T] natural log.
        coef: In units of advantage per nat.
        kind: The estimate.

    Raises:
        LedgerError: The batch does not say which turn its tokens belong to.
    """
    if batch.turn is None:
        raise LedgerError("the batch does not say which turn its tokens belong to; make it with to_batch")
    old, reference = torch.as_tensor(batch.old_logprobs), torch.as_tensor(reference_logprobs, dtype=torch.float64)
    price = kl_terms(old, reference, kind).numpy()
    price = np.where(batch.mask & np.isfinite(price), price, 0.0)
    ahead = price[:, ::-1].cumsum(1)[:, ::-1].copy()
    later = np.zeros(batch.n_episodes)
    for b in reversed(range(len(batch.lengths))):  # rows keep the order of an episode's segments
        total = ahead[b, 0] if ahead.shape[1] else 0.0
        ahead[b] += later[batch.episode[b]]
        later[batch.episode[b]] += total
    by_turn = np.zeros((batch.n_episodes, int(batch.turn.max(initial=0)) + 1))
    rows, columns = np.nonzero(batch.mask)
    episode, turn = batch.episode[rows], batch.turn[rows, columns]
    np.add.at(by_turn, (episode, turn), price[rows, columns])
    by_turn = by_turn[:, ::-1].cumsum(1)[:, ::-1]
    baseline = (by_turn.sum(0) - by_turn) / max(1, batch.n_episodes - 1)
    if batch.n_episodes < 2:
        baseline = np.zeros_like(baseline)
    advantages = batch.advantages.copy()
    advantages[rows, columns] -= coef * (ahead[rows, columns] - baseline[episode, turn])
    return replace(batch, advantages=advantages)
