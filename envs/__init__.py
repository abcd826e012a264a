"""The environment families. Importing this registers their ids; it loads none of them."""

if __name__ != "agentgym.envs":
    raise ImportError("import agentgym.envs instead of envs: the folder is part of the package agentgym")

import gymnasium

ENVIRONMENTS = {"SearchQA-v0": "agentgym.envs.search_qa.env:SearchQAEnv"}

for _id, _entry_point in ENVIRONMENTS.items():
    if _id not in gymnasium.registry:
        gymnasium.register(id=_id, entry_point=_entry_point)
