"""Sandboxes: code that a policy wrote runs here. `bubblewrap` is the default; none falls back to a weaker one."""

from agentgym.sandbox.opening import open_sandbox, shared_sandbox
from agentgym.sandbox.protocol import (
    Availability,
    ExecResult,
    FileError,
    ForkUnsupportedError,
    Limits,
    Sandbox,
    SandboxLostError,
    SandboxUnavailableError,
    Session,
)

__all__ = [
    "Availability",
    "ExecResult",
    "FileError",
    "ForkUnsupportedError",
    "Limits",
    "Sandbox",
    "SandboxLostError",
    "SandboxUnavailableError",
    "Session",
    "open_sandbox",
    "shared_sandbox",
]
