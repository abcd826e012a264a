"""How a policy writes a call: tags (`<search>…</search>`) and json (`<tool_call>{…}</tool_call>`)."""

from agentgym.dialects.json_calls import JsonDialect
from agentgym.dialects.protocol import Dialect, Parsed
from agentgym.dialects.tags import TagsDialect

__all__ = ["Dialect", "JsonDialect", "Parsed", "TagsDialect"]
