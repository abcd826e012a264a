"""Runs the coroutine of a turn to its end for callers that do not wait: at once, or on an event loop."""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from typing import Any, TypeVar

from agentgym.errors import EnvError

F = TypeVar("F", bound=Callable[..., Any])
_at_once: ContextVar[bool] = ContextVar("at_once", default=False)


def may_wait() -> bool:
    """Whether the running coroutine may suspend: False inside `run_at_once`."""
    return not _at_once.get()


def joins(fn: F) -> F:
    """Mark a coroutine function that asks `may_wait` first: in a plain `step` it runs in place, without an event loop."""
    fn.joins = True  # pyright: ignore[reportFunctionMemberAccess]
    return fn


def run_at_once(turn: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits, without an event loop. Raises EnvError if it waits after all."""
    before = _at_once.set(True)
    try:
        turn.send(None)
    except StopIteration as done:
        return done.value
    finally:
        _at_once.reset(before)
    turn.close()
    raise EnvError("a tool waited although it is neither async nor time-limited; declare it with `async def`")


def run_waiting(turn: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that may wait, also when the caller's thread already runs an event loop."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return run_quietly(asyncio.run, turn)
    box: list[Any] = []

    def target() -> None:
        try:
            box.append((run_quietly(asyncio.run, turn), None))
        except BaseException as error:  # noqa: BLE001 (handed to the caller's thread)
            box.append((None, error))

    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    thread.join()
    value, error = box[0]
    if error is not None:
        raise error
    return value


def run_quietly(run: Callable[[Coroutine[Any, Any, None]], None], turn: Awaitable[Any]) -> Any:
    """Run an awaitable by `asyncio.run` or a runner's `run`, past the result of the task that they make.

    At the end of each run asyncio gives the signal handler back, on which Python writes out the repr of its task,
    result included, only to drop it: for a batch of records that costs more than some of its forward passes.
    """
    box: list[Any] = []

    async def keep() -> None:
        box.append(await turn)

    run(keep())
    return box[0]
