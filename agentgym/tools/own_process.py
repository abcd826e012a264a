"""`isolated`: a tool's function runs in a process of its own, which may hang, crash or kill itself.

The process is a plain child of this one: it is no sandbox and holds nothing back on purpose (use `python_tool` for code
that a policy wrote). It protects the run from functions that do not come back, leave by `os._exit`, run out of memory
or print without end; what they print is dropped.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import weakref
from collections.abc import Iterator
from datetime import datetime
from typing import Any, BinaryIO

import numpy as np

from agentgym.errors import RegistrationError, ServiceError, ToolError
from agentgym.named import named_object, place_of
from agentgym.seeding import stream
from agentgym.tools.tool import CONTEXT, Tool, ToolContext
from agentgym.tools.toolbox import plain_json
from agentgym.types import JSON

_CHILD = "import sys; sys.path[:] = sys.argv[3:]; from agentgym.tools.own_process import work; work()"
"""The path first: a json.py in the working folder must not take the place of Python's."""
_MAX_REPLY = 8_000_000
_START_S = 60.0
"""Longest that a child may take to import its function; the limit of a call begins after it."""


def isolated(item: Tool, *, timeout_s: float = 10.0, memory_mb: int = 0) -> Tool:
    """Return the tool with its function in a child process, which is killed when the call takes too long.

    The function must stand in a module under its own name. It gets arguments, state, random stream and clock; services
    of the episode stay behind. The child is kept for the next call, one for each call that runs at a time.

    Args:
        item: what `@tool` made; coroutines and tools that use services do not fit.
        timeout_s: seconds after which a call's child is killed; its start does not count.
        memory_mb: MiB of address space of the child; 0: no limit.

    Raises:
        RegistrationError: the function cannot be found from another process.
    """
    place = place_of(item.fn)
    if item.is_async or "<" in place or item.fn.__module__ == "__main__":
        raise RegistrationError(f"isolated({item.name}): the function {place} must be a plain one at the top of a module")
    pool = _Pool(place, timeout_s, memory_mb)

    def call(_context: ToolContext, **arguments: JSON) -> JSON:
        seed = int(_context.rng.integers(2**62)) if _context.has_rng else None
        asked = {"arguments": arguments, "state": _context.state, "seed": seed}
        asked |= {"task": _context.task_id, "turn": _context.turn, "now": _context.now.isoformat()}
        reply = pool.ask(json.dumps(asked).encode())
        if "service" in reply:
            raise ServiceError(reply["service"])
        if "fault" in reply:
            raise ToolError(f"{item.name} {reply['fault']}")
        if "error" in reply:
            raise ToolError(reply["error"])
        if item.spec.mutates:
            _context.state.clear()
            _context.state.update(reply["state"])
        return reply["result"]

    return Tool(item.spec, call, context=(CONTEXT,), slow=True)


class _Idle:
    """Children of one tool that wait for work; in a fork of the process they are the parent's."""

    def __init__(self) -> None:
        self.children: list[subprocess.Popen[bytes]] = []
        self._pid, self._lock = os.getpid(), threading.Lock()

    def take(self) -> "subprocess.Popen[bytes] | None":
        """Return a child that lives, or None."""
        with self._lock:
            self._disown()
            while self.children:
                child = self.children.pop()
                if child.poll() is None:
                    return child
                _kill(child)
        return None

    def give(self, child: "subprocess.Popen[bytes]") -> None:
        """Take back a child that is done."""
        with self._lock:
            self.children.append(child)

    def end(self) -> None:
        """End the children."""
        with self._lock:
            self._disown()
            while self.children:
                _kill(self.children.pop())

    def _disown(self) -> None:
        """In a fork, let go of the parent's children without killing anything."""
        if self._pid != os.getpid():
            for child in self.children:
                child.returncode = 0
            self.children, self._pid = [], os.getpid()


class _Pool:
    """Starts children of one tool, and ends them when the tool is gone."""

    def __init__(self, place: str, timeout_s: float, memory_mb: int) -> None:
        self.place, self.timeout_s, self.memory_mb = place, timeout_s, memory_mb
        self.idle = _Idle()
        # Not __del__: of a cycle that is collected the children might be finalised first, alive and with open pipes.
        weakref.finalize(self, self.idle.end)

    def __reduce__(self) -> Any:
        """Another process starts children of its own."""
        return _Pool, (self.place, self.timeout_s, self.memory_mb)

    def ask(self, question: bytes) -> dict[str, JSON]:
        """Return the child's reply. Raises ToolError where it did not live to give one."""
        child = self._take()
        late = threading.Event()
        try:
            with _limited(child, self.timeout_s, late):
                reply = _exchange(child, question)
        except (OSError, ValueError) as error:
            _kill(child)
            code = child.wait()
            if late.is_set():
                raise ToolError(f"took longer than {self.timeout_s:g} s and was ended; nothing changed") from None
            ended = f"ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise ToolError(f"the tool's process {ended} ({error}); nothing changed") from None
        except BaseException:  # half a conversation: the next call must not hear the rest
            _kill(child)
            raise
        if late.is_set():  # the reply was there first, but the child is dead
            _kill(child)
            return reply
        self.idle.give(child)
        return reply

    def _take(self) -> subprocess.Popen[bytes]:
        if (waiting := self.idle.take()) is not None:
            return waiting
        try:
            child = subprocess.Popen(
                [sys.executable, "-c", _CHILD, self.place, str(self.memory_mb), *sys.path],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise ServiceError(f"isolated tool {self.place}: no process can be started: {error}") from error
        problem = ""
        try:
            with _limited(child, _START_S, threading.Event()):
                problem = str(json.loads(_read(child.stdout)))
        except (OSError, ValueError):
            problem = f"it was not ready within {_START_S:g} s, or ended (memory_mb={self.memory_mb})"
        if problem:
            _kill(child)
            raise ServiceError(f"isolated tool {self.place}: its process cannot start: {problem}")
        return child


@contextlib.contextmanager
def _limited(child: subprocess.Popen[bytes], timeout_s: float, late: threading.Event) -> Iterator[None]:
    """End a child whose block takes too long, and say so in `late`; never once the block is left: another call may have it."""
    guard, left = threading.Lock(), threading.Event()

    def end() -> None:
        with guard:
            if not left.is_set():
                late.set()
                _signal(child)

    timer = threading.Timer(timeout_s, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with guard:
            left.set()


def _exchange(child: subprocess.Popen[bytes], question: bytes) -> dict[str, JSON]:
    assert child.stdin is not None and child.stdout is not None  # noqa: PT018 (both are pipes)
    _write(child.stdin, question)
    return json.loads(_read(child.stdout))


def _signal(child: subprocess.Popen[bytes]) -> None:
    """Kill a child and whatever it started. A thread that waits for its reply meets the end of the pipe."""
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        child.kill()


def _kill(child: subprocess.Popen[bytes]) -> None:
    """Kill a child that no thread waits for, and clear it away."""
    _signal(child)
    child.wait()
    for pipe in (child.stdin, child.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError, ValueError):
                pipe.close()


def _write(pipe: BinaryIO | Any, data: bytes) -> None:
    pipe.write(len(data).to_bytes(8, "big") + data)
    pipe.flush()


def _read(pipe: BinaryIO | Any) -> bytes:
    head = pipe.read(8)
    if len(head) < 8:
        raise ValueError("no reply")
    n = int.from_bytes(head, "big")
    if n > _MAX_REPLY:
        raise ValueError("a reply that is too long")
    data = pipe.read(n)
    if len(data) < n:
        raise ValueError("half a reply")
    return data


def work() -> None:
    """Serve calls of one function, in the child process, until stdin ends."""
    place, memory_mb = sys.argv[1:3]
    source, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    quiet = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):
        os.dup2(quiet, descriptor)
    if int(memory_mb):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (int(memory_mb) << 20, int(memory_mb) << 20))
    try:
        found: Any = named_object(place)
    except BaseException as error:
        _write(answers, json.dumps(f"{type(error).__name__}: {error}").encode())
        raise
    _write(answers, b'""')
    item = found if isinstance(found, Tool) else None
    pid = os.getpid()
    while True:
        try:
            asked = json.loads(_read(source))
        except ValueError:
            return
        reply = _called(item, found, asked)
        if os.getpid() != pid:  # the function forked: only the first process answers
            os._exit(0)
        _write(answers, json.dumps(reply).encode())


def _called(item: Tool | None, found: Any, asked: dict[str, Any]) -> dict[str, JSON]:
    rng: np.random.Generator | None = stream("isolated", asked["seed"]) if asked["seed"] is not None else None
    ctx = ToolContext(asked["state"], rng, None, asked["task"], asked["turn"], datetime.fromisoformat(asked["now"]))
    try:
        value = found.fn(**item.keywords(asked["arguments"], ctx)) if item else found(**asked["arguments"])
    except ServiceError as error:
        return {"service": str(error)}
    except ToolError as error:
        return {"error": str(error)}
    except (Exception, SystemExit) as error:  # noqa: BLE001 (a broken tool is an observation)
        return {"fault": f"failed: {type(error).__name__}"}
    try:
        return {"result": plain_json(value), "state": plain_json(ctx.state)}
    except (ValueError, RecursionError) as error:
        return {"fault": f"gave a result that {error}"}


