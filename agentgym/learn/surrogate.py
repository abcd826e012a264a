"""What a sampled token contributes to the objective: the ratio at its level, bounded one way or another."""

import torch

from agentgym.learn.batch import TokenBatch, Unit

MAX_LOG_RATIO = 20.0
"""Log ratios are held within this: e^20 is far outside every clip, and its products stay finite in float32."""


def unit_ids(batch: TokenBatch, level: Unit, device: torch.device) -> torch.Tensor | None:
    """Return the unit of every action token, [n] int64; None for level "token", where each is its own."""
    return None if level == "token" else torch.as_tensor(batch.units(level), device=device)


def log_ratio_of(new: torch.Tensor, old: torch.Tensor, units: torch.Tensor | None = None) -> torch.Tensor:
    """Return the log ratio of every action token at its level: [n] -> [n].

    At token level it is new - old. At turn and sequence level its value is the mean of new - old over the unit's
    tokens (the ratio is their geometric mean), while each token keeps the gradient of its own log-probability.

    Args:
        new: [n] natural log-probabilities with gradient.
        old: [n] natural log-probabilities at sampling time.
        units: [n] from `unit_ids`.

    Source: "Group Sequence Policy Optimization", its GSPO-token form. Where the advantage is the same on all tokens
    of the unit, value and gradient are those of plain GSPO; with an advantage per turn plain GSPO would give every
    token of the sequence the sequence's mean advantage, and this form does not.
    """
    own = (new - old).clamp(-MAX_LOG_RATIO, MAX_LOG_RATIO)
    if units is None:
        return own
    n_units = int(units.max()) + 1 if len(units) else 0
    sums = torch.zeros(n_units, dtype=own.dtype, device=own.device).index_add(0, units, own.detach())
    counts = torch.bincount(units, minlength=n_units).to(own.dtype)
    return (sums / counts)[units] + (own - own.detach())


def ppo(
    ratio: torch.Tensor, advantages: torch.Tensor, clip: bool, low: float, high: float, dual: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return min(ratio A, clip(ratio) A), at least dual * A where A < 0, and which tokens a bound cut off.

    Args:
        ratio: [n].
        advantages: [n].
        clip: False leaves the interval out.
        low: The lower bound is 1 - low.
        high: The upper bound is 1 + high.
        dual: Above 0: the ratio of a token with a negative advantage counts as `dual` at most.

    Source: "Proximal Policy Optimization Algorithms"; unequal bounds: "DAPO"; dual: "Mastering Complex Control in
    MOBA Games with Deep Reinforcement Learning" (verl's clip_ratio_c and TRL's delta are this same function).
    """
    surrogate, clipped = ratio * advantages, torch.zeros_like(ratio)
    if clip:
        bounded = ratio.clamp(1.0 - low, 1.0 + high) * advantages
        clipped = (bounded < surrogate).to(ratio.dtype)
        surrogate = torch.minimum(surrogate, bounded)
    if dual > 0:
        floor = torch.where(advantages < 0, dual * advantages, torch.full_like(advantages, -torch.inf))
        clipped = torch.where(floor > surrogate, torch.ones_like(clipped), clipped)
        surrogate = torch.maximum(surrogate, floor)
    return surrogate, clipped


def cispo(
    new: torch.Tensor, ratio: torch.Tensor, advantages: torch.Tensor, least: float, most: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return stop_gradient(ratio held in [least, most]) * A * logprob, and which ratios were held.

    No token loses its gradient; a bound only limits its weight.

    Source: "MiniMax-M1: Scaling Test-Time Compute Efficiently with Lightning Attention".
    """
    held = ratio.detach().clamp(least, most)
    return held * advantages * new, (held != ratio.detach()).to(ratio.dtype)


def sapo(
    ratio: torch.Tensor, advantages: torch.Tensor, tau_positive: float, tau_negative: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (4 / tau) sigmoid(tau (ratio - 1)) A: a soft gate in the place of a clip; nothing counts as clipped.

    Its slope is 1 at ratio 1 and falls off on both sides, faster with a larger tau.

    Source: "Soft Adaptive Policy Optimization". tau_positive is used where A > 0.
    """
    negative = torch.full_like(ratio, tau_negative)
    tau = torch.where(advantages > 0, torch.full_like(ratio, tau_positive), negative)
    return torch.sigmoid(tau * (ratio - 1.0)) * 4.0 / tau * advantages, torch.zeros_like(ratio)


def reinforce(new: torch.Tensor, advantages: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return A * logprob, without a ratio: right only on episodes of the weights that are updated."""
    return advantages * new, torch.zeros_like(new)
