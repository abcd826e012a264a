"""`@tool`: a function's signature and docstring become a `ToolSpec`; `ToolContext`: what a tool may see."""

import copy
import functools
import inspect
import json
import re
import sys
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, overload

import numpy as np

from agentgym.errors import RegistrationError
from agentgym.quick import quick
from agentgym.sanitize import RESERVED_NAMES
from agentgym.tools.docstring import read_docstring
from agentgym.tools.hints import Convert, HintError, plan
from agentgym.tools.services import EpisodeServices, T
from agentgym.types import JSON, DocRef, Passage, ToolSpec

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

CONTEXT = "_context"
"""Parameter of the ToolContext in tools that take whatever arguments their schema has."""

EPOCH = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)
"""When an episode begins by its own clock, unless its task says otherwise (a Monday morning)."""


class ToolContext:
    """What a tool may see of the episode: a parameter with this hint is filled in and absent from the schema.

    Gold is not in it and cannot be reached from it.
    """

    __slots__ = ("_rng", "now", "services", "state", "task_id", "turn")

    def __init__(
        self,
        state: dict[str, JSON] | None = None,
        rng: "np.random.Generator | Callable[[], np.random.Generator] | None" = None,
        services: Mapping[str, Any] | None = None,
        task_id: str = "",
        turn: int = 0,
        now: datetime = EPOCH,
    ) -> None:
        """Hold the episode's state, random stream and clock.

        Args:
            state: JSON state of the episode. Read it again after a call: a tool that mutates works on a copy,
                which takes its place on success.
            rng: the call's own random stream, or a function that makes it at its first use.
            services: shared objects: a retriever, a sandbox. Never copied.
            task_id: id of the task.
            turn: 0-based index of the turn.
            now: the time by the episode's own clock, with a time zone. It does not depend on the wall clock: a turn
                takes a minute, a call a second.
        """
        self.state: dict[str, JSON] = {} if state is None else state
        self.services = services if isinstance(services, EpisodeServices) else EpisodeServices(services)
        self.task_id = task_id
        self.turn = turn
        self.now = now
        self._rng = rng

    @property
    def has_rng(self) -> bool:
        """Whether there is a random stream."""
        return self._rng is not None

    @property
    def rng(self) -> np.random.Generator:
        """The call's own random stream."""
        if self._rng is None:
            raise RegistrationError("this ToolContext was made without rng; pass ToolContext(rng=seeding.stream(…))")
        if not isinstance(self._rng, np.random.Generator):
            self._rng = self._rng()
        return self._rng

    def opened(self, key: str, make: Callable[[], T]) -> T:
        """Return what `make` made at the first call of the episode with this key; closed when the episode ends."""
        return self.services.opened(key, make)

    def fork(self, state: dict[str, JSON]) -> "ToolContext":
        """Return a context of its own over a copied state."""
        rng = copy.deepcopy(self._rng) if isinstance(self._rng, np.random.Generator) else self._rng
        return ToolContext(state, rng, self.services, self.task_id, self.turn, self.now)

    def take(self, other: "ToolContext") -> None:
        """Adopt state and random stream of a fork that succeeded."""
        self.state, self._rng = other.state, other._rng


@quick
@dataclass(frozen=True, slots=True)
class ToolOutput:
    """A result that hands over documents beside its data."""

    data: JSON = None
    documents: tuple[Passage | DocRef, ...] = ()
    scores: tuple[float, ...] = ()
    """Optional: one per document."""
    events: Mapping[str, JSON] = field(default_factory=dict)
    """For rewards alone (`ToolResult.events`)."""


class Tool:
    """A function that a policy may call. Calling the object calls the function."""

    def __init__(
        self,
        spec: ToolSpec,
        fn: Callable[..., Any],
        *,
        context: tuple[str, ...] = (),
        converts: Mapping[str, Convert] | None = None,
        slow: bool = False,
        live: bool = False,
    ) -> None:
        """Join a spec and a function that takes its arguments by keyword.

        Args:
            spec: what the policy may know.
            fn: a function or coroutine function.
            context: names of the parameters that get the ToolContext.
            converts: per parameter, from checked JSON to what the function expects.
            slow: a plain function runs in a thread, so that other episodes go on.
            live: it keeps something outside of `ctx.state` (a process, a server), which no snapshot holds.

        Raises:
            RegistrationError: the name is reserved or not a plain word, or timeout_s is not positive.
        """
        if not _NAME.match(spec.name):
            raise RegistrationError(
                f"tool {spec.name!r}: a name has letters, digits, _ and -, starts with a letter or _, and has at "
                f"most 64 characters; choose one with @tool(name=…)"
            )
        if spec.name.lower() in RESERVED_NAMES:
            raise RegistrationError(
                f"tool {spec.name!r}: the name is reserved ({', '.join(sorted(RESERVED_NAMES))}); "
                f"choose another with @tool(name=…)"
            )
        if spec.timeout_s is not None and not spec.timeout_s > 0:
            raise RegistrationError(f"tool {spec.name!r}: timeout_s must be above 0, got {spec.timeout_s!r}")
        functools.update_wrapper(self, fn)
        self.spec = spec
        self.fn = fn
        self.context = context
        self.converts = dict(converts or {})
        self.slow = slow
        self.live = live
        self.is_async = inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(getattr(fn, "__call__", None))  # noqa: B004

    @property
    def name(self) -> str:
        """The name by which a policy calls it."""
        return self.spec.name

    @property
    def waits(self) -> bool:
        """Whether a call may suspend the coroutine that runs it; others run in place."""
        waits = self.is_async and not getattr(self.fn, "joins", False)
        return waits or self.slow or self.spec.timeout_s is not None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function itself."""
        return self.fn(*args, **kwargs)

    def keywords(self, arguments: Mapping[str, JSON], ctx: ToolContext) -> dict[str, Any]:
        """Return the function's keyword arguments for checked JSON arguments."""
        keywords = dict(arguments)
        for key, convert in self.converts.items():
            if key in keywords:
                keywords[key] = convert(keywords[key])
        for key in self.context:
            keywords[key] = ctx
        return keywords

    def __deepcopy__(self, memo: dict[int, Any]) -> "Tool":
        """A tool is immutable and shared."""
        return self

    def __reduce_ex__(self, protocol: typing.SupportsIndex) -> Any:
        """A decorated function stands in its module under its own name; others are stored whole."""
        module = sys.modules.get(getattr(self, "__module__", ""))
        path = getattr(self, "__qualname__", "")
        if module is not None and module.__name__ != "__main__" and getattr(module, path, None) is self:
            return path
        return super().__reduce_ex__(protocol)

    def __repr__(self) -> str:
        """Name the tool."""
        return f"Tool({self.spec.name})"


@overload
def tool(fn: Callable[..., Any], /) -> Tool: ...


@overload
def tool(
    *,
    mutates: bool = False,
    timeout_s: float | None = None,
    final: bool = False,
    name: str | None = None,
    slow: bool = False,
) -> Callable[[Callable[..., Any]], Tool]: ...


def tool(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    mutates: bool = False,
    timeout_s: float | None = None,
    final: bool = False,
    name: str | None = None,
    slow: bool = False,
) -> Tool | Callable[[Callable[..., Any]], Tool]:
    """Make a tool of a function: its signature gives the schema, its docstring the descriptions.

    Args:
        fn: the function, where the decorator is used bare.
        mutates: it changes `ctx.state`: it runs on a copy that is committed on success only.
        timeout_s: seconds after which the call is given up; its copy of the state is dropped.
        final: a successful call ends the episode.
        name: another name than the function's.
        slow: it waits for something (a disk, a network): it runs in a thread, so that other episodes go on. Tools
            with a timeout_s do so anyway; coroutines need it not.

    Raises:
        RegistrationError: naming the parameter that has no hint, a hint without a JSON form, or is *args,
            **kwargs or positional-only.
    """
    if fn is None:
        return functools.partial(_make, mutates=mutates, timeout_s=timeout_s, final=final, name=name, slow=slow)
    return _make(fn, mutates=mutates, timeout_s=timeout_s, final=final, name=name, slow=slow)


def _make(
    fn: Callable[..., Any], *, mutates: bool, timeout_s: float | None, final: bool, name: str | None, slow: bool
) -> Tool:
    if isinstance(fn, Tool) or not callable(fn):
        raise RegistrationError(f"@tool needs a function, got {fn!r}")
    name = name or str(getattr(fn, "__name__", type(fn).__name__))
    signature, hints = _signature(fn, name)
    defs: dict[str, JSON] = {}
    properties: dict[str, dict[str, JSON]] = {}
    required: list[str] = []
    converts: dict[str, Convert] = {}
    context: list[str] = []
    for parameter in signature.parameters.values():
        key = parameter.name
        _check_kind(name, parameter, hints)
        if hints[key] is ToolContext or typing.get_args(hints[key])[:1] == (ToolContext,):
            context.append(key)
            continue
        try:
            schema, convert = plan(hints[key], defs)
        except HintError as error:
            raise RegistrationError(f"tool {name!r}: parameter {key!r}: {error}") from error
        if parameter.default is inspect.Parameter.empty:
            required.append(key)
        else:
            schema = {**schema, **_default(parameter.default)}
        properties[key] = schema
        if convert:
            converts[key] = convert
    description, texts = read_docstring(fn.__doc__, properties)
    for key, text in texts.items():
        if text:
            properties[key] = {"description": text, **properties[key]}
    parameters: dict[str, JSON] = {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }
    if defs:
        parameters["$defs"] = defs
    spec = ToolSpec(name, description, parameters, mutates, final, timeout_s)
    return Tool(spec, fn, context=tuple(context), converts=converts, slow=slow)


def _signature(fn: Callable[..., Any], name: str) -> tuple[inspect.Signature, dict[str, Any]]:
    try:
        return inspect.signature(fn), typing.get_type_hints(_hinted(fn), include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise RegistrationError(f"tool {name!r}: its signature cannot be read: {error}") from error


def _hinted(fn: Any) -> Any:
    while isinstance(fn, functools.partial):
        fn = fn.func
    return fn if inspect.isroutine(fn) else fn.__call__


def _check_kind(name: str, parameter: inspect.Parameter, hints: Mapping[str, Any]) -> None:
    if parameter.kind in _VARIADIC:
        raise RegistrationError(f"tool {name!r}: parameter '{parameter}' has no schema; name every parameter")
    if parameter.kind is inspect.Parameter.POSITIONAL_ONLY:
        raise RegistrationError(f"tool {name!r}: parameter {parameter.name!r} must be usable by keyword; remove the /")
    if parameter.name not in hints:
        key = parameter.name
        raise RegistrationError(f"tool {name!r}: parameter {key!r} has no type hint; write e.g. {key}: str")


def _default(value: Any) -> dict[str, JSON]:
    """Return the schema entry of a default; none where it is not JSON."""
    value = getattr(value, "value", value)
    try:
        return {"default": json.loads(json.dumps(value, allow_nan=False))}
    except (TypeError, ValueError):
        return {}
