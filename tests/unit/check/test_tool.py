"""check_tool: sound tools pass, and each planted fault is found and named."""

import importlib
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import agentgym
from agentgym.check import CheckFailed, check_tool, iter_tool_checks
from agentgym.envs.tool_calls import tables
from agentgym.errors import ServiceError
from agentgym.tools import Tool

STATE = {"orders": {"#W23": {"status": "open", "amount": 12.5}}}
CALL = {"order_id": "#W23"}


def made(body: Callable[..., Any], doc: str = "Refund an order.  order_id: its id.", **options: Any) -> Tool:
    def refund(order_id: str, ctx: agentgym.ToolContext) -> Any:
        return body(order_id, ctx)

    refund.__doc__ = doc
    return agentgym.tool(**options)(refund)


def sound(order_id: str, ctx: agentgym.ToolContext) -> Any:
    orders = ctx.state["orders"]
    if order_id not in orders:
        raise agentgym.ToolError(f"there is no order {order_id[:40]!r}; list them with list_orders")
    orders[order_id]["status"] = "refunded"
    return {"id": order_id, "draw": float(ctx.rng.random())}


def unlisted(order_id: str, ctx: agentgym.ToolContext) -> Any:
    return ctx.state["orders"][order_id]["amount"]


def python_random(order_id: str, ctx: agentgym.ToolContext) -> Any:
    importlib.import_module("random").random()


counter = iter(range(10_000))
FAULTS: dict[str, tuple[Any, str, str]] = {
    "no tool": (sound, "is a tool", "decorate the function"),
    "says nothing": (made(lambda o, c: o, doc=""), "is told", "no description"),
    "not mutates": (made(sound), "state changes", "does not say mutates=True"),
    "another exception": (made(unlisted), "hostile", "raises KeyError"),
    "fails the call it must answer": (made(lambda o, c: 1 / 0), "calls succeed", "ZeroDivisionError"),
    "no JSON": (made(lambda o, c: {1, 2}), "calls succeed", "not JSON"),
    "state that is no JSON": (made(lambda o, c: c.state.update(x=float("nan")), mutates=True), "state changes", "not JSON"),
    "a counter": (made(lambda o, c: next(counter)), "same call, same result", "read no clock"),
    "the clock": (made(lambda o, c: time.perf_counter_ns()), "same call, same result", "read no clock"),
    "numpy's generator": (made(lambda o, c: np.random.rand() * 0), "random numbers", "numpy.random"),  # noqa: NPY002
    "python's generator": (made(python_random), "random numbers", "random"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_each_planted_fault_is_found_by_its_rule_and_named(fault: str) -> None:
    tool, rule, says = FAULTS[fault]
    failed = [r for r in iter_tool_checks(tool, calls=[CALL], state=STATE) if not r.passed]
    assert [r for r in failed if rule in r.name and says in r.detail], [(r.name, r.detail) for r in failed]
    with pytest.raises(CheckFailed, match=r"refund|sound"):
        check_tool(tool, calls=[CALL], state=STATE)


def test_a_sound_tool_passes_and_the_state_it_was_lent_stays() -> None:
    check_tool(made(sound, mutates=True), calls=[CALL], state=STATE)
    assert STATE["orders"]["#W23"]["status"] == "open"


def test_arguments_are_made_up_where_none_are_given() -> None:
    @agentgym.tool
    def area(shape: str, sides: list[float], exact: bool = False) -> float:
        """Compute an area.  shape: its kind.  sides: lengths in metres.  exact: do not round."""
        return float(sum(sides)) if exact or shape else 0.0

    check_tool(area)

    @agentgym.tool
    async def slow(text: str) -> str:
        """Echo a text."""
        return text

    check_tool(slow)


def noting(table: str) -> Tool:
    @agentgym.tool(mutates=True)
    def add_note(order_id: str, note: str, ctx: agentgym.ToolContext) -> dict:
        """Write a note on an order.  order_id: its id.  note: what to write."""
        shop = tables(ctx)
        shop.need(table, order_id, "order")
        shop.change(table, order_id, {"note": note})
        return {"id": order_id, "note": note}

    return add_note


def test_a_tool_of_a_world_is_checked_in_it() -> None:
    check_tool(noting("orders"), env_id="ToolCalls-v0", world="shop?seed=0")
    check_tool(noting("orders"), env_id="ToolCalls-v0", calls=[{"order_id": "W101", "note": "call back"}])
    with pytest.raises(CheckFailed, match=r"calls succeed: .*there is no table 'ordres'; tables: customers"):
        check_tool(noting("ordres"), env_id="ToolCalls-v0")


@pytest.mark.parametrize(("env_id", "who"), [("", "an environment lends; name one, e.g. --env-id ToolCalls-v0"), ("SearchQA-v0", "SearchQA-v0 does not lend")])
def test_a_service_that_is_not_there_is_named_and_is_no_fault_of_the_tool(env_id: str, who: str) -> None:
    (result,) = iter_tool_checks(noting("orders"), env_id=env_id)
    assert (result.name, result.passed) == ("add_note: its services are there", False)
    assert f"it asks for ctx.services['tables'], which {who}" in result.detail

    @agentgym.tool
    def careful(text: str, ctx: agentgym.ToolContext) -> str:
        """Repeat a text.  text: it."""
        return f"{text[:10]} {ctx.services.get('tables')} {'corpus' in ctx.services}"

    check_tool(careful)


def test_a_service_that_is_there_and_fails_is_a_failed_call() -> None:
    @agentgym.tool
    def ask(text: str) -> str:
        """Ask a service.  text: what."""
        raise ServiceError("the service is down")

    failed = {r.name: r.detail for r in iter_tool_checks(ask) if not r.passed}
    assert "the service is down" in failed["ask: calls succeed"]
