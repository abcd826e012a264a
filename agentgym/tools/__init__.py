"""Tools: `@tool` makes one of a function, `Toolbox` runs the calls of a policy."""

from agentgym.tools.tool import Tool, ToolContext, ToolOutput, tool
from agentgym.tools.toolbox import Toolbox

__all__ = ["Tool", "ToolContext", "ToolOutput", "Toolbox", "tool"]
