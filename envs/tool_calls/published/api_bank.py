"""API-Bank's dialogues, in the form in which they are published for training: a dialogue so far, and the next call.

    gym.make("ToolCalls-v0", world="api_bank?file=DIR/apibank.level-1.json", reward="calls")

The functions are documented and not run. Values of the reference are texts whatever the documented type; a number, list
or truth value that reads the same is right as well.
"""

import ast
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym.envs.tool_calls.domain import Domain
from agentgym.envs.tool_calls.published.bfcl import SINGLE_LIMITS, SingleTurn
from agentgym.envs.tool_calls.published.folder import Published, json_file
from agentgym.errors import ConfigError, DataError
from agentgym.gold import GoldCall
from agentgym.task import Gold, Task
from agentgym.types import JSON

_TOOL = re.compile(r"^\d+\. Name: (?P<name>.*)\nDescription: (?P<about>.*)\nParameters: (?P<parameters>.*)$", re.MULTILINE)
_PART = re.compile(r"<(user|response|tool_call|obs)>(.*?)</\1>", re.DOTALL)
_WHO = {"user": "User", "response": "Assistant", "tool_call": "Assistant's call", "obs": "Result"}
_TYPES = {"int": "integer", "float": "number", "bool": "boolean", "list": "array", "dict": "object"}


class ApiBankTasks(Published):
    """The dialogues of one file."""

    def __init__(self, file: str) -> None:
        """Read the file; dialogues whose reference is no call of what they document are left out, with a warning.

        Raises:
            DataError: The file is missing or broken.
        """
        self.path, self._domain, self._rows = Path(file), _DOMAIN, {}
        left_out = 0
        for n, row in enumerate(json_file(self.path, list)):
            try:
                docs = [_doc(found) for found in _TOOL.finditer(row["system"])]
                answer = row["answer"] if isinstance(row["answer"], list) else [row["answer"]]
                id_ = f"api_bank.{str(row['other']['file']).removesuffix('.jsonl')}.{row['other']['id']}"
                calls = [(str(call["name"]), dict(call["parameters"])) for call in answer]
                said = [(who, text.strip()) for who, text in _PART.findall(row["user"]) if text.strip()]
            except (KeyError, TypeError, ValueError, SyntaxError) as error:
                raise DataError(f"{self.path}: dialogue {n}: {type(error).__name__}: {error}; system, user, answer and other are needed") from None
            known = {doc["name"]: doc["parameters"]["properties"] for doc in docs}
            if all(name in known and arguments.keys() <= known[name].keys() for name, arguments in calls):
                self._rows[id_] = (docs, said, calls)
            else:
                left_out += 1
        if left_out:
            warnings.warn(f"{self.path}: {left_out} dialogues are left out: their reference is no call of what they document", UserWarning)
        super().__init__(f"api_bank?file={file}", tuple(self._rows))

    def domain(self, task: Task) -> Domain:
        """Return the domain of documented functions."""
        return self._domain

    def build(self, task_id: str) -> Task:
        """Build a task."""
        docs, said, calls = self._rows[task_id]
        if said and said[-1][0] == "user" and "only make one tool call" in said[-1][1]:
            said = said[:-1]  # an instruction to the model, not a word of the user
        trace, accepted = [], {}
        for n, (name, arguments) in enumerate(calls):
            trace.append(GoldCall(f"g{n}", name, arguments, dict.fromkeys(arguments, "loose")))
            accepted[f"g{n}"] = {key: _readings(value) for key, value in arguments.items()}
        gold = Gold(trace=tuple(trace), accepted_args=accepted)
        question = "Go on with this conversation: make the next call.\n\n" + "\n".join(f"{_WHO[who]}: {text}" for who, text in said)
        return Task(task_id, question, gold, world=self.world, split="all", kind="dialogue", limits=SINGLE_LIMITS,
                    source="api_bank", meta={"functions": json.dumps(docs)})  # fmt: skip


def _doc(found: Mapping[str, Any] | re.Match[str]) -> dict[str, Any]:
    """Return a function's documentation as BFCL writes it."""
    given = ast.literal_eval(found["parameters"])
    properties = {name: {"type": _type(str(doc.get("type"))), "description": str(doc.get("description", ""))} for name, doc in given.items()}
    parameters = {"type": "dict", "properties": properties, "required": []}  # it is not published which ones are needed
    return {"name": found["name"].strip(), "description": found["about"].strip(), "parameters": parameters}


def _type(written: str) -> JSON:
    kind = _TYPES.get(written.partition("(")[0])
    return [kind, "string"] if kind else "string"


def _readings(value: JSON) -> tuple[JSON, ...]:
    """Return a reference value, and the value of another type that it reads as."""
    if not isinstance(value, str):
        return (value,)
    try:
        read = ast.literal_eval(value)
    except (ValueError, SyntaxError, RecursionError, MemoryError):
        return (value,)
    return (value, read) if isinstance(read, bool | int | float | list) else (value,)


_DOMAIN = SingleTurn()


def load(file: str = "") -> ApiBankTasks:
    """Return the tasks of "api_bank?file=FILE"."""
    if not file:
        raise ConfigError("world 'api_bank': name the file: api_bank?file=DIR/apibank.level-1.json")
    return ApiBankTasks(file)
