"""What tools and worlds need of any sandbox. Code that a policy wrote runs behind these names, never elsewhere.

Two kinds of fault, never mixed:

* what the **program** does (raises, hangs, eats memory, forks, prints for ever, kills itself) is an `ExecResult`;
  a path that it cannot have is a `FileError`, which is a `ToolError`: an observation for the policy;
* what the **service** does (no backend on this machine, a worker or container that is gone) raises a
  `ServiceError`: `SandboxUnavailableError` or `SandboxLostError`. The episode abstains.

Everything here blocks and is safe to call from several threads; slow tools run in threads already.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, runtime_checkable

from agentgym.errors import ConfigError, ServiceError, ToolError, suggestion

KILLED_BY = ("", "wall", "cpu", "memory", "output", "disk", "signal", "protocol")
"""What may have ended a call before its own end: "" = nothing did, signal = one that it or a crash raised,
protocol = it broke the sandbox's own line to it."""


class SandboxUnavailableError(ServiceError):
    """Raised when this machine cannot give the isolation that was asked for; names what to install."""


class SandboxLostError(ServiceError):
    """Raised when a worker or container died or stopped answering; the session is closed."""


class FileError(ToolError):
    """Raised for a path that leaves the workspace, is no plain file, is missing or is too large."""


class ForkUnsupportedError(ServiceError):
    """Raised by `Session.fork` of a backend that cannot copy a live session."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one sandboxed call or session may use. A session's limits are fixed when it is opened."""

    wall_s: float = 10.0
    """Seconds one call may take; the whole call is killed then."""
    cpu_s: float = 10.0
    """CPU seconds each process of a call may use (rounded up to whole seconds)."""
    session_cpu_s: float = 300.0
    """CPU seconds all calls of a session may use together."""
    memory_mb: int = 256
    """MiB all processes of a session may hold together; one process can never map more."""
    processes: int = 32
    """Processes and threads a call may have at once."""
    output_bytes: int = 65_536
    """Bytes kept of stdout, and of stderr; the rest is read and dropped, 64 times as much ends the call."""
    file_mb: int = 32
    """MiB of one file."""
    disk_mb: int = 64
    """MiB of all files of a session."""
    files: int = 4096
    """Files and folders of a session."""
    open_files: int = 64
    """File descriptors of one process."""
    network: bool = False
    """Only False: no backend lets a program out. True is refused, so that nobody believes to have it."""

    def __post_init__(self) -> None:
        """Refuse values that mean nothing. Raises ConfigError."""
        if self.network:
            raise ConfigError("sandbox limits: network=True is not offered; give the policy a tool that fetches")
        for item in fields(self):
            value = getattr(self, item.name)
            if item.name == "network":
                continue
            # bool is an int and NaN compares false: both must fail here
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < 10**9:
                raise ConfigError(f"sandbox limits: {item.name} must be a positive number, got {value!r}")
            if item.type in (int, "int") and not isinstance(value, int):
                raise ConfigError(f"sandbox limits: {item.name} must be a whole number, got {value!r}")

    def with_(self, **changes: Any) -> "Limits":
        """Return a copy with other values. Raises ConfigError for an unknown name."""
        allowed = [item.name for item in fields(self)]
        for name in changes:
            if name not in allowed:
                raise ConfigError(
                    f"sandbox limits: unknown {name!r}{suggestion(name, allowed)}; allowed: {', '.join(allowed)}"
                )
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Availability:
    """What a probe of a backend found. It attacks the backend for real; version numbers decide nothing."""

    backend: str
    """Name of the backend."""
    available: bool
    """Whether every isolation that the backend must give was seen to hold."""
    reason: str
    """Why not, and what to install or change; "" where available."""
    held: Mapping[str, bool] = field(default_factory=dict)
    """Attack -> whether it was held. Empty where the backend could not even start."""
    notes: tuple[str, ...] = ()
    """What is weaker than it could be on this machine, e.g. no memory cgroup."""

    def require(self) -> None:
        """Raise SandboxUnavailableError unless available."""
        if not self.available:
            raise SandboxUnavailableError(f"sandbox {self.backend!r} is not available: {self.reason}")


@dataclass(frozen=True, slots=True)
class ExecResult:
    """What one call did. All of it is the program's own word, but for the fields after `killed_by`."""

    stdout: str
    """What it printed, at most `output_bytes` of UTF-8 (bad bytes replaced)."""
    stderr: str
    """What it printed to stderr, its traceback included."""
    exit_code: int | None
    """0 fine, 1 an uncaught exception, else what the program said; None where it was killed."""
    value: str = ""
    """`repr` of the last expression of Python code, "" for None and for a shell."""
    error: str = ""
    """Name of the uncaught exception, e.g. "ZeroDivisionError"; "SyntaxError" where nothing ran."""
    killed_by: str = ""
    """One of `KILLED_BY`: which limit, or a signal, ended the call."""
    truncated: bool = False
    """Whether output was dropped."""
    state_kept: bool = True
    """False: the Python state is as before the call (the call was killed or left by os._exit). Files stay written."""
    wall_s: float = 0.0
    """Seconds from start to end, on the sandbox's own clock."""
    cpu_s: float = 0.0
    """CPU seconds, ended children included."""
    peak_mb: float = 0.0
    """Largest resident size of its largest process, MiB."""

    @property
    def ok(self) -> bool:
        """Whether the call ended by itself, with exit code 0."""
        return self.exit_code == 0 and not self.killed_by


@runtime_checkable
class Session(Protocol):
    """One sandbox of one episode: Python state, a workspace of files. Calls on one session run one after another."""

    limits: Limits
    """What it may use."""
    workspace: str
    """The working folder as the program sees it; programs should use relative paths (a fork has another folder)."""

    def run(self, code: str, *, wall_s: float | None = None) -> ExecResult:
        """Run Python code; names, imports and objects stay for the next call. `wall_s` may only shorten the limit."""
        ...

    def shell(self, command: str, *, stdin: bytes = b"", wall_s: float | None = None) -> ExecResult:
        """Run a command with /bin/sh in the workspace. Only files carry over to later calls."""
        ...

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file of the workspace; folders are made. Raises FileError."""
        ...

    def read(self, path: str, max_bytes: int = 1 << 20) -> bytes:
        """Read a plain file of the workspace; follows no links. Raises FileError."""
        ...

    def files(self) -> dict[str, int]:
        """Return relative path -> bytes of every plain file, sorted by path."""
        ...

    def remove(self, path: str) -> None:
        """Delete a file or a folder of the workspace. Raises FileError."""
        ...

    def fork(self) -> "Session":
        """Return a copy: the Python state and the files as they are now, independent from here on.

        Raises:
            ForkUnsupportedError: the backend cannot.
        """
        ...

    def close(self) -> None:
        """Kill everything in it and give its place back. May be called twice."""
        ...

    def __enter__(self) -> "Session": ...

    def __exit__(self, *exc: object) -> None: ...


@runtime_checkable
class Sandbox(Protocol):
    """A backend with its warm workers. Shared by all episodes of a process; `__deepcopy__` returns itself."""

    name: str
    """Name in the registry: "bubblewrap", "process", "docker"."""
    can_fork: bool
    """Whether sessions can be forked."""
    limits: Limits
    """What sessions and calls may use where `open` is told nothing else."""

    def available(self) -> Availability:
        """Probe by attack, once per process, machine start and backend."""
        ...

    def open(self, limits: Limits | None = None, *, files: Mapping[str, bytes | str] | None = None, seed: int = 0) -> Session:
        """Open a session of its own.

        Args:
            limits: what it may use.
            files: path -> content, written before the first call.
            seed: seeds the program's `random` module; hashes of strings are fixed too.

        Raises:
            SandboxUnavailableError: the backend is not available, or no place came free in time.
        """
        ...

    def run(self, code: str, *, files: Mapping[str, bytes | str] | None = None, wall_s: float | None = None) -> ExecResult:
        """Run Python code once, in a process forked from a warm worker; nothing of it stays."""
        ...

    def metrics(self) -> dict[str, float]:
        """Return counters: calls, kills per limit, sessions live, workers, leaked processes, files and descriptors."""
        ...

    def close(self) -> None:
        """Close every session and worker. May be called twice."""
        ...
