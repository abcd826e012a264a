"""AgentGym: Gymnasium environments for agentic search and tool use, with turn-level rewards and credit.

Importing it registers the environments with gymnasium: `gymnasium.make("SearchQA-v0")`.
"""

from importlib.metadata import PackageNotFoundError, version

from agentgym.check import check_env
from agentgym.env import ToolEnv
from agentgym.errors import AgentGymError, ToolError
from agentgym.rewards import Cap, Checklist, Component, EpisodeView, Suite, build_suite, register_checklist, reward
from agentgym.rollout import (
    Policy,
    Request,
    SamplingConfig,
    evaluate,
    read_trajectories,
    run_groups,
)
from agentgym.task import Answer, Gold, Limits, Task, TaskSource
from agentgym.tools import ToolContext, ToolOutput, tool
from agentgym.types import Completion, Passage, Score, Trajectory

try:
    __version__ = version("agentic-gym")
except PackageNotFoundError:
    __version__ = "0+unknown"

__all__ = [
    "AgentGymError",
    "Answer",
    "Cap",
    "Checklist",
    "Completion",
    "Component",
    "EpisodeView",
    "Gold",
    "Limits",
    "Passage",
    "Policy",
    "Request",
    "SamplingConfig",
    "Score",
    "Suite",
    "Task",
    "TaskSource",
    "ToolContext",
    "ToolEnv",
    "ToolError",
    "ToolOutput",
    "Trajectory",
    "build_suite",
    "check_env",
    "evaluate",
    "read_trajectories",
    "register_checklist",
    "reward",
    "run_groups",
    "tool",
]

# Ids only: importing these two loads no environment and no policy.
from agentgym import envs as envs
from agentgym import policies as policies
