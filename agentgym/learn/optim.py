"""Optimiser settings shared by the warm start and the learner; learning rates are functions of the step."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from agentgym.errors import ConfigError

Schedule = Literal["constant", "linear", "cosine"]


@dataclass(frozen=True, slots=True)
class OptimConfig:
    """AdamW and its learning-rate schedule. `TrainConfig` and `SftConfig` extend it, so its keys sit in their tables."""

    lr: float = 1e-3
    """Peak learning rate."""
    schedule: Schedule = "constant"
    """What follows the warm-up: constant, or linear / cosine down towards `min_lr_share` of the peak."""
    warmup_steps: int = 0
    """Steps over which the rate rises linearly from lr / warmup_steps to lr."""
    min_lr_share: float = 0.0
    """Share of `lr` that a linear or cosine schedule would reach one step after the last."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of Adam's two running moments."""
    eps: float = 1e-8
    """Adam's denominator floor."""
    weight_decay: float = 0.0
    """Decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Gradients with a larger L2 norm are scaled down to it; 0 switches clipping off."""

    def __post_init__(self) -> None:
        """Refuse values that cannot train."""
        if not 0 < self.lr < math.inf:
            raise ConfigError(f"lr = {self.lr}: must be above 0 and finite")
        if self.schedule not in ("constant", "linear", "cosine"):
            raise ConfigError(f"schedule = {self.schedule!r}: allowed are 'constant', 'linear', 'cosine'")
        if self.warmup_steps < 0 or self.max_grad_norm < 0 or not 0 <= self.min_lr_share <= 1:
            raise ConfigError(
                f"warmup_steps = {self.warmup_steps} and max_grad_norm = {self.max_grad_norm} must not be negative, "
                f"min_lr_share = {self.min_lr_share} must lie in [0, 1]"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError(f"betas = {list(self.betas)}: each must lie in [0, 1)")
        if not (0 <= self.eps < math.inf and 0 <= self.weight_decay < math.inf):
            raise ConfigError(f"eps = {self.eps} and weight_decay = {self.weight_decay} must not be negative")


def learning_rate(config: OptimConfig, step: int, n_steps: int) -> float:
    """Return the rate of a 0-based step out of `n_steps`.

    A function of the step, not an object with state: a resumed run needs nothing but its step.
    """
    if step < config.warmup_steps:
        return config.lr * (step + 1) / config.warmup_steps
    if config.schedule == "constant":
        return config.lr
    # Past the planned end (a run that was extended) the rate stays at its floor.
    done = min(1.0, (step - config.warmup_steps) / max(1, n_steps - config.warmup_steps))
    left = 1.0 - done if config.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return config.lr * (config.min_lr_share + (1.0 - config.min_lr_share) * left)


def make_optimizer(parameters: Sequence[torch.Tensor], config: OptimConfig) -> torch.optim.AdamW:
    """Return AdamW over `parameters`; raises ConfigError if none of them wants a gradient."""
    trainable = [p for p in parameters if p.requires_grad]
    if not trainable:
        raise ConfigError(
            f"the policy has {len(parameters)} parameters, none with requires_grad: there is nothing to train"
        )
    return torch.optim.AdamW(
        trainable, lr=config.lr, betas=config.betas, eps=config.eps, weight_decay=config.weight_decay
    )


def apply_gradients(optimizer: torch.optim.Optimizer, config: OptimConfig, lr: float) -> tuple[float, bool]:
    """Clip, take one optimiser step and clear the gradients.

    Returns:
        The gradient's L2 norm before clipping, and whether the step was taken: a gradient that is not finite
        leaves the weights and the optimiser untouched.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    limit = config.max_grad_norm or math.inf
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
    taken = math.isfinite(norm)
    if taken:
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm, taken
