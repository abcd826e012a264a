"""Strict codec between frozen dataclasses and plain JSON.

It knows the types that AgentGym's records and settings are made of: dataclasses, ``tuple[X, ...]``,
``tuple[X, Y]``, ``list[X]``, ``dict[str, X]``, ``Literal``, unions, ``Path``, scalars, and ``Any`` for values that
are JSON already. Nothing is coerced but int to float; a bool is never a number; unknown keys are errors.
Plans are built once per type. Non-finite floats pass: what they mean is for the writer of the file to decide.
"""

import dataclasses
import types
import typing
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar, Union

from agentgym.errors import AgentGymError, DataError, suggestion

T = TypeVar("T")
Codec = Callable[[Any], Any]


def to_json(obj: Any, *, keep_defaults: bool = False) -> Any:
    """Return a dataclass instance as plain JSON: dicts and lists.

    Args:
        obj: a dataclass instance, or a tuple, list or dict of such.
        keep_defaults: also write the fields that equal their default (they are left out otherwise).

    Raises:
        TypeError: for a field type or a value that the codec does not know (a programming error).
    """
    return _encode_value(obj, keep_defaults)


def from_json(cls: type[T], data: Any, where: str = "", *, error: type[AgentGymError] = DataError) -> T:
    """Return `data` as an instance of `cls` (a dataclass, or any type the codec knows).

    Args:
        cls: the type to build.
        data: parsed JSON or TOML.
        where: what the message of an error starts with, e.g. "runs/a.jsonl:12".
        error: ConfigError for settings, DataError for files.

    Raises:
        AgentGymError: of class `error`, naming `where`, the key path, what was given and what is allowed.
    """
    try:
        return _decoder(cls)(data)
    except _MismatchError as bad:
        parts = [part for part in (where, bad.key_path) if part]
        raise error(": ".join([*parts, bad.message])) from None


class _MismatchError(Exception):
    """A value that does not fit; every level it passes on its way out adds its key in front."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.keys: list[str | int] = []

    @property
    def key_path(self) -> str:
        text = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in reversed(self.keys))
        return text.removeprefix(".")


def type_name(tp: Any) -> str:
    """Return how a type is called in messages and tables, e.g. "tuple[int, ...] | None"."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp is Any:
        return "any JSON value"
    if tp is type(None):
        return "none"
    if is_union(tp):
        return " | ".join(type_name(a) for a in args)
    if origin is Literal:
        return "one of " + ", ".join(repr(a) for a in args)
    if origin is not None:
        return f"{origin.__name__}[{', '.join('...' if a is ... else type_name(a) for a in args)}]"
    return getattr(tp, "__name__", str(tp))


def is_union(tp: Any) -> bool:
    """Whether a type is `X | Y` or `Optional[X]`."""
    return typing.get_origin(tp) in (Union, types.UnionType)


def _unfit(value: Any, tp: Any) -> _MismatchError:
    try:
        text = repr(value)
    except ValueError:  # holds a whole number with more digits than Python writes
        text = "too long to show"
    shown = text if len(text) <= 60 else text[:57] + "..."
    given = "none" if value is None else f"{type(value).__name__} {shown}"
    return _MismatchError(f"expected {type_name(tp)}, got {given}")


# ---- decoding


@cache
def _decoder(tp: Any) -> Codec:
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp is Any:
        return lambda value: value
    if tp in (str, int, bool, type(None)):
        return _exact(tp)
    if tp is float:
        return _decode_float
    if tp is Path:
        return lambda value: Path(_decoder(str)(value))
    if is_union(tp):
        return _union(tp, args)
    if origin is Literal:
        return _literal(tp, args)
    if origin in (tuple, list):
        return _sequence(tp, origin, args)
    if origin is dict and args[0] is str:
        return _mapping(tp, args[1])
    if isinstance(tp, type) and dataclasses.is_dataclass(tp):
        return lambda value: _build(tp, value)
    raise TypeError(f"{tp!r} is not a type that the codec knows (see the docstring of agentgym.schema)")


def _exact(tp: type) -> Codec:
    def decode(value: Any) -> Any:
        if type(value) is not tp:
            raise _unfit(value, tp)
        return value

    return decode


def _decode_float(value: Any) -> float:
    if type(value) is float:
        return value
    if type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise _MismatchError(f"{_unfit(value, float).message}, which is beyond the range of floats") from None
    raise _unfit(value, float)


def _literal(tp: Any, allowed: tuple[Any, ...]) -> Codec:
    def decode(value: Any) -> Any:
        for choice in allowed:
            if type(choice) is type(value) and choice == value:
                return choice
        hint = suggestion(value, [c for c in allowed if isinstance(c, str)]) if isinstance(value, str) else ""
        raise _MismatchError(f"{_unfit(value, tp).message}{hint}")

    return decode


def _union(tp: Any, args: tuple[Any, ...]) -> Codec:
    members = [a for a in args if a is not type(None)]
    optional = len(members) < len(args)
    # int before float: a float member would swallow the int; everything else is told apart by its type.
    decoders = [_decoder(a) for a in sorted(members, key=lambda a: a is float)]

    def decode(value: Any) -> Any:
        if optional and value is None:
            return None
        failures: list[_MismatchError] = []
        for member in decoders:
            try:
                return member(value)
            except _MismatchError as bad:
                failures.append(bad)
        deepest = max(failures, key=lambda bad: len(bad.keys))
        if deepest.keys or (len(failures) == 1 and dataclasses.is_dataclass(members[0]) and value is not None):
            raise deepest
        raise _unfit(value, tp)

    return decode


def _sequence(tp: Any, kind: type, args: tuple[Any, ...]) -> Codec:
    if kind is tuple and args[-1:] != (...,):
        return _fixed_tuple(tp, args)
    item, item_type = _decoder(args[0]), args[0]
    scalar = item_type if item_type in (int, float, str, bool) else None

    def decode(value: Any) -> Any:
        if type(value) is not list and type(value) is not tuple:
            raise _unfit(value, tp)
        if scalar is not None and set(map(type, value)) <= {scalar}:  # the fast path of token ids and logprobs
            return kind(value)
        index = 0
        try:
            items = []
            for index, entry in enumerate(value):  # noqa: B007 - the index is read when an item does not fit
                items.append(item(entry))
            return kind(items)
        except _MismatchError as bad:
            bad.keys.append(index)
            raise

    return decode


def _fixed_tuple(tp: Any, args: tuple[Any, ...]) -> Codec:
    decoders = [_decoder(a) for a in args]

    def decode(value: Any) -> Any:
        if not isinstance(value, (list, tuple)):
            raise _unfit(value, tp)
        if len(value) != len(decoders):
            raise _MismatchError(f"expected {len(decoders)} items ({type_name(tp)}), got {len(value)}")
        items = []
        for index, (item, entry) in enumerate(zip(decoders, value, strict=True)):
            try:
                items.append(item(entry))
            except _MismatchError as bad:
                bad.keys.append(index)
                raise
        return tuple(items)

    return decode


def _mapping(tp: Any, item_type: Any) -> Codec:
    item = _decoder(item_type)

    def decode(value: Any) -> Any:
        if type(value) is not dict:
            raise _unfit(value, tp)
        result = {}
        for key, entry in value.items():
            if type(key) is not str:
                raise _MismatchError(f"keys are strings, got {type(key).__name__} {key!r}")
            try:
                result[key] = item(entry)
            except _MismatchError as bad:
                bad.keys.append(key)
                raise
        return result

    return decode


@cache
def _fields(cls: type) -> tuple[dict[str, Codec], tuple[str, ...]]:
    """Return the decoders of a dataclass by field name, and the names of fields without a default."""
    hints = field_types(cls)
    named = [f for f in dataclasses.fields(cls) if f.init]
    required = [f.name for f in named if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING]
    return {f.name: _decoder(hints[f.name]) for f in named}, tuple(required)


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Return the resolved types of a dataclass's fields, in order."""
    hints = typing.get_type_hints(cls)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls)}


def _build(cls: Any, value: Any) -> Any:
    if type(value) is not dict:
        if type(value) is cls:
            return value
        raise _MismatchError(_unfit(value, cls).message.replace(type_name(cls), f"a table ({type_name(cls)})", 1))
    decoders, required = _fields(cls)
    arguments: dict[str, Any] = {}
    key = ""
    try:
        for key, entry in value.items():
            decode = decoders.get(key)
            if decode is None:
                raise _MismatchError(f"unknown key{suggestion(key, decoders)} (known keys: {', '.join(decoders)})")
            arguments[key] = decode(entry)
    except _MismatchError as bad:
        bad.keys.append(str(key))
        raise
    missing = [name for name in required if name not in arguments]
    if missing:
        raise _MismatchError(f"missing key{'s' if len(missing) > 1 else ''} {', '.join(map(repr, missing))}")
    try:
        return cls(**arguments)
    except (AgentGymError, ValueError) as refused:  # the dataclass's own __post_init__
        raise _MismatchError(str(refused)) from refused


# ---- encoding


def _encode_value(value: Any, keep: bool) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _encode_object(value, keep)
    if isinstance(value, (tuple, list)):
        return [_encode_value(v, keep) for v in value]
    if isinstance(value, dict):
        return {k: _encode_value(v, keep) for k, v in value.items()}
    if isinstance(value, Path):
        return str(value)
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    raise TypeError(f"{type(value).__name__} {value!r} is not JSON and not a dataclass")


def _encode_object(value: Any, keep: bool) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, encode, default in _encoders(type(value)):
        item = getattr(value, name)
        if not keep and type(item) is type(default) and item == default:
            continue
        result[name] = item if encode is None else encode(item, keep)
    return result


@cache
def _encoders(cls: type) -> tuple[tuple[str, Callable[[Any, bool], Any] | None, Any], ...]:
    hints = field_types(cls)
    rows = []
    for field in dataclasses.fields(cls):
        if not field.init:
            continue
        made = field.default_factory
        default = made() if made is not dataclasses.MISSING else field.default
        rows.append((field.name, _encoder(hints[field.name]), default))
    return tuple(rows)


def _encoder(tp: Any) -> Callable[[Any, bool], Any] | None:
    """Return how to encode a value of this type, or None where the value is JSON as it stands."""
    origin, args = typing.get_origin(tp), typing.get_args(tp)
    if tp in (Any, str, int, float, bool, type(None)) or origin is Literal:
        return None
    if origin in (tuple, list) and all(a is ... or _encoder(a) is None for a in args):
        return lambda value, keep: list(value)
    if origin is dict and _encoder(args[1]) is None:
        return None
    if is_union(tp) and all(_encoder(a) is None for a in args):
        return None
    return _encode_value
