"""Policies made of a transformers causal language model and its tokenizer; the only policies that import torch."""

from agentgym.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
    import transformers as _transformers  # noqa: F401
except ImportError as _error:
    raise MissingExtraError("a policy with weights", str(_error.name), 'pip install "agentic-gym[train]"') from _error

from agentgym.policies.hf.policy import HFPolicy, load
from agentgym.policies.hf.renderer import TemplateRenderer

__all__ = ["HFPolicy", "TemplateRenderer", "load"]
