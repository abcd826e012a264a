"""Importance correction: the sampler's probabilities are not quite the learner's, even at equal weights."""

from dataclasses import replace
from typing import Literal

import numpy as np

from agentgym.learn.batch import TokenBatch, Unit
from agentgym.learn.surrogate import MAX_LOG_RATIO

Correction = Literal["none", "truncate", "mask"]


def corrected(
    batch: TokenBatch, learner_logprobs: np.ndarray, mode: Correction, level: Unit, low: float, high: float
) -> tuple[TokenBatch, dict[str, float]]:
    """Return the batch as if the learner had sampled it, each advantage weighed by learner / sampler.

    The loss's ratio is then new / learner, so that its clip sees updates alone; the weight is the importance ratio
    exp(sum over the unit's tokens of learner - sampler). Unbounded and at sequence level it makes the expectation
    exact again, with a variance that grows with length; a bound trades that variance for bias, the finer levels
    leave out how the sampler came to the token's prefix.

    Args:
        batch: As sampled.
        learner_logprobs: [B, T] natural log, of the learner's weights before the first update.
        mode: "truncate" holds a weight within [low, high]; "mask" gives units outside of it no weight.
        level: token, turn or sequence.
        low: Least weight.
        high: Largest weight; may be infinite.

    Returns:
        The batch and its metrics: correction/mean, correction/max (weights over action tokens, before bounds),
        correction/bounded_share, correction/sampler_kl (mean of sampler - learner, nats per token).

    Source: "Your Efficient RL Framework Secretly Brings You Off-Policy RL Training" (truncate); "Every Step Evolves"
    (mask, IcePop). A token whose sampler gave no finite log-probability counts as equal on both sides.
    """
    gap = learner_logprobs[batch.mask] - batch.old_logprobs[batch.mask]
    gap = np.where(np.isfinite(gap), gap, 0.0)
    if not len(gap):
        return batch, {}
    units = batch.units(level)
    sums = np.zeros(int(units.max()) + 1)
    np.add.at(sums, units, gap)
    raw = np.exp(np.clip(sums, -MAX_LOG_RATIO, MAX_LOG_RATIO))[units]
    outside = (raw < low) | (raw > high)
    weight = np.where(outside, 0.0, raw) if mode == "mask" else np.clip(raw, low, high)
    advantages, old = batch.advantages.copy(), batch.old_logprobs.copy()
    advantages[batch.mask] *= weight
    known = np.isfinite(learner_logprobs[batch.mask])
    old[batch.mask] = np.where(known, learner_logprobs[batch.mask], old[batch.mask])
    metrics = {
        "correction/mean": float(raw.mean()),
        "correction/max": float(raw.max()),
        "correction/bounded_share": float(outside.mean()),
        "correction/sampler_kl": float(-gap.mean()),
    }
    return replace(batch, advantages=advantages, old_logprobs=old), metrics
