"""`recorded_tools`: tools that answer from a log of calls. Nothing runs; a call that is not in the log is an error."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentgym.errors import ConfigError, DataError, ToolError, suggestion
from agentgym.jsonl import read_objects
from agentgym.tools.tool import CONTEXT, Tool, ToolContext
from agentgym.types import JSON, ToolCall, ToolResult, ToolSpec, Trajectory

Recording = Sequence[tuple[ToolCall, ToolResult]]
"""Calls and their results in the order in which they were made."""
_Table = dict[str, list[ToolResult]]
PLAYED = "_played"
"""Key of the state: how often each recorded call was replayed."""


def recorded_tools(
    specs: Iterable[ToolSpec],
    recording: Recording | Mapping[str, Recording],
    *,
    otherwise: Iterable[Tool] = (),
) -> tuple[Tool, ...]:
    """Return tools that replay a recording.

    A call is found by its name and its arguments, in whatever order they were written. One that was made several times
    gives its results in their order, then the last one again. Another call is the policy's: an error (E_TOOL).

    Args:
        specs: the tools.
        recording: what was recorded; or by task id.
        otherwise: tools that take the calls which the recording does not hold, e.g. of `simulated_tool`.

    Raises:
        ConfigError: the recording or `otherwise` names a tool that has no spec.
    """
    specs = tuple(specs)
    per_task = isinstance(recording, Mapping)
    tables = {task: _table(r) for task, r in recording.items()} if isinstance(recording, Mapping) else {"": _table(recording)}
    behind = {item.name: item for item in otherwise}
    known = {spec.name for spec in specs}
    recorded = {str(json.loads(key)[0]) for table in tables.values() for key in table}
    for name in sorted(recorded | behind.keys()):
        if name not in known:
            raise ConfigError(f"recorded tools: {name!r} has no spec{suggestion(name, known)}; specs: {', '.join(sorted(known))}")
    return tuple(_replaying(spec, tables, per_task, behind.get(spec.name)) for spec in specs)


def recording_of(trajectory: Trajectory) -> list[tuple[ToolCall, ToolResult]]:
    """Return the calls of a recorded episode with their results."""
    return [pair for turn in trajectory.turns for pair in zip(turn.calls, turn.results, strict=False)]


def read_recording(path: str | Path) -> list[tuple[ToolCall, ToolResult]]:
    """Read a recording: JSON lines `{"name", "arguments", "result"}` or `{"name", "arguments", "error"}`.

    Raises:
        DataError: a line of another form, with its number.
    """
    found = []
    for line, row in read_objects(Path(path)):
        name, arguments = row.get("name"), row.get("arguments", {})
        if not isinstance(name, str) or not isinstance(arguments, dict) or ("result" in row) == ("error" in row):
            raise DataError(f'{path}:{line}: a recorded call is {{"name", "arguments", "result" or "error"}}, got keys {sorted(row)}')
        error = str(row.get("error", ""))
        code = "E_TOOL" if "error" in row else ""
        found.append((ToolCall(name, arguments), ToolResult("", name, not code, row.get("result"), code, error)))
    return found


def _replaying(spec: ToolSpec, tables: Mapping[str, _Table], per_task: bool, behind: Tool | None) -> Tool:
    def replay(_context: ToolContext, **arguments: JSON) -> Any:
        key = _key(spec.name, arguments)
        results = tables.get(_context.task_id if per_task else "", {}).get(key)
        if results is None:
            if behind is not None:
                return behind.fn(**behind.keywords(arguments, _context))
            raise ToolError(f"{spec.name}: no call with these arguments was recorded")
        played = _context.state.setdefault(PLAYED, {})
        n = played.get(key, 0)
        if len(results) > 1:
            played[key] = n + 1
        result = results[min(n, len(results) - 1)]
        if not result.ok:
            raise ToolError(result.error or f"{spec.name} failed")
        return result.data

    async def replay_or_wait(_context: ToolContext, **arguments: JSON) -> Any:
        found = replay(_context, **arguments)
        return await found if hasattr(found, "__await__") else found

    waits = behind is not None and behind.is_async
    return Tool(
        spec,
        replay_or_wait if waits else replay,
        context=(CONTEXT,),
        slow=behind is not None and behind.slow,
        live=behind is not None and behind.live,
    )


def _table(recording: Recording) -> _Table:
    table: _Table = {}
    for call, result in recording:
        table.setdefault(_key(call.name, call.arguments), []).append(result)
    return table


def _key(name: str, arguments: Mapping[str, JSON]) -> str:
    """Return one text for equal calls: sorted keys, and 1.0 as 1, since validation turns integers to floats."""
    return json.dumps([name, _plain(arguments)], sort_keys=True)


def _plain(value: JSON) -> JSON:
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value
