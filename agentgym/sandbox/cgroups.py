"""Memory and process limits for a whole worker, where this machine lets us make control groups (v1 or v2)."""

import contextlib
import os
import threading
import time
from pathlib import Path

from agentgym.sandbox import owners
from agentgym.sandbox.protocol import Limits

_ROOT = Path("/sys/fs/cgroup")
_PREFIX = "agentgym-"
_lock = threading.Lock()
_count = 0
_swept = False


class ControlGroup:
    """One worker's group. Made by `make`."""

    def __init__(self, folders: dict[str, Path]) -> None:
        """Controller ("memory", "pids") -> its folder; one and the same in v2."""
        self._folders = folders

    def add(self, pid: int) -> None:
        """Move a process in; its later children follow. Raises OSError."""
        for folder in set(self._folders.values()):
            (folder / "cgroup.procs").write_text(str(pid))

    def oom_kills(self) -> int:
        """Return how many processes the kernel killed here for memory."""
        folder = self._folders.get("memory")
        if folder is None:
            return 0
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(OSError):
                for line in (folder / name).read_text().splitlines():
                    key, _, value = line.partition(" ")
                    if key == "oom_kill":
                        return int(value)
        return 0

    def remove(self) -> None:
        """Delete the group once its processes are gone; a group that stays is swept by a later run."""
        for folder in set(self._folders.values()):
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    time.sleep(0.01)


def make(limits: Limits) -> ControlGroup | None:
    """Make a group for a worker, or return None where this machine does not let us."""
    global _count, _swept
    with _lock:
        _count += 1
        name = f"{_PREFIX}{owners.identity()}-{_count}"
        if not _swept:
            _swept = True
            sweep()
    # programs, their files (memory too), the zygote and its copies
    memory = (limits.memory_mb + limits.disk_mb + 8 + 48) << 20
    values = {"memory": memory, "pids": limits.processes + 8}
    folders = _version1(name, values) or _version2(name, values)
    return ControlGroup(folders) if folders else None


def sweep() -> int:
    """Delete the groups of processes that are dead; return how many."""
    swept = 0
    for parent in (_ROOT / "memory", _ROOT / "pids", _own_v2()):
        if parent is None or not parent.is_dir():
            continue
        for folder in parent.glob(f"{_PREFIX}*"):
            if not owners.is_live(folder.name.removeprefix(_PREFIX).rpartition("-")[0]):
                with contextlib.suppress(OSError):
                    folder.rmdir()
                    swept += 1
    return swept


def _version1(name: str, values: dict[str, int]) -> dict[str, Path]:
    files = {"memory": "memory.limit_in_bytes", "pids": "pids.max"}
    made: dict[str, Path] = {}
    for controller, value in values.items():
        parent = _ROOT / controller
        if not os.access(parent, os.W_OK) or not (parent / "cgroup.procs").exists():
            continue
        folder = parent / name
        try:
            folder.mkdir()
            made[controller] = folder
            (folder / files[controller]).write_text(str(value))
        except OSError:
            with contextlib.suppress(OSError):
                folder.rmdir()
            made.pop(controller, None)
    return made


def _version2(name: str, values: dict[str, int]) -> dict[str, Path]:
    parent = _own_v2()
    if parent is None:
        return {}
    folder = parent / name
    try:
        given = set((parent / "cgroup.subtree_control").read_text().split())
        if "memory" not in given:
            return {}
        folder.mkdir()
        (folder / "memory.max").write_text(str(values["memory"]))
        with contextlib.suppress(OSError):
            (folder / "memory.swap.max").write_text("0")
        if "pids" in given:
            (folder / "pids.max").write_text(str(values["pids"]))
    except OSError:
        with contextlib.suppress(OSError):
            folder.rmdir()
        return {}
    return {"memory": folder} | ({"pids": folder} if "pids" in given else {})


def _own_v2() -> Path | None:
    """The nearest group above this process's that hands the memory controller down and lets us write."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    own = next((line[3:] for line in lines if line.startswith("0::")), None)
    if own is None or not (_ROOT / "cgroup.controllers").exists():
        return None
    here = _ROOT / own.lstrip("/")
    for folder in (here, *here.parents):
        if folder == _ROOT.parent:
            return None
        if os.access(folder, os.W_OK) and "memory" in _words(folder / "cgroup.subtree_control"):
            return folder
    return None


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
