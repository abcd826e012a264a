"""The process that stays: it forks programs, watches what they use, kills what they leave. It never sees their data.

It is the first process of its namespace (bubblewrap, docker), which no process inside can signal, or is guarded
by Landlock (process). Code, output and file contents go past it, over descriptors that the other side hands in,
so a program forked from it finds nothing of an earlier one in its memory.
"""

import contextlib
import errno
import fcntl
import gc
import os
import select
import signal
import socket
import time
from typing import Any

from agentgym.sandbox.guest import confine, frames, procfs, program, servant, workspace

_TICK_S = 0.05
_PURGE_S = 3.0
_CLEAN_S = 8.0
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGPIPE)


class Zygote:
    """One worker's forker."""

    def __init__(self, control: socket.socket, config: dict[str, Any]) -> None:
        self.control = control
        self.config = config
        self.limits: dict[str, Any] = config["limits"]
        self.root: str = config["root"]
        self.own_namespace = os.getpid() == 1
        self.main: int | None = None  # the process whose end ends the call
        self.keep: set[int] = set()  # holders that outlive it
        self.folder = ""  # of a single run: deleted at its end
        self.over = ""
        self.ended: dict[int, tuple[int, float, float]] = {}
        self.base_kb = procfs.anonymous_kb(os.getpid())
        self.folders = 0
        self.tmp_since = os.stat(config["tmp"]).st_mtime_ns

    # ---- the loop

    def serve(self) -> None:
        """Answer until the other side goes away, then take everything along."""
        try:
            self._loop()
        except (OSError, frames.FrameError, KeyError):  # the other side is gone in the middle of something
            pass
        finally:
            self._purge(set())
            os._exit(0)

    def _loop(self) -> None:
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        poll = select.poll()
        poll.register(self.control, select.POLLIN)
        poll.register(reading, select.POLLIN)
        next_look = 0.0
        while True:
            ready = dict(poll.poll(_TICK_S * 1000 if self.main else None))
            if reading in ready:
                os.read(reading, 4096)
            self._reap()
            if self.control.fileno() in ready:
                message, fds = frames.receive(self.control, max_fds=4)
                if message is None:
                    return
                self._answer(message, fds)
            if self.main is not None and time.monotonic() >= next_look:
                self._look()
                next_look = time.monotonic() + _TICK_S

    def _answer(self, message: dict[str, Any], fds: list[int]) -> None:
        reply: dict[str, Any] = {"re": message["id"]}
        try:
            reply.update(getattr(self, f"do_{message['do']}")(message, fds) or {})
        except OSError as error:
            reply["os_error"] = error.strerror or str(error)
        if not message.get("quiet"):
            frames.send(self.control, reply)
        for fd in fds:
            os.close(fd)

    # ---- orders

    def do_spawn(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Fork a program: `how` is "once", "hold" or "shell"; or "files", a servant."""
        how, folder = message["how"], message.get("folder")
        if folder is None:
            self.folders += 1
            folder = f"{self.root}/{self.folders}"
            os.mkdir(folder, 0o700)
        pid = os.fork()
        if pid == 0:
            self._become(how, folder, message, fds)
        try:
            os.setpgid(pid, pid)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.ESRCH):
                raise
        if how == "hold":
            self.keep.add(pid)
        elif how != "files":
            self._begin(pid, folder if how == "once" else "")
        return {"pid": pid, "folder": folder}

    def do_wake(self, message: dict[str, Any], fds: list[int]) -> None:
        """Let a holder take a call."""
        os.kill(message["pid"], signal.SIGCONT)

    def do_follow(self, message: dict[str, Any], fds: list[int]) -> None:
        """Make the process that took a call the one whose end ends it."""
        pid = message["pid"]
        if pid in self.keep or (pid not in self.ended and pid not in self._alive()):
            return  # a holder that lies about who took the call; the time limit ends it
        self._begin(pid, "")
        if pid in self.ended:
            self._finish()

    def do_settle(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """End a call that says it is done: the process that ran it replaces the holder (or joins it: a fork)."""
        pid, holder = message["pid"], message["holder"]
        self.main = None
        self._reap()
        if pid in self.keep or pid not in self._alive():
            return {"kept": False, "left": self._purge(self.keep), "cpu": 0.0, "peak": 0.0}
        cpu, peak = procfs.used(pid)
        self.keep.add(pid)
        if message["replace"]:
            self.keep.discard(holder)
        left = self._purge(self.keep)
        for kept in self.keep:
            os.kill(kept, signal.SIGSTOP)  # what it still computes, it computes in nobody's time
        return {"kept": True, "left": left, "cpu": cpu, "peak": peak}

    def do_kill(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """End the call that runs; the event of its end follows where it had one."""
        had = self.main is not None
        left = self._purge(self.keep)
        if self.main is not None:
            self._finish()
        for kept in self.keep:
            os.kill(kept, signal.SIGSTOP)
        return {"had": had, "left": left}

    def do_drop(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Give up a holder, and its folder."""
        self.keep.discard(message["pid"])
        left = self._purge(self.keep)
        if message.get("folder"):
            left += self._clean([message["folder"]])
        return {"left": left}

    def do_reset(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Be as new: no program, no file."""
        self.main = None
        self.keep.clear()
        left = self._purge(self.keep)
        self.ended.clear()
        return {"left": left + self._clean([self.root], and_itself=False)}

    def do_count(self, message: dict[str, Any], fds: list[int]) -> dict[str, Any]:
        """Count what is there now, for the leak counters."""
        entries = sum(1 for _ in workspace.walk(self.root, 1 << 20)) + sum(
            1 for _ in workspace.walk(self.config["tmp"], 1 << 20)
        )
        descriptors = sum(procfs.is_open(fd) for fd in range(256))
        return {"processes": len(self._alive()), "files": entries, "descriptors": descriptors}

    # ---- calls

    def _begin(self, pid: int, folder: str) -> None:
        self.main, self.folder, self.over = pid, folder, ""

    def _finish(self) -> None:
        """The main process is dead: kill what it left, tell how it ended."""
        pid, self.main = self.main, None
        if pid is None:
            return
        left = self._purge(self.keep)
        status, cpu, peak = self.ended.get(pid, (9, 0.0, 0.0))
        if self.folder:
            left += self._clean([self.folder])
        self.ended.clear()
        event = {"ended": pid, "status": status, "cpu": cpu, "peak": peak, "over": self.over, "left": left}
        frames.send(self.control, event)

    def _clean(self, folders: list[str], *, and_itself: bool = True) -> int:
        """Delete folders, and what lies in the temporary one; return how much is left. Only a fork reads names."""
        if and_itself:
            folders = [folder for folder in folders if not procfs.removed(folder)]
        tmp = self.config["tmp"]
        inside = [*folders, *([tmp] if os.stat(tmp).st_mtime_ns != self.tmp_since else [])]
        if not inside:
            return 0
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                code = 1 if servant.clean(inside) else 0
            finally:
                os._exit(code)
        status, end = 1, time.monotonic() + _CLEAN_S
        while time.monotonic() < end:
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                break
            time.sleep(0.0005)
        else:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return 1
        self.tmp_since = os.stat(tmp).st_mtime_ns
        return int(status != 0) + sum(not procfs.removed(folder) for folder in folders if and_itself)

    def _reap(self) -> None:
        while True:
            try:
                pid, status, used = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if len(self.ended) < 4096:
                self.ended[pid] = (status, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
            if pid in self.keep:
                self.keep.discard(pid)
                frames.send(self.control, {"lost": pid})
        if self.main is not None and self.main in self.ended:
            self._finish()

    def _look(self) -> None:
        """Kill a call whose processes hold too much memory together, or whose files are too many or too large."""
        total = sum(max(0, procfs.anonymous_kb(pid) - self.base_kb) for pid in self._alive())
        if total > self.limits["memory_mb"] << 10:
            self.over = "memory"
        elif self._files_over():
            self.over = "disk"
        if self.over:
            self._purge(self.keep)
            self._finish()

    def _files_over(self) -> bool:
        if self.config["sized"]:
            for folder in (self.root, self.config["tmp"]):
                state = os.statvfs(folder)
                if state.f_files and state.f_files - state.f_ffree > 2 * self.limits["files"]:
                    return True
            return False
        size = count = 0
        for folder in (self.root, self.config["tmp"]):
            more, entries = workspace.usage(folder, 2 * self.limits["files"])
            size, count = size + more, count + entries
        return size > self.limits["disk_mb"] << 20 or count >= 2 * self.limits["files"]

    def _purge(self, keep: set[int]) -> int:
        """Kill every process but the zygote and `keep`; return how many would not die."""
        end = time.monotonic() + _PURGE_S
        pause = 0.0001
        while True:
            self._collect()
            # what is dead and was never waited for by a holder stays listed until the holder ends
            alive = {pid for pid in self._alive() - keep if not procfs.is_zombie(pid)}
            if not alive or time.monotonic() > end:
                return len(alive)
            for number in (signal.SIGSTOP, signal.SIGKILL):  # stopped first: nobody outruns the second round
                for pid in alive:
                    try:
                        os.kill(pid, number)
                    except ProcessLookupError:
                        pass
            time.sleep(pause)
            pause = min(2 * pause, 0.02)

    def _collect(self) -> None:
        main, self.main = self.main, None  # the end of the call is told once, by who asked for the purge
        self._reap()
        self.main = main

    def _alive(self) -> set[int]:
        """Every process inside but the zygote; ended ones that nobody waited for count until they are reaped."""
        if self.own_namespace:
            return {int(name) for name in os.listdir("/proc") if name.isdigit()} - {1}
        found: set[int] = set()
        pending = [os.getpid()]
        while pending:
            pid = pending.pop()
            try:
                tasks = os.listdir(f"/proc/{pid}/task")
            except OSError:
                continue
            for task in tasks:
                try:
                    with open(f"/proc/{pid}/task/{task}/children") as file:
                        children = {int(child) for child in file.read().split()}
                except OSError:
                    continue
                pending += children - found
                found |= children
        return found

    # ---- the forked side

    def _become(self, how: str, folder: str, message: dict[str, Any], fds: list[int]) -> None:
        """Turn this fork into a program; never returns."""
        sock: socket.socket | None = None
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, *_IGNORED):
                signal.signal(number, signal.SIG_DFL)
            os.setpgid(0, 0)
            high = [fcntl.fcntl(given, fcntl.F_DUPFD, 512) for given in fds]  # out of the way of 0 to 3
            program.null_output()
            if how in ("once", "shell"):
                os.dup2(high[1], 1)
                os.dup2(high[2], 2)
            if len(high) > 3:
                os.dup2(high[3], 0)
            control = os.dup2(high[0], 3, inheritable=False)
            os.closerange(4, 4096)
            sock = socket.socket(fileno=control)
            self._go_to(folder)
            os.environ.update(HOME=folder, PWD=folder, TMPDIR=self.config["tmp"])
            self._confine(folder if how == "once" else self.root, message.get("processes"))
            frames.send(sock, {"pid": os.getpid()})  # from here on whatever happens is the program's doing
            if how == "files":
                servant.serve(sock, self.root, 2 * self.limits["files"])
                os._exit(0)
            if how == "shell":
                order, _ = frames.receive(sock)
                sock.close()
                os.execve("/bin/sh", ["sh", "-c", order["command"] if order else "exit"], dict(os.environ))
            namespace = program.fresh_namespace(message["seed"])
            if how == "once":
                program.once(sock, namespace)
            program.hold(sock, namespace)
        except BaseException as error:  # noqa: BLE001 - told, and then this process ends
            if sock is not None:
                frames.send(sock, {"refused": f"{type(error).__name__}: {error}"})
        finally:
            os._exit(111)

    def _go_to(self, folder: str) -> None:
        """Enter a workspace, even where a program has locked, moved or deleted it."""
        with contextlib.suppress(OSError):
            return os.chdir(folder)
        os.chmod(self.root, 0o700)
        try:
            if not os.path.lexists(folder):
                os.mkdir(folder, 0o700)
            os.chmod(folder, 0o700)
            os.chdir(folder)
        except OSError:
            os.chdir(self.root)

    def _confine(self, folder: str, processes: int | None) -> None:
        procfs.worst_for_memory()
        if not self.own_namespace:
            confine.die_with_parent()
        abi = self.config["landlock_abi"]
        confine.limit(self.limits, processes)
        if abi:
            confine.landlock(self.config["read"], [folder, self.config["tmp"], "/dev/null"], abi)
        confine.seccomp(self.config["filter"])


def main(fd: int, config: dict[str, Any]) -> None:
    """Confine this process as far as a zygote may be, then serve. The first message says that it stands."""
    control = socket.socket(fileno=fd)
    os.set_inheritable(fd, False)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_IGN)
    os.umask(0o077)
    if not config["guard"]:  # inside a container the engine may not let it through
        config["landlock_abi"] = min(config["landlock_abi"], confine.landlock_abi())
    config["filter"] = bytes.fromhex(config["filter"])
    try:
        confine.hide()
        if os.getpid() != 1:
            confine.adopt_orphans()
        if config["guard"]:
            confine.landlock([*config["read"], "/proc"], [config["root"], config["tmp"], "/dev/null", "/proc"], config["landlock_abi"])
            confine.seccomp(bytes.fromhex(config["guard"]))
        zygote = Zygote(control, config)
    except (confine.ConfineError, OSError) as error:
        frames.send(control, {"refused": f"{type(error).__name__}: {error}"})
        os._exit(1)
    program.rehearse()
    gc.collect()
    gc.freeze()
    frames.send(control, {"ready": os.getpid(), "landlock_abi": config["landlock_abi"]})
    zygote.serve()
