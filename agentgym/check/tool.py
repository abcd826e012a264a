"""Conformance of a tool: what the policy is told, arguments good and bad, state, repetition, random numbers."""

import asyncio
import contextlib
import copy
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentgym.check.episodes import environment
from agentgym.check.result import CheckFailed, CheckResult, global_generators
from agentgym.errors import ServiceError, ToolError
from agentgym.seeding import stream
from agentgym.tools import Tool, Toolbox, ToolContext
from agentgym.tools.toolbox import copy_state
from agentgym.toolspec import resolve
from agentgym.types import JSON, ToolCall, ToolResult

HOSTILE_TEXTS = ("", " ", "x" * 100_000, "\ud800", "\x00", "💥 \u202e", "'; DROP TABLE x; --", "../../etc/passwd", "{" * 500)
"""Put in the place of every string argument, one at a time."""
HOSTILE_NUMBERS = (0, -1, 10**30, -0.5, 1e300)
"""Put in the place of every number, where the schema lets them in."""


@dataclass(frozen=True, slots=True)
class _Bench:
    """What one tool is tried with."""

    tool: Tool
    calls: tuple[dict[str, JSON], ...]
    state: dict[str, JSON]
    services: Mapping[str, Any]


class _Lent(dict[str, Any]):
    """Services that say what they lack in words of their own, so that it is not taken for a fault of the tool."""

    def __missing__(self, name: str) -> Any:
        raise _LacksError(name)


class _LacksError(KeyError):
    """A service that is not there."""


def check_tool(
    tool: Any,
    *,
    calls: Sequence[Mapping[str, JSON]] = (),
    state: Mapping[str, JSON] | None = None,
    services: Mapping[str, Any] | None = None,
    env_id: str = "",
    **kwargs: Any,
) -> None:
    """Check a tool.

    Args:
        tool: what `@agentgym.tool` made.
        calls: arguments of calls that must succeed; by default one call with values made up from the schema, which
            may fail with a ToolError.
        state: state of the episode that the calls meet.
        services: what the tool finds in `ctx.services`.
        env_id: environment whose first task gives state and services, beside those given here: for tools that need a
            world, e.g. its tables.
        **kwargs: of `gym.make` for that environment.

    Raises:
        CheckFailed: With the first rule that does not hold.
    """
    for result in iter_tool_checks(tool, calls=calls, state=state, services=services, env_id=env_id, **kwargs):
        if not result.passed:
            raise CheckFailed(f"{result.name}: {result.detail}")


def iter_tool_checks(
    tool: Any,
    *,
    calls: Sequence[Mapping[str, JSON]] = (),
    state: Mapping[str, JSON] | None = None,
    services: Mapping[str, Any] | None = None,
    env_id: str = "",
    **kwargs: Any,
) -> Iterator[CheckResult]:
    """Yield the result of every rule, one at a time; arguments as `check_tool`."""
    if not isinstance(tool, Tool):
        detail = f"{tool!r:.80} is no tool; decorate the function with @agentgym.tool"
        yield CheckResult(f"{getattr(tool, '__name__', 'tool')}: is a tool", False, detail)
        return
    given = tuple(dict(c) for c in calls)
    state, services = dict(state or {}), dict(services or {})
    if env_id:
        env = environment(env_id, **kwargs)
        env.reset(seed=0)
        state, services = {**env.initial_state(env.task), **state}, {**env.services(env.task), **services}
    bench = _Bench(tool, given or (example(tool.spec.parameters),), state, _Lent(services))
    if missing := _missing(bench):
        lack = f"{env_id} does not lend; name an environment that does" if env_id else "an environment lends; name one"
        detail = f"it asks for ctx.services[{missing!r}], which {lack}, e.g. --env-id ToolCalls-v0 --world 'shop?seed=0' (in Python: env_id=, or services=)"
        yield CheckResult(f"{tool.name}: its services are there", False, detail)
        return
    for rule, check in RULES.items():
        try:
            problem = check(bench, bool(given))
        except Exception as error:  # noqa: BLE001 (a check that raises is a failed check)
            problem = f"{type(error).__name__}: {error}"
        yield CheckResult(f"{tool.name}: {rule}", not problem, problem)


def example(parameters: Mapping[str, JSON]) -> dict[str, JSON]:
    """Return arguments made up from a schema: defaults where there are some, else the plainest value that fits."""
    required = parameters.get("required", [])
    return {n: _value(s, dict(parameters)) for n, s in parameters.get("properties", {}).items() if n in required}


def _value(schema: Any, root: dict[str, JSON]) -> JSON:
    schema = resolve(schema, root)
    if "default" in schema:
        return copy.deepcopy(schema["default"])
    if "enum" in schema or "const" in schema:
        return (schema.get("enum") or [schema.get("const")])[0]
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        return _value(options[0], root)
    kind = schema.get("type", "string")
    kind = kind[0] if isinstance(kind, list) else kind
    if kind == "object":
        return {n: _value(s, root) for n, s in schema.get("properties", {}).items() if n in schema.get("required", ())}
    if kind == "array":
        return [_value(schema.get("items", {}), root)] * max(1, schema.get("minItems", 1))
    least = schema.get("minimum", 1)
    return {"string": "word", "integer": least, "number": float(least), "boolean": True, "null": None}.get(kind)


# ---- the rules: each returns what is wrong, or an empty string


def _told(bench: _Bench, given: bool) -> str:
    """The policy is told what the tool and each argument is for."""
    spec = bench.tool.spec
    if not spec.description.strip():
        return "it has no description: the first line of its docstring is what the policy reads"
    properties = spec.parameters.get("properties", {})
    bare = [name for name, schema in properties.items() if not schema.get("description")]
    if len(bare) > 1 or (bare and len(properties) > 1):
        return f"arguments without a description: {', '.join(bare)}; say in the docstring what they are (name: …)"
    return ""


def _works(bench: _Bench, given: bool) -> str:
    """Calls succeed, or fail with a message made for the policy."""
    for arguments in bench.calls:
        result, raised = _run(bench, arguments)
        if result.ok:
            continue
        if given or raised:
            return f"{_call(arguments)} fails: {raised or f'{result.code} {result.error}'}"
    return ""


def _state(bench: _Bench, given: bool) -> str:
    """Only a tool that says `mutates=True` changes the state, and it changes nothing where it fails."""
    for arguments in bench.calls:
        before = json.dumps(bench.state, sort_keys=True)
        result, _, after = _run_with_state(bench, arguments)
        changed = json.dumps(after, sort_keys=True, default=repr) != before
        if changed and not bench.tool.spec.mutates:
            return f"{_call(arguments)} changes ctx.state, but the tool does not say mutates=True: failed calls would leave traces"
        if changed and not result.ok:
            return f"{_call(arguments)} failed and changed the state"
        try:
            json.dumps(after, allow_nan=False)
        except (TypeError, ValueError) as error:
            return f"{_call(arguments)} leaves a state that is not JSON ({error}): snapshots and records need it"
    return ""


def _repeats(bench: _Bench, given: bool) -> str:
    """The same call on the same state with the same random stream gives the same result."""
    for arguments in bench.calls:
        (one, _, first), (other, _, second) = _run_with_state(bench, arguments), _run_with_state(bench, arguments)
        if (one.data, one.code, one.error, one.documents, one.events) != (other.data, other.code, other.error, other.documents, other.events):
            return f"{_call(arguments)} gives {_shown(one)} and then {_shown(other)}; draw from ctx.rng, read no clock"
        if json.dumps(first, sort_keys=True, default=repr) != json.dumps(second, sort_keys=True, default=repr):
            return f"{_call(arguments)} leaves two different states when it is called twice on the same one"
    return ""


def _generators(bench: _Bench, given: bool) -> str:
    """No global random generator is drawn from or seeded."""
    before = global_generators()
    for arguments in bench.calls:
        _run(bench, arguments)
    touched = [name for name, state in global_generators().items() if before.get(name, state) != state]
    return f"it draws from {', '.join(touched)}; take a parameter ctx: agentgym.ToolContext and use ctx.rng" if touched else ""


def _hostile(bench: _Bench, given: bool) -> str:
    """Whatever fits the schema gets a result or a ToolError, never another exception."""
    properties = bench.tool.spec.parameters.get("properties", {})
    for name, schema in properties.items():
        kind = resolve(schema, dict(bench.tool.spec.parameters)).get("type")
        values = HOSTILE_TEXTS if kind == "string" else HOSTILE_NUMBERS if kind in ("integer", "number") else ()
        for value in values:
            arguments = {**bench.calls[0], name: value}
            _, raised = _run(bench, arguments)
            if raised:
                return f"{_call(arguments)} raises {raised}; raise agentgym.ToolError with a message that names the fix"
    return ""


def _misfits(bench: _Bench, given: bool) -> str:
    """Arguments that do not fit are refused before the tool runs."""
    odd: JSON = {"nested": [None]}
    for arguments in ({}, {**bench.calls[0], "no_such_argument": 1}, {key: odd for key in bench.calls[0]}):  # noqa: C420
        result, raised = _run(bench, arguments)
        if raised:
            return f"{_call(arguments)} raises {raised}"
        if result.code != "E_ARGS" and "no_such_argument" in arguments:
            return f"{_call(arguments)} is accepted ({result.code or 'ok'})"
    return ""


RULES: dict[str, Callable[[_Bench, bool], str]] = {
    "the policy is told what it does": _told,
    "calls succeed": _works,
    "state changes only where it says so": _state,
    "same call, same result": _repeats,
    "no global random numbers": _generators,
    "arguments that do not fit are refused": _misfits,
    "hostile arguments get an answer": _hostile,
}


# ---- inside


def _missing(bench: _Bench) -> str:
    """Return the service that a call asked for and did not find; empty for none."""
    lacks: list[Exception] = []
    for arguments in bench.calls:
        with contextlib.suppress(ServiceError):  # one that is there and fails is a finding of its own
            _run_with_state(bench, arguments, lacks)
    return next((str(error.args[0]) for error in lacks if isinstance(error, _LacksError)), "")


def _run(bench: _Bench, arguments: Mapping[str, JSON]) -> tuple[ToolResult, str]:
    result, raised, _ = _run_with_state(bench, arguments)
    return result, raised


def _run_with_state(
    bench: _Bench, arguments: Mapping[str, JSON], errors: list[Exception] | None = None
) -> tuple[ToolResult, str, dict[str, JSON]]:
    """Return the result, the exception of another kind than ToolError that the tool raised, and the state after."""
    raised: list[str] = []
    watched = _watched(bench.tool, raised, [] if errors is None else errors)
    ctx = ToolContext(copy_state(bench.state), stream(0, "check tool"), bench.services, "check", 0)
    call = ToolCall(bench.tool.name, dict(arguments), "check")
    with contextlib.redirect_stdout(io.StringIO()):
        result = asyncio.run(Toolbox([watched]).run(call, ctx))
    if not result.ok and "not JSON" in result.error:
        raised.append(result.error)
    return result, raised[0] if raised else "", ctx.state


def _watched(tool: Tool, raised: list[str], errors: list[Exception]) -> Tool:
    """Return the tool with a function that notes what it raises beside ToolError."""

    def note(error: Exception) -> None:
        if not isinstance(error, (ToolError, ServiceError)):
            raised.append(f"{type(error).__name__}: {error}"[:200])
            errors.append(error)

    def plain(**keywords: Any) -> Any:
        try:
            return tool.fn(**keywords)
        except Exception as error:
            note(error)
            raise

    async def waiting(**keywords: Any) -> Any:
        try:
            return await tool.fn(**keywords)
        except Exception as error:
            note(error)
            raise

    return Tool(tool.spec, waiting if tool.is_async else plain, context=tool.context, converts=tool.converts)


def _call(arguments: Mapping[str, JSON]) -> str:
    text = json.dumps(dict(arguments), ensure_ascii=True)
    return f"the call {text if len(text) <= 120 else text[:120] + '…'}"


def _shown(result: ToolResult) -> str:
    return f"{(result.data if result.ok else result.code)!r:.60}"
