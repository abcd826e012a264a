"""`open_sandbox` and `shared_sandbox`: a backend by name. No name ever leads to a weaker backend than it says."""

import threading
from typing import Any

from agentgym import hooks
from agentgym.sandbox.protocol import Limits, Sandbox

DEFAULT = "bubblewrap"
_MAX_SHARED = 8
_lock = threading.Lock()
_shared: dict[Any, Sandbox] = {}


def open_sandbox(name: str = DEFAULT, limits: Limits | None = None, **options: Any) -> Sandbox:
    """Return a backend of one's own, probed.

    Args:
        name: as in `agentgym.hooks.SANDBOXES`: "bubblewrap", "docker", or, weaker, "process".
        limits: what sessions and calls may use.
        **options: of the backend, e.g. `workers`, `python`.

    Raises:
        NotRegisteredError: unknown name.
        SandboxUnavailableError: this machine cannot give that isolation; the message says what to install.
        MissingExtraError: a package is missing.
    """
    sandbox = hooks.SANDBOXES.resolve(name)(limits, **options)
    sandbox.available().require()
    return sandbox


def shared_sandbox(name: str = DEFAULT, limits: Limits | None = None, **options: Any) -> Sandbox:
    """Return the backend that all episodes of this process share; raises as `open_sandbox` does.

    Nobody closes it: its workers end with the process, or when more than eight different ones are in use.
    """
    key = (name, limits, tuple(sorted((option, repr(value)) for option, value in options.items())))
    with _lock:
        if key not in _shared:
            sandbox = open_sandbox(name, limits, **options)
            if len(_shared) >= _MAX_SHARED:
                _shared.pop(next(iter(_shared))).close()
            _shared[key] = sandbox
        return _shared[key]
