"""The audit finds nothing in any world of ToolCalls: the solution succeeds, nobody else does, no gold is shown."""

import json
from pathlib import Path
from typing import Any

import pytest

import agentgym
from agentgym.audit.environment import AuditConfig, audit_env
from agentgym.audit.report import Report
from agentgym.errors import AgentGymError
from agentgym.gold import GoldCall
from agentgym.rewards.registering import FunctionComponent
from agentgym.sandbox import shared_sandbox

QUICK = AuditConfig(episodes=3, instances=2)


def failed(report: Report) -> list[tuple[str, str]]:
    return [(f.name, f.detail) for f in report.findings if f.status == "fail"]


@pytest.mark.slow
@pytest.mark.parametrize("dialect", ["json", "tags"])
@pytest.mark.parametrize("world", ["shop?seed=3", "office?seed=3", "drawn?worlds=5", "shop:closed?worlds=5", "lab?seed=3"])
def test_the_audit_passes(world: str, dialect: str) -> None:
    if world.startswith("lab"):
        try:
            shared_sandbox("bubblewrap")
        except AgentGymError as error:
            pytest.skip(f"no sandbox here: {error}")
    report = audit_env("ToolCalls-v0", AuditConfig(episodes=4, instances=8), world=world, dialect=dialect)
    assert [(f.name, f.detail) for f in report.findings if f.status == "fail"] == []
    rows = {row.name: row for row in report.rows}
    assert rows["oracle"].success == 1.0
    assert rows["empty"].success == rows["cheat"].success == rows["misread"].success == 0.0


# ---- tasks that ask for calls and for no words


@pytest.fixture
def bfcl(tmp_path: Path) -> str:
    """A few tasks in the form of BFCL's single turns; no function takes a plain text."""
    rows, answers = [], []
    for n in range(4):
        doc: Any = {"name": f"area.of_{n}", "description": "Compute an area of some form.", "parameters": {
            "type": "dict", "required": ["base", "height"],
            "properties": {k: {"type": "integer", "description": f"the {k} in metres"} for k in ("base", "height")},
        }}  # fmt: skip
        question = [[{"role": "user", "content": f"How large is a form of base {n + 2} and height {n + 3}?"}]]
        rows.append({"id": f"simple_python_{n}", "question": question, "function": [doc]})
        answers.append({"id": f"simple_python_{n}", "ground_truth": [{f"area.of_{n}": {"base": [n + 2], "height": [n + 3]}}]})
    (tmp_path / "possible_answer").mkdir()
    for path, body in ((tmp_path, rows), (tmp_path / "possible_answer", answers)):
        (path / "BFCL_v4_simple_python.json").write_text("".join(json.dumps(row) + "\n" for row in body))
    return f"bfcl?set=simple_python&folder={tmp_path}"


@pytest.mark.parametrize("dialect", ["json", "tags"])
def test_tasks_of_calls_alone_give_no_alarm(bfcl: str, dialect: str) -> None:
    report = audit_env("ToolCalls-v0", QUICK, world=bfcl, reward="calls", dialect=dialect)
    assert failed(report) == []
    rows = {row.name: row.success for row in report.rows}
    assert rows["misread"] == 1.0, "the calls are the solution, whatever is said behind them"
    assert rows["early stop"] == rows["id guessing"] == rows["misread and loop"] == 0.0


def test_a_reward_that_pays_for_nothing_is_found_in_such_tasks_too(bfcl: str) -> None:
    free = FunctionComponent(lambda view: 1.0, name="free", scope="trajectory", range=(0.0, 1.0), supply="terminal")
    report = audit_env("ToolCalls-v0", QUICK, world=bfcl, reward=free)
    assert {"hack: empty", "hack: early stop", "hack: padding"} <= {name for name, _ in failed(report)}
    assert "hack: misread" not in {name for name, _ in failed(report)}


@agentgym.tool(mutates=True)
def switch(device: str, on: bool, ctx: agentgym.ToolContext) -> str:
    """Switch a device.  device: its name.  on: whether it is on afterwards."""
    if device not in ctx.state["devices"]:
        raise agentgym.ToolError(f"there is no device {device[:40]!r}")
    ctx.state["devices"][device] = on
    return "done"


@pytest.mark.parametrize("names", [("lamp",), ("lamp", "fan", "oven")])
def test_tasks_of_ones_own_without_words_give_no_alarm(names: tuple[str, ...]) -> None:
    tasks = []
    for name in names:
        first = {"lamp": True, "fan": True, "oven": True}
        gold = agentgym.Gold(
            final_state={"devices": {**first, name: False}},
            trace=(GoldCall("g0", "switch", {"device": name, "on": False}), GoldCall("g1", "finish", {"message": "Off."}, {"message": "any"}, optional=True)),
        )
        tasks.append(agentgym.Task(f"t-{name}", f"Switch off the {name}, please.", gold, meta={"state": {"devices": first}, "rules": "You look after a house."}))
    report = audit_env("ToolCalls-v0", QUICK, tasks=tasks, tools=[switch], reward="task_success + 0.1*all_valid")
    assert failed(report) == []
    assert {row.name: row.success for row in report.rows}["misread"] == 1.0


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("world", "reward"),
    [
        ("tau2_retail?folder={}/tau2_retail", "tools"),
        ("api_bank?file={}/apibank.level-1.json", "calls"),
        ("bfcl?set=irrelevance&folder={}/bfcl", "calls"),
        ("bfcl?set=parallel&folder={}/bfcl", "calls"),
        pytest.param("bfcl?set=multi_turn_base&folder={}/bfcl", "tools", marks=pytest.mark.bfcl),
    ],
)
@pytest.mark.filterwarnings("ignore:.*dialogues are left out")
def test_published_sets_give_no_alarm(world: str, reward: str, data_dir: Path) -> None:
    made = world.format(data_dir / "tools")
    assert failed(audit_env("ToolCalls-v0", AuditConfig(episodes=4, instances=2), world=made, reward=reward)) == []
