"""The environment families. Importing this registers their ids; it loads none of them."""

if __name__ != "agentgym.envs":
    raise ImportError("import agentgym.envs instead of envs: the folder is part of the package agentgym")

import gymnasium

from agentgym.hooks import WORLDS

ENVIRONMENTS = {
    "SearchQA-v0": "agentgym.envs.search_qa.env:SearchQAEnv",
    "ToolCalls-v0": "agentgym.envs.tool_calls.env:ToolCallsEnv",
}

for _id, _entry_point in ENVIRONMENTS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(id=_id, entry_point=_entry_point)

for _name, _family in (("shop", "SHOP"), ("shop:closed", "CLOSED"), ("office", "OFFICE"), ("lab", "LAB"), ("drawn", "DRAWN")):
    WORLDS.add(_name, f"agentgym.envs.tool_calls.worlds:{_family}")
for _name in ("api_bank", "bfcl", "tau2_retail"):
    WORLDS.add(_name, f"agentgym.envs.tool_calls.published.{_name}:load")
