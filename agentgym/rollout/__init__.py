"""Rollouts: the policy protocols, the one driver, the token ledger, records, evaluation."""

from agentgym.rollout.batcher import Batcher
from agentgym.rollout.episode import SamplingConfig, run_episode
from agentgym.rollout.evaluate import (
    EvalConfig,
    EvalResult,
    compare,
    earlier_result,
    evaluate,
    refuse_unscorable,
    summarize,
    unknown_gold,
)
from agentgym.rollout.groups import EnvPool, run_groups, run_groups_async
from agentgym.rollout.ledger import TokenLedger
from agentgym.rollout.logs import LogScores, read_logs, score_logs, with_gold
from agentgym.rollout.policy import LearnablePolicy, Policy, Request, TokenRenderer
from agentgym.rollout.record import TrajectoryWriter, read_trajectories, to_chat, write_trajectories
from agentgym.rollout.services import Services, check_scorer, judge_for

__all__ = [
    "Batcher",
    "EnvPool",
    "EvalConfig",
    "EvalResult",
    "LearnablePolicy",
    "LogScores",
    "Policy",
    "Request",
    "SamplingConfig",
    "Services",
    "TokenLedger",
    "TokenRenderer",
    "TrajectoryWriter",
    "check_scorer",
    "compare",
    "earlier_result",
    "evaluate",
    "judge_for",
    "read_logs",
    "read_trajectories",
    "refuse_unscorable",
    "run_episode",
    "run_groups",
    "run_groups_async",
    "score_logs",
    "summarize",
    "to_chat",
    "unknown_gold",
    "with_gold",
    "write_trajectories",
]
