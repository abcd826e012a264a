"""The policies. Importing this registers their ids; it loads none of them."""

if __name__ != "agentgym.policies":
    raise ImportError("import agentgym.policies instead of policies: the folder is part of the package agentgym")

from agentgym.hooks import POLICIES

POLICIES.add("random", "agentgym.policies.random:RandomPolicy")
POLICIES.add("scripted", "agentgym.policies.scripted:ScriptedPolicy")
POLICIES.add("extractive", "agentgym.policies.extractive:ExtractivePolicy")
POLICIES.add("http_chat", "agentgym.policies.http_chat:HttpChatPolicy")
POLICIES.add("hf", "agentgym.policies.hf:load")
POLICIES.add("tiny", "agentgym.policies.hf.tiny:load")
POLICIES.add("smollm2-135m", "agentgym.policies.hf.smollm2:load")
