"""What the loss does to a batch as a whole, before it is shared out: sampler correction, KL as part of the reward."""

import numpy as np
import torch

from agentgym.errors import ConfigError
from agentgym.learn.batch import TokenBatch, micro_rows
from agentgym.learn.correction import corrected
from agentgym.learn.kl import with_kl_reward
from agentgym.learn.loss_config import LossConfig
from agentgym.rollout.policy import LearnablePolicy


def prepare(
    batch: TokenBatch, config: LossConfig, policy: LearnablePolicy, reference: LearnablePolicy | None, max_tokens: int
) -> tuple[TokenBatch, dict[str, float]]:
    """Return the batch with everything in its advantages that the loss config wants there, and the metrics of that.

    Args:
        batch: All episodes of a step, before its first update.
        config: `correction` and, with `kl_in = "reward"`, the KL settings; with neither the batch comes back as is.
        policy: The learner's.
        reference: The frozen one, where the KL is in the reward.
        max_tokens: Most padded tokens in one forward pass.
    """
    metrics: dict[str, float] = {}
    if not config.whole_batch or not len(batch.lengths):
        return batch, metrics
    if config.kl_coef > 0 and config.kl_in == "reward":
        if reference is None:
            raise ConfigError(f"kl_coef = {config.kl_coef} needs a reference policy; pass one or set kl_coef = 0")
        scored = score(reference, batch, max_tokens)
        gap = np.where(batch.mask, batch.old_logprobs - scored, 0.0)
        metrics["kl_reward"] = float(gap[np.isfinite(gap)].sum()) / max(1, batch.n_episodes)
        batch = with_kl_reward(batch, scored, config.kl_coef, config.kl)
    if config.correction != "none":
        bounds = config.correction_low, config.correction_high
        scored = score(policy, batch, max_tokens)
        batch, found = corrected(batch, scored, config.correction, config.correction_level, *bounds)
        metrics |= found
    return batch, metrics


def score(policy: LearnablePolicy, batch: TokenBatch, max_tokens: int) -> np.ndarray:
    """Return the policy's log-probabilities [B, T] float64 of a batch's action tokens, without gradient."""
    values = np.zeros(batch.mask.shape)
    with torch.no_grad():
        for rows in micro_rows(batch, max_tokens):
            part = batch.take(rows)
            found = policy.logprobs(part.rows()).to(torch.float64).cpu().numpy()
            values[rows, : part.mask.shape[1]] = np.where(part.mask, found, 0.0)
    return values
