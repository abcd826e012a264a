"""Learning: token batches, losses, warm start, learner, guards, checkpoints. The only core room that imports torch."""

from agentgym.learn.batch import TokenBatch, micro_batches, to_batch
from agentgym.learn.checkpoint import Checkpoint, CheckpointStore, latest
from agentgym.learn.config import LearnConfig, TrainConfig
from agentgym.learn.guards import GuardConfig, Guards
from agentgym.learn.learner import Complete, Learner, Rollout
from agentgym.learn.loss import LossConfig, policy_loss, token_weights
from agentgym.learn.loss_config import published_loss
from agentgym.learn.optim import OptimConfig
from agentgym.learn.sft import SftConfig, WarmStart, demonstration

__all__ = [
    "Checkpoint",
    "CheckpointStore",
    "Complete",
    "GuardConfig",
    "Guards",
    "LearnConfig",
    "Learner",
    "LossConfig",
    "OptimConfig",
    "Rollout",
    "SftConfig",
    "TokenBatch",
    "TrainConfig",
    "WarmStart",
    "demonstration",
    "latest",
    "micro_batches",
    "policy_loss",
    "published_loss",
    "to_batch",
    "token_weights",
]
