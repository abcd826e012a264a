"""`isolated`: a function that crashes, hangs or prints for ever is an observation, and leaves no process behind."""

import asyncio
import gc
import os
from pathlib import Path

import pytest
import tool_functions as theirs

from agentgym.errors import RegistrationError
from agentgym.seeding import stream
from agentgym.tools import Toolbox, ToolContext, tool
from agentgym.tools.own_process import isolated
from agentgym.types import ToolCall

SECONDS = {"hang", "spin", "print", "stop"}


def run(box, name, arguments, ctx=None):
    ctx = ctx or ToolContext(state={}, rng=stream(0), task_id="t1")
    return asyncio.run(box.run(ToolCall(name, arguments, "c1"), ctx)), ctx


def children() -> int:
    gc.collect()
    return len(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_it_does_what_the_function_does_in_place():
    here, there = Toolbox([theirs.add]), Toolbox([isolated(theirs.add)])
    for box in (here, there):
        first, ctx = run(box, "add", {"item": "tea"})
        assert (first.ok, first.mutated, ctx.state) == (True, True, {"basket": ["tea"]})
        assert (first.data["now"], first.data["task"]) == ("2026-01-05T09:00:00+00:00", "t1")
        again, _ = run(box, "add", {"item": "milk"}, ctx)
        assert again.data["basket"] == ["tea", "milk"]
    assert run(there, "add", {"item": "x"})[0].data == run(there, "add", {"item": "x"})[0].data, "the same draw"


def test_whatever_the_function_does_is_an_observation_without_a_change():
    slow = isolated(theirs.misbehave, timeout_s=0.3, memory_mb=2_000)
    fast = isolated(theirs.misbehave, timeout_s=20, memory_mb=2_000)
    for how in theirs.BAD:
        result, ctx = run(Toolbox([slow if how in SECONDS else fast]), "misbehave", {"how": how})
        assert (result.ok, result.code, ctx.state) == (False, "E_TOOL", {}), how
        assert "secret" not in result.error
        if how in SECONDS:
            assert "longer than 0.3 s" in result.error
        if how in ("os_exit", "kill"):
            assert {"os_exit": "exit code 7", "kill": "signal 9"}[how] in result.error
        assert run(Toolbox([fast]), "misbehave", {"how": "well"})[0].data == "fine", "the next call has a process"


def test_a_function_that_forks_answers_once():
    box = Toolbox([isolated(theirs.fork)])
    assert [run(box, "fork", {})[0].data for _ in range(3)] == ["parent"] * 3


def test_modules_in_the_working_folder_do_not_take_the_place_of_others(tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise RuntimeError\n")
    monkeypatch.chdir(tmp_path)
    assert run(Toolbox([isolated(theirs.misbehave)]), "misbehave", {"how": "well"})[0].data == "fine"


def test_no_process_stays():
    before = children()
    item = isolated(theirs.misbehave, timeout_s=0.2)
    for how in ("well", "kill", "hang"):
        run(Toolbox([item]), "misbehave", {"how": how})
    del item
    assert children() == before


def test_a_function_that_no_other_process_finds_is_refused():
    @tool
    def inner() -> str:
        """Nothing."""
        return ""

    with pytest.raises(RegistrationError, match="top of a module"):
        isolated(inner)
