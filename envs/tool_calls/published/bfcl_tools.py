"""BFCL's functions as tools: documented ones that nobody runs, and those of its state classes.

A state class keeps its state in a Python object, an episode keeps it as JSON: the calls that were made, and what they
made of the public attributes. The object itself is kept beside, by the calls that led to it; where it is not there (a
snapshot was restored, a sibling branched off) the calls are made again.
"""

import copy
import importlib
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from agentgym import typed
from agentgym.envs.tool_calls.published.folder import json_lines
from agentgym.envs.tool_calls.talk import TALK_TOOLS
from agentgym.errors import DataError, MissingExtraError, ToolError
from agentgym.tools import Tool, ToolContext, ToolOutput, tool
from agentgym.tools.tool import CONTEXT
from agentgym.types import JSON, ToolSpec

CLASSES = {
    "GorillaFileSystem": "gorilla_file_system",
    "MathAPI": "math_api",
    "MessageAPI": "message_api",
    "TwitterAPI": "posting_api",
    "TicketAPI": "ticket_api",
    "TradingBot": "trading_bot",
    "TravelAPI": "travel_booking",
    "VehicleControlAPI": "vehicle_control",
}
"""BFCL's state classes, and the modules (and files of documentation) that hold them."""
STATELESS = ("MathAPI",)
KEPT = 256
"""Live objects that are kept; one an episode is enough to never repeat a call."""
MISDOCUMENTED = {("close_ticket", "ticket_id"): ["integer", "string"]}
"""Types of parameters whose documentation refuses what the ground truth gives (task 173 of each multi-turn set)."""
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}


# ---- documentation


def spec_of(doc: Mapping[str, Any], *, mutates: bool = False) -> ToolSpec:
    """Return the spec of a documented function. Points in its name become underscores, as endpoints ask for."""
    parameters = {**schema_of(doc["parameters"]), "additionalProperties": False}
    parameters.setdefault("properties", {})
    for (name, parameter), kinds in MISDOCUMENTED.items():
        if doc["name"] == name and parameter in parameters["properties"]:
            parameters["properties"][parameter]["type"] = kinds
    return ToolSpec(tool_name(doc["name"]), str(doc.get("description", "")), parameters, mutates=mutates)


def tool_name(name: str) -> str:
    """Return a function's name as a tool's."""
    return name.replace(".", "_")


def schema_of(doc: Any) -> dict[str, JSON]:
    """Return a parameter's documentation as JSON Schema."""
    if not isinstance(doc, dict):
        return {}
    kept: dict[str, JSON] = {key: doc[key] for key in ("description", "enum", "required", "default") if key in doc}
    kind = _TYPES.get(str(doc.get("type")), doc.get("type"))
    if kind:
        kept["type"] = kind
    if isinstance(doc.get("properties"), dict):
        kept["properties"] = {name: schema_of(inner) for name, inner in doc["properties"].items()}
    if isinstance(doc.get("items"), dict):
        kept["items"] = schema_of(doc["items"])
    if kind == "array" and "enum" in kept:  # meant for the items
        items: Any = kept.setdefault("items", {})
        items.setdefault("enum", kept.pop("enum"))
    return kept


@lru_cache(maxsize=16)
def class_docs(folder: Path, name: str) -> tuple[dict[str, Any], ...]:
    """Return the documentation of a state class. Raises DataError where it is missing."""
    if name not in CLASSES:
        raise DataError(f"{folder}: no state class {name!r}; known: {', '.join(CLASSES)}")
    return tuple(json_lines(folder / "multi_turn_func_doc" / f"{CLASSES[name]}.json", key="name"))


def documented(doc: Mapping[str, Any]) -> Tool:
    """Return a tool that nobody runs: a call counts, and its result says no more than that it was made."""

    def call(**given: JSON) -> JSON:
        context: ToolContext = given.pop(CONTEXT)  # type: ignore[assignment]
        context.state["calls"] = int(context.state.get("calls", 0)) + 1  # type: ignore[arg-type]
        return "called"

    call.__name__ = tool_name(doc["name"])
    return Tool(spec_of(doc, mutates=True), call, context=(CONTEXT,))


# ---- state classes


class Instances:
    """The live objects of BFCL's state classes, by the calls that led to them."""

    def __init__(self) -> None:
        """Start with none."""
        self._kept: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._lock = threading.Lock()

    def take(self, config: "Scenario", calls: Sequence[Any]) -> dict[str, Any]:
        """Return the objects after these calls; the caller owns them."""
        with self._lock:
            found = self._kept.pop(_key(config, calls), None)
        if found is None:
            found = config.load()
            for name, arguments in calls:
                run(found, config.owner(name), name, arguments)
        return found

    def keep(self, config: "Scenario", calls: Sequence[Any], objects: dict[str, Any]) -> None:
        """Keep the objects after these calls."""
        with self._lock:
            self._kept[_key(config, calls)] = objects
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def _key(config: "Scenario", calls: Sequence[Any]) -> str:
    return f"{config.id} {typed.digest([list(call) for call in calls])}"


class Scenario:
    """What the state classes of a task begin with."""

    def __init__(self, id: str, classes: Sequence[str], config: Mapping[str, Any], methods: Mapping[str, str], long: bool) -> None:
        """Take a task's settings; `methods` names the class of each method."""
        self.id, self.classes, self.config, self._methods, self.long = id, tuple(classes), config, methods, long

    def owner(self, method: str) -> str:
        """Return the class of a method."""
        return self._methods[method]

    def load(self) -> dict[str, Any]:
        """Return fresh objects. Raises MissingExtraError without BFCL's package."""
        objects = {}
        for name in self.classes:
            objects[name] = state_class(name)()
            if name not in STATELESS:
                objects[name]._load_scenario(copy.deepcopy(self.config.get(name, {})), long_context=self.long)
        return objects


@lru_cache(maxsize=16)
def state_class(name: str) -> Any:
    """Return one of BFCL's state classes. Raises MissingExtraError without its package."""
    try:
        module = importlib.import_module(f"bfcl_eval.eval_checker.multi_turn_eval.func_source_code.{CLASSES[name]}")
    except ImportError as error:
        raise MissingExtraError("a multi-turn task of BFCL", error.name or "bfcl-eval", "make extra-bfcl") from None
    return getattr(module, name)


def run(objects: Mapping[str, Any], owner: str, name: str, arguments: Mapping[str, Any]) -> str:
    """Call a method; return its result as the text that BFCL compares. A method's exception is the policy's fault."""
    try:
        result = getattr(objects[owner], name)(**copy.deepcopy(dict(arguments)))
    except Exception as error:  # noqa: BLE001 - whatever a foreign class raises on what a policy gave it
        raise ToolError(f"{type(error).__name__}: {error}"[:500]) from None
    if isinstance(result, str):
        return result
    if isinstance(result, dict):
        try:
            return json.dumps(result)
        except (TypeError, ValueError):
            return str(result)
    return str(result)


def attributes(value: Any, depth: int = 0) -> JSON:
    """Return the public attributes of an object as JSON; a reference to a parent is left out."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else str(value)
    if depth > 40:
        return "…"
    if isinstance(value, dict):
        return {str(key): attributes(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [attributes(item, depth + 1) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((attributes(item, depth + 1) for item in value), key=typed.canonical)
    if hasattr(value, "__dict__"):
        public = {k: v for k, v in vars(value).items() if not k.startswith("_") and k not in ("parent", "last_modified")}
        return {key: attributes(item, depth + 1) for key, item in sorted(public.items())}
    return str(value)


def method(doc: Mapping[str, Any], owner: str) -> Tool:
    """Return the tool of a state class's method."""
    name = str(doc["name"])

    def call(**given: Any) -> JSON:
        context: ToolContext = given.pop(CONTEXT)
        scenario, instances = context.services["scenario"], context.services["instances"]
        made: Any = context.state["_calls"]
        objects = instances.take(scenario, made)
        text = run(objects, owner, name, given)  # after an exception the objects are dropped, and made anew when needed
        made.append([name, given])
        instances.keep(scenario, made, objects)
        context.state[owner] = attributes(objects[owner])
        note(context.state, text)
        return read_result(text)

    call.__name__ = name
    return Tool(spec_of(doc, mutates=True), call, context=(CONTEXT,))


def read_result(text: str) -> JSON:
    """Return a result for the policy: JSON where the text is JSON."""
    try:
        return json.loads(text)
    except ValueError:
        return text


# ---- what is compared at the end of each user turn


def heard_key(text: str) -> str:
    """Return the digest of a result, whatever the order of its keys: that of a restored episode may be another."""
    return typed.digest(read_result(text))


def note(state: dict[str, Any], text: str) -> None:
    """Count a result: its digest, and how often it was heard."""
    heard, key = state["_heard"], heard_key(text)
    heard[key] = heard.get(key, 0) + 1
    state["_made"] += 1


def close_turn(state: dict[str, Any], classes: Sequence[str]) -> None:
    """Write down what a user turn ends with."""
    # Sorted: a restored episode has the keys of its state in another order, and must write down the same.
    heard = [f"{key}#{n}" for key, count in sorted(state["_heard"].items()) for n in range(1, count + 1)]
    state["turns"].append({"state": typed.digest({name: state[name] for name in classes}), "heard": heard, "calls": state["_made"]})
    state["_made"] = 0


@tool(mutates=True)
def reply(text: Annotated[str, "what to tell the user"], ctx: ToolContext) -> ToolOutput:
    """Answer the user and wait for the next message; if there is none, the task is over."""
    close_turn(ctx.state, ctx.services["scenario"].classes)
    return TALK_TOOLS["reply"].fn(text=text, ctx=ctx)
