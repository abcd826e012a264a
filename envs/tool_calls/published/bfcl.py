"""Berkeley Function Calling v4: its files, single turns and multi turns.

    gym.make("ToolCalls-v0", world="bfcl?set=multi_turn_base&folder=DIR")                    # reward "tools"
    gym.make("ToolCalls-v0", world="bfcl?set=simple_python&folder=DIR", reward="calls")

`folder` has BFCL_v4_<set>.json, possible_answer/ and multi_turn_func_doc/, as published; without it those of the
installed package `bfcl-eval` are read (`make extra-bfcl`), whose state classes multi-turn tasks run.

Single turn: the calls must be the possible answer's, each argument with an accepted value. Multi-turn, at the end of
each user turn that has gold calls: the public attributes of all state classes are as gold leaves them, and the results
of its calls were all heard so far; in a turn without gold calls none is made. An episode is one attempt with all turns.
"""

import importlib.util
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.envs.tool_calls.domain import Domain
from agentgym.envs.tool_calls.published import bfcl_tools as states
from agentgym.envs.tool_calls.published.folder import Published, json_lines
from agentgym.envs.tool_calls.published.python_calls import parse_call, read_call
from agentgym.envs.tool_calls.talk import Script
from agentgym.errors import ConfigError, DataError, MissingExtraError, ToolError, suggestion
from agentgym.gold import Assertion, GoldCall
from agentgym.task import Gold, Limits, Task
from agentgym.tools import Tool
from agentgym.tools.validate import ArgumentsError, validate
from agentgym.types import JSON, ToolSpec

SINGLE = ("simple_python", "multiple", "parallel", "parallel_multiple", "live_simple", "live_multiple", "live_parallel",
          "live_parallel_multiple", "irrelevance", "live_irrelevance")  # fmt: skip
MULTI = ("multi_turn_base", "multi_turn_miss_func", "multi_turn_miss_param", "multi_turn_long_context")
SINGLE_LIMITS = Limits(max_turns=16, max_calls_per_turn=64)
MULTI_LIMITS = Limits(max_turns=160, max_calls_per_turn=64, max_result_chars=8_000)
"""BFCL gives up a task after 20 steps in one turn; tasks have 8 turns at most."""
MORE_TOOLS = "There are more tools now. Please do with them what could not be done before."
_ADVICE = "Answer with calls of the tools above where they fit the request; where none fits, say so without a call."
_REPLY_ADVICE = "Work on the user's request with the tools above. When it is done, or cannot be done, say so without a call; the user then goes on."


class SingleTurn(Domain):
    """Functions that are documented and not run."""

    name = "bfcl"
    talk = ("reply",)

    def __init__(self) -> None:
        """Keep the tools of tasks that were asked for."""
        self._tools = lru_cache(maxsize=4_096)(self._made)

    def _made(self, docs: str) -> tuple[Tool, ...]:
        return tuple(states.documented(doc) for doc in json.loads(docs))

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the task's functions."""
        return self._tools(str(task.meta["functions"]))

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return that no call was made."""
        return {"calls": 0}

    def rules(self, task: Task) -> str:
        """Return what the calls are for."""
        return _ADVICE

    def solution(self, task: Task) -> Sequence[GoldCall]:
        """Return the calls of gold, with values in the place of choices."""
        plain, specs = [], {t.name: t.spec for t in self.tools(task)}
        for call in task.gold.trace:
            given = {k: _chosen(v) if call.compare[k] == "accepted" else v for k, v in call.arguments.items()}
            for key, values in task.gold.accepted_args.get(call.id, {}).items():
                # Some answers contradict their own documentation where they need not be given.
                if "" in values and key in given and not _fits(specs[call.name], given):
                    del given[key]
            plain.append(replace(call, arguments=given, compare={}))
        return [*plain, GoldCall("end", "reply", {"text": "That is all."}, {"text": "any"})]


class MultiTurn(Domain):
    """BFCL's state classes."""

    name = "bfcl"
    talk = ("reply",)

    def __init__(self, folder: Path) -> None:
        """Take the folder of the documentation."""
        self.folder, self._instances = folder, states.Instances()
        self._toolset = lru_cache(maxsize=1_024)(self._made)

    def tools(self, task: Task, user_turn: int = 0) -> tuple[Tool, ...]:
        """Return the methods of the task's classes that are there in a user turn."""
        later = task.meta.get("missed_function") or {}
        hidden = {n for turn, names in later.items() if int(turn) > user_turn for n in names}  # type: ignore[union-attr]
        hidden |= set(task.meta.get("excluded_function") or ())  # type: ignore[arg-type]
        return self._toolset(tuple(task.meta["classes"]), frozenset(hidden))  # type: ignore[arg-type]

    def _made(self, classes: tuple[str, ...], hidden: frozenset[str]) -> tuple[Tool, ...]:
        found = [self.method(name, doc["name"]) for name in classes for doc in states.class_docs(self.folder, name) if doc["name"] not in hidden]
        return (*found, states.reply)

    @lru_cache(maxsize=1_024)  # noqa: B019 - one domain a folder, kept for good
    def method(self, owner: str, name: str) -> Tool:
        """Return the tool of one method."""
        return states.method(next(d for d in states.class_docs(self.folder, owner) if d["name"] == name), owner)

    def scenario(self, task: Task) -> states.Scenario:
        """Return what a task begins with."""
        classes = [str(name) for name in task.meta["classes"]]  # type: ignore[union-attr]
        methods = {d["name"]: name for name in classes for d in states.class_docs(self.folder, name)}
        config: Any = task.meta["config"]
        return states.Scenario(task.id, classes, config, methods, bool(task.meta.get("long_context")))

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return the public attributes of fresh objects."""
        return dict(self._first(task.id, self.scenario(task)))

    def _first(self, task_id: str, scenario: states.Scenario) -> dict[str, JSON]:
        objects = scenario.load()
        shown = {name: states.attributes(objects[name]) for name in scenario.classes}
        self._instances.keep(scenario, [], objects)
        return {**shown, "_calls": [], "_heard": {}, "_made": 0, "turns": []}

    def services(self, task: Task) -> Mapping[str, Any]:
        """Return what the methods need."""
        return {"scenario": self.scenario(task), "instances": self._instances}

    def rules(self, task: Task) -> str:
        """Return how a conversation goes."""
        return _REPLY_ADVICE


class BfclTasks(Published):
    """The tasks of one of BFCL's files."""

    def __init__(self, folder: Path, set_: str) -> None:
        """Read questions and possible answers. Raises DataError where a file is missing or broken."""
        self.set, self.folder = set_, folder
        self._rows = {row["id"]: row for row in json_lines(folder / f"BFCL_v4_{set_}.json")}
        answers = folder / "possible_answer" / f"BFCL_v4_{set_}.json"
        self._gold = {} if set_.endswith("irrelevance") else {row["id"]: row["ground_truth"] for row in json_lines(answers)}
        if missing := [id_ for id_ in self._rows if self._gold and id_ not in self._gold]:
            raise DataError(f"{answers}: no ground truth for {missing[0]!r} and {len(missing) - 1} more")
        self._domain: Any = _multi(folder) if set_ in MULTI else _SINGLE
        super().__init__(f"bfcl?set={set_}&folder={folder}", tuple(self._rows))

    def domain(self, task: Task) -> Domain:
        """Return the domain of this file's tasks."""
        return self._domain

    def build(self, task_id: str) -> Task:
        """Build a task."""
        row = self._rows[task_id]
        try:
            return self._multi(row) if self.set in MULTI else self._single(row)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            raise DataError(f"{self.folder}, {self.set}, {task_id}: not as BFCL v4 writes it ({type(error).__name__}: {error})") from None

    # ---- one turn

    def _single(self, row: Mapping[str, Any]) -> Task:
        trace, accepted = [], {}
        for n, answer in enumerate(self._gold.get(row["id"], ())):
            ((name, arguments),) = answer.items()
            call = _accepted_call(f"g{n}", states.tool_name(name), arguments)
            accepted[call.id] = {key: tuple(values) for key, values in arguments.items() if values}
            trace.append(call)
        gold = Gold(trace=tuple(trace), accepted_args=accepted, final_state=None if trace else {"calls": 0})
        functions = json.dumps(row["function"])
        return Task(row["id"], _said(row["question"][0]), gold, world=self.world, split="all", kind=self.set,
                    limits=SINGLE_LIMITS, source="bfcl", meta={"functions": functions})  # fmt: skip

    # ---- many turns

    def _multi(self, row: Mapping[str, Any]) -> Task:
        turns = [_said(messages) or MORE_TOOLS for messages in row["question"]]
        meta: dict[str, JSON] = {
            "user": schema.to_json(Script(turns=tuple(turns[1:]))),
            "classes": list(row["involved_classes"]),
            "config": row["initial_config"],
            "excluded_function": list(row.get("excluded_function") or ()),
            "missed_function": dict(row.get("missed_function") or {}),
            "long_context": "long_context" in self.set,
        }
        task = Task(row["id"], turns[0], world=self.world, split="all", kind=self.set, limits=MULTI_LIMITS, source="bfcl", meta=meta)
        return replace(task, gold=self._multi_gold(task, self._gold[row["id"]]))

    def _multi_gold(self, task: Task, truth: Sequence[Sequence[str]]) -> Gold:
        """Carry the ground truth out; what it leaves and hears turn by turn becomes the gold."""
        scenario = self._domain.scenario(task)
        docs = {d["name"]: d for name in scenario.classes for d in states.class_docs(self.folder, name)}
        objects, state = scenario.load(), dict(self._domain.initial_state(task))
        trace, assertions = [], []
        for k, texts in enumerate(truth):
            wanted: dict[str, int] = {}
            for text in texts:
                name = parse_call(text)[0]
                call = read_call(text, list(docs[name]["parameters"].get("properties", {})))
                trace.append(GoldCall(f"g{len(trace)}", call.name, call.arguments))
                try:
                    heard = states.run(objects, scenario.owner(name), name, call.arguments)
                except ToolError as error:
                    raise DataError(f"{self.folder}, {task.id}: the gold call {text!r} fails: {error}") from None
                states.note(state, heard)
                key = states.heard_key(heard)
                wanted[key] = wanted.get(key, 0) + 1
            for name in scenario.classes:
                state[name] = states.attributes(objects[name])
            states.close_turn(state, scenario.classes)
            trace.append(GoldCall(f"g{len(trace)}", "reply", {"text": "It is done."}, {"text": "any"}, optional=True))
            if not texts:
                assertions.append(Assertion(f"turns[{k}].calls", "eq", 0))
                continue
            assertions.append(Assertion(f"turns[{k}].calls", "ge", 1))
            assertions.append(Assertion(f"turns[{k}].state", "eq", state["turns"][k]["state"]))  # type: ignore[index,call-overload]
            assertions += [Assertion(f"turns[{k}].heard", "contains", f"{key}#{n}") for key, n in wanted.items()]
        return Gold(trace=tuple(trace), assertions=tuple(assertions))


def _accepted_call(id_: str, name: str, arguments: Mapping[str, Sequence[JSON]]) -> GoldCall:
    """Return a gold call: of each argument one accepted value."""
    first, compare = {}, {}
    for key, values in arguments.items():
        kept = [value for value in values if value != ""]
        nested = any(isinstance(v, dict) or (isinstance(v, list) and any(isinstance(i, dict) for i in v)) for v in kept)
        compare[key] = "accepted" if nested else "loose"
        if kept:
            first[key] = kept[0]
    return GoldCall(id_, name, first, {key: mode for key, mode in compare.items() if key in first})


def _fits(spec: ToolSpec, arguments: Mapping[str, JSON]) -> bool:
    try:
        validate(arguments, spec)
    except ArgumentsError:
        return False
    return True


def _chosen(value: Any) -> JSON:
    """Return the first of the choices that an accepted table leaves."""
    if isinstance(value, list):
        return [_chosen(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {k: [c for c in choices if c != ""] if isinstance(choices, list) else [choices] for k, choices in value.items()}
    return {key: choices[0] for key, choices in kept.items() if choices}


def _said(messages: Sequence[Mapping[str, Any]]) -> str:
    return "\n\n".join(str(m["content"]) for m in messages)


_SINGLE = SingleTurn()


@lru_cache(maxsize=8)
def _multi(folder: Path) -> MultiTurn:
    return MultiTurn(folder)


def load(set: str = "multi_turn_base", folder: str = "") -> BfclTasks:
    """Return the tasks of "bfcl?set=NAME&folder=DIR"."""
    if set not in (*SINGLE, *MULTI):
        names = (*SINGLE, *MULTI)
        raise ConfigError(f"world 'bfcl': set={set!r} is not known; allowed: {', '.join(names)}{suggestion(set, names)}")
    return BfclTasks(Path(folder).resolve() if folder else _packaged(), set)


def _packaged() -> Path:
    found = importlib.util.find_spec("bfcl_eval")
    if found is None or not found.submodule_search_locations:
        raise MissingExtraError("the world 'bfcl' without folder=", "bfcl-eval", "make extra-bfcl")
    return Path(found.submodule_search_locations[0]) / "data"
