"""`Worker`: the host's side of one zygote. Orders go over one socket; whatever goes wrong there is the service's fault."""

import os
import socket
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from agentgym.sandbox.guest import frames
from agentgym.sandbox.guest.bundle import bundle
from agentgym.sandbox.protocol import FileError, Limits, SandboxLostError, SandboxUnavailableError

START_S = 30.0
"""Seconds a worker may take to start, on a loaded machine."""
GRACE_S = 15.0
"""Seconds the zygote may take to answer; it does nothing that takes long."""


@dataclass(slots=True)
class Launched:
    """A process that was started and waits for its sources."""

    control: socket.socket
    """Our end of the zygote's socket."""
    end: Callable[[], None]
    """Kills everything inside and removes what the backend made. Called once."""
    config: dict[str, Any]
    """The zygote's settings, see `base_config`."""
    pid: int = 0
    """The worker's first process as this machine numbers it; 0 = not known."""
    oom_kills: Callable[[], int] = lambda: 0
    """Processes that the kernel killed so far because the memory limit was reached."""
    processes: Callable[[], int | None] = lambda: None
    """What RLIMIT_NPROC must be now for one more call; None = not limited that way."""
    errors: Callable[[], str] = lambda: ""
    """What the launcher wrote to stderr, for messages."""


class Worker:
    """One sandbox with one zygote. Used by one thread at a time (`lock`)."""

    def __init__(self, launched: Launched, limits: Limits) -> None:
        """Send the sources and wait until the zygote stands.

        Raises:
            SandboxUnavailableError: it did not start; what it was told goes into the message.
        """
        self.limits, self.launched = limits, launched
        self.lock = threading.RLock()
        self.calls = 0
        self.left = 0
        """Processes and files that could not be cleared away after a call."""
        self.alive = True
        self.before = {"processes": 0, "files": 0, "descriptors": 0}
        """What the worker held when it stood, for the leak counters."""
        self.events: list[dict[str, Any]] = []
        self._next_id = 0
        try:
            launched.control.settimeout(START_S)
            launched.control.sendall(bundle({**launched.config, "limits": asdict(limits)}))
            message, _ = frames.receive(launched.control)
        except (OSError, frames.FrameError) as error:
            message = {"refused": f"{type(error).__name__}: {error}"}
        if not message or "ready" not in message:
            said = (message or {}).get("refused", "it ended at once")
            errors = launched.errors().strip()
            self.end()
            raise SandboxUnavailableError(f"the sandbox did not start: {said}{f' ({errors[-400:]})' if errors else ''}")

    def ask(self, do: str, *, fds: tuple[int, ...] = (), **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """Send an order and wait for its answer; events on the way go to `events`.

        Raises:
            FileError: a path of the policy's that cannot be had.
            SandboxLostError: the worker is gone or does not answer.
        """
        number = self.tell(do, fds=fds, quiet=False, **fields)
        while True:
            message, got = self.receive(GRACE_S, max_fds=4)
            if message.get("re") == number:
                break
            self.events.append(message)
        if "path_error" in message or "os_error" in message:
            for fd in got:
                os.close(fd)
            raise FileError(message.get("path_error") or f"{do}: {message['os_error']}")
        return message, got

    def tell(self, do: str, *, fds: tuple[int, ...] = (), quiet: bool = True, **fields: Any) -> int:
        """Send an order without waiting. Raises SandboxLostError."""
        if not self.alive:
            raise SandboxLostError("the sandbox is closed")
        self._next_id += 1
        try:
            self.launched.control.settimeout(GRACE_S)
            frames.send(self.launched.control, {"do": do, "id": self._next_id, "quiet": quiet, **fields}, fds)
        except OSError as error:
            raise self.lost(f"cannot be reached ({error})") from error
        return self._next_id

    def receive(self, timeout_s: float, max_fds: int = 0) -> tuple[dict[str, Any], list[int]]:
        """Wait for the next message. Raises SandboxLostError."""
        try:
            self.launched.control.settimeout(timeout_s)
            message, fds = frames.receive(self.launched.control, max_fds=max_fds)
        except (OSError, frames.FrameError) as error:
            raise self.lost(f"does not answer ({type(error).__name__}: {error})") from error
        if message is None:
            raise self.lost("is gone")
        return message, fds

    def lost(self, why: str) -> SandboxLostError:
        """End the worker and return the error to raise."""
        errors = self.launched.errors().strip()
        self.end()
        return SandboxLostError(f"the sandbox worker {why}{f': {errors[-400:]}' if errors else ''}")

    def end(self) -> None:
        """Kill everything inside. May be called twice."""
        if not self.alive:
            return
        self.alive = False
        self.launched.control.close()
        self.launched.end()
