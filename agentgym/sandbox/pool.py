"""`WarmSandbox`: what all backends share. Warm workers for single runs, a worker of its own for every session."""

import atexit
import base64
import contextlib
import os
import threading
import weakref
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from agentgym.errors import ConfigError, ServiceError
from agentgym.sandbox import owners
from agentgym.sandbox.calls import Call, Streams, refused, shortened
from agentgym.sandbox.guest import confine
from agentgym.sandbox.guest.workspace import PathError, parts
from agentgym.sandbox.interpreter import Interpreter
from agentgym.sandbox.probe import probe
from agentgym.sandbox.protocol import (
    Availability,
    ExecResult,
    FileError,
    Limits,
    SandboxLostError,
    SandboxUnavailableError,
)
from agentgym.sandbox.session import MAX_CODE, Family, LiveSession
from agentgym.sandbox.worker import Launched, Worker

_RECYCLE_AFTER = 20_000
"""Single runs after which a worker is replaced."""
_all: "weakref.WeakSet[WarmSandbox]" = weakref.WeakSet()
_held: dict[tuple[Any, ...], Availability] = {}
"""What was probed in this process and held; a refusal is tried anew, since somebody may have installed what it named."""
_spawner_lock = threading.Lock()
_spawner: ThreadPoolExecutor | None = None


class WarmSandbox:
    """A backend with warm workers. A subclass says how a worker starts (`launch`)."""

    name = ""
    can_fork = True
    remedy = ""
    """What to do where an attack was not held."""
    host_uid: int | None = None
    """Whom the programs are on the host; None = the user of this process."""
    uid: int | None = None
    """What `host_uid` is set to for all workers, where a backend gives each worker a user of its own."""

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        workers: int | None = None,
        spares: int = 4,
        max_sessions: int = 256,
        open_timeout_s: float = 60.0,
        checked: bool = True,
    ) -> None:
        """Prepare a pool; nothing starts before the first use.

        Args:
            limits: what sessions and calls may use.
            workers: workers for single runs at once; None = one a core.
            spares: workers kept for the next sessions; a closed session's is cleared and used again.
            max_sessions: sessions open at once (forks of one count once); `open` waits for a place.
            open_timeout_s: how long.
            checked: probe the backend by attack before the first use. False only for the probe itself.

        Raises:
            ConfigError: a number that means nothing.
        """
        self.limits = limits or Limits()
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.workers = cores if workers is None else workers
        self.spares, self.max_sessions, self.open_timeout_s = spares, max_sessions, open_timeout_s
        for name, value, least in (("workers", self.workers, 1), ("spares", spares, 0), ("max_sessions", max_sessions, 1)):
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigError(f"sandbox {self.name}: {name} must be a whole number from {least} on, got {value!r}")
        self._checked = checked
        self._availability: Availability | None = None
        self._reset()
        _all.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "WarmSandbox":
        """Return itself: all episodes share it."""
        return self

    # ---- what a subclass gives

    def launch(self, limits: Limits) -> Launched:
        """Start a bare interpreter that waits for its sources. Raises SandboxUnavailableError."""
        raise NotImplementedError

    def check(self) -> None:
        """Look whether what is needed is there, without starting anything. Raises SandboxUnavailableError."""

    def key(self) -> tuple[Any, ...]:
        """Return the options that decide what a probe finds."""
        return (self.name,)

    # ---- the protocol

    def available(self) -> Availability:
        """Probe by attack, once per process and set of options; what is needed is looked for each time."""
        with self._probe_lock:
            if self._availability is None:
                try:
                    self.check()
                    key = self.key()
                    if key not in _held:
                        found = probe(self)
                        if not found.available:
                            return found
                        _held[key] = found
                    self._availability = _held[key]
                except SandboxUnavailableError as error:
                    return Availability(self.name, False, str(error))
            return self._availability

    def open(
        self, limits: Limits | None = None, *, files: Mapping[str, bytes | str] | None = None, seed: int = 0
    ) -> LiveSession:
        """Open a session of its own. Raises SandboxUnavailableError, SandboxLostError, FileError."""
        limits = limits or self.limits
        self._ensure()
        if not self._places.acquire(timeout=self.open_timeout_s):
            self._count("refused")
            raise SandboxUnavailableError(
                f"sandbox {self.name!r}: {self.max_sessions} sessions are open and none was closed within "
                f"{self.open_timeout_s:g} s; close sessions, or raise max_sessions"
            )
        try:
            worker = self._spare(limits)
        except BaseException:
            self._places.release()
            raise
        with self._lock:
            self._in_sessions.add(worker)
        family = Family(worker, self._note, self._end_session)  # gives the place back from here on
        return LiveSession.opened(family, seed=seed, can_fork=self.can_fork, files=files or {})

    def run(
        self, code: str, *, files: Mapping[str, bytes | str] | None = None, wall_s: float | None = None
    ) -> ExecResult:
        """Run Python code once, in a process forked from a warm worker; nothing of it stays."""
        self._ensure()
        if len(code) > MAX_CODE:
            return ExecResult("", f"the program is longer than {MAX_CODE} characters\n", 1, error="ValueError")
        content = _encoded(files or {}, self.limits)
        self._run_places.acquire()
        worker = None
        try:
            worker = self._idle_worker()
            result = self._once(worker, {"code": code, "files": content}, shortened(self.limits, wall_s))
        except SandboxLostError:
            self._count("workers_lost")
            raise
        except BaseException:  # given up in its middle: the next call would be told how this one ended
            if worker is not None:
                worker.end()
            raise
        finally:
            self._run_places.release()
            if worker is not None:
                self._put_back(worker)
        self._note(result)
        return result

    def metrics(self) -> dict[str, float]:
        """Return counters. `leaked_*` count what is there although no call and no session should hold it."""
        with self._lock:
            found = dict(self._counters)
            idle, sessions = list(self._idle), list(self._in_sessions)
            found["sessions_live"] = float(len(sessions))
            found["workers_live"] = float(len(idle) + len(self._ready) + len(sessions) + self._busy)
        for name in ("processes", "files", "descriptors"):
            found[f"leaked_{name}"] = 0.0
        for worker in idle:
            with worker.lock, contextlib.suppress(ServiceError, FileError):
                now, _ = worker.ask("count")
                for name in ("processes", "files", "descriptors"):
                    found[f"leaked_{name}"] += max(0, now[name] - worker.before[name])
        return found

    def close(self) -> None:
        """Close every session and worker. May be called twice; a later use starts afresh."""
        with self._lock:
            ending = [*self._idle, *self._ready, *self._in_sessions]
            self._idle.clear()
            self._ready.clear()
        for worker in ending:
            worker.end()

    def warm(self) -> None:
        """Start the workers for single runs and the spares now rather than at first use."""
        self._ensure()
        with contextlib.ExitStack() as taken:
            for _ in range(self.workers):
                taken.callback(self._put_back, self._idle_worker())
        while len(self._ready) < self.spares:
            self._ready.append(self._started(self.limits))

    # ---- within

    def _reset(self) -> None:
        self._lock, self._probe_lock = threading.RLock(), threading.Lock()
        self._places = threading.BoundedSemaphore(self.max_sessions)
        self._run_places = threading.BoundedSemaphore(self.workers)
        self._idle: list[Worker] = []
        self._ready: list[Worker] = []
        self._in_sessions: set[Worker] = set()
        self._busy = 0
        self._counters: dict[str, float] = {}

    def _ensure(self) -> None:
        if self._checked:
            self.available().require()

    def _started(self, limits: Limits) -> Worker:
        """Start a worker. Only the fork runs in the spawner: a worker dies with the thread that started it."""
        try:
            launched = _spawn(self.launch, limits)
        except OSError as error:  # no more descriptors, folders or processes
            raise SandboxUnavailableError(f"sandbox {self.name!r}: a worker cannot be started: {error}") from error
        worker = Worker(launched, limits)
        worker.before, _ = worker.ask("count")
        self._count("workers_started")
        return worker

    def _idle_worker(self) -> Worker:
        with self._lock:
            worker = self._idle.pop() if self._idle else None
            self._busy += 1
        try:
            return worker or self._started(self.limits)
        except BaseException:
            with self._lock:
                self._busy -= 1
            raise

    def _put_back(self, worker: Worker) -> None:
        with self._lock:
            self._busy -= 1
            if worker.alive and not worker.left and worker.calls < _RECYCLE_AFTER:
                self._idle.append(worker)
                return
        if worker.left:
            self._count("workers_dirty")
        worker.end()

    def _spare(self, limits: Limits) -> Worker:
        if limits != self.limits:
            return self._started(limits)
        with self._lock:
            worker = self._ready.pop() if self._ready else None
        return worker if worker is not None and worker.alive else self._started(limits)

    def _end_session(self, worker: Worker) -> None:
        with self._lock:
            if worker not in self._in_sessions:  # in a fork of the host: it is the parent's
                return
            self._in_sessions.discard(worker)
        try:
            if worker.alive and not worker.left and worker.limits == self.limits:
                worker.left += worker.ask("reset")[0]["left"]
                worker.events.clear()
                with self._lock:
                    reused = not worker.left and len(self._ready) < self.spares and worker.calls < _RECYCLE_AFTER
                    if reused:
                        self._ready.append(worker)
                if reused:
                    return
            if worker.left:
                self._count("workers_dirty")
            worker.end()
        except (SandboxLostError, FileError):
            self._count("workers_lost")
            worker.end()
        finally:
            self._places.release()

    def _once(self, worker: Worker, order: dict[str, Any], wall_s: float) -> ExecResult:
        with worker.lock:
            streams = Streams()
            try:
                call = Call(worker, streams, wall_s)
                worker.tell("spawn", fds=streams.given, how="once", seed=0, processes=worker.launched.processes())
                streams.hand_over()
                call.say(order)
                lost = refused(call.hear())
                if lost:
                    raise worker.lost(str(lost))
                reply = call.hear()
                call.wait_end()
                if call.ended is None:
                    call.kill()
                    reply = None
                worker.calls += 1
                ended = call.ended or {}
                reply = reply if ended.get("status") is not None and os.WIFEXITED(ended["status"]) else None
                used = {"cpu_s": ended.get("cpu", 0.0), "peak_mb": ended.get("peak", 0.0)}
                return call.result(reply, state_kept=False, **used)
            finally:
                streams.close()

    def _note(self, result: ExecResult) -> None:
        self._count("calls")
        if result.killed_by:
            self._count(f"killed_{result.killed_by}")

    def _count(self, name: str) -> None:
        with self._lock:
            self._counters[name] = self._counters.get(name, 0.0) + 1.0


def base_config(limits: Limits, *, root: str, tmp: str, sized: bool, read: list[str], metadata: bool) -> dict[str, Any]:
    """Return settings that every backend shares.

    Args:
        limits: of the worker.
        root: the folder of workspaces, inside.
        tmp: the folder for temporary files, inside.
        sized: both are of limited size by themselves.
        read: what programs may read, for Landlock.
        metadata: deny owners, modes and times, since the programs see the host's files.
    """
    try:
        rules = confine.filter_program(program=True, metadata=metadata).hex()
    except confine.ConfineError as error:
        raise SandboxUnavailableError(str(error)) from error
    return {
        "root": root,
        "tmp": tmp,
        "sized": sized,
        "read": read,
        "landlock_abi": confine.landlock_abi(),
        "filter": rules,
        "guard": "",
    }


def environment(python: Interpreter) -> dict[str, str]:
    """Return the environment of programs; nothing of the host's is in it."""
    return {
        "PATH": f"{Path(python.path).parent}:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1", "MALLOC_ARENA_MAX": "2",
    }  # fmt: skip


def _encoded(files: Mapping[str, bytes | str], limits: Limits) -> dict[str, str]:
    found, size = {}, 0
    for path, data in files.items():
        try:
            name = "/".join(parts(path))
        except PathError as error:
            raise FileError(str(error)) from error
        content = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else bytes(data)
        size += len(content)
        if len(content) > limits.file_mb << 20 or size > 8 << 20:
            raise FileError(f"{path[:80]!r}: files of a single run may hold 8 MiB together; open a session for more")
        found[name] = base64.b64encode(content).decode("ascii")
    return found


def _spawn(launch: Any, limits: Limits) -> Launched:
    """Run `launch` in the one thread that lives as long as the process."""
    global _spawner
    with _spawner_lock:
        if _spawner is None:
            _spawner = ThreadPoolExecutor(1, thread_name_prefix="sandbox-spawner")
    return _spawner.submit(launch, limits).result()


@atexit.register
def close_all() -> None:
    """Close every pool of this process, at exit."""
    for sandbox in list(_all):
        sandbox.close()
    with contextlib.suppress(OSError, ServiceError):
        owners.leave()


def _forget_in_child() -> None:
    """In a fork of the host: the workers belong to the parent; let go of them without killing anything."""
    global _spawner, _spawner_lock
    _spawner, _spawner_lock = None, threading.Lock()
    for sandbox in list(_all):
        for worker in [*sandbox._idle, *sandbox._ready, *sandbox._in_sessions]:
            worker.alive = False
            worker.launched.control.close()
        sandbox._reset()


os.register_at_fork(after_in_child=_forget_in_child)
