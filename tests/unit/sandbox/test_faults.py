"""Faults of the service: missing programs, old kernels, workers that die. Nothing runs unconfined, nothing stays."""

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import ConfigError
from agentgym.sandbox import (
    FileError,
    Limits,
    Sandbox,
    SandboxLostError,
    SandboxUnavailableError,
    cgroups,
    interpreter,
    open_sandbox,
    owners,
    shared_sandbox,
)
from agentgym.sandbox.bubblewrap import BubblewrapSandbox
from agentgym.sandbox.calls import Call
from agentgym.sandbox.guest import confine
from agentgym.sandbox.process import ProcessSandbox
from agentgym.sandbox.session import LiveSession
from agentgym.sandbox.worker import Worker

SMALL = Limits(wall_s=5.0, disk_mb=8, file_mb=4)


@pytest.fixture
def sandbox() -> Iterator[BubblewrapSandbox]:
    try:
        opened = open_sandbox("bubblewrap", SMALL, workers=1, spares=0)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    assert isinstance(opened, BubblewrapSandbox)
    yield opened
    opened.close()


def worker_of(sandbox: BubblewrapSandbox) -> Worker:
    (worker,) = sandbox._in_sessions
    return worker


def children() -> set[int]:
    """Every process below this one."""
    found: set[int] = set()
    pending = [os.getpid()]
    while pending:
        pid = pending.pop()
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                below = {int(child) for child in task.read_text().split()}
            except OSError:
                continue
            pending += below - found
            found |= below
    return found


def test_missing_bubblewrap_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setattr("agentgym.sandbox.bubblewrap._packaged", lambda: None)
    with pytest.raises(SandboxUnavailableError, match=r"apt install bubblewrap") as caught:
        open_sandbox("bubblewrap")
    assert "agentic-gym[sandbox]" in str(caught.value)
    with pytest.raises(SandboxUnavailableError, match="/nowhere/bwrap"):
        open_sandbox("bubblewrap", bwrap="/nowhere/bwrap")


def test_bubblewrap_that_cannot_make_namespaces_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    for place in (tmp_path, *tmp_path.parents[:2]):
        if place.owner() == Path("~").expanduser().owner() or os.getuid() == 0:
            place.chmod(place.stat().st_mode | 0o711)
    found = BubblewrapSandbox(SMALL, bwrap=str(broken)).available()
    assert not found.available
    assert "No permissions to create new namespace" in found.reason


def test_old_landlock_is_refused_and_no_program_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(confine, "landlock_abi", lambda: 3)
    sandbox = ProcessSandbox(SMALL)
    with pytest.raises(SandboxUnavailableError, match="Landlock version 3, 'process' needs 6"):
        sandbox.run("1")
    with pytest.raises(SandboxUnavailableError, match="bubblewrap"):
        sandbox.open()
    assert "workers_started" not in sandbox.metrics()


def test_foreign_architecture_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    for name in ("process", "bubblewrap"):
        with pytest.raises(SandboxUnavailableError, match=r"riscv64|filter"):
            open_sandbox(name, SMALL)


def test_a_step_of_confinement_that_fails_stops_the_program(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgym.sandbox.pool.confine.filter_program", lambda **_: b"\xff" * 8)
    with pytest.raises((SandboxLostError, SandboxUnavailableError), match=r"confined|did not start"):
        sandbox.run("open('ran', 'w')")


def test_missing_python_says_so() -> None:
    with pytest.raises(SandboxUnavailableError, match="/nowhere/python"):
        interpreter.find("/nowhere/python")


def test_settings_that_mean_nothing_are_refused() -> None:
    for bad in ({"workers": 0}, {"max_sessions": 0}, {"spares": -1}, {"workers": 1.5}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            BubblewrapSandbox(SMALL, **bad)


def test_a_worker_that_is_gone_is_the_services_fault(sandbox: BubblewrapSandbox) -> None:
    session = sandbox.open()
    assert session.run("1").ok
    for pid in children():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # killing one takes others along
            if Path(f"/proc/{pid}/comm").read_text().startswith(("bwrap", "python")):
                os.kill(pid, signal.SIGKILL)
    with pytest.raises(SandboxLostError):
        session.run("1")
    with pytest.raises(SandboxLostError):
        session.read("x")
    session.close()
    with sandbox.open() as fresh:
        assert fresh.run("1 + 1").value == "2"


def test_a_worker_that_hangs_is_the_services_fault(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgym.sandbox.worker.GRACE_S", 0.5)
    monkeypatch.setattr("agentgym.sandbox.session.GRACE_S", 0.5)
    session = sandbox.open()
    before = children()
    for pid in before:
        if Path(f"/proc/{pid}/comm").read_text().startswith("python"):
            os.kill(pid, signal.SIGSTOP)
    with pytest.raises(SandboxLostError):  # one that waited on would run into the test's own limit
        session.shell("echo")
    session.close()
    assert sandbox.run("3").value == "3"


def test_no_more_sessions_than_allowed(sandbox: BubblewrapSandbox) -> None:
    sandbox.max_sessions, sandbox.open_timeout_s = 2, 0.1
    sandbox._places = threading.BoundedSemaphore(2)
    first, second = sandbox.open(), sandbox.open()
    with pytest.raises(SandboxUnavailableError, match="2 sessions are open"):
        sandbox.open()
    first.close()
    sandbox.open().close()
    second.close()


def test_bad_initial_file_gives_the_place_back(sandbox: BubblewrapSandbox) -> None:
    sandbox._places = threading.BoundedSemaphore(1)
    for _ in range(3):
        with pytest.raises(FileError):
            sandbox.open(files={"../x": "1"})
        with pytest.raises(FileError):
            sandbox.run("1", files={"/x": "1"})
    sandbox.open().close()


def test_whatever_keeps_a_session_from_opening_gives_the_place_back(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox._places = threading.BoundedSemaphore(1)

    def no_descriptors(*_: object) -> None:
        raise OSError(24, "Too many open files")

    def gone(worker: Worker, *_: object, **__: object) -> None:
        raise worker.lost("is gone")

    with monkeypatch.context() as patched:
        patched.setattr(BubblewrapSandbox, "launch", no_descriptors)
        with pytest.raises(SandboxUnavailableError, match="Too many open files"):
            sandbox.open()
    with monkeypatch.context() as patched:
        patched.setattr(Worker, "ask", gone)
        with pytest.raises(SandboxLostError, match="is gone"):
            sandbox.open()
    session = sandbox.open()
    with monkeypatch.context() as patched:
        patched.setattr(LiveSession, "_begin", lambda s, *_: gone(worker_of(sandbox)))
        with pytest.raises(SandboxLostError, match="is gone"):
            session.fork()
    session.close()
    assert not sandbox._in_sessions
    sandbox.open().close()


def test_a_worker_that_cannot_be_cleared_is_ended(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox._places = threading.BoundedSemaphore(1)
    session, ask = sandbox.open(), Worker.ask
    worker = worker_of(sandbox)

    def no_process_left(self: Worker, do: str, **fields: Any) -> Any:
        if do == "reset":
            raise FileError("reset: Resource temporarily unavailable")
        return ask(self, do, **fields)

    with monkeypatch.context() as patched:
        patched.setattr(Worker, "ask", no_process_left)
        session.close()
    assert not worker.alive
    sandbox.open().close()


def test_workers_that_were_warm_are_kept_where_the_next_cannot_start(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sandbox.workers, launch, started = 2, BubblewrapSandbox.launch, []

    def once(self: BubblewrapSandbox, limits: Limits) -> Any:
        if started:
            raise OSError(12, "Cannot allocate memory")
        started.append(1)
        return launch(self, limits)

    monkeypatch.setattr(BubblewrapSandbox, "launch", once)
    with pytest.raises(SandboxUnavailableError, match="allocate"):
        sandbox.warm()
    assert (len(sandbox._idle), sandbox._busy) == (1, 0)


def test_a_call_that_was_given_up_does_not_end_the_next(sandbox: BubblewrapSandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    hear = Call.hear

    def interrupted_at(n: int) -> None:
        heard = iter(range(1, n + 1))

        def interrupted(call: Call) -> Any:
            if next(heard) < n:
                return hear(call)
            call.wait_end()  # the key is pressed as the program ends
            call.worker.events.append(call.ended or {})
            raise KeyboardInterrupt

        monkeypatch.setattr(Call, "hear", interrupted)

    session = sandbox.open()
    session.run("x = 1")
    for n, call in (
        (2, lambda: sandbox.run("print('old')")),
        (2, lambda: session.run("import os; os._exit(4)")),
    ):
        interrupted_at(n)
        with pytest.raises(KeyboardInterrupt):
            call()
        monkeypatch.setattr(Call, "hear", hear)
        assert sandbox.run("print('new')").stdout == "new\n"
        assert session.run("x").value == "1"
        assert session.shell("echo new").stdout == "new\n"
    session.close()


def test_a_process_that_cannot_be_started_leaves_no_control_group(monkeypatch: pytest.MonkeyPatch) -> None:
    class Group:
        removed = False

        def remove(self) -> None:
            self.removed = True

    def refuse(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    group = Group()
    monkeypatch.setattr("agentgym.sandbox.process.require_kernel", lambda: None)
    monkeypatch.setattr("agentgym.sandbox.process.cgroups.make", lambda limits: group)
    found = ProcessSandbox(SMALL, checked=False)
    interpreter.find(None, everybody=os.getuid() == 0)  # looked for once, by a process of its own
    monkeypatch.setattr("agentgym.sandbox.process.subprocess.Popen", refuse)
    with pytest.raises(SandboxUnavailableError, match="temporarily"):
        found.launch(SMALL)
    assert group.removed


def test_shared_sandbox_is_one(sandbox: Sandbox) -> None:
    assert shared_sandbox("bubblewrap", SMALL) is shared_sandbox("bubblewrap", SMALL)
    assert shared_sandbox("bubblewrap", SMALL) is not shared_sandbox("bubblewrap", SMALL, workers=1)


def test_nothing_is_left_after_hundreds_of_calls(sandbox: BubblewrapSandbox) -> None:
    sandbox.run("1")

    def held() -> tuple[int, int, int]:
        here = Path("/proc/self/fd")
        return len(children()), len(list(here.iterdir())), len(list(owners.folder().rglob("*")))

    before = held()
    for i in range(150):
        assert sandbox.run(f"import os\nif {i} % 5 == 0: os.fork()\nopen('x', 'w')\n{i}", wall_s=2.0).exit_code == 0
        if i % 10 == 0:
            with sandbox.open() as session, session.fork() as twin:
                twin.run("open('y', 'w')")
    after = held()
    assert after == before
    counts = sandbox.metrics()
    assert [counts[f"leaked_{name}"] for name in ("processes", "files", "descriptors")] == [0, 0, 0]


HOST = """
import os, sys, time
from agentgym.sandbox import Limits, open_sandbox
sandbox = open_sandbox({name!r}, Limits(wall_s=60.0, cpu_s=60.0), workers=1)
session = sandbox.open()
import threading
threading.Thread(target=session.shell, args=("sleep 7654321",), daemon=True).start()
time.sleep(.5)
print("ready", flush=True)
{end}
"""


def sleepers() -> list[int]:
    return [
        int(entry.name)
        for entry in Path("/proc").iterdir()
        if entry.name.isdigit() and _command(entry).startswith(b"sleep\x007654321")
    ]


def _command(entry: Path) -> bytes:
    try:
        return (entry / "cmdline").read_bytes()
    except OSError:
        return b""


@pytest.mark.parametrize("name", ["bubblewrap", "process"])
@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "sys.exit(0)", "os._exit(1)"])
def test_nothing_outlives_the_host(name: str, end: str, sandbox: Sandbox) -> None:
    program = textwrap.dedent(HOST.format(name=name, end=end))
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    if "not available" in done.stderr:
        pytest.skip(done.stderr[-200:])
    assert "ready" in done.stdout, done.stderr
    while sleepers():  # the kernel takes its time; those that outlive it run into the test's own limit
        time.sleep(0.05)
    owners.sweep()
    cgroups.sweep()
    assert all(owners.is_live(folder.name) for folder in owners.base().iterdir() if "-" in folder.name)


def test_orphans_of_a_dead_process_are_reaped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    orphan = subprocess.Popen(["sleep", "600"], start_new_session=True)
    left = owners.base() / f"{2**22 - 1}-5-{owners._boot()}"
    left.mkdir()
    (left / "workers").write_text(f"{orphan.pid} {owners.started(orphan.pid)}\n1 999\n")
    (left / "process-1").mkdir()
    assert owners.sweep() == {"processes": 1, "folders": 1}
    assert orphan.wait(10) == -signal.SIGKILL
    assert not left.exists()


def test_a_forked_host_does_not_touch_its_parents_workers(sandbox: BubblewrapSandbox) -> None:
    with sandbox.open() as session:
        session.run("x = 1")
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                session.close()
                sandbox.close()
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert session.run("x").value == "1"
