"""`simulated_tool`: a model imitates a tool that nobody can run, and every sibling sees the same world.

What the model says is checked against a schema of results. The same call of the same task is asked once and kept, in
memory or in a file, so that all members of a group, and later runs, meet the same answer. A model that does not answer,
or never in the right form, is a fault of the service: the episode abstains.
"""

import asyncio
import hashlib
import json
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from agentgym.endpoint import ContextError, Endpoint, EndpointConfig
from agentgym.errors import ConfigError, DataError, ServiceError, ToolError
from agentgym.tools.tool import CONTEXT, Tool, ToolContext
from agentgym.tools.validate import ArgumentsError, validate
from agentgym.types import JSON, ToolCall, ToolResult, ToolSpec

SIMULATED = "_simulated"
"""Key of the state: what was asked and answered before, where a tool remembers."""
_TRIES = 3
_KEEPS = 20
_INSTRUCTIONS = """You stand in for a tool. Answer a call exactly as the tool would: plausible, specific, consistent with \
the examples and with what was answered before, never an explanation. Write one JSON object and nothing else: \
{"result": …} with the tool's result, or {"error": "…"} where the real tool would refuse the call."""


class SimulatedAnswers:
    """What simulated tools answered: call -> answer, in memory and, if asked, in a SQLite file."""

    def __init__(self, path: str | Path | None = None) -> None:
        """Open the file. Raises DataError if it cannot be used."""
        self.path = path
        self._memory: dict[str, JSON] = {}
        self._lock = threading.Lock()
        if path is not None:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            self._each("CREATE TABLE IF NOT EXISTS answers (key TEXT PRIMARY KEY, answer TEXT NOT NULL) WITHOUT ROWID")
            self._memory = {k: json.loads(v) for k, v in self._each("SELECT key, answer FROM answers")}

    def __deepcopy__(self, memo: dict[int, Any]) -> "SimulatedAnswers":
        """Return itself: the answers are shared."""
        return self

    def __len__(self) -> int:
        return len(self._memory)

    def find(self, key: str) -> JSON:
        """Return the answer kept for a key, or None."""
        return self._memory.get(key)

    def keep(self, key: str, answer: JSON) -> JSON:
        """Keep an answer; the first one for a key stays. Returns the one that is kept."""
        with self._lock:
            kept = self._memory.setdefault(key, answer)
            if kept is answer and self.path is not None:
                self._each("INSERT OR IGNORE INTO answers VALUES (?, ?)", (key, json.dumps(answer)))
        return kept

    def _each(self, statement: str, values: Sequence[str] = ()) -> list[tuple[str, str]]:
        try:
            with closing(sqlite3.connect(str(self.path), timeout=60, isolation_level=None)) as connection:
                return connection.execute(statement, values).fetchall()
        except sqlite3.Error as error:
            raise DataError(f"{self.path}: the answers of simulated tools cannot be kept there: {error}") from error


class _Simulator:
    """Asks the model once for each call; those who ask meanwhile wait for the same answer."""

    def __reduce__(self) -> Any:
        """Another process asks for itself; answers in a file are shared."""
        return _again, (self.endpoint.config, self.answers.path, self.temperature)

    def __init__(self, endpoint: Endpoint, answers: SimulatedAnswers, temperature: float) -> None:
        self.endpoint, self.answers, self.temperature = endpoint, answers, temperature
        self._asked: dict[tuple[int, str], asyncio.Future[JSON]] = {}

    async def answer(self, key: str, messages: list[JSON], result: ToolSpec) -> JSON:
        if (found := self.answers.find(key)) is not None:
            return found
        here = (id(asyncio.get_running_loop()), key)
        waiting = self._asked.get(here)
        if waiting is None:
            waiting = self._asked[here] = asyncio.ensure_future(self._ask(key, messages, result))
            waiting.add_done_callback(lambda _: self._asked.pop(here, None))
        return await asyncio.shield(waiting)

    async def _ask(self, key: str, messages: list[JSON], result: ToolSpec) -> JSON:
        problem = ""
        for attempt in range(_TRIES):
            said = [*messages, {"role": "user", "content": f"That cannot be used: {problem}. Once more."}] if problem else messages
            try:
                reply = await self.endpoint.chat(said, key=(key, attempt), temperature=self.temperature)
            except ContextError:
                raise ToolError("the call, with those before it, is too long") from None
            try:
                return self.answers.keep(key, _read(reply.text, result))
            except ValueError as error:
                problem = str(error)
            except DataError as error:
                raise ServiceError(str(error)) from error
        raise ServiceError(f"simulated tool: no usable answer in {_TRIES} attempts: {problem}")


def _again(config: EndpointConfig, path: str | Path | None, temperature: float) -> _Simulator:
    return _Simulator(Endpoint(config), SimulatedAnswers(path), temperature)


def simulated_tool(
    spec: ToolSpec,
    endpoint: Endpoint | EndpointConfig,
    *,
    result: Mapping[str, JSON] | None = None,
    examples: Sequence[tuple[ToolCall, ToolResult]] = (),
    answers: SimulatedAnswers | None = None,
    remembers: bool = True,
    temperature: float = 0.0,
) -> Tool:
    """Return a tool that a model imitates.

    Args:
        spec: what the policy may know.
        endpoint: the model.
        result: JSON schema of results; None takes any JSON.
        examples: calls with results, of this tool and others of its world, for the model to follow.
        answers: where answers are kept, shared by the tools of one world; None keeps them in memory for this tool.
        remembers: the answer may depend on the calls before it in the episode (they are part of the key, so siblings
            that did the same see the same). Without, a call is answered the same wherever it stands.
        temperature: of the model.

    Raises:
        ConfigError: the schema of results is no object.
    """
    if result is not None and not isinstance(result, Mapping):
        raise ConfigError(f"simulated tool {spec.name!r}: result={result!r:.80}; give a JSON schema as a table")
    model = endpoint if isinstance(endpoint, Endpoint) else Endpoint(endpoint)
    simulator = _Simulator(model, SimulatedAnswers() if answers is None else answers, temperature)
    form = ToolSpec("result", "", {"type": "object", "properties": {"result": dict(result or {})}})
    shown = [_pair(call.name, call.arguments, _said(found)) for call, found in examples[:_KEEPS]]
    named = model.config.model  # not the endpoint itself, whose connections stay in this process
    opening = f"{_INSTRUCTIONS}\n\nThe tool: {json.dumps(_described(spec), ensure_ascii=False)}"
    if result is not None:
        opening += f"\nSchema of its results: {json.dumps(result, ensure_ascii=False)}"

    async def imitate(_context: ToolContext, **arguments: JSON) -> JSON:
        past: list[JSON] = _context.state.get(SIMULATED, []) if remembers else []
        asked = {"name": spec.name, "arguments": arguments}
        body = [opening, shown, named, _context.task_id, past, asked]
        key = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        lines = [*shown, *(_pair(p["name"], p["arguments"], p["said"]) for p in past[-_KEEPS:])]
        question = "\n".join([*lines, f"call: {json.dumps(asked, ensure_ascii=False)}"])
        messages = [{"role": "system", "content": opening}, {"role": "user", "content": question}]
        said = await simulator.answer(key, messages, form)
        if "error" in said:
            raise ToolError(said["error"])
        if remembers:
            _context.state[SIMULATED] = [*past, {**asked, "said": said}]
        return said["result"]

    return Tool(spec, imitate, context=(CONTEXT,))


def _read(text: str, form: ToolSpec) -> JSON:
    """Return {"result"} or {"error"}. Raises ValueError for anything else."""
    start, end = text.find("{"), text.rfind("}")
    try:
        value = json.loads(text[start : end + 1], parse_constant=_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON ({error.msg})") from None
    if not isinstance(value, dict) or len(value) != 1 or not value.keys() <= {"result", "error"}:
        raise ValueError('it is not {"result": …} or {"error": "…"}')
    if "error" in value:
        if not isinstance(value["error"], str):
            raise ValueError("'error' is no text")
        return value
    try:
        return validate(value, form)
    except ArgumentsError as error:
        raise ValueError(str(error)) from None


def _constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def _described(spec: ToolSpec) -> JSON:
    return {"name": spec.name, "description": spec.description, "parameters": spec.parameters}


def _said(found: ToolResult) -> JSON:
    return {"result": found.data} if found.ok else {"error": found.error}


def _pair(name: str, arguments: Mapping[str, JSON], said: JSON) -> str:
    call = json.dumps({"name": name, "arguments": arguments}, ensure_ascii=False)
    return f"call: {call}\nanswer: {json.dumps(said, ensure_ascii=False)}"
