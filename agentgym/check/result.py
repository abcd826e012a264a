"""What a check says, and what several checks watch."""

import hashlib
import importlib
import sys
from dataclasses import dataclass

import numpy as np

from agentgym.errors import AgentGymError


class CheckFailed(AgentGymError):  # noqa: N818 (a verdict, not an error)
    """Raised by check_env, check_reward and check_tool with the first thing that does not hold."""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Outcome of one check."""

    name: str
    passed: bool
    detail: str = ""


def global_generators() -> dict[str, str]:
    """Return a fingerprint of every global random generator that is loaded: python, numpy, torch."""
    found = {
        "random": repr(importlib.import_module("random").getstate()),
        "numpy.random": repr(np.random.get_state(legacy=False)),  # noqa: NPY002 (looked at, never drawn from)
    }
    if torch := sys.modules.get("torch"):
        found["torch"] = repr(torch.get_rng_state().tolist())
    return {name: hashlib.sha256(text.encode()).hexdigest() for name, text in found.items()}
