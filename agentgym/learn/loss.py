"""The policy loss: ratio times advantage over action tokens, divided by numbers that batching cannot change."""

from dataclasses import dataclass

import numpy as np
import torch

from agentgym.errors import ConfigError
from agentgym.learn.batch import TokenBatch
from agentgym.learn.kl import kl_terms
from agentgym.learn.loss_config import Aggregation, LossConfig
from agentgym.learn.surrogate import cispo, log_ratio_of, ppo, reinforce, sapo, unit_ids

__all__ = ["Aggregation", "LossConfig", "LossStats", "policy_loss", "token_weights"]


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
    n_nonfinite: int = 0
    """Action tokens left out because a log-probability was no finite number."""

    def add(self, other: "LossStats") -> None:
        """Add another micro-batch's sums."""
        self.n_tokens += other.n_tokens
        self.loss += other.loss
        self.ratio += other.ratio
        self.clipped += other.clipped
        self.approx_kl += other.approx_kl
        self.reference_kl += other.reference_kl
        self.max_logprob_gap = max(self.max_logprob_gap, other.max_logprob_gap)
        self.n_nonfinite += other.n_nonfinite

    def metrics(self) -> dict[str, float]:
        """Return means over the tokens seen: loss (a sum already), mean_ratio, clip_share, approx_kl, reference_kl.

        nonfinite_tokens, their number, is there only if there were any.
        """
        n = max(1, self.n_tokens)
        found = {
            "loss": self.loss,
            "mean_ratio": self.ratio / n if self.n_tokens else 1.0,
            "clip_share": self.clipped / n,
            "approx_kl": self.approx_kl / n,
            "reference_kl": self.reference_kl / n,
        }
        return found | ({"nonfinite_tokens": float(self.n_nonfinite)} if self.n_nonfinite else {})


def token_weights(batch: TokenBatch, config: LossConfig, tokens_per_episode: float) -> np.ndarray:
    """Return the weight [B] of every action token of a row in the loss.

    The weights read only counts of the whole update, which micro-batches share: splitting an update into
    micro-batches changes rounding, nothing else.

    With n episodes of L_i action tokens: constant 1 / (n c); token_mean 1 / sum of L_j; sequence_mean 1 / (n L_i).
    At ratio 1 the expected gradient of `constant` is the objective's over c. That of `sequence_mean` is the gradient
    with every advantage divided by its own episode's L_i, which depends on the actions: where success takes more
    tokens than failure a decision can be pushed away from success, however many episodes there are. That of
    `token_mean` has the same flaw through the one L_i among n that is its own: of order 1 / n.

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

    loss = - sum over action tokens of weight * surrogate(ratio, A)  [+ kl_coef * weight * KL estimate]

    with ratio = exp(logprobs - old_logprobs) at the level of `config.ratio`. At ratio 1 its gradient is the policy
    gradient of the advantages, whatever the surrogate and the level. The value is always a finite number: log ratios
    are held within 20, and a token whose log-probability is not finite is left out and counted.

    Args:
        logprobs: [B, T] natural log-probabilities of the current weights, with gradient.
        batch: The rows that were scored.
        weights: [B] from `token_weights`.
        config: Surrogate, level, bounds and KL term.
        reference_logprobs: [B, T] of the frozen reference; needed if `kl_coef` is above 0 and `kl_in` is "loss".

    Raises:
        ConfigError: The shapes differ, or the reference is missing.

    Source: "Proximal Policy Optimization Algorithms" (clipped surrogate) with a lower and an upper bound and a
    constant denominator; for the others see `agentgym.learn.surrogate` and `agentgym.learn.kl`.
    """
    if tuple(logprobs.shape) != batch.mask.shape:
        raise ConfigError(f"the policy returned logprobs of shape {tuple(logprobs.shape)}, expected {batch.mask.shape}")
    with_kl = config.kl_coef > 0 and config.kl_in == "loss"
    if with_kl and reference_logprobs is None:
        raise ConfigError(f"kl_coef = {config.kl_coef} needs a reference policy; pass one or set kl_coef = 0")
    mask = torch.as_tensor(batch.mask, device=logprobs.device)
    new = logprobs[mask]
    old = torch.as_tensor(batch.old_logprobs, dtype=new.dtype, device=new.device)[mask]
    advantages = torch.as_tensor(batch.advantages, dtype=new.dtype, device=new.device)[mask]
    weight = torch.as_tensor(weights, dtype=new.dtype, device=new.device)[:, None].expand(mask.shape)[mask]
    reference = reference_logprobs.to(new.dtype)[mask] if with_kl and reference_logprobs is not None else old
    units = unit_ids(batch, config.ratio, new.device)
    finite = torch.isfinite(new.detach()) & torch.isfinite(old) & torch.isfinite(reference)
    n_nonfinite = int((~finite).sum())
    if n_nonfinite:
        new, old, advantages, weight, reference = (x[finite] for x in (new, old, advantages, weight, reference))
        units = None if units is None else torch.unique(units[finite], return_inverse=True)[1]
    ratio, surrogate, clipped = _surrogate(new, old, advantages, units, config)
    loss = -(weight * surrogate).sum()
    reference_kl = torch.zeros((), dtype=new.dtype, device=new.device)
    if with_kl:
        divergence = kl_terms(new, reference, config.kl)
        loss = loss + config.kl_coef * (weight * divergence).sum()
        reference_kl = divergence.sum()
    with torch.no_grad():
        gap = new - old
        own = gap.exp() if config.ratio != "token" else ratio
        stats = LossStats(
            n_tokens=int(new.numel()),
            loss=float(loss),
            ratio=float(ratio.sum()),
            clipped=float(clipped.sum()),
            approx_kl=float((own - 1.0 - gap).sum()),
            reference_kl=float(reference_kl),
            max_logprob_gap=float(gap.abs().max()) if gap.numel() else 0.0,
            n_nonfinite=n_nonfinite,
        )
    return loss, stats


def _surrogate(
    new: torch.Tensor, old: torch.Tensor, advantages: torch.Tensor, units: torch.Tensor | None, config: LossConfig
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return ratio, surrogate and clipped, [n] each."""
    ratio = log_ratio_of(new, old, units).exp()
    if config.surrogate == "ppo":
        bounds = config.clip_low, config.clip_high
        return ratio, *ppo(ratio, advantages, config.clip, *bounds, config.dual_clip)
    if config.surrogate == "cispo":
        return ratio, *cispo(new, ratio, advantages, *config.ratio_bounds)
    if config.surrogate == "sapo":
        return ratio, *sapo(ratio, advantages, config.sapo_tau_positive, config.sapo_tau_negative)
    return ratio, *reinforce(new, advantages)
