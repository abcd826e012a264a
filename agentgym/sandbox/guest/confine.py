"""Confinement of the calling process: resource limits, Landlock, a seccomp filter. Every step raises where it fails.

Nothing here warns and goes on: a process that could not be confined must not run a program.
"""

import ctypes
import errno
import os
import platform
import resource
import stat
import struct
from collections.abc import Sequence
from typing import Any

from agentgym.sandbox.guest import syscalls

_libc = ctypes.CDLL(None, use_errno=True)
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _SET_DUMPABLE, _SET_PDEATHSIG, _SET_CHILD_SUBREAPER = 38, 22, 4, 1, 36
_SET_MM, _SET_PTRACER = 35, 0x59616D61
_NEW_NAMESPACES = 0x7E020080  # CLONE_NEW{TIME,NS,CGROUP,UTS,IPC,USER,PID,NET}
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

READ = 0x1 | 0x4 | 0x8
"""Landlock rights: execute, read files, read folders."""
SCOPE_ABI = 6
"""The first Landlock version that confines signals and abstract sockets."""


class ConfineError(Exception):
    """A step of the confinement failed; the program must not start."""


def prctl(option: int, a: int = 0, b: int = 0) -> None:
    """Call prctl. Raises ConfineError."""
    if _libc.prctl(option, ctypes.c_ulong(a), ctypes.c_ulong(b), 0, 0) != 0:
        raise ConfineError(f"prctl({option}): {os.strerror(ctypes.get_errno())}")


def hide() -> None:
    """Close this process's memory and descriptors to every other process without privileges."""
    prctl(_SET_DUMPABLE, 0)


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends."""
    prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> None:
    """Be killed when the parent's thread ends."""
    prctl(_SET_PDEATHSIG, 9)


def limit(limits: dict[str, Any], processes: int | None) -> None:
    """Set the resource limits of one program.

    Args:
        limits: fields of `agentgym.sandbox.Limits`.
        processes: the user's process count at which fork fails; None = no such limit here (a cgroup has it).
    """
    cpu = max(1, int(-(-limits["cpu_s"] // 1)))
    address = limits["memory_mb"] << 20
    values = {
        resource.RLIMIT_AS: (address, address),
        resource.RLIMIT_DATA: (address, address),
        resource.RLIMIT_STACK: (8 << 20, 8 << 20),
        resource.RLIMIT_CPU: (cpu, cpu + 1),
        resource.RLIMIT_FSIZE: (limits["file_mb"] << 20,) * 2,
        resource.RLIMIT_NOFILE: (limits["open_files"],) * 2,
        resource.RLIMIT_CORE: (0, 0),
        resource.RLIMIT_MEMLOCK: (0, 0),
        resource.RLIMIT_MSGQUEUE: (0, 0),
        resource.RLIMIT_SIGPENDING: (256, 256),
        resource.RLIMIT_RTPRIO: (0, 0),
        resource.RLIMIT_NICE: (0, 0),
    }
    if processes is not None:
        values[resource.RLIMIT_NPROC] = (processes, processes)
    for which, (soft, hard) in values.items():
        _, ceiling = resource.getrlimit(which)
        if ceiling != resource.RLIM_INFINITY:
            soft, hard = min(soft, ceiling), min(hard, ceiling)
        try:
            resource.setrlimit(which, (soft, hard))
        except (OSError, ValueError) as error:
            raise ConfineError(f"setrlimit({which}): {error}") from error


def landlock_abi() -> int:
    """Return the Landlock version of this kernel, 0 = none."""
    number = _numbers()["landlock_create_ruleset"]
    return max(0, _libc.syscall(number, None, ctypes.c_size_t(0), ctypes.c_uint(1)))


def landlock(read: Sequence[str], write: Sequence[str], abi: int) -> None:
    """Let this process and its children see `read`, change `write`, and open no TCP port. Never undone.

    Paths that are missing are left out. From version 6 on, signals and abstract sockets reach only processes
    that were confined together with this one.
    """
    numbers = _numbers()
    rights = (1 << 13) - 1 | (0x2000 if abi >= 2 else 0) | (0x4000 if abi >= 3 else 0) | (0x8000 if abi >= 5 else 0)
    attributes = struct.pack("=QQQ", rights, 3 if abi >= 4 else 0, 3 if abi >= SCOPE_ABI else 0)
    size = 24 if abi >= SCOPE_ABI else 16 if abi >= 4 else 8
    ruleset = _checked("landlock_create_ruleset", numbers["landlock_create_ruleset"], attributes, ctypes.c_size_t(size), 0)
    try:
        for paths, granted in ((read, READ), (write, rights & ~0x8000)):
            for path in paths:
                _allow(numbers["landlock_add_rule"], ruleset, path, granted)
        prctl(_SET_NO_NEW_PRIVS, 1)
        _checked("landlock_restrict_self", numbers["landlock_restrict_self"], ruleset, 0)
    finally:
        os.close(ruleset)


def _allow(number: int, ruleset: int, path: str, granted: int) -> None:
    try:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            granted &= 0x1 | 0x2 | 0x4 | 0x4000  # a plain file: execute, write, read, truncate
        _checked("landlock_add_rule", number, ruleset, 1, struct.pack("=Qi", granted, fd), 0)
    finally:
        os.close(fd)


def seccomp(program: bytes) -> None:
    """Load a filter made by `filter_program` for this process and its children."""
    prctl(_SET_NO_NEW_PRIVS, 1)
    buffer = ctypes.create_string_buffer(program, len(program))
    head = struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer))
    if _libc.prctl(_SET_SECCOMP, ctypes.c_ulong(2), head, 0, 0) != 0:
        raise ConfineError(f"seccomp: {os.strerror(ctypes.get_errno())}")


def filter_program(*, program: bool, metadata: bool = False, arch: str | None = None) -> bytes:
    """Assemble the filter: instructions of eight bytes, as the kernel and `bwrap --seccomp` take them.

    Args:
        program: deny also what only the zygote may do.
        metadata: deny also owners, modes and times of files.
        arch: "x86_64" or "aarch64"; None = this machine's.

    Raises:
        ConfineError: there is no table for the architecture.
    """
    arch = arch or platform.machine()
    if arch not in syscalls.ARCHES:
        raise ConfineError(f"no table of system calls for {arch!r}; known: {', '.join(syscalls.ARCHES)}")
    special = syscalls.special(arch)
    denied = dict(syscalls.always(arch))
    if program:
        denied |= syscalls.program(arch)
    if metadata:
        denied |= syscalls.metadata(arch)
    code = [
        (0x20, 0, 0, 4),  # the architecture
        (0x15, 1, 0, syscalls.AUDIT_ARCH[arch]),
        _KILL,
        (0x20, 0, 0, 0),  # the number
        (0x35, 0, 1, 0x40000000),  # x32 calls have other numbers
        _KILL,
        (0x25, 0, 1, syscalls.LAST),
        _errno(errno.ENOSYS),
        (0x15, 0, 1, special["clone3"]),  # its flags lie in memory, where a filter cannot look
        _errno(errno.ENOSYS),
    ]
    for number in sorted(set(denied.values())):
        code += [(0x15, 0, 1, number), _errno(errno.EPERM)]
    code += _argument(special["clone"], 0, [(0x45, _NEW_NAMESPACES)])
    code += _argument(special["ioctl"], 1, [(0x15, _TIOCSTI), (0x15, _TIOCLINUX)])
    code += _argument(special["prlimit64"], 0, [(0x25, 0)])  # only on itself
    if program:
        code += _argument(special["prctl"], 0, [(0x15, _SET_CHILD_SUBREAPER), (0x15, _SET_MM), (0x15, _SET_PTRACER)])
    code.append(_ALLOW)
    return b"".join(struct.pack("=HBBI", *step) for step in code)


_KILL = (0x06, 0, 0, 0x80000000)
_ALLOW = (0x06, 0, 0, 0x7FFF0000)


def _errno(number: int) -> tuple[int, int, int, int]:
    return (0x06, 0, 0, 0x00050000 | number)


def _argument(number: int, index: int, tests: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
    """For one call: load the lower half of an argument, deny where a test holds, allow otherwise."""
    body = [(0x20, 0, 0, 16 + 8 * index)]
    for operation, value in tests:
        body += [(operation, 0, 1, value), _errno(errno.EPERM)]
    body.append(_ALLOW)
    return [(0x15, 0, len(body), number), *body]


def _numbers() -> dict[str, int]:
    arch = platform.machine()
    if arch not in syscalls.ARCHES:
        raise ConfineError(f"no table of system calls for {arch!r}; known: {', '.join(syscalls.ARCHES)}")
    return syscalls.special(arch)


def _checked(name: str, *arguments: Any) -> int:
    result = _libc.syscall(*arguments)
    if result < 0:
        raise ConfineError(f"{name}: {os.strerror(ctypes.get_errno())}")
    return result
