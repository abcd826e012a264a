"""How a policy writes a call: tags (`<search>…</search>`), json (`<tool_call>{…}</tool_call>`), chat (the model's own form)."""

from agentgym.dialects.chat import ChatDialect, ChatTurn
from agentgym.dialects.json_calls import JsonDialect
from agentgym.dialects.protocol import Dialect, Parsed
from agentgym.dialects.tags import TagsDialect

__all__ = ["ChatDialect", "ChatTurn", "Dialect", "JsonDialect", "Parsed", "TagsDialect"]
