"""`isolated`: a function that crashes, hangs or prints for ever is an observation, and leaves no process behind."""

import asyncio
import gc
import os
import threading
from pathlib import Path

import pytest
import tool_functions as theirs

from agentgym.errors import RegistrationError, ServiceError
from agentgym.seeding import stream
from agentgym.tools import Toolbox, ToolContext, own_process, tool
from agentgym.tools.own_process import isolated
from agentgym.types import ToolCall

SECONDS = {"hang", "spin", "print", "stop"}


def run(box, name, arguments, ctx=None):
    ctx = ctx or ToolContext(state={}, rng=stream(0), task_id="t1")
    return asyncio.run(box.run(ToolCall(name, arguments, "c1"), ctx)), ctx


def children() -> int:
    gc.collect()
    return sum(len(path.read_text().split()) for path in Path("/proc/self/task").glob("*/children"))


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


def test_a_tool_in_a_cycle_ends_its_children_before_they_are_collected():
    def pool_of(item):
        return next(c.cell_contents for c in item.fn.__closure__ if isinstance(c.cell_contents, own_process._Pool))

    first = isolated(theirs.misbehave)
    run(Toolbox([first]), "misbehave", {"how": "well"})
    child = pool_of(first).idle.take()
    pool = own_process._Pool("tool_functions:misbehave", 1.0, 0)  # younger than its child: collected after it
    pool.idle.give(child)
    process, pool.itself = child.pid, pool
    del child, pool, first
    gc.collect()  # a child that still runs, or an open pipe, would warn
    assert not Path(f"/proc/{process}").exists()


def test_what_a_function_breaks_is_told_as_in_place():
    for how in ("raise", "refuse", "exit", "set", "nan"):
        results = [run(Toolbox([item]), "misbehave", {"how": how})[0] for item in (theirs.misbehave, isolated(theirs.misbehave))]
        assert results[0].error == results[1].error, how


def test_a_fault_of_a_service_stays_one():
    with pytest.raises(ServiceError, match="the shop is closed"):
        run(Toolbox([isolated(theirs.misbehave)]), "misbehave", {"how": "service"})


def test_a_limit_that_passes_as_the_reply_comes_ends_no_later_call(monkeypatch):
    item = isolated(theirs.misbehave, timeout_s=1.5)
    box, exchange, signal_child = Toolbox([item]), own_process._exchange, own_process._signal
    assert run(box, "misbehave", {"how": "well"})[0].data == "fine"
    passed, serving = threading.Event(), threading.Event()

    def reply_at_the_limit(child, question):
        reply = exchange(child, question)
        assert passed.wait(60)
        return reply

    def serve_first(child):
        passed.set()
        serving.wait(0.5)  # whoever would be served by this child meanwhile
        signal_child(child)

    def served(child, question):
        serving.set()
        return exchange(child, question)

    monkeypatch.setattr(own_process, "_signal", serve_first)
    monkeypatch.setattr(own_process, "_exchange", reply_at_the_limit)
    assert run(box, "misbehave", {"how": "well"})[0].data == "fine", "the reply was there"
    monkeypatch.setattr(own_process, "_exchange", served)
    later = run(box, "misbehave", {"how": "well"})[0]
    assert later.data == "fine", later.error


def test_the_start_of_a_process_does_not_count_as_the_calls_time(monkeypatch):
    monkeypatch.setattr(own_process, "_CHILD", f"import time; time.sleep(1.7); {own_process._CHILD}")
    assert run(Toolbox([isolated(theirs.misbehave, timeout_s=1.5)]), "misbehave", {"how": "well"})[0].data == "fine"


def test_a_process_that_cannot_start_is_no_fault_of_the_policy(monkeypatch):
    monkeypatch.setattr(own_process, "place_of", lambda fn: "no_such_module:add")
    with pytest.raises(ServiceError, match=r"cannot start: .*no_such_module"):
        run(Toolbox([isolated(theirs.add)]), "add", {"item": "tea"})


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where there are threads
def test_a_fork_of_the_process_starts_children_of_its_own():
    item = isolated(theirs.misbehave)
    assert run(Toolbox([item]), "misbehave", {"how": "well"})[0].data == "fine"
    (pool,) = (cell.cell_contents for cell in item.fn.__closure__ if isinstance(cell.cell_contents, own_process._Pool))
    (child,) = pool.idle.children
    pid = os.fork()
    if not pid:
        code = 1
        try:
            code = 0 if run(Toolbox([item]), "misbehave", {"how": "well"})[0].data == "fine" and pool.idle.children != [child] else 2
            pool.idle.end()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert run(Toolbox([item]), "misbehave", {"how": "well"})[0].data == "fine"
    assert pool.idle.children == [child], "the fork left the parent's child alone"


def test_a_function_that_no_other_process_finds_is_refused():
    @tool
    def inner() -> str:
        """Nothing."""
        return ""

    with pytest.raises(RegistrationError, match="top of a module"):
        isolated(inner)
