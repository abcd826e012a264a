"""Task sets that others published: their solutions are solutions here, nothing short of them is, broken files say where."""

import contextlib
import json
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import agentgym  # noqa: F401
from agentgym.envs.tool_calls.published.arithmetic import calculated
from agentgym.envs.tool_calls.published.bfcl import BfclTasks
from agentgym.envs.tool_calls.published.python_calls import parse_call, read_call
from agentgym.envs.tool_calls.published.tau2_retail import load
from agentgym.errors import AgentGymError, ConfigError, DataError, ToolError
from agentgym.tools import ToolContext
from agentgym.types import ToolCall


def make(world: str, reward: str = "tools"):
    return gym.make("ToolCalls-v0", world=world, reward=reward).unwrapped


def solved(env, task) -> bool:
    env.reset(options={"task": task})
    while not env.ended:
        env.step(env.oracle_action(np.random.default_rng(0), 0.0))
    return env.trajectory.success


def idle(env, task) -> bool:
    env.reset(options={"task": task})
    while not env.ended:
        env.step("I cannot help with that.")
    return env.trajectory.success


# ---- real files

IDLE = ["tau2_retail.12", "tau2_retail.57", "tau2_retail.105"]
"""They ask for nothing but words that only a judge can check (105: what its action asks for cannot be had)."""


@pytest.mark.data
def test_tau2_retail(data_dir: Path) -> None:
    env = make(f"tau2_retail?folder={data_dir / 'tools/tau2_retail'}")
    tasks = env.tasks("all")
    assert len(tasks) == 52
    assert all(solved(env, task) for task in tasks)
    assert [task.id for task in tasks if idle(env, task)] == IDLE


@pytest.mark.data
@pytest.mark.parametrize(("name", "n"), [("simple_python", 400), ("multiple", 200), ("parallel", 200), ("irrelevance", 240)])
def test_bfcl_single_turns(data_dir: Path, name: str, n: int) -> None:
    env = make(f"bfcl?set={name}&folder={data_dir / 'tools/bfcl'}", "calls")
    tasks = env.tasks("all")
    assert len(tasks) == n
    assert all(solved(env, task) for task in tasks[::3])
    assert all(idle(env, task) == (name == "irrelevance") for task in tasks[::9])


@pytest.mark.data
@pytest.mark.bfcl
@pytest.mark.parametrize(("name", "contradictory"), [("base", set()), ("miss_func", {"multi_turn_miss_func_49"})])
def test_bfcl_multi_turn(data_dir: Path, name: str, contradictory: set[str]) -> None:
    env = make(f"bfcl?set=multi_turn_{name}&folder={data_dir / 'tools/bfcl'}")
    tasks = env.tasks("all")
    assert len(tasks) == 200
    failed = {task.id for task in tasks if not solved(env, task)}
    assert failed == contradictory, "its answer calls a function that it withholds until later"
    assert not any(idle(env, task) for task in tasks[::8])


@pytest.mark.data
@pytest.mark.bfcl
def test_bfcl_state_survives_a_snapshot_and_branches(data_dir: Path) -> None:
    env, twin = (make(f"bfcl?set=multi_turn_base&folder={data_dir / 'tools/bfcl'}") for _ in range(2))
    for task in env.tasks("all")[::40]:
        env.reset(options={"task": task})
        rng = np.random.default_rng(0)
        for _ in range(2):
            env.step(env.oracle_action(rng, 0.0))
        state = env.snapshot()
        twin.reset(options={"task": task})
        for player in (env, twin):
            player.restore(state)
            while not player.ended:
                player.step(player.oracle_action(rng, 0.0))
            assert player.trajectory.success


@pytest.mark.data
def test_api_bank(data_dir: Path) -> None:
    with pytest.warns(UserWarning, match="8 dialogues are left out"):
        first = make(f"api_bank?file={data_dir / 'tools/apibank.level-1.json'}", "calls")
    assert len(first.tasks("all")) == 391
    assert all(solved(first, task) for task in first.tasks("all")[::5])
    assert not any(idle(first, task) for task in first.tasks("all")[::20])


# ---- the retail tools


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    variants = {i: {"item_id": i, "options": {"size": i}, "available": i != "x", "price": 10.0 + n} for n, i in enumerate("abcx")}
    item = {"name": "Cup", "product_id": "p", "price": 10.0, "options": {"size": "a"}, "item_id": "a"}
    other = {**item, "item_id": "b", "price": 11.0}
    payment = [{"transaction_type": "payment", "amount": 21.0, "payment_method_id": "gift_card_1"}]
    order = {"order_id": "#W1", "user_id": "u", "status": "pending", "items": [item, other], "payment_history": payment, "address": {}}
    methods = {"gift_card_1": {"source": "gift_card", "id": "gift_card_1", "balance": 1.0}, "paypal_1": {"source": "paypal", "id": "paypal_1"}}
    user = {"user_id": "u", "name": {"first_name": "A", "last_name": "B"}, "address": {"zip": "1"}, "email": "a@b.c", "payment_methods": methods, "orders": ["#W1", "#W2"]}
    rows = {"orders": {"#W1": order, "#W2": {**order, "order_id": "#W2", "status": "delivered"}}, "users": {"u": user}, "products": {"p": {"name": "Cup", "product_id": "p", "variants": variants}}}
    actions = [{"name": "get_user_details", "arguments": {"user_id": "nobody"}}, {"name": "cancel_pending_order", "arguments": {"order_id": "#W1", "reason": "no longer needed"}}]
    said = {"reason_for_call": "You want to cancel your order.", "known_info": "You are A B, zip 1.", "task_instructions": "."}
    wanted = {"actions": actions, "communicate_info": ["21.0"], "nl_assertions": ["It is said."], "reward_basis": ["DB"]}
    (tmp_path / "db.json").write_text(json.dumps(rows))
    (tmp_path / "policy.md").write_text("# Policy\n")
    (tmp_path / "tasks.json").write_text(json.dumps([{"id": "0", "user_scenario": {"instructions": said}, "evaluation_criteria": wanted}]))
    return tmp_path


def test_each_replaced_item_gets_its_own_price(shop: Path) -> None:
    source = load(folder=str(shop))
    task = source.by_id("tau2_retail.0")
    domain = source.domain(task)
    tools = {t.name: t for t in domain.tools(task)}

    def call(name: str, **given):
        context = ToolContext(domain.initial_state(task), services=domain.services(task))
        return tools[name].fn(**tools[name].keywords(given, context)), context.state

    swap = {"order_id": "#W1", "item_ids": ["a", "b"], "new_item_ids": ["b", "c"]}
    order, state = call("modify_pending_order_items", **swap, payment_method_id="paypal_1")
    assert [(i["item_id"], i["price"]) for i in order["items"]] == [("b", 11.0), ("c", 12.0)]
    assert order["payment_history"][-1] == {"transaction_type": "payment", "amount": 2.0, "payment_method_id": "paypal_1"}
    assert state["users"] == {}
    for name, arguments, message in [
        ("modify_pending_order_items", {**swap, "payment_method_id": "gift_card_1"}, "does not cover"),
        ("modify_pending_order_items", {**swap, "new_item_ids": ["b"], "payment_method_id": "paypal_1"}, "as many"),
        ("modify_pending_order_items", {**swap, "new_item_ids": ["x", "c"], "payment_method_id": "paypal_1"}, "cannot be had"),
        ("modify_pending_order_items", {**swap, "item_ids": ["a", "a"], "payment_method_id": "paypal_1"}, "so often"),
        ("modify_pending_order_payment", {"order_id": "#W1", "payment_method_id": "gift_card_1"}, "must differ"),
        ("return_delivered_order_items", {"order_id": "#W2", "item_ids": ["a"], "payment_method_id": "paypal_1"}, "original"),
        ("cancel_pending_order", {"order_id": "#W2", "reason": "no longer needed"}, "non-pending"),
        ("cancel_pending_order", {"order_id": "#W1", "reason": "because"}, "invalid reason"),
        ("get_order_details", {"order_id": "W1"}, "there is no order"),
    ]:
        with pytest.raises(ToolError, match=message):
            call(name, **arguments)
    _, state = call("cancel_pending_order", order_id="#W1", reason="no longer needed")
    assert state["users"]["u"]["payment_methods"]["gift_card_1"]["balance"] == 22.0


def test_a_retail_task(shop: Path) -> None:
    env = make(f"tau2_retail?folder={shop}")
    (task,) = env.tasks("all")
    assert [c.name for c in task.gold.trace] == ["ask_user", "cancel_pending_order", "finish"], "failing look-ups are left out"
    assert solved(env, task)
    assert not idle(env, task)
    env.reset(options={"task": task})
    assert "I am A B, zip 1." in env.step(env.dialect.render([call_of("ask_user", question="What is your name?")], env.specs))[0]
    judged = make(f"tau2_retail?folder={shop}&assertions=judged").tasks("all")[0]
    assert [c.question for c in judged.gold.checklist if c.kind == "judge"] == ["It is said."]


def call_of(name: str, **arguments):
    return ToolCall(name, arguments)


# ---- bad input


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("db.json", "[]", r"db\.json: a JSON object is needed"),
        ("db.json", '{"orders": {}}', "the table 'users' is missing"),
        ("tasks.json", "[{", r"tasks\.json: no JSON"),
        ("tasks.json", '[{"id": 1}]', "task 0 has no id"),
        ("tasks.json", "[]", "no tasks"),
        ("policy.md", None, r"policy\.md: No such file"),
    ],
)
def test_broken_folders_are_named(shop: Path, file: str, text: str | None, message: str) -> None:
    (shop / file).unlink()
    if text is not None:
        (shop / file).write_text(text)
    with pytest.raises(DataError, match=message):
        make(f"tau2_retail?folder={shop}")


@pytest.mark.parametrize(
    ("world", "message"),
    [
        ("tau2_retail", "name the folder"),
        ("api_bank", "name the file"),
        ("bfcl?set=simple_pyton", "did you mean 'simple_python'"),
        ("bfcl?set=multiple&folder=nowhere", "No such file"),
    ],
)
def test_worlds_that_cannot_be_opened(world: str, message: str) -> None:
    with pytest.raises(AgentGymError, match=message):
        make(world, "calls")


def test_broken_bfcl_rows_are_named(tmp_path: Path) -> None:
    (tmp_path / "possible_answer").mkdir()
    questions, answers = tmp_path / "BFCL_v4_multiple.json", tmp_path / "possible_answer" / "BFCL_v4_multiple.json"
    questions.write_text('{"id": "m0", "question": []}\n{"id"')
    answers.write_text('{"id": "m1", "ground_truth": []}\n')
    with pytest.raises(DataError, match=r"multiple\.json:2: no JSON"):
        BfclTasks(tmp_path, "multiple")
    questions.write_text('{"id": "m0", "question": []}\n')
    with pytest.raises(DataError, match="no ground truth for 'm0'"):
        BfclTasks(tmp_path, "multiple")
    answers.write_text('{"id": "m0", "ground_truth": []}\n')
    with pytest.raises(DataError, match="m0: not as BFCL v4 writes it"):
        BfclTasks(tmp_path, "multiple").by_id("m0")
    with pytest.raises(ConfigError, match="has no task 'm2'"):
        BfclTasks(tmp_path, "multiple").by_id("m2")


# ---- calls and sums that are read, not run


def test_calls_written_as_python() -> None:
    call = read_call("a.mv('x', destination={'k': (1, -2.5)})", ["source", "destination"])
    assert (call.name, call.arguments) == ("a.mv", {"source": "x", "destination": {"k": [1, -2.5]}})
    for bad in ("mv", "mv(x)", "mv(*[1])", "mv(**{})", "mv(a=open('f'))", "mv(b'1')", "mv(", "mv('a', 'b', 'c')", "(" * 5_000):
        with pytest.raises(DataError):
            read_call(bad, ["source", "destination"])


@given(st.text(max_size=200))
def test_any_text_is_a_call_or_refused(text: str) -> None:
    with contextlib.suppress(DataError):
        parse_call(text)
    with contextlib.suppress(ToolError):
        assert abs(calculated(text)) < float("inf")


@pytest.mark.parametrize(("text", "value"), [("2 + 3*(4-1)/-2", -2.5), ("1e3", 1000.0), (" 7 ", 7.0)])
def test_sums(text: str, value: float) -> None:
    assert calculated(text) == value


@pytest.mark.parametrize("text", ["", "1/0", "9**9", "a", "True", "1e400", "f(1)", "1" * 5_000, "(" * 900 + ")" * 900, "1e308*10"])
def test_what_is_no_sum(text: str) -> None:
    with pytest.raises(ToolError):
        calculated(text)
