"""The policy loss: ratio times advantage over action tokens, divided by numbers that batching cannot change."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from agentgym.errors import ConfigError
from agentgym.learn.batch import TokenBatch

Aggregation = Literal["constant", "token_mean", "sequence_mean"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """How token losses become one number."""

    aggregation: Aggregation = "constant"
    """constant: sum over action tokens / (n_episodes * tokens_per_episode), the only one whose expectation at ratio 1
    is the gradient of the objective. token_mean: sum / action tokens of the update, which couples the step size to
    length (an error of order 1 / episodes). sequence_mean: mean over episodes of their token mean, which weighs the
    tokens of long episodes less and can flip the sign of a decision whose outcomes differ in length."""
    tokens_per_episode: float = 0.0
    """The constant c of `constant`. 0: the warm start's mean action tokens per episode, without a warm start the
    first step's; then frozen and checkpointed."""
    clip: bool = True
    """Clip the ratio as in "Proximal Policy Optimization Algorithms"; at ratio 1 it changes nothing."""
    clip_low: float = 0.2
    """The ratio's lower bound is 1 - clip_low."""
    clip_high: float = 0.28
    """The ratio's upper bound is 1 + clip_high (larger than the lower one: "DAPO", clip-higher)."""
    kl_coef: float = 0.0
    """Weight of the KL term to a frozen reference policy; 0 leaves it out."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.aggregation not in ("constant", "token_mean", "sequence_mean"):
            raise ConfigError(
                f"aggregation = {self.aggregation!r}: allowed are 'constant', 'token_mean', 'sequence_mean'"
            )
        if self.tokens_per_episode < 0 or self.kl_coef < 0:
            raise ConfigError(
                f"tokens_per_episode = {self.tokens_per_episode} and kl_coef = {self.kl_coef} must not be negative"
            )
        if not 0 < self.clip_low < 1 or not self.clip_high > 0:
            raise ConfigError(
                f"clip_low = {self.clip_low} must lie in (0, 1) and clip_high = {self.clip_high} above 0; "
                "clip = false switches clipping off"
            )


@dataclass(slots=True)
class LossStats:
    """Sums over action tokens, so that those of micro-batches add up."""

    n_tokens: int = 0
    loss: float = 0.0
    ratio: float = 0.0
    clipped: float = 0.0
    approx_kl: float = 0.0
    reference_kl: float = 0.0
    max_logprob_gap: float = 0.0
    """Largest |new - old| log-probability: before the first update it should be rounding error."""

    def add(self, other: "LossStats") -> None:
        """Add another micro-batch's sums."""
        self.n_tokens += other.n_tokens
        self.loss += other.loss
        self.ratio += other.ratio
        self.clipped += other.clipped
        self.approx_kl += other.approx_kl
        self.reference_kl += other.reference_kl
        self.max_logprob_gap = max(self.max_logprob_gap, other.max_logprob_gap)

    def metrics(self) -> dict[str, float]:
        """Return means over the tokens seen: loss (a sum already), mean_ratio, clip_share, approx_kl, reference_kl."""
        n = max(1, self.n_tokens)
        return {
            "loss": self.loss,
            "mean_ratio": self.ratio / n if self.n_tokens else 1.0,
            "clip_share": self.clipped / n,
            "approx_kl": self.approx_kl / n,
            "reference_kl": self.reference_kl / n,
        }


def token_weights(batch: TokenBatch, config: LossConfig, tokens_per_episode: float) -> np.ndarray:
    """Return the weight [B] of every action token of a row in the loss.

    The weights read only counts of the whole update, which micro-batches share: splitting an update into
    micro-batches changes rounding, nothing else.

    Args:
        batch: An update or one of its micro-batches.
        config: Chooses the aggregation.
        tokens_per_episode: c of the constant aggregation, above 0.
    """
    n_episodes = max(1, batch.n_episodes)
    if config.aggregation == "constant":
        if not tokens_per_episode > 0:
            raise ConfigError(f"tokens_per_episode = {tokens_per_episode}: the constant aggregation needs c above 0")
        return np.full(len(batch.lengths), 1.0 / (n_episodes * tokens_per_episode))
    if config.aggregation == "token_mean":
        return np.full(len(batch.lengths), 1.0 / max(1, batch.n_action_tokens))
    return 1.0 / (n_episodes * np.maximum(1, batch.episode_tokens[batch.episode]))


def policy_loss(
    logprobs: torch.Tensor,
    batch: TokenBatch,
    weights: np.ndarray,
    config: LossConfig,
    reference_logprobs: torch.Tensor | None = None,
) -> tuple[torch.Tensor, LossStats]:
    """Return the loss of one (micro-)batch and its statistics.

    loss = - sum over action tokens of weight * min(ratio * A, clip(ratio) * A)  [+ kl_coef * weight * k3]

    with ratio = exp(logprobs - old_logprobs). At ratio 1 its gradient is the policy gradient of the advantages.

    Args:
        logprobs: [B, T] natural log-probabilities of the current weights, with gradient.
        batch: The rows that were scored.
        weights: [B] from `token_weights`.
        config: Clip bounds and KL weight.
        reference_logprobs: [B, T] of the frozen reference; needed if `kl_coef` is above 0.

    Source: "Proximal Policy Optimization Algorithms" (clipped surrogate), with a lower and an upper bound and a
    constant denominator; the k3 estimator exp(d) - d - 1, d = reference - new, is never negative.
    """
    if tuple(logprobs.shape) != batch.mask.shape:
        raise ConfigError(f"the policy returned logprobs of shape {tuple(logprobs.shape)}, expected {batch.mask.shape}")
    mask = torch.as_tensor(batch.mask, device=logprobs.device)
    new = logprobs[mask]
    old = torch.as_tensor(batch.old_logprobs, dtype=new.dtype, device=new.device)[mask]
    advantages = torch.as_tensor(batch.advantages, dtype=new.dtype, device=new.device)[mask]
    weight = torch.as_tensor(weights, dtype=new.dtype, device=new.device)[:, None].expand(mask.shape)[mask]
    log_ratio = new - old
    ratio = log_ratio.exp()
    surrogate, clipped = ratio * advantages, torch.zeros_like(ratio)
    if config.clip:
        bounded = ratio.clamp(1.0 - config.clip_low, 1.0 + config.clip_high) * advantages
        clipped = (bounded < surrogate).to(new.dtype)
        surrogate = torch.minimum(surrogate, bounded)
    loss = -(weight * surrogate).sum()
    reference_kl = torch.zeros((), dtype=new.dtype, device=new.device)
    if config.kl_coef > 0:
        if reference_logprobs is None:
            raise ConfigError(f"kl_coef = {config.kl_coef} needs a reference policy; pass one or set kl_coef = 0")
        gap = reference_logprobs.to(new.dtype)[mask] - new
        k3 = gap.exp() - gap - 1.0
        loss = loss + config.kl_coef * (weight * k3).sum()
        reference_kl = k3.sum()
    with torch.no_grad():
        stats = LossStats(
            n_tokens=int(mask.sum()),
            loss=float(loss),
            ratio=float(ratio.sum()),
            clipped=float(clipped.sum()),
            approx_kl=float((ratio - 1.0 - log_ratio).sum()),
            reference_kl=float(reference_kl),
            max_logprob_gap=float(log_ratio.abs().max()) if log_ratio.numel() else 0.0,
        )
    return loss, stats
