"""`python_tool` and `shell_tool`: one session an episode, what a program does is a result, a lost sandbox abstains."""

import asyncio
from dataclasses import replace

import pytest

from agentgym.errors import ConfigError, NotRegisteredError, ServiceError
from agentgym.sandbox import ExecResult, Limits, SandboxLostError, SandboxUnavailableError, open_sandbox
from agentgym.seeding import stream
from agentgym.tools import Toolbox, ToolContext
from agentgym.tools.sandboxed import python_tool, shell_tool
from agentgym.types import ToolCall


class FakeSession:
    workspace = "/work"

    def __init__(self, box, limits, files, seed):
        self.box, self.limits, self.state, self.seed, self.closed = box, limits or Limits(), dict(files or {}), seed, 0

    def run(self, code, *, wall_s=None):
        if code == "lost":
            raise SandboxLostError("the worker is gone")
        self.state.setdefault("ran", []).append(code)
        return self.box.say

    def shell(self, command, *, stdin=b"", wall_s=None):
        return self.run(f"sh {command}")

    def close(self):
        self.closed += 1

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def write(self, path, data): ...
    def read(self, path, max_bytes=0): ...
    def files(self): ...
    def remove(self, path): ...
    def fork(self): ...


class FakeSandbox:
    name, can_fork, limits = "fake", False, Limits()

    def __init__(self):
        self.sessions, self.say = [], ExecResult("out\n", "", 0, "2")

    def open(self, limits=None, *, files=None, seed=0):
        self.sessions.append(FakeSession(self, limits, files, seed))
        return self.sessions[-1]

    def available(self): ...
    def run(self, code, *, files=None, wall_s=None): ...
    def metrics(self): ...
    def close(self): ...


def call(box, name, text, ctx=None):
    argument = "code" if name == "python" else "command"
    return asyncio.run(box.run(ToolCall(name, {argument: text}, "c1"), ctx or ToolContext(rng=stream(0))))


def test_both_tools_share_the_episodes_session_and_it_is_closed_once():
    fake = FakeSandbox()
    box = Toolbox([python_tool(fake, files={"a.txt": "x"}), shell_tool(fake)])
    one, two = ToolContext(rng=stream(0)), ToolContext(rng=stream(0))
    assert call(box, "python", "1 + 1", one).data == {"stdout": "out\n", "value": "2"}
    call(box, "shell", "ls", one)
    call(box, "python", "3", two)
    assert [s.state for s in fake.sessions] == [{"a.txt": "x", "ran": ["1 + 1", "sh ls"]}, {"a.txt": "x", "ran": ["3"]}]
    assert fake.sessions[0].seed == fake.sessions[1].seed, "the same episode draws the same"
    one.services.close()
    one.services.close()
    assert [s.closed for s in fake.sessions] == [1, 0]


def test_a_session_that_the_environment_lends_is_used_and_stays_open():
    fake = FakeSandbox()
    lent = fake.open()
    ctx = ToolContext(rng=stream(0), services={"sandbox": lent})
    call(Toolbox([python_tool(FakeSandbox())]), "python", "1", ctx)
    ctx.services.close()
    assert (lent.state, lent.closed) == ({"ran": ["1"]}, 0)


def test_without_state_every_call_has_a_session_of_its_own():
    fake = FakeSandbox()
    item = python_tool(fake, keeps_state=False)
    for _ in range(2):
        call(Toolbox([item]), "python", "1")
    assert [(s.state, s.closed) for s in fake.sessions] == [({"ran": ["1"]}, 1)] * 2
    assert (item.live, python_tool(fake).live) == (False, True)


def test_how_a_program_ended_is_told():
    fake = FakeSandbox()
    box = Toolbox([python_tool(fake)])
    fake.say = ExecResult("", "Traceback …", 1, "", "ZeroDivisionError")
    assert call(box, "python", "1/0").data == {"stderr": "Traceback …", "error": "ZeroDivisionError", "exit_code": 1}
    fake.say = replace(fake.say, exit_code=None, killed_by="wall", state_kept=False, truncated=True, stderr="", error="")
    assert call(box, "python", "while 1: pass").data == {"killed": "it took longer than 10 s; names are as before the call", "truncated": True}


def test_a_lost_or_missing_sandbox_abstains():
    with pytest.raises(SandboxLostError):
        call(Toolbox([python_tool(FakeSandbox())]), "python", "lost")

    class Missing(FakeSandbox):
        def open(self, limits=None, *, files=None, seed=0):
            raise SandboxUnavailableError("install bubblewrap")

    with pytest.raises(ServiceError, match="install bubblewrap"):
        call(Toolbox([python_tool(Missing())]), "python", "1")


def test_an_unknown_backend_is_refused():
    with pytest.raises(NotRegisteredError, match="did you mean 'bubblewrap'"):
        python_tool("bubblewarp")
    with pytest.raises(ConfigError, match="give a sandbox"):
        python_tool(5)


def test_a_real_sandbox():
    try:
        sandbox = open_sandbox("bubblewrap")
    except ServiceError as missing:
        pytest.skip(str(missing))
    with_limits = Limits(wall_s=1.0, memory_mb=256)
    box = Toolbox([python_tool(sandbox, limits=with_limits), shell_tool(sandbox, limits=with_limits)])
    ctx = ToolContext(rng=stream(0))
    try:
        assert call(box, "python", "x = 20\nopen('n.txt', 'w').write('7')\nx + 1", ctx).data == {"value": "21"}
        assert call(box, "shell", "cat n.txt", ctx).data == {"stdout": "7"}
        assert call(box, "python", "x", ctx).data == {"value": "20"}
        for code, key in (("1/0", "error"), ("while True: pass", "killed"), ("import os; os.kill(os.getpid(), 9)", "killed"),
                          ("import os\nwhile True: os.fork()", ""), ("while True: print('x' * 1000)", ""), ("import os; os._exit(3)", "")):  # fmt: skip
            result = call(box, "python", code, ctx)
            assert result.ok, code
            assert not key or result.data.get(key), (code, result.data)
        assert call(box, "python", "x", ctx).data == {"value": "20"}
    finally:
        ctx.services.close()
        sandbox.close()
