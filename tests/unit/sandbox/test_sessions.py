"""Sessions of both local backends: state, files, forks, limits, and what a program can do to its own session."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from agentgym.sandbox import FileError, Limits, Sandbox, SandboxLostError, SandboxUnavailableError, open_sandbox

LIMITS = Limits(wall_s=5.0, cpu_s=5.0, memory_mb=192, processes=16, disk_mb=8, file_mb=4, files=200, output_bytes=2000)


@pytest.fixture(scope="module", params=["bubblewrap", "process"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    try:
        opened = open_sandbox(request.param, LIMITS, workers=1, spares=1)
    except SandboxUnavailableError as error:
        pytest.skip(str(error))
    yield opened
    counts = opened.metrics()
    opened.close()
    assert {name: value for name, value in counts.items() if name.startswith("leaked") and value} == {}
    assert counts["sessions_live"] == 0
    assert not counts.get("workers_dirty")


def test_state_stays_within_a_session_and_nowhere_else(sandbox: Sandbox) -> None:
    with sandbox.open() as first, sandbox.open() as second:
        assert first.run("import math\nx = [1]\ndef f(): return x").ok
        assert first.run("x.append(2); f()").error == ""
        assert first.run("f()").value == "[1, 2]"
        assert second.run("x").error == "NameError"
        first.write("only", "1")
        assert second.files() == {}
    with sandbox.open() as third:
        assert third.run("x").error == "NameError"
        assert third.files() == {}


def test_value_output_and_errors_of_a_program(sandbox: Sandbox) -> None:
    result = sandbox.run("import sys\nprint('a')\nprint('b', file=sys.stderr)\n{'k': 1.5}")
    assert (result.stdout, result.stderr, result.value, result.ok) == ("a\n", "b\n", "{'k': 1.5}", True)
    failed = sandbox.run("def f():\n    return 1 / 0\nf()")
    assert (failed.exit_code, failed.error) == (1, "ZeroDivisionError")
    assert "line 2" in failed.stderr
    assert "return 1 / 0" in failed.stderr
    assert "agentgym" not in failed.stderr
    assert sandbox.run("x = (").error == "SyntaxError"
    assert sandbox.run("'\0'").error in ("SyntaxError", "ValueError")
    assert sandbox.run("\udc80").exit_code == 1
    assert sandbox.run("import sys; sys.exit(7)").exit_code == 7
    assert sandbox.run("import os; os._exit(9)").exit_code == 9
    assert sandbox.run("import os; os.abort()").killed_by == "signal"
    assert sandbox.run("x" * (1 << 21)).error == "ValueError"


def test_a_killed_call_leaves_the_state_as_it_was(sandbox: Sandbox) -> None:
    with sandbox.open() as session:
        session.run("x = 1")
        late = session.run("x = 2\nwhile True: pass", wall_s=0.3)
        assert (late.killed_by, late.exit_code, late.state_kept) == ("wall", None, False)
        assert session.run("x").value == "1"
        gone = session.run("x = 3\nimport os; os._exit(4)")
        assert (gone.exit_code, gone.state_kept) == (4, False)
        assert session.run("x").value == "1"
        raised = session.run("x = 5\nraise KeyError")
        assert raised.state_kept
        assert session.run("x").value == "5", "an exception is no kill: what came before it stays, as anywhere"


def test_files_go_in_and_out(sandbox: Sandbox) -> None:
    with sandbox.open(files={"data/a.csv": "1,2\n", "b.bin": b"\0\xff"}) as session:
        assert session.run("open('data/a.csv').read()").value == "'1,2\\n'"
        assert session.run("open('out.txt', 'w').write('é')").value == "1"
        assert session.read("out.txt") == "é".encode()
        assert session.files() == {"b.bin": 2, "data/a.csv": 4, "out.txt": 2}
        assert session.shell("cat data/a.csv; wc -c", stdin=b"xyz").stdout.split() == ["1,2", "3"]
        session.remove("data")
        assert "data/a.csv" not in session.files()
        for bad in ("../x", "/etc/passwd", "missing"):
            with pytest.raises(FileError):
                session.read(bad)
        session.run("import os\nos.symlink('/etc/passwd', 'link')\nos.mkfifo('pipe')")
        for bad in ("link", "pipe"):
            with pytest.raises(FileError):
                session.read(bad)
        session.write("link", "mine")
        assert session.read("link") == b"mine"
        with pytest.raises(FileError, match="longer than"):
            session.read("link", max_bytes=2)
        with pytest.raises(FileError, match="more than 4 MiB"):
            session.write("big", b"0" * (5 << 20))


def test_a_fork_is_independent(sandbox: Sandbox) -> None:
    with sandbox.open() as session:
        session.run("x = [1]\nopen('f', 'w').write('1')")
        with session.fork() as twin:
            twin.run("x.append(2)\nopen('f', 'w').write('2')\nopen('g', 'w').close()")
            session.run("x.append(3)")
            assert (twin.run("x").value, session.run("x").value) == ("[1, 2]", "[1, 3]")
            assert (twin.read("f"), session.read("f")) == (b"2", b"1")
            assert "g" not in session.files()
            with twin.fork() as third:
                twin.close()
                assert third.run("x").value == "[1, 2]"
        assert session.run("x").value == "[1, 3]"


def test_limits_end_a_call_and_the_session_goes_on(sandbox: Sandbox) -> None:
    with sandbox.open() as session:
        assert session.run("b = bytearray(1 << 30)").error == "MemoryError"
        flood = session.run("while True: print('x' * 1000)")
        assert flood.killed_by == "output"
        assert flood.truncated
        assert len(flood.stdout) == LIMITS.output_bytes
        busy = session.run("import signal\nsignal.signal(signal.SIGXCPU, signal.SIG_IGN)\nwhile True: pass", wall_s=0.2)
        assert busy.killed_by in ("wall", "cpu")
        many = session.run("for i in range(10**6): open(f'x{i}', 'w').close()")
        assert many.killed_by == "disk" or many.error == "OSError"
        session.run("import os, glob\nfor p in glob.glob('x*'): os.remove(p)")
        assert session.run("2 + 2").value == "4"


def test_children_of_a_call_end_with_it(sandbox: Sandbox) -> None:
    with sandbox.open() as session:
        session.run("import os, time\nif os.fork() == 0:\n    time.sleep(60)\n")
        assert session.shell("sleep 60 & echo started").stdout == "started\n"
        assert session.run("1").value == "1"
        # a fork that comes back out of the program is no second session
        twice = session.run("import os\npid = os.fork()\nif pid: os.waitpid(pid, 0)\npid == 0")
        assert twice.value == "False"


@pytest.mark.parametrize(
    "hostile",
    [
        "import os; os.closerange(0, 64)",
        "import os, json\nb = json.dumps({'exit': 0, 'value': 5}).encode()\nos.write(3, len(b).to_bytes(4, 'big') + b)\nwhile True: pass",
        "import os; os.write(3, b'\\xff' * 4096)",
        "import os; os.chmod('.', 0); os.chmod('..', 0)",
        "import os; os.chdir('..'); [os.rename(n, 'moved') for n in os.listdir('.')]",
        "import os, signal\nfor n in (signal.SIGSTOP, signal.SIGKILL):\n    os.kill(0, n)",
        "import os, signal\nos.kill(-1, signal.SIGKILL)",
        "import os\nos.kill(os.getppid(), 9)\nos.kill(os.getppid(), 19)",
        "class A:\n    def __repr__(self): raise SystemExit(3)\nA()",
        "class A(Exception):\n    def __str__(self): raise self\nraise A",
        "import sys; sys.stdout = sys.stderr = None",
        "import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()",
        "import signal, os\nsignal.signal(signal.SIGALRM, lambda *a: 1 / 0)\nsignal.setitimer(signal.ITIMER_REAL, .001, .001)",
        "import sys; sys.setrecursionlimit(10**9)\ndef f(): f()\nf()",
        "__builtins__ = None\nimport builtins\nfor n in ('len', 'repr', 'compile', 'exec', 'open'): delattr(builtins, n)",
    ],
)
def test_a_program_hurts_only_itself(sandbox: Sandbox, hostile: str) -> None:
    with sandbox.open() as session:
        session.run("kept = 1")
        session.run(hostile, wall_s=0.7)
        assert session.shell("echo fine").stdout == "fine\n"
        session.run("1 + 1", wall_s=1.0)  # whatever it says about itself
        assert session.shell("echo fine").stdout == "fine\n"
    with sandbox.open() as other:
        assert other.run("1 + 1").value == "2"


def test_cpu_of_a_session_is_counted(sandbox: Sandbox) -> None:
    with sandbox.open(LIMITS.with_(session_cpu_s=0.2)) as session:
        burn = "import time\nend = time.process_time() + .15\nwhile time.process_time() < end: pass"
        results = [session.run(burn) for _ in range(4)]
        assert results[0].ok
        assert results[0].cpu_s >= 0.1
        assert results[-1].killed_by == "cpu"
        assert "used up" in results[-1].stderr
        assert session.shell("echo x").killed_by == "cpu"


def test_seed_and_hashes_are_fixed(sandbox: Sandbox) -> None:
    def draw(seed: int) -> str:
        with sandbox.open(seed=seed) as session:
            return session.run("import random\n[random.random(), hash('a')]").value

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)
    with sandbox.open(seed=3) as session, sandbox.open(seed=3) as one_call:
        session.run("import random\na = random.random()")
        with session.fork() as twin:
            assert twin.run("random.random()").value == session.run("random.random()").value
        assert one_call.run("import random\nrandom.random(), random.random()").value == session.run(
            "random.seed(3)\nrandom.random(), random.random()"
        ).value


@pytest.mark.parametrize("hook", ["before", "after_in_child"])
def test_a_state_that_cannot_be_copied_is_given_up_once_and_said(sandbox: Sandbox, hook: str) -> None:
    with sandbox.open() as session:
        session.write("kept", "1")
        session.run(f"import os\nx = 1\nos.register_at_fork({hook}=lambda: os._exit(3))")
        with pytest.raises(FileError, match=r"Python state is lost: its process was killed.*files are kept.*empty state"):
            session.fork()
        with session.fork() as twin:
            assert twin.read("kept") == b"1"
            assert (twin.run("x").error, session.run("x").error) == ("NameError", "NameError")
            assert twin.run("2").value == session.run("2").value == "2"


def test_calls_of_many_sessions_overlap(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    sessions = [sandbox.open() for _ in range(4)]
    kind, running, values = type(sessions[0]), threading.Barrier(4, timeout=60), []
    begin = kind._begin  # pyright: ignore[reportAttributeAccessIssue]

    def begun(self: Any, *given: Any) -> Any:
        """Go on once all four calls have begun: calls that wait for one another never get there."""
        pid = begin(self, *given)
        running.wait()
        return pid

    monkeypatch.setattr(kind, "_begin", begun)
    threads = [threading.Thread(target=lambda s=s: values.append(s.run("1 + 1").value)) for s in sessions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    monkeypatch.undo()
    for session in sessions:
        session.close()
    assert values == ["2"] * 4


def test_closed_session_says_so(sandbox: Sandbox) -> None:
    session = sandbox.open()
    session.close()
    session.close()
    with pytest.raises(SandboxLostError, match="closed"):
        session.run("1")
