"""One call: its pipes, its conversation with the program, its limits, its result. What a program says is checked."""

import json
import os
import select
import signal
import socket
import time
from typing import Any

from agentgym.sandbox.protocol import ExecResult, Limits, SandboxLostError
from agentgym.sandbox.worker import GRACE_S, Worker

_FLOOD = 64
_MAX_MESSAGE = 1 << 20
_CHUNK = 1 << 16
_HANG_UP_S = 0.5


class Streams:
    """The descriptors of one call. Close it with `close`, whatever happens."""

    def __init__(self) -> None:
        """Make two pipes and a socket pair."""
        self.out, self._out = os.pipe2(os.O_CLOEXEC)
        self.err, self._err = os.pipe2(os.O_CLOEXEC)
        self.control, self._guest = socket.socketpair()
        os.set_blocking(self.out, False)
        os.set_blocking(self.err, False)
        self.control.setblocking(False)

    @property
    def given(self) -> tuple[int, int, int]:
        """What goes to the program: control, stdout, stderr."""
        return (self._guest.fileno(), self._out, self._err)

    def hand_over(self) -> None:
        """Close our copies of what the program has now."""
        self._guest.close()
        for fd in (self._out, self._err):
            if fd >= 0:
                os.close(fd)
        self._out = self._err = -1

    def close(self, *, keep_control: bool = False) -> None:
        """Close our side."""
        self.hand_over()
        for fd in (self.out, self.err):
            if fd >= 0:
                os.close(fd)
        self.out = self.err = -1
        if not keep_control:
            self.control.close()


class Call:
    """The host's view of one call while it runs."""

    def __init__(self, worker: Worker, streams: Streams, wall_s: float) -> None:
        """Start the clock."""
        self.worker, self.streams, self.limits = worker, streams, worker.limits
        self.started = time.monotonic()
        self.deadline = self.started + wall_s
        self.text = {streams.out: bytearray(), streams.err: bytearray()}
        self.dropped = 0
        self.said: list[dict[str, Any]] = []
        self.ended: dict[str, Any] | None = None
        """The zygote's word on how the main process ended."""
        self.killed_by = ""
        self.cpu_s = self.peak_mb = 0.0
        self._partial = bytearray()
        self._hung_up = False
        self._closed: set[int] = set()
        self._poll = select.poll()
        for fd in (streams.out, streams.err, streams.control.fileno(), worker.launched.control.fileno()):
            self._poll.register(fd, select.POLLIN)
        self._oom_before = worker.launched.oom_kills()

    def say(self, message: dict[str, Any]) -> None:
        """Send the program something; it may be gone, or read nothing."""
        body = json.dumps(message).encode("ascii")
        data = memoryview(len(body).to_bytes(4, "big") + body)
        while data:
            try:
                data = data[self.streams.control.send(data) :]
            except BlockingIOError:
                if self._step(writing=True):
                    return
            except OSError:
                return

    def hear(self) -> dict[str, Any] | None:
        """Return the program's next message, or None: it ended, a limit did it (`killed_by`), or it hung up."""
        while not self.said:
            if self._step():
                self._listen()  # its last words may lie there although its end was told
                if not self.said:
                    return None
                break
            if self._hung_up and not self.said:
                # the line of a process that dies is closed just before its end is told
                self.deadline = min(self.deadline, time.monotonic() + _HANG_UP_S)
                self.wait_end()
                if self.killed_by == "wall":
                    self.killed_by = "protocol"
                return None
        return self.said.pop(0)

    def wait_end(self) -> None:
        """Wait until the main process has ended or a limit is reached."""
        while self.ended is None and not self.killed_by:
            self._step()

    def kill(self) -> None:
        """Have everything of this call killed. Raises SandboxLostError."""
        self.worker.ask("kill")
        self._take_events()

    def _step(self, *, writing: bool = False) -> bool:
        """Wait for something and take it in; True where the call is over."""
        self._take_events()
        if self.ended is not None or self.killed_by:
            return True
        if self.dropped > _FLOOD * self.limits.output_bytes:
            self.killed_by = "output"
            return True
        left = self.deadline - time.monotonic()
        if left <= 0:
            self.killed_by = "wall"
            return True
        if writing:
            self._poll.modify(self.streams.control.fileno(), select.POLLIN | select.POLLOUT)
        for fd, _ in self._poll.poll(left * 1000 + 1):
            if fd in self.text:
                self._read(fd)
            elif fd == self.worker.launched.control.fileno():
                self.worker.events.append(self.worker.receive(GRACE_S)[0])
            else:
                self._listen()
        if writing:
            self._poll.modify(self.streams.control.fileno(), select.POLLIN)
        self._take_events()
        return self.ended is not None or bool(self.killed_by)

    def _take_events(self) -> None:
        for event in self.worker.events:
            if "ended" in event:
                self.ended = event
                self.worker.left += event["left"]
                if event["over"]:
                    self.killed_by = event["over"]
        self.worker.events = [event for event in self.worker.events if "ended" not in event]

    def _read(self, fd: int) -> None:
        try:
            data = os.read(fd, _CHUNK)
        except BlockingIOError:
            return
        if not data:
            self._poll.unregister(fd)
            self._closed.add(fd)
            return
        kept = self.text[fd]
        room = self.limits.output_bytes - len(kept)
        kept += data[:room]
        self.dropped += max(0, len(data) - room)

    def _listen(self) -> None:
        if self._hung_up:
            return
        try:
            data = self.streams.control.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._hung_up = True
            self._poll.unregister(self.streams.control.fileno())
            return
        self._partial += data
        while len(self._partial) >= 4:
            size = int.from_bytes(self._partial[:4], "big")
            if size > _MAX_MESSAGE:
                self.killed_by = "protocol"
                return
            if len(self._partial) < 4 + size:
                return
            body, self._partial = bytes(self._partial[4 : 4 + size]), self._partial[4 + size :]
            try:
                message = json.loads(body)
            except (ValueError, RecursionError):
                message = None
            if not isinstance(message, dict) or len(self.said) > 8:
                self.killed_by = "protocol"
                return
            self.said.append(message)

    def drain(self) -> None:
        """Read what the dead left in the pipes."""
        for fd in self.text:
            while fd not in self._closed:
                try:
                    before = len(self._closed)
                    self._read(fd)
                    if len(self._closed) == before and not select.select([fd], [], [], 0)[0]:
                        break
                except OSError:
                    break
                if self.dropped > 2 * _FLOOD * self.limits.output_bytes:
                    break

    def result(self, reply: dict[str, Any] | None, *, cpu_s: float, peak_mb: float, state_kept: bool) -> ExecResult:
        """Put together what the call did. `reply` is the program's own word, or None where it did not finish."""
        self.drain()
        out, err = (self.text[fd].decode("utf-8", "replace") for fd in (self.streams.out, self.streams.err))
        wall_s = time.monotonic() - self.started
        exit_code, killed_by = None, self.killed_by
        if not killed_by and reply is not None:
            exit_code = _int(reply.get("exit")) & 0xFF
        elif not killed_by and self.ended is not None:
            exit_code, killed_by = self._status(self.ended)
        said = reply or {}
        if not isinstance(said.get("value", ""), str) or not isinstance(said.get("error", ""), str):
            said = {}
        limit = self.limits.output_bytes
        return ExecResult(
            stdout=out, stderr=err, exit_code=exit_code, killed_by=killed_by,
            value=said.get("value", "")[:limit] if not killed_by else "",
            error=said.get("error", "")[:200] if not killed_by else "",
            truncated=self.dropped > 0, state_kept=state_kept and not killed_by,
            wall_s=wall_s, cpu_s=cpu_s, peak_mb=peak_mb,
        )  # fmt: skip

    def _status(self, ended: dict[str, Any]) -> tuple[int | None, str]:
        status = ended["status"]
        if os.WIFEXITED(status):
            return os.WEXITSTATUS(status), ""
        number = os.WTERMSIG(status)
        if number == signal.SIGXCPU or (number == signal.SIGKILL and ended["cpu"] >= self.limits.cpu_s):
            return None, "cpu"
        if number == signal.SIGKILL and self.worker.launched.oom_kills() > self._oom_before:
            return None, "memory"
        return None, "disk" if number == signal.SIGXFSZ else "signal"


def shortened(limits: Limits, wall_s: float | None) -> float:
    """Return the wall limit of one call."""
    return limits.wall_s if wall_s is None else max(0.001, min(wall_s, limits.wall_s))


def refused(message: dict[str, Any] | None) -> SandboxLostError | None:
    """Return the error of a process that could not be confined; no program ran in it."""
    if message is not None and isinstance(message.get("refused"), str):
        return SandboxLostError(f"a process could not be confined: {message['refused'][:300]}")
    return None


def _int(value: Any) -> int:
    return value if isinstance(value, int) else 1
