"""The random policy: valid calls with random arguments, drawn from the words it has read."""

from collections.abc import Iterable, Sequence

import numpy as np

from agentgym.errors import ConfigError
from agentgym.rollout.policy import Request
from agentgym.seeding import stream
from agentgym.types import JSON, Completion, ToolCall


class RandomPolicy:
    """Draws a tool and its arguments uniformly; a floor to compare with, and a fuzzer of environments."""

    privileged = False
    served = False

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one valid call per request, in the request's dialect."""
        return [Completion(text=_call(request)) for request in requests]

    def release(self, episodes: Iterable[str]) -> None:
        """Keep nothing."""


def _call(request: Request) -> str:
    rng = stream(*request.key, "random")
    words = [w for m in request.messages if m.role != "system" for w in m.text.split()] or ["word"]
    spec = request.tools[int(rng.integers(len(request.tools)))]
    properties, required = spec.parameters["properties"], spec.parameters.get("required", [])
    arguments = {name: _value(properties[name], words, rng) for name in required}
    if request.dialect is None:
        raise ConfigError("the random policy needs a driver that says how calls are written (Request.dialect)")
    return request.dialect.render([ToolCall(spec.name, arguments)], request.tools)


def _value(schema: dict[str, JSON], words: list[str], rng: np.random.Generator) -> JSON:
    if "enum" in schema:
        return schema["enum"][int(rng.integers(len(schema["enum"])))]
    kind = schema.get("type")
    if kind == "integer":
        return int(rng.integers(1, 5))
    if kind == "number":
        return float(rng.random())
    if kind == "boolean":
        return bool(rng.integers(2))
    if kind == "array":
        return [_value(schema.get("items", {}), words, rng)]
    if kind == "object":
        return {}
    start = int(rng.integers(len(words)))
    return " ".join(words[start : start + int(rng.integers(1, 4))])
