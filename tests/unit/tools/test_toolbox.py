"""One call -> one result, whatever the tool does."""

import asyncio
import dataclasses
import gc
import threading
from typing import Any

import numpy as np
import pytest

from agentgym.errors import RegistrationError, ServiceError, ToolError
from agentgym.seeding import stream
from agentgym.task import Limits
from agentgym.tools import Tool, Toolbox, ToolContext, ToolOutput, tool
from agentgym.tools.services import EpisodeServices
from agentgym.types import DocRef, Passage, ToolCall, ToolResult


@tool
def add(a: int, b: int = 1) -> int:
    """Add."""
    return a + b


@tool
async def add_later(a: int) -> int:
    """Add, later."""
    await asyncio.sleep(0)
    return a + 1


@tool(mutates=True)
def put(ctx: ToolContext, key: str, value: int) -> dict:
    """Put a value; negative ones fail half-way."""
    ctx.state["table"][key] = value
    if value < 0:
        raise ToolError(f"{key}: {value} is negative")
    if value == 13:
        raise KeyError("secret detail")
    return ctx.state["table"]


def box(*tools: Tool, **limits: Any) -> Toolbox:
    return Toolbox(tools, Limits(**limits))


def run(toolbox: Toolbox, name: str, ctx: ToolContext | None = None, used: Any = None, **arguments: Any) -> ToolResult:
    return asyncio.run(toolbox.run(ToolCall(name, arguments, "c7"), ctx or ToolContext(), used))


def test_results():
    assert run(box(add), "add", a=2) == ToolResult("c7", "add", True, 3)
    assert run(box(add_later), "add_later", a=2).data == 3


def test_a_plain_tool_never_suspends():
    turn = box(add).run(ToolCall("add", {"a": 1}), ToolContext(), {})
    with pytest.raises(StopIteration) as stop:
        turn.send(None)
    assert stop.value.value.data == 2


def test_bad_calls_do_not_reach_the_tool():
    toolbox = box(add, put, tool_budgets={"add": 2})
    unknown = run(toolbox, "ad", a=1)
    assert (unknown.ok, unknown.code) == (False, "E_UNKNOWN_TOOL")
    assert "did you mean 'add'?; allowed: add, put" in unknown.error
    assert run(toolbox, "add", a="1").code == "E_ARGS"
    assert run(toolbox, "add", used={"add": 1}, a=1).ok
    spent = run(toolbox, "add", used={"add": 2}, a="1")
    assert (spent.code, spent.error) == ("E_BUDGET", "the budget of add is used up (2 calls); others: put")
    call = ToolCall("add", {"a": 1})
    assert asyncio.run(toolbox.run(call, ToolContext(), {"add": 2}, Limits())).ok


def test_values_that_a_class_of_the_tool_refuses_are_bad_arguments():
    @dataclasses.dataclass
    class Range:
        low: int
        high: int

        def __post_init__(self) -> None:
            if self.low > self.high:
                raise ValueError(f"low {self.low} is above high {self.high}")

    def span(r: Range) -> int:
        return r.high - r.low

    span.__annotations__ = {"r": Range}
    toolbox = box(tool(span))
    assert run(toolbox, "span", r={"low": 1, "high": 3}).data == 2
    refused = run(toolbox, "span", r={"low": 4, "high": 3})
    assert (refused.code, refused.error) == ("E_ARGS", "span: low 4 is above high 3")


@pytest.mark.parametrize(
    ("value", "code", "error"),
    [(-1, "E_TOOL", "k: -1 is negative"), (13, "E_TOOL", "put failed: KeyError")],
)
def test_a_failed_change_leaves_no_trace(value: int, code: str, error: str):
    ctx = ToolContext({"table": {"old": 1}})
    result = run(box(put), "put", ctx, key="k", value=value)
    assert (result.ok, result.code, result.error, result.mutated) == (False, code, error, False)
    assert ctx.state == {"table": {"old": 1}}


def test_a_change_is_committed_and_the_result_is_apart_from_the_state():
    before = {"table": {"old": 1}}
    ctx = ToolContext(before)
    result = run(box(put), "put", ctx, key="k", value=2)
    assert result.mutated
    assert ctx.state == {"table": {"old": 1, "k": 2}}
    assert before == {"table": {"old": 1}}
    ctx.state["table"]["k"] = 3
    assert result.data == {"old": 1, "k": 2}
    assert not run(box(put), "put", ctx, key="k", value=3).mutated


def test_states_that_are_no_plain_data_are_copied_too():
    ctx = ToolContext({"table": {}, "odd": np.arange(2)})  # pyright: ignore[reportArgumentType]

    @tool(mutates=True)
    def spoil(ctx: ToolContext) -> None:
        ctx.state["odd"][0] = 9
        raise ToolError("no")

    assert run(box(spoil), "spoil", ctx).error == "no"
    assert list(ctx.state["odd"]) == [0, 1]

    @tool(mutates=True)
    def change(ctx: ToolContext) -> None:
        ctx.state["odd"][0] = 9

    held = ToolContext({"odd": np.arange(2), "lock": threading.Lock})  # pyright: ignore[reportArgumentType]
    assert run(box(change), "change", held).mutated
    assert list(held.state["odd"]) == [9, 1]


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (float("nan"), "not JSON: Out of range float"),
        ([float("inf")], "not JSON: Out of range float"),
        (object(), "not JSON: Object of type object"),
        (np.float32(1), "not JSON: Object of type float32"),
        ({(1, 2): 3}, "not JSON: keys must be"),
    ],
)
def test_results_that_are_no_json_are_failures(value: Any, error: str):
    @tool
    def give() -> Any:
        return value

    result = run(box(give), "give")
    assert result.code == "E_TOOL"
    assert error in result.error


def test_a_result_that_holds_itself_is_a_failure():
    @tool
    def give() -> Any:
        loop: list = []
        loop.append(loop)
        return loop

    assert run(box(give), "give").code == "E_TOOL"


def test_results_are_cleaned():
    @tool
    def give(n: int) -> Any:
        return ["a\x00\ud800\x7f", {"b\x1b": ("c", None, True)}, "d\x85"] if n else "e\x00"

    assert run(box(give), "give", n=1).data == ["a", {"b": ["c", None, True]}, "d"]
    assert run(box(give), "give", n=0).data == "e"


@pytest.mark.parametrize(
    "error", [SystemExit(1), RecursionError(), ValueError("x" * 9), TimeoutError(), StopIteration()]
)
@pytest.mark.parametrize("timeout_s", [None, 5])
def test_whatever_a_tool_raises_is_a_result(error: BaseException, timeout_s: float | None):
    @tool(timeout_s=timeout_s)
    def fail() -> None:
        raise error

    result = run(box(fail), "fail")
    assert result.code == "E_TOOL"
    assert "x" * 9 not in result.error


def test_a_fault_of_a_service_is_no_fault_of_the_policy():
    @tool
    def fail() -> None:
        raise ServiceError("index is down")

    with pytest.raises(ServiceError, match="index is down"):
        run(box(fail), "fail")


def test_a_late_tool_changes_nothing_and_its_thread_is_counted():
    go, done = threading.Event(), threading.Event()

    @tool(timeout_s=0.05, mutates=True)
    def slow(ctx: ToolContext) -> int:
        go.wait(20)
        ctx.state["x"] = 2
        done.set()
        return 1

    ctx, toolbox = ToolContext({"x": 1}), box(slow)
    result = run(toolbox, "slow", ctx)
    assert (result.code, result.error) == ("E_TIMEOUT", "slow took longer than 0.05 s; nothing changed")
    assert toolbox.abandoned == 1
    go.set()
    assert done.wait(20)
    assert ctx.state == {"x": 1}


def test_a_late_async_tool_is_cancelled():
    cancelled = []

    @tool(timeout_s=0.05)
    async def slow() -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            cancelled.append(True)
            raise

    toolbox = box(slow)
    assert run(toolbox, "slow").code == "E_TIMEOUT"
    assert (cancelled, toolbox.abandoned) == ([True], 1)


@pytest.mark.parametrize("timeout_s", [None, 20])
def test_a_cancellation_of_the_tools_own_making_is_its_failure(timeout_s):
    @tool(timeout_s=timeout_s)
    async def gives_up() -> None:
        inner = asyncio.ensure_future(asyncio.sleep(20))
        inner.cancel()
        await inner

    result = run(box(gives_up), "gives_up")
    assert (result.code, result.error) == ("E_TOOL", "gives_up failed: CancelledError")


def test_a_call_that_is_given_up_ends_quietly():
    logged = []

    @tool(timeout_s=20)
    async def stubborn() -> None:
        try:
            await asyncio.sleep(20)
        except asyncio.CancelledError:
            raise ValueError("too late") from None

    async def given_up():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: logged.append(context["message"]))
        call = asyncio.ensure_future(box(stubborn).run(ToolCall("stubborn", {}, "c7"), ToolContext()))
        await asyncio.sleep(0.01)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.sleep(0)
        gc.collect()

    asyncio.run(given_up())
    assert logged == []


def test_an_episode_ends_although_something_is_still_being_opened():
    class Resource:
        closed = False

        def close(self):
            self.closed = True

    services, resource, go, failed = EpisodeServices(), Resource(), threading.Event(), []

    def make():
        assert go.wait(60)
        return resource

    def call():
        try:
            services.opened("slow", make)
        except ServiceError as error:
            failed.append(str(error))

    opening = threading.Thread(target=call)
    opening.start()
    ending = threading.Thread(target=services.close)
    ending.start()
    ending.join(20)
    held_up = ending.is_alive()
    go.set()
    opening.join(60)
    assert not held_up, "whoever ends an episode runs the loop of all others"
    assert (resource.closed, failed) == (True, ["slow: the episode ended while it was opened"])
    assert services.opened("slow", lambda: 3) == 3, "it may be opened again"


def test_timely_tools_with_a_limit_commit():
    @tool(timeout_s=20, mutates=True)
    def quick(ctx: ToolContext) -> int:
        ctx.state["x"] = int(ctx.rng.integers(100))
        return ctx.state["x"]

    @tool(timeout_s=20, mutates=True)
    async def quick_async(ctx: ToolContext) -> int:
        ctx.state["x"] = int(ctx.rng.integers(100))
        return ctx.state["x"]

    for item in (quick, quick_async):
        ctx = ToolContext({"x": -1}, rng=stream(1))
        values = [run(box(item), item.name, ctx).data for _ in range(3)]
        assert values == [int(v) for v in stream(1).integers(100, size=3)]
        assert ctx.state == {"x": values[-1]}


def test_the_random_stream_is_made_at_its_first_use():
    made = []

    @tool
    def draw(ctx: ToolContext) -> float:
        return ctx.rng.random() + ctx.rng.random()

    ctx = ToolContext(rng=lambda: made.append(1) or stream(4))
    run(box(add), "add", ctx, a=1)
    assert made == []
    reference = stream(4)
    assert run(box(draw), "draw", ctx).data == reference.random() + reference.random()
    assert made == [1]


def test_documents_are_handed_over():
    passages = (Passage("a\x00", "T", "text"), Passage("b", "U", "more"))

    @tool
    def find(scored: bool) -> ToolOutput:
        return ToolOutput([1], passages, (2.0, 1.0) if scored else ())

    result = run(box(find), "find", scored=True)
    assert result.data == [1]
    assert result.documents == (DocRef("a", "T", "text", 0, 2.0), DocRef("b", "U", "more", 1, 1.0))
    assert [d.score for d in run(box(find), "find", scored=False).documents] == [0.0, 0.0]


def test_what_a_toolbox_refuses():
    with pytest.raises(RegistrationError, match="decorate the function"):
        Toolbox([lambda: None])  # pyright: ignore[reportArgumentType]
    with pytest.raises(RegistrationError, match="two tools are called 'add'"):
        box(add, add)
    final = tool(final=True, name="end")(lambda: None)
    toolbox = box(add, final)
    assert [toolbox.is_final(n) for n in ("add", "end", "none")] == [False, True, False]
    assert [s.name for s in toolbox.specs] == ["add", "end"]
