"""Conformance: what environments, rewards and tools must hold, as checks that anyone can run on their own.

`check_env("My-v0")`, `check_reward(my_component, "My-v0")` and `check_tool(my_tool)` raise CheckFailed with the first
thing that does not hold; `agentgym check` prints all of them.
"""

from agentgym.check.environment import HOSTILE, check_env, iter_checks
from agentgym.check.result import CheckFailed, CheckResult
from agentgym.check.reward import check_reward, iter_reward_checks
from agentgym.check.tool import check_tool, iter_tool_checks

__all__ = [
    "HOSTILE",
    "CheckFailed",
    "CheckResult",
    "check_env",
    "check_reward",
    "check_tool",
    "iter_checks",
    "iter_reward_checks",
    "iter_tool_checks",
]
