"""Tools that misbehave, at the top of a module, so that another process finds them."""

import os
import signal
import sys
import time

from agentgym import tool
from agentgym.errors import ServiceError, ToolError
from agentgym.tools import ToolContext


@tool(mutates=True)
def add(item: str, ctx: ToolContext) -> dict:
    """Put an item into the basket. item: its name."""
    ctx.state.setdefault("basket", []).append(item)
    return {"basket": ctx.state["basket"], "drawn": int(ctx.rng.integers(1_000)), "now": ctx.now.isoformat(), "task": ctx.task_id}


@tool(mutates=True)
def misbehave(how: str, ctx: ToolContext) -> object:
    """Do something bad, after changing the state. how: what."""
    ctx.state["touched"] = True
    if how == "raise":
        raise ValueError("secret")
    if how == "refuse":
        raise ToolError("not like this")
    if how == "service":
        raise ServiceError("the shop is closed")
    if how == "exit":
        sys.exit(3)
    if how == "os_exit":
        os._exit(7)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stop":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how == "hang":
        time.sleep(60)
    if how == "spin":
        while True:
            pass
    if how == "print":
        while True:
            sys.stdout.write("x" * 10_000)
    if how == "set":
        return {1, 2}
    if how == "nan":
        return float("nan")
    if how == "bytes":
        return b"bytes"
    if how == "loop":
        again: list = []
        again.append(again)
        return again
    if how == "huge":
        return "x" * 20_000_000
    if how == "memory":
        return len(bytearray(8 << 30))
    if how == "deep":
        deep: list = []
        for _ in range(100_000):
            deep = [deep]
        return deep
    return "fine"


@tool
def fork() -> str:
    """Fork, and come back twice."""
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return "parent"
    return "child"


BAD = ("raise", "refuse", "exit", "os_exit", "kill", "stop", "hang", "spin", "print", "set", "nan", "bytes", "loop", "huge", "memory", "deep")
