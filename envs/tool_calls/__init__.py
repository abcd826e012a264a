"""ToolCalls-v0: tools that change a world, a user who must be asked, policies to keep."""

from agentgym.envs.tool_calls.desk import Desk, DeskSchema
from agentgym.envs.tool_calls.domain import Domain, DomainSource
from agentgym.envs.tool_calls.draft import Draft, Step, build
from agentgym.envs.tool_calls.operations import Operation, Rule, make_tools, tables
from agentgym.envs.tool_calls.talk import Script, User, Wish
from agentgym.envs.tool_calls.tasks import Family, WorldTasks
from agentgym.worlds.readers import TaskList

__all__ = [
    "Desk",
    "DeskSchema",
    "Domain",
    "DomainSource",
    "Draft",
    "Family",
    "Operation",
    "Rule",
    "Script",
    "Step",
    "TaskList",
    "User",
    "Wish",
    "WorldTasks",
    "build",
    "make_tools",
    "tables",
]
