"""`LiveSession`: the session of every backend, over a worker of its own. Forks of a session share its worker."""

import contextlib
import os
import socket
from collections.abc import Callable, Mapping
from typing import Any

from agentgym.errors import ServiceError, ToolError
from agentgym.sandbox.calls import Call, Streams, refused, shortened
from agentgym.sandbox.guest import frames
from agentgym.sandbox.guest.workspace import PathError, parts
from agentgym.sandbox.protocol import ExecResult, FileError, ForkUnsupportedError, Limits, SandboxLostError
from agentgym.sandbox.worker import GRACE_S, Worker

MAX_CODE = 1 << 20
"""Characters of a program; a longer one does not run."""


class Family:
    """What a session and its forks share: a worker, the CPU seconds used, the end of it all."""

    def __init__(self, worker: Worker, on_call: Callable[[ExecResult], None], on_end: Callable[[Worker], None]) -> None:
        """`on_call` sees every result, `on_end` the worker once the last member is closed."""
        self.worker, self.on_call, self.on_end = worker, on_call, on_end
        self.members = 0
        self.cpu_s = 0.0
        self.servant: socket.socket | None = None
        """The line to the process that serves files, while no program runs."""

    def dismiss(self) -> None:
        """Let the servant go; it ends before a program starts, or with it at the latest."""
        if self.servant is not None:
            self.servant.close()
            self.servant = None

    def leave(self) -> None:
        """Count one member less."""
        self.members -= 1
        if self.members == 0:
            self.on_end(self.worker)


class LiveSession:
    """See `agentgym.sandbox.protocol.Session`."""

    def __init__(self, family: Family, *, seed: int = 0, can_fork: bool = True) -> None:
        """Take a place in the family and start a holder with empty state."""
        self._family, self._seed, self._can_fork = family, seed, can_fork
        self.limits: Limits = family.worker.limits
        self.workspace = ""
        self._holder: int | None = None
        self._line: Streams | None = None
        self._cells = 0
        self._closed = False
        family.members += 1

    @classmethod
    def opened(cls, family: Family, *, seed: int, can_fork: bool, files: Mapping[str, bytes | str]) -> "LiveSession":
        """Open the first session of a family. Raises SandboxLostError."""
        session = cls(family, seed=seed, can_fork=can_fork)
        try:
            with family.worker.lock:
                session._hold()
            for path, content in files.items():
                session.write(path, content)
        except BaseException:
            session.close()
            raise
        return session

    # ---- calls

    def run(self, code: str, *, wall_s: float | None = None) -> ExecResult:
        """Run Python code; names, imports and objects stay for the next call. `wall_s` may only shorten the limit."""
        early = self._refuse(code)
        if early:
            return early
        with self._family.worker.lock, self._call(wall_s) as call:
            self._cells += 1
            pid = self._begin(call, {})
            reply = None
            if pid is not None:
                call.say({"code": code, "cell": self._cells})
                reply = call.hear()
            return self._conclude(call, pid, reply)

    def shell(self, command: str, *, stdin: bytes = b"", wall_s: float | None = None) -> ExecResult:
        """Run a command with /bin/sh in the workspace. Only files carry over to later calls."""
        early = self._refuse(command, shell=True)
        if early:
            return early
        worker = self._family.worker
        with worker.lock, self._call(wall_s) as call:
            given = call.streams.given
            source = _as_file(stdin) if stdin else None
            try:
                worker.ask(
                    "spawn", fds=given if source is None else (*given, source), how="shell", folder=self.workspace,
                    processes=worker.launched.processes(),
                )  # fmt: skip
            except FileError as error:  # no process left for it: what the session did before
                return ExecResult("", f"{error}\n", None, killed_by="memory")
            finally:
                if source is not None:
                    os.close(source)
            call.streams.hand_over()
            lost = refused(call.hear())
            if lost:
                raise worker.lost(str(lost))
            call.say({"command": command})
            call.wait_end()
            if call.ended is None:
                call.kill()
            return self._done(call, None)

    def fork(self) -> "LiveSession":
        """Return a copy: the Python state and the files as they are now, independent from here on.

        Raises:
            ForkUnsupportedError: the backend cannot.
            FileError: the files do not fit a second time into the session's disk; or the Python state is lost, because
                the process that holds it was killed or does not answer. Files stay, and the next fork works.
        """
        self._check()
        if not self._can_fork:
            raise ForkUnsupportedError("this sandbox cannot fork a live session")
        worker = self._family.worker
        with worker.lock:
            folder = self._file_order("copy")[0]["folder"]
            twin = LiveSession(self._family, seed=self._seed, can_fork=True)
            twin.workspace, twin._cells = folder, self._cells
            with contextlib.ExitStack() as failed, self._call(None) as call:
                failed.callback(twin.close)
                pid = self._begin(call, {"folder": folder})
                reply = None
                if pid is not None:
                    call.say({})
                    reply = call.hear()
                if reply is not None and self._settle(call, pid, replace=False, owner=twin):
                    failed.pop_all()
                else:
                    call.kill()
                    self._forget_holder()
                    raise FileError(
                        "the session's Python state is lost: its process was killed, or does not answer when it is to be"
                        " copied; the files are kept, and the session and forks of it go on with an empty state"
                    )
            return twin

    # ---- files

    def write(self, path: str, data: bytes | str) -> None:
        """Write a file of the workspace; folders are made. Raises FileError."""
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
        if len(content) > self.limits.file_mb << 20:
            raise FileError(f"{path[:80]!r}: {len(content)} bytes are more than {self.limits.file_mb} MiB")
        fd = self._open(path, write=True)
        try:
            view = memoryview(content)
            while view:
                view = view[os.write(fd, view) :]
        except OSError as error:
            raise FileError(f"{path[:80]!r}: {error.strerror}") from error
        finally:
            os.close(fd)

    def read(self, path: str, max_bytes: int = 1 << 20) -> bytes:
        """Read a plain file of the workspace; follows no links. Raises FileError."""
        fd = self._open(path, write=False)
        try:
            content = bytearray()
            while len(content) <= max_bytes and (chunk := os.read(fd, 1 << 20)):
                content += chunk
        except OSError as error:
            raise FileError(f"{path[:80]!r}: {error.strerror}") from error
        finally:
            os.close(fd)
        if len(content) > max_bytes:
            raise FileError(f"{path[:80]!r} is longer than {max_bytes} bytes")
        return bytes(content)

    def files(self) -> dict[str, int]:
        """Return relative path -> bytes of every plain file, sorted by path."""
        return self._file_order("list")[0]["files"]

    def remove(self, path: str) -> None:
        """Delete a file or a folder of the workspace. Raises FileError."""
        _path(path)
        self._file_order("remove", path=path)

    def close(self) -> None:
        """Kill everything in it and give its place back. May be called twice."""
        with self._family.worker.lock:
            if self._closed:
                return
            self._closed = True
            if self._line is not None:
                self._line.close()
            worker = self._family.worker
            if self._family.members > 1 and worker.alive:
                with contextlib.suppress(SandboxLostError, FileError):
                    worker.ask("drop", pid=self._holder or 0, folder=self.workspace)
            self._family.dismiss()
            self._family.leave()

    def __enter__(self) -> "LiveSession":
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close it."""
        self.close()

    # ---- within

    def _check(self) -> None:
        if self._closed:
            raise SandboxLostError("the session is closed")
        if not self._family.worker.alive:
            raise SandboxLostError("the sandbox worker of this session is gone")

    def _refuse(self, text: str, *, shell: bool = False) -> ExecResult | None:
        """Answer without a call: the CPU budget is used up, or the text is none."""
        self._check()
        if self._family.cpu_s >= self.limits.session_cpu_s:
            said = f"the session's {self.limits.session_cpu_s:g} CPU seconds are used up\n"
            return ExecResult("", said, None, killed_by="cpu", state_kept=False)
        if len(text) > (MAX_CODE if not shell else 100_000) or (shell and "\0" in text):
            return ExecResult("", "the program is too long or holds a null character\n", 1, error="ValueError")
        return None

    @contextlib.contextmanager
    def _call(self, wall_s: float | None) -> Any:
        self._check()
        self._family.dismiss()
        streams = Streams()
        self._kept_line = False
        try:
            yield Call(self._family.worker, streams, shortened(self.limits, wall_s))
        except (ServiceError, ToolError):
            raise
        except BaseException:  # given up in its middle: the next call must not be told how this one ended
            with contextlib.suppress(SandboxLostError, FileError):
                self._family.worker.ask("kill")
            self._family.worker.events = [event for event in self._family.worker.events if "ended" not in event]
            raise
        finally:
            streams.close(keep_control=self._kept_line)

    def _hold(self) -> Streams:
        """Start a holder with empty state; return the line to it. Raises SandboxLostError."""
        worker = self._family.worker
        with self._call(None) as call:
            where = {"folder": self.workspace} if self.workspace else {}
            try:
                reply, _ = worker.ask(
                    "spawn", fds=call.streams.given, how="hold", seed=self._seed,
                    processes=worker.launched.processes(), **where,
                )  # fmt: skip
            except FileError as error:
                raise worker.lost(f"could not start a session: {error}") from error
            call.streams.hand_over()
            lost = refused(call.hear())
            if lost:
                raise worker.lost(str(lost))
            self._holder, self.workspace = reply["pid"], reply["folder"]
            self._take_line(call.streams)
            return call.streams

    def _take_line(self, streams: Streams) -> None:
        """Make a call's control socket the line to the holder."""
        if self._line is not None:
            self._line.close()
        self._line, self._kept_line = streams, True

    def _begin(self, call: Call, message: dict[str, Any]) -> int | None:
        """Hand a call to the holder; return the process that took it, as it says."""
        worker = self._family.worker
        line = self._line if self._holder is not None and self._line is not None else self._hold()
        worker.tell("wake", pid=self._holder)
        line.control.setblocking(True)
        line.control.settimeout(1.0)
        try:
            frames.send(line.control, message, call.streams.given)
        except OSError:
            return None
        call.streams.hand_over()
        hello = call.hear()
        pid = hello.get("pid") if hello else None
        if not isinstance(pid, int) or isinstance(pid, bool) or not 0 < pid < 1 << 22:
            return None
        worker.tell("follow", pid=pid)
        return pid

    def _conclude(self, call: Call, pid: int | None, reply: dict[str, Any] | None) -> ExecResult:
        if reply is not None and pid is not None and self._settle(call, pid, replace=True, owner=self):
            return self._done(call, reply)
        if call.ended is None:
            call.kill()
        if pid is None:  # the holder did not even fork: it cannot be used any more
            self._forget_holder()
            call.killed_by = call.killed_by or "protocol"
        return self._done(call, None)

    def _settle(self, call: Call, pid: int | None, *, replace: bool, owner: "LiveSession") -> bool:
        answer, _ = self._family.worker.ask("settle", pid=pid, holder=self._holder, replace=replace)
        self._family.worker.left += answer["left"]
        if answer["kept"]:
            owner._holder = pid
            owner._take_line(call.streams)
            self._kept_line = True
            call.cpu_s, call.peak_mb = answer["cpu"], answer["peak"]
        return answer["kept"]

    def _done(self, call: Call, reply: dict[str, Any] | None) -> ExecResult:
        worker = self._family.worker
        ended = call.ended or {}
        cpu_s, peak_mb = (call.cpu_s, call.peak_mb) if reply is not None else (ended.get("cpu", 0.0), ended.get("peak", 0.0))
        result = call.result(reply, cpu_s=cpu_s, peak_mb=peak_mb, state_kept=reply is not None)
        for event in worker.events:
            if event.get("lost") == self._holder:
                self._forget_holder()
        worker.events.clear()
        worker.calls += 1
        self._family.cpu_s += cpu_s
        self._family.on_call(result)
        return result

    def _forget_holder(self) -> None:
        """Give up the Python state; the next call starts with an empty one."""
        if self._holder is not None:
            self._family.worker.ask("drop", pid=self._holder)
        self._holder = None

    def _open(self, path: str, *, write: bool) -> int:
        _path(path)
        _, fds = self._file_order("open", path=path, write=write)
        if len(fds) != 1:
            raise self._family.worker.lost("answered without a file")
        return fds[0]

    def _file_order(self, do: str, **fields: Any) -> tuple[dict[str, Any], list[int]]:
        """Have a servant do something with files; one serves until the next call. Raises FileError."""
        self._check()
        worker = self._family.worker
        with worker.lock:
            if self._family.servant is None:
                self._family.servant = self._hire()
            line = self._family.servant
            try:
                line.settimeout(GRACE_S)
                frames.send(line, {"do": do, "folder": self.workspace, **fields})
                reply, fds = frames.receive(line, max_fds=1)
            except (OSError, frames.FrameError) as error:
                raise worker.lost(f"does not answer about files ({error})") from error
            if reply is None:
                raise worker.lost("does not answer about files")
        if "path_error" in reply:
            for fd in fds:
                os.close(fd)
            raise FileError(reply["path_error"])
        return reply, fds

    def _hire(self) -> socket.socket:
        worker = self._family.worker
        ours, theirs = socket.socketpair()
        try:
            worker.ask("spawn", fds=(theirs.fileno(),), how="files", folder=self.workspace, processes=worker.launched.processes())
            theirs.close()
            ours.settimeout(GRACE_S)
            hello, _ = frames.receive(ours)
            lost = refused(hello)
            if lost or hello is None:
                raise worker.lost(str(lost or "no process for files started"))
        except (OSError, frames.FrameError, FileError) as error:
            ours.close()
            raise worker.lost(f"no process for files started ({error})") from error
        finally:
            theirs.close()
        return ours


def _path(path: str) -> None:
    try:
        parts(path)
    except PathError as error:
        raise FileError(str(error)) from error


def _as_file(content: bytes) -> int:
    """Return a descriptor to read `content` from."""
    fd = os.memfd_create("stdin", os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd
