"""`Toolbox`: one call of a policy -> one result. Checks, budgets, time limits, roll-back.

| code | meaning |
|---|---|
| E_UNKNOWN_TOOL | there is no tool of that name |
| E_BUDGET | the episode's budget for the tool is used up |
| E_ARGS | the arguments do not fit the schema |
| E_TOOL | the tool raised, or gave something that is not JSON |
| E_TIMEOUT | the tool took longer than its timeout_s |

None of them changes the state.
"""

import asyncio
import contextlib
import copy
import functools
import json
import pickle
import threading
from collections.abc import Iterable, Mapping
from typing import Any

from agentgym import hooks
from agentgym.errors import ConfigError, NotRegisteredError, RegistrationError, ServiceError, ToolError, suggestion
from agentgym.sanitize import sanitize
from agentgym.task import Limits
from agentgym.tools.tool import Tool, ToolContext, ToolOutput
from agentgym.tools.validate import ArgumentsError, validate
from agentgym.types import JSON, DocRef, ToolCall, ToolResult, ToolSpec

_MAX_ERROR_CHARS = 500
MAX_DATA_CHARS = 1_000_000
"""Longest result of a call, as JSON text; what a policy is shown of it is cut far earlier (Limits.max_result_chars)."""
_FEW, _BRIEF = 32, 256
"""Lists of so few and so short strings (ids, mostly) are JSON as they are."""
_CLEANED_CHARS = 4_096
_ENCODER, _DECODER = json.JSONEncoder(allow_nan=False), json.JSONDecoder()


def only_tools(tools: Any, where: str) -> tuple[Tool, ...]:
    """Return what was given as tools: each a Tool, the name of one, or a list of them.

    A name is a registered one (`hooks.TOOLS`), or "MODULE:NAME" or "FILE.py:NAME" of a tool or of a list of tools.

    Raises:
        ConfigError: something that `@tool` did not make, or a name of nothing.
    """
    if isinstance(tools, Tool):
        return (tools,)
    if isinstance(tools, str):
        try:
            return only_tools(hooks.TOOLS.resolve(tools), where)
        except NotRegisteredError as error:
            form = "name one of your own by its place, MODULE:NAME or FILE.py:NAME"
            raise ConfigError(f"{where}: tools= holds {tools!r:.80}, which is no tool{suggestion(tools, hooks.TOOLS.names())}; {form}") from error
    if isinstance(tools, Iterable) and not isinstance(tools, Mapping):
        return tuple(tool for item in tools for tool in only_tools(item, where))
    what = f"the function {tools.__name__}" if callable(tools) and hasattr(tools, "__name__") else f"{tools!r:.80}"
    raise ConfigError(f"{where}: tools= holds {what}, which is no tool; decorate the function with @agentgym.tool")


class Toolbox:
    """The tools of an environment."""

    def __init__(self, tools: Iterable[Tool], limits: Limits | None = None) -> None:
        """Collect tools.

        Args:
            tools: what `@tool` made.
            limits: the budgets that hold where `run` is given none.

        Raises:
            RegistrationError: something is not a tool, or two have the same name.
        """
        self.limits = limits or Limits()
        self.tools: dict[str, Tool] = {}
        self.abandoned = 0
        """Calls given up after their time limit; their threads may still run."""
        for item in tools:
            if not isinstance(item, Tool):
                raise RegistrationError(f"{item!r} is not a tool; decorate the function with @agentgym.tool")
            if item.name in self.tools:
                raise RegistrationError(f"two tools are called {item.name!r}; rename one with @tool(name=…)")
            self.tools[item.name] = item

    @property
    def specs(self) -> tuple[ToolSpec, ...]:
        """What the policy may know, in the order given."""
        return tuple(item.spec for item in self.tools.values())

    def is_final(self, name: str) -> bool:
        """Say whether a successful call of this tool ends the episode."""
        return name in self.tools and self.tools[name].spec.final

    async def run(
        self, call: ToolCall, ctx: ToolContext, used: Mapping[str, int] | None = None, limits: Limits | None = None
    ) -> ToolResult:
        """Run one call. Plain functions run in place and never suspend this coroutine.

        Args:
            call: what the policy asks for.
            ctx: state and services; `ctx.state` is the new state after a call of a tool that mutates.
            used: calls per tool so far in this episode.
            limits: limits of the episode, for the budgets.

        Raises:
            ServiceError: a service behind the tool failed; that is no fault of the policy.
        """
        item = self.tools.get(call.name)
        if item is None:
            known = f"{suggestion(call.name[:80], self.tools)}; allowed: {', '.join(self.tools)}"
            return _failed(call, "E_UNKNOWN_TOOL", f"there is no tool {call.name[:80]!r}{known}")
        budget = (limits or self.limits).tool_budgets.get(call.name)
        if budget is not None and used is not None and used.get(call.name, 0) >= budget:
            others = ", ".join(name for name in self.tools if name != call.name) or "none"
            return _failed(call, "E_BUDGET", f"the budget of {call.name} is used up ({budget} calls); others: {others}")
        try:
            arguments = validate(call.arguments, item.spec)
        except ArgumentsError as error:
            return _failed(call, "E_ARGS", str(error))
        return await self._run(item, call, arguments, ctx)

    async def _run(self, item: Tool, call: ToolCall, arguments: dict[str, JSON], ctx: ToolContext) -> ToolResult:
        apart = item.spec.mutates or item.spec.timeout_s is not None
        try:
            own = ctx.fork(copy_state(ctx.state)) if apart else ctx
            try:
                keywords = item.keywords(arguments, own)
            except (ValueError, TypeError) as error:  # a class of the tool's refused its values
                return _failed(call, "E_ARGS", f"{call.name}: {error}")
            if item.spec.timeout_s is not None or (item.slow and not item.is_async):
                output = await self._timed(item, keywords, item.spec.timeout_s)
            elif item.is_async:
                output = await item.fn(**keywords)
            else:
                output = item.fn(**keywords)
            data, documents, events = _outcome(output)
            mutated = apart and item.spec.mutates and _differ(own.state, ctx.state)
        except TimeoutError as error:
            if isinstance(error, _LateError):
                limit = f"{call.name} took longer than {item.spec.timeout_s:g} s; nothing changed"
                return _failed(call, "E_TIMEOUT", limit)
            return _failed(call, "E_TOOL", f"{call.name} failed: TimeoutError")
        except asyncio.CancelledError:
            if _is_given_up():
                raise
            return _failed(call, "E_TOOL", f"{call.name} failed: CancelledError")
        except ServiceError:
            raise
        except ToolError as error:
            return _failed(call, "E_TOOL", str(error) or f"{call.name} failed")
        except _NotJsonError as error:
            return _failed(call, "E_TOOL", f"{call.name} gave a result that {error}")
        except (Exception, SystemExit) as error:  # noqa: BLE001 - a broken tool is an observation, not a crash
            return _failed(call, "E_TOOL", f"{call.name} failed: {type(error).__name__}")
        if apart and item.spec.mutates:
            ctx.take(own)
        return ToolResult(call.id, call.name, True, data, documents=documents, mutated=mutated, events=events)

    async def _timed(self, item: Tool, keywords: dict[str, Any], timeout_s: float | None) -> Any:
        """Await the tool for `timeout_s` seconds (None: to its end); a plain function runs in a thread. Raises _LateError."""
        waited = asyncio.ensure_future(item.fn(**keywords)) if item.is_async else _in_thread(item, keywords)
        try:
            done, _ = await asyncio.wait({waited}, timeout=timeout_s)
        except asyncio.CancelledError:
            waited.add_done_callback(_forget)
            waited.cancel()
            raise
        if not done:
            waited.add_done_callback(_forget)
            waited.cancel()
            self.abandoned += 1
            raise _LateError
        return waited.result()


class _LateError(TimeoutError):
    """The tool did not end in time."""


class _NotJsonError(ValueError):
    """The tool's result has no JSON form, or one that is too long; the message goes on after "a result that"."""


def copy_state(state: dict[str, JSON]) -> dict[str, JSON]:
    """Return a deep copy, for plain data several times as fast as `copy.deepcopy`."""
    try:
        return pickle.loads(pickle.dumps(state, pickle.HIGHEST_PROTOCOL))
    except (pickle.PicklingError, TypeError, AttributeError):  # something that cannot travel
        return copy.deepcopy(state)


def _differ(a: dict[str, JSON], b: dict[str, JSON]) -> bool:
    try:
        return a != b
    except ValueError:  # arrays say so where they differ in more than one place
        return True


def plain_json(value: Any) -> JSON:
    """Return a value as JSON of its own: nothing shared with the tool's state, strings sanitised.

    Raises:
        _NotJsonError: it has no JSON form, holds a number that is not finite, or is longer than MAX_DATA_CHARS.
    """
    if value is None or value is True or value is False:
        return value
    if type(value) is str:
        return sanitize(_short(value))
    if type(value) is list and len(value) <= _FEW and all(type(item) is str and len(item) <= _BRIEF for item in value):
        return [sanitize(item) for item in value]
    try:
        text = _short(_ENCODER.encode(value))
    except _NotJsonError:
        raise
    except (TypeError, ValueError, RecursionError) as error:
        raise _NotJsonError(f"is not JSON: {str(error) or type(error).__name__}") from error
    # everything that must be dropped is an escape in ASCII JSON, except DEL
    plain = _DECODER.decode(text)
    return _clean(plain) if "\\" in text or "\x7f" in text else plain


def _short(text: str) -> str:
    if len(text) > MAX_DATA_CHARS:
        raise _NotJsonError(f"is too long: {len(text)} characters; at most {MAX_DATA_CHARS} are taken")
    return text


def _clean(value: JSON) -> JSON:
    if isinstance(value, str):
        return sanitize(value)
    if isinstance(value, list):
        return [_clean(item) for item in value]
    if isinstance(value, dict):
        return {sanitize(key): _clean(item) for key, item in value.items()}
    return value


def _outcome(output: Any) -> tuple[JSON, tuple[DocRef, ...], dict[str, JSON]]:
    if not isinstance(output, ToolOutput):
        return plain_json(output), (), {}
    scores = output.scores or [doc.score if isinstance(doc, DocRef) else 0.0 for doc in output.documents]
    shown = [
        DocRef(sanitize(doc.id), sanitize(doc.title), _cleaned(doc.text), rank, float(score))
        for rank, (doc, score) in enumerate(zip(output.documents, scores, strict=True))
    ]
    return plain_json(output.data), tuple(shown), plain_json(dict(output.events)) if output.events else {}


_remembered = functools.lru_cache(2_048)(sanitize)


def _cleaned(text: str) -> str:
    """Return `sanitize(text)`; a passage that was shown lately (to the same group, usually) is not read again."""
    return _remembered(text) if len(text) <= _CLEANED_CHARS else sanitize(text)


def _in_thread(item: Tool, keywords: dict[str, Any]) -> "asyncio.Future[Any]":
    """Start the function in a thread of its own (a pool would wait for abandoned ones at exit)."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if future.done():
            return
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def work() -> None:
        value, error = None, None
        try:
            value = item.fn(**keywords)
        except StopIteration:  # a future cannot carry it
            error = RuntimeError("StopIteration")
        except BaseException as raised:  # noqa: BLE001 - handed to the caller
            error = raised
        with contextlib.suppress(RuntimeError):  # the loop may be closed by then
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name=f"tool-{item.name}", daemon=True).start()
    return future


def _is_given_up() -> bool:
    """Whether somebody cancelled the task that runs the call; a tool may let out a cancellation of its own making."""
    try:
        task = asyncio.current_task()
    except RuntimeError:  # no event loop: nobody could
        return False
    return task is None or task.cancelling() > 0


def _forget(future: "asyncio.Future[Any]") -> None:
    """Take the exception of an abandoned call, so that asyncio does not log it."""
    if not future.cancelled():
        future.exception()


def _failed(call: ToolCall, code: str, message: str) -> ToolResult:
    message = sanitize(message)
    message = message if len(message) <= _MAX_ERROR_CHARS else f"{message[:_MAX_ERROR_CHARS]}…"
    return ToolResult(call.id, call.name, False, code=code, error=message)
