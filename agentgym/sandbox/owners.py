"""Who owns what on this machine: a folder per host process, so that a later one can clear away what a killed one left."""

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

from agentgym.sandbox.protocol import SandboxUnavailableError

_lock = threading.Lock()
_own: dict[int, Path] = {}


def started(pid: int) -> str:
    """Return when a process started, in clock ticks since boot; "" where there is none (a zombie counts as none)."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if rest[0] in (b"Z", b"X") else rest[19].decode()


def identity() -> str:
    """Return "pid-start-boot" of this process: never the same twice on one machine."""
    return f"{os.getpid()}-{started(os.getpid())}-{_boot()}"


def is_live(name: str) -> bool:
    """Say whether the process of an `identity` still runs."""
    pid, _, rest = name.partition("-")
    start, _, boot = rest.partition("-")
    return pid.isdigit() and boot == _boot() and started(int(pid)) == start


def base() -> Path:
    """Return the folder of all owners of this user. Raises SandboxUnavailableError where somebody else made it."""
    folder = Path(tempfile.gettempdir()) / f"agentgym-sandbox-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o711)
    status = folder.lstat()
    if folder.is_symlink() or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise SandboxUnavailableError(f"{folder} belongs to somebody else; delete it or set TMPDIR")
    return folder


def folder() -> Path:
    """Return this process's own folder, made on first use; what dead processes left is cleared away then."""
    with _lock:
        if os.getpid() not in _own:
            sweep()
            made = base() / identity()
            made.mkdir(mode=0o711, exist_ok=True)
            _own[os.getpid()] = made
        return _own[os.getpid()]


def note_process(pid: int) -> None:
    """Remember a worker, so that it is killed if this process cannot."""
    with contextlib.suppress(OSError), (folder() / "workers").open("a") as file:
        file.write(f"{pid} {started(pid)}\n")


def sweep() -> dict[str, int]:
    """Kill workers and delete folders of processes that are dead; return how many of each."""
    swept = {"processes": 0, "folders": 0}
    for left in _dead():
        for pid in _recorded(left):
            for member in session_members(pid):
                with contextlib.suppress(OSError):
                    os.kill(member, signal.SIGKILL)
                    swept["processes"] += 1
        shutil.rmtree(left, ignore_errors=True)
        swept["folders"] += 1
    return swept


def leave() -> None:
    """Delete this process's own folder, at exit."""
    with _lock:
        mine = _own.pop(os.getpid(), None)
    if mine is not None:
        shutil.rmtree(mine, ignore_errors=True)


def _dead() -> Iterator[Path]:
    for left in list(base().iterdir()):
        if left.is_dir() and not left.is_symlink() and not is_live(left.name):
            yield left


def _recorded(left: Path) -> Iterator[int]:
    """Yield recorded workers that still run."""
    with contextlib.suppress(OSError, ValueError):
        for line in (left / "workers").read_text().splitlines():
            pid, _, start = line.partition(" ")
            if pid.isdigit() and start and started(int(pid)) == start:
                yield int(pid)


def session_members(leader: int) -> list[int]:
    """Return a worker and what runs in its session: programs cannot leave it."""
    found = [leader]
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                session = int((entry / "stat").read_bytes().rpartition(b")")[2].split()[3])
                if session == leader and int(entry.name) != leader:
                    found.append(int(entry.name))
    return found


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip().replace("-", "")[:12]
    except OSError:
        return "boot"
