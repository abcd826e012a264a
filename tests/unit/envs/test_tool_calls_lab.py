"""The laboratory: files are state, code runs in the sandbox alone, and nothing but a repaired program passes."""


import pytest
from tool_players import idlers, make, oracle, plan, play

from agentgym.envs.tool_calls.domains.lab import Lab, bars
from agentgym.envs.tool_calls.domains.lab_programs import PROGRAMS
from agentgym.envs.tool_calls.tasks import open_world
from agentgym.errors import AgentGymError
from agentgym.sandbox import SandboxUnavailableError, shared_sandbox
from agentgym.task import Task
from agentgym.types import ToolCall


def _missing() -> str:
    try:
        shared_sandbox("bubblewrap")
    except AgentGymError as error:
        return str(error)
    return ""


MISSING = _missing()
needs_sandbox = pytest.mark.skipif(bool(MISSING), reason=f"no sandbox here: {MISSING}")
WORLD = "lab?seed=2&size=20"


def task_of(kind: str, n: int = 0) -> Task:
    return open_world(f"{WORLD}&kinds={kind}").split("train")[n]


@needs_sandbox
def test_the_solution_of_every_kind_succeeds_and_idlers_do_not() -> None:
    env = make(world=WORLD)
    for n in range(18):
        task = env.tasks()[n]
        record = oracle(env, task)
        assert record.success, (task.id, task.kind, record.scores["task_success"].reason, record.turns[-2].results)
        for name, calls in idlers(task):
            assert not play(env, task, calls).success, (task.kind, name)


@needs_sandbox
@pytest.mark.parametrize("program", PROGRAMS, ids=lambda p: p.name)
def test_a_repair_must_do_what_the_hidden_tests_ask(program) -> None:
    env = make(world=WORLD)
    task = next(t for n in range(60) if (t := task_of("repair", n)).gold.trace[1].arguments["name"] == program.name)
    calls = plan(task)
    cheats = {
        "prints passed": "print('passed')\nimport os\nos._exit(0)\n",
        "only what is shown": f"{program.broken[0]}\n",
        "exits at once": "raise SystemExit\n",
        "prints what is expected of nothing": "print('\\n'.join(['2'] * 40))\n",
        "nothing": "",
        "does not parse": "def",
        "for ever": "while True: pass\n",
    }
    for name, text in cheats.items():
        record = play(env, task, [calls[0], ToolCall("write_file", {**calls[1].arguments, "text": text}), *calls[2:]])
        assert record.turns[2].results[0].ok, "a fault of the program is an answer"
        assert record.turns[2].results[0].data["passed"] is False, name
        assert not record.success, name
    spoilt = [*calls[:3], ToolCall("write_file", {**calls[1].arguments, "text": program.broken[0]}), calls[3]]
    assert not play(env, task, spoilt).success, "tests passed before the last change count for nothing"
    weaker = ToolCall("write_file", {"name": f"test_{program.name}", "text": "pass"})
    assert not play(env, task, [*calls[:3], weaker, calls[3]]).success, "tests are not to be changed"
    beside = ToolCall("write_file", {"name": "notes.txt", "text": "x"})
    assert play(env, task, [beside, *calls]).success, "files of its own are a policy's own business"


@needs_sandbox
def test_tables_stay_as_they_are_and_charts_are_read() -> None:
    env = make(world=WORLD)
    task = task_of("chart")
    calls = plan(task)
    table = next(name for name in env.domain(task).data if name in task.question)
    assert oracle(env, task).success
    assert not play(env, task, [ToolCall("write_file", {"name": table, "text": "x"}), *calls]).success
    wrong = ToolCall("write_file", {"name": table.replace(".csv", ".svg"), "text": "<svg><rect id='a' height='3'/></svg>"})
    assert not play(env, task, [wrong, calls[-1]]).success
    assert play(env, task, [wrong, *calls]).success, "it may be drawn again"


@needs_sandbox
def test_programs_do_what_they_like_and_the_episode_goes_on() -> None:
    env = make(world=WORLD)
    for code, found in (("1/0", "ZeroDivisionError"), ("while True: pass", "cpu wall"), ("print('x' * 10**8)", "output memory x"), ("open('/etc/passwd')", "Error"),
                        ("open('a/b', 'w')", "Error"), ("import os; os.kill(os.getpid(), 9)", "signal"), ("x = [0] * 10**10", "MemoryError memory")):  # fmt: skip
        record = play(env, task_of("compute"), [ToolCall("python", {"code": code}), ToolCall("find_files", {"text": ""})])
        assert any(word in str(record.turns[0].results[0].data) + record.turns[0].results[0].error for word in found.split()), code
        assert record.turns[1].results[0].ok
    many = "for n in range(60): open(f'f{n}', 'w').write('x')"
    result = play(env, task_of("compute"), [ToolCall("python", {"code": many})]).turns[0].results[0]
    assert result.code == "E_TOOL"
    assert "at most 24" in result.error
    kept = [ToolCall("python", {"code": "open('mine.py', 'w').write('x = 5')"}), ToolCall("python", {"code": "import mine; print(mine.x)"})]
    record = play(env, task_of("compute"), kept)
    assert record.turns[1].results[0].data["stdout"] == "5\n"
    assert [c.path for c in record.turns[0].changes] == [("made", "mine.py")]


def test_tasks_are_made_without_a_sandbox_and_its_lack_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(name: str) -> None:
        raise SandboxUnavailableError("sandbox 'bubblewrap' is not available: install bubblewrap")

    monkeypatch.setattr("agentgym.envs.tool_calls.domains.lab.shared_sandbox", none)
    env = make(world="lab?seed=77&size=20")
    assert env.tasks()[0].gold.trace
    with pytest.raises(SandboxUnavailableError, match="install bubblewrap"):
        env.reset(seed=0)


def test_a_chart_that_is_none_has_no_bars() -> None:
    assert bars('<svg xmlns="http://www.w3.org/2000/svg"><g><rect id="a" height="2.04"/><rect id="b" height="7"/></g></svg>') == {"a": 2.0, "b": 7.0}
    bomb = '<!DOCTYPE s [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]><svg><rect id="a" height="1"/>&b;</svg>'
    for text in ("", "x", "<svg>", bomb, "<svg><rect id='a' height='NaN'/></svg>", "<svg><rect id='a' height='x'/></svg>", "<svg>" * 9_000):
        assert bars(text) == {}
    assert len(Lab(20, 1).starts) == 20
