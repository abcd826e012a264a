"""Every exception that AgentGym raises on purpose.

::

    AgentGymError
    ├── ConfigError            a setting, option, recipe or command-line value is wrong
    ├── RegistrationError      a name was registered twice or badly
    │   └── NotRegisteredError a name is not known (the message suggests the nearest one)
    ├── DataError              a data, index or record file is broken (names file and line)
    ├── EnvError               the environment's API was misused
    │   └── ResetNeededError   step() before reset() or after the end of an episode
    ├── ToolError              a tool tells the policy what went wrong; the episode goes on
    ├── ServiceError           an endpoint, index, judge or sandbox failed; the trajectory is marked
    ├── LedgerError            the token ledger and what the sampler saw disagree
    ├── TrainingStopped        a guard ended a run that could no longer learn
    └── MissingExtraError      an optional package is not installed (names the line to run)

A message says what was given, what is allowed, where, and what to do next.
"""

import difflib
from collections.abc import Iterable


class AgentGymError(Exception):
    """Base class: catch it to catch everything that AgentGym raises on purpose."""


class ConfigError(AgentGymError):
    """Raised when a setting, option, recipe or command-line value is wrong."""


class RegistrationError(AgentGymError):
    """Raised when a name is registered twice or with something unusable."""


class NotRegisteredError(RegistrationError):
    """Raised when a name is looked up that nobody registered."""


class DataError(AgentGymError):
    """Raised when a file cannot be used; the message starts with file and line."""


class EnvError(AgentGymError):
    """Raised when the environment's API is misused (never for what a policy writes)."""


class ResetNeededError(EnvError):
    """Raised by step() before the first reset() and after the end of an episode."""


class ToolError(AgentGymError):
    """Raise it inside a tool to tell the policy what went wrong."""


class ServiceError(AgentGymError):
    """Raised when an endpoint, index, judge or sandbox fails for reasons of its own.

    `step` lets it through: the turn did not happen, and may be tried again. The driver ends the episode with it.
    """


class LedgerError(AgentGymError):
    """Raised when the token ledger and what the sampler saw disagree."""


class TrainingStopped(AgentGymError):
    """Raised by a guard when a run can no longer learn; the message says which and why."""


class MissingExtraError(AgentGymError):
    """Raised when an optional package is needed and missing."""

    def __init__(self, feature: str, package: str, install: str) -> None:
        """Name what needs it (`feature`), the `package` and the exact line to run (`install`)."""
        super().__init__(f"{feature} needs the package {package!r}, which is not installed. Run: {install}")


def suggestion(given: str, allowed: Iterable[str]) -> str:
    """Return "; did you mean 'x'?" for the nearest allowed name, or an empty string."""
    close = difflib.get_close_matches(str(given), list(allowed), n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""
