"""All tables that learning reads; each part's own settings live beside the part."""

from dataclasses import dataclass, field

from agentgym.credit import CreditConfig
from agentgym.errors import ConfigError
from agentgym.learn.guards import GuardConfig
from agentgym.learn.loss import LossConfig
from agentgym.learn.optim import OptimConfig, Schedule
from agentgym.learn.sft import SftConfig


@dataclass(frozen=True, slots=True)
class TrainConfig(OptimConfig):
    """The reinforcement-learning loop."""

    steps: int = 180
    """Learner steps; one batch of rollouts each."""
    schedule: Schedule = "linear"
    """The rate falls towards `min_lr_share` of the peak: the last steps settle what was learned."""
    max_cpu_s: float = 0.0
    """CPU-seconds after which no further step is begun, warm start included; 0: no limit."""
    n_prompts: int = 16
    """Tasks a step."""
    group_size: int = 8
    """Episodes per task."""
    concurrency: int = 0
    """Episodes at once, in learning and in evaluation; 0: all of them. Changes memory and speed, not results."""
    split: str = "train"
    """The tasks' split."""
    updates_per_batch: int = 2
    """Optimiser steps a batch, each on its own random share of the episodes; from the second on the ratio differs
    from 1."""
    epochs: int = 1
    """Passes over a batch."""
    micro_tokens: int = 16_384
    """Most padded tokens in one forward pass; changes memory and speed, not results."""
    checkpoint_every: int = 20
    """Steps between checkpoints; the last step always writes one."""
    keep_checkpoints: int = 3
    """Last checkpoints that are kept; 0 keeps all."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        OptimConfig.__post_init__(self)
        counts = ("n_prompts", "group_size", "updates_per_batch", "epochs", "micro_tokens", "checkpoint_every")
        for name in counts:
            if getattr(self, name) < 1:
                raise ConfigError(f"train.{name} = {getattr(self, name)}: must be 1 or more")
        for name in ("steps", "max_cpu_s", "concurrency", "keep_checkpoints"):
            if not getattr(self, name) >= 0:
                raise ConfigError(f"train.{name} = {getattr(self, name)}: must not be negative")


@dataclass(frozen=True, slots=True)
class LearnConfig:
    """All tables that learning reads."""

    seed: int = 0
    """Key of all randomness of a run: tasks, sampling, order of demonstrations, shares of a batch."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """[train]"""
    loss: LossConfig = field(default_factory=LossConfig)
    """[loss]"""
    credit: CreditConfig = field(default_factory=CreditConfig)
    """[credit]"""
    guards: GuardConfig = field(default_factory=GuardConfig)
    """[guards]"""
    sft: SftConfig = field(default_factory=SftConfig)
    """[sft]"""
