"""Processes of this machine, fenced by Landlock, seccomp and resource limits. For machines without namespaces.

Weaker than bubblewrap, so it is used only where it is asked for by name: programs see which files and processes
of the host exist by trying names, and there is one kernel user for all. docs/threat_model.md says what it is not.
"""

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from agentgym.sandbox import cgroups, interpreter, owners
from agentgym.sandbox.guest import confine
from agentgym.sandbox.guest.bundle import boot
from agentgym.sandbox.pool import WarmSandbox, base_config, environment
from agentgym.sandbox.protocol import Limits, SandboxUnavailableError
from agentgym.sandbox.worker import Launched

FIRST_UID, _N_UIDS = 61100, 800
"""Whom the workers of a root host run as, one after another."""
_numbers = itertools.count(1)
_HEADROOM = 3
_READ = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/etc/ld.so.cache", "/etc/alternatives", "/dev/null",
         "/dev/zero", "/dev/urandom", "/dev/random")  # fmt: skip
_COUNT_EVERY_S = 0.5


class ProcessSandbox(WarmSandbox):
    """Sandboxes without namespaces; only by name."""

    name = "process"
    remedy = "It needs Linux 6.12 (Landlock version 6) on x86_64 or aarch64; use 'bubblewrap' or 'docker' instead"

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        python: str | None = None,
        cgroup: bool = True,
        uid: int | None = None,
        **pool: Any,
    ) -> None:
        """Prepare a pool.

        Args:
            limits: what sessions and calls may use.
            python: the interpreter for programs; None = the system's.
            cgroup: limit a worker's memory and processes by a control group where this machine lets us.
            uid: on a root host, the user of all workers; None = each has one of its own.
            **pool: see `WarmSandbox`.
        """
        super().__init__(limits, **pool)
        self._python, self._cgroup, self.uid = python, cgroup, uid
        self.host_uid = (uid or FIRST_UID) if os.getuid() == 0 else None

    def check(self) -> None:
        """Look at the kernel and for an interpreter. Raises SandboxUnavailableError."""
        require_kernel()
        interpreter.find(self._python, everybody=os.getuid() == 0)

    def key(self) -> tuple[Any, ...]:
        """Return the options that decide what a probe finds."""
        return (self.name, self._python, self._cgroup)

    def launch(self, limits: Limits) -> Launched:
        """Start a bare interpreter as a user of its own (root host) or as this one. Raises SandboxUnavailableError."""
        require_kernel()
        root_host = os.getuid() == 0
        python = interpreter.find(self._python, everybody=root_host)
        number = next(_numbers)
        uid = os.getuid() if not root_host else self.uid or FIRST_UID + number % _N_UIDS
        folder = _make_folder(f"process-{number}", uid if root_host else None)
        ours, theirs = socket.socketpair()
        errors = os.memfd_create("errors", os.MFD_CLOEXEC)
        group = cgroups.make(limits) if self._cgroup else None
        identity: dict[str, Any] = {"user": uid, "group": uid, "extra_groups": []} if root_host else {}
        try:
            process = subprocess.Popen(
                [python.path, "-s", "-S", "-B", "-c", boot(), str(theirs.fileno())],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors, cwd="/",
                env=environment(python), pass_fds=(theirs.fileno(),), start_new_session=True, umask=0o077, **identity,
            )  # fmt: skip
        except OSError as error:
            ours.close()
            os.close(errors)
            shutil.rmtree(folder, ignore_errors=True)
            if group is not None:
                group.remove()
            raise SandboxUnavailableError(f"the sandbox process cannot be started ({error})") from error
        finally:
            theirs.close()
        owners.note_process(process.pid)
        if group is not None:
            with contextlib.suppress(OSError):
                group.add(process.pid)

        def end() -> None:
            for member in owners.session_members(process.pid):
                with contextlib.suppress(OSError):
                    os.kill(member, signal.SIGKILL)
            process.wait()
            os.close(errors)
            shutil.rmtree(folder, ignore_errors=True)
            if group is not None:
                group.remove()

        read = [*_READ, *([] if python.path.startswith("/usr/") else [python.prefix])]
        config = base_config(limits, root=f"{folder}/work", tmp=f"{folder}/tmp", sized=False, read=read, metadata=True)
        return Launched(
            ours, end, {**config, "guard": confine.filter_program(program=False).hex()},
            pid=process.pid,
            oom_kills=group.oom_kills if group is not None else lambda: 0,
            processes=_Count(uid, limits.processes).limit,
            errors=lambda: os.pread(errors, 4096, 0).decode("utf-8", "replace"),
        )  # fmt: skip


def require_kernel() -> None:
    """Refuse a kernel without the walls that this backend stands on. Raises SandboxUnavailableError."""
    try:
        confine.filter_program(program=True)
    except confine.ConfineError as error:
        raise SandboxUnavailableError(f"{error}; use 'docker' instead") from error
    abi = confine.landlock_abi()
    if abi < confine.SCOPE_ABI:
        raise SandboxUnavailableError(
            f"the kernel has Landlock version {abi}, 'process' needs {confine.SCOPE_ABI} (Linux 6.12): below it a "
            "program could kill this process. Use 'bubblewrap' or 'docker' instead"
        )


class _Count:
    """RLIMIT_NPROC counts a user's processes and threads on the whole machine: what there is now, and N more."""

    def __init__(self, uid: int, allowed: int) -> None:
        self._uid, self._allowed, self._at, self._now = uid, allowed, 0.0, 0

    def limit(self) -> int:
        """Return the limit; counted anew at most twice a second."""
        if time.monotonic() - self._at > _COUNT_EVERY_S:
            self._at, self._now = time.monotonic(), _tasks_of(self._uid)
        return self._now + self._allowed + _HEADROOM


def _tasks_of(uid: int) -> int:
    count = 0
    with os.scandir("/proc") as entries:
        for entry in entries:
            if entry.name.isdigit():
                with contextlib.suppress(OSError, IndexError):
                    # a hidden process's folder is root's; its user is in its status only
                    status = Path(entry.path, "status").read_text()
                    if int(status.partition("\nUid:\t")[2].split(None, 1)[0]) == uid:
                        count += int(status.partition("\nThreads:\t")[2].split(None, 1)[0])
    return count


def _make_folder(name: str, uid: int | None) -> Path:
    folder = owners.folder() / name
    folder.mkdir(mode=0o711)
    for part in ("work", "tmp"):
        place = folder / part
        place.mkdir(mode=0o700)
        if uid is not None:
            os.chown(place, uid, uid)
    return folder
