"""Tools: `@tool` makes one of a function, `Toolbox` runs the calls of a policy; others replay, imitate, ask or run code."""

import importlib
from typing import TYPE_CHECKING, Any

from agentgym.tools.tool import Tool, ToolContext, ToolOutput, tool
from agentgym.tools.toolbox import Toolbox

if TYPE_CHECKING:
    from agentgym.tools.http_api import http_tool
    from agentgym.tools.mcp import mcp_tools
    from agentgym.tools.own_process import isolated
    from agentgym.tools.recorded import recorded_tools
    from agentgym.tools.sandboxed import python_tool, shell_tool
    from agentgym.tools.simulated import simulated_tool
    from agentgym.tools.sql import sql_file_tool, sql_tool

__all__ = [
    "Tool",
    "ToolContext",
    "ToolOutput",
    "Toolbox",
    "http_tool",
    "isolated",
    "mcp_tools",
    "python_tool",
    "recorded_tools",
    "shell_tool",
    "simulated_tool",
    "sql_file_tool",
    "sql_tool",
    "tool",
]

_BACKENDS = {
    "http_tool": "http_api",
    "isolated": "own_process",
    "mcp_tools": "mcp",
    "python_tool": "sandboxed",
    "recorded_tools": "recorded",
    "shell_tool": "sandboxed",
    "simulated_tool": "simulated",
    "sql_file_tool": "sql",
    "sql_tool": "sql",
}
"""Loaded at their first use: each brings packages that most runs do not need."""


def __getattr__(name: str) -> Any:
    if name not in _BACKENDS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_BACKENDS[name]}"), name)
