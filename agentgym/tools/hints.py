"""Type hints -> JSON schema, and how to turn checked JSON into what the function expects.

| hint | schema |
|---|---|
| str, int, float, bool, None | string, integer, number, boolean, null |
| Literal, Enum | enum |
| Optional[X], X or Y | type list, or anyOf |
| list[X], set[X], frozenset[X], Sequence[X], tuple[X, ...], tuple[X, Y] | array |
| dict[str, X] | object with additionalProperties |
| TypedDict, dataclass, pydantic model | closed object with properties |
| Annotated[X, "text"] or [X, {"minimum": 1}] | X with description, or with those keys |
| Any | anything |
"""

import collections.abc as abc
import dataclasses
import enum
import types
import typing
from collections.abc import Callable
from typing import Any, Literal, Union

from agentgym.types import JSON

Convert = Callable[[Any], Any]
Plan = tuple[dict[str, JSON], Convert | None]
"""Schema, and the conversion of a valid value (None where JSON is what the function expects)."""

_SCALARS: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}
_LISTS: dict[Any, Convert | None] = {
    list: None, abc.Sequence: None, abc.Iterable: None, abc.Collection: None,
    set: set, abc.Set: set, frozenset: frozenset, tuple: tuple,
}  # fmt: skip
_DICTS = (dict, abc.Mapping, abc.MutableMapping)


class HintError(TypeError):
    """Raised for a hint that has no JSON form; the message names it."""


def plan(hint: Any, defs: dict[str, JSON], inside: tuple[Any, ...] = ()) -> Plan:
    """Return schema and conversion of a hint.

    Args:
        hint: a resolved type hint (see `typing.get_type_hints`, extras included).
        defs: collects the "$defs" of pydantic models.
        inside: classes being described, to refuse those that contain themselves.

    Raises:
        HintError: the hint has no JSON form.
    """
    while hasattr(hint, "__supertype__") or type(hint).__name__ == "TypeAliasType":
        hint = getattr(hint, "__supertype__", None) or hint.__value__
    if hint in (Any, object):
        return {}, None
    if hint is None or (isinstance(hint, type) and hint in _SCALARS):
        return {"type": _SCALARS[type(None) if hint is None else hint]}, None
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        schema, convert = plan(args[0], defs, inside)
        return _annotated(schema, args[1:]), convert
    if origin is Literal:
        return _enum(list(args)), None
    if origin in (Union, types.UnionType):
        return _union([plan(arg, defs, inside) for arg in args])
    base = origin or hint
    if base in _LISTS:
        return _array(base, args, defs, inside)
    if base in _DICTS:
        return _mapping(hint, args, defs, inside)
    if isinstance(hint, type):
        return _class(hint, defs, inside)
    raise HintError(f"the hint {hint!r} has no JSON form")


def _annotated(schema: dict[str, JSON], extras: tuple[Any, ...]) -> dict[str, JSON]:
    for extra in extras:
        if isinstance(extra, str):
            schema = {**schema, "description": extra}
        elif isinstance(extra, dict):
            schema = {**schema, **extra}
    return schema


def _enum(values: list[Any]) -> dict[str, JSON]:
    if not all(value is None or type(value) in (str, int, bool) for value in values):
        raise HintError(f"allowed values must be str, int, bool or None, not {values!r}")
    kinds = {_SCALARS[type(value)] for value in values}
    return {"type": kinds.pop(), "enum": values} if len(kinds) == 1 else {"enum": values}


def _union(plans: list[Plan]) -> Plan:
    converts = [convert for _, convert in plans if convert]
    convert: Convert | None = None
    if converts:
        others = [schema for schema, own in plans if not own]
        if len(converts) > 1 or any(schema != {"type": "null"} for schema in others):
            raise HintError("a union of types that need conversion is ambiguous; only Optional[X] works for them")
        convert = _optional(converts[0])
    if all(set(schema) == {"type"} and isinstance(schema["type"], str) for schema, _ in plans):
        return {"type": [schema["type"] for schema, _ in plans]}, convert
    return {"anyOf": [schema for schema, _ in plans]}, convert


def _optional(convert: Convert) -> Convert:
    return lambda value: None if value is None else convert(value)


def _array(base: Any, args: tuple[Any, ...], defs: dict[str, JSON], inside: tuple[Any, ...]) -> Plan:
    outer = _LISTS[base]
    if base is tuple and args and args[-1] is not Ellipsis:
        plans = [plan(arg, defs, inside) for arg in args]
        fixed: dict[str, JSON] = {
            "type": "array",
            "prefixItems": [item for item, _ in plans],
            "minItems": len(plans),
            "maxItems": len(plans),
        }
        converts = [convert or _same for _, convert in plans]
        return fixed, lambda values: tuple(convert(v) for convert, v in zip(converts, values, strict=True))
    items, convert = plan(args[0], defs, inside) if args else ({}, None)
    schema: dict[str, JSON] = {"type": "array", "items": items} if items else {"type": "array"}
    if outer in (set, frozenset):
        schema["uniqueItems"] = True
    if convert is None:
        return schema, outer
    inner = convert
    return schema, lambda values: (outer or list)(inner(value) for value in values)


def _mapping(hint: Any, args: tuple[Any, ...], defs: dict[str, JSON], inside: tuple[Any, ...]) -> Plan:
    if not args:
        return {"type": "object"}, None
    if args[0] is not str:
        raise HintError(f"keys of {hint!r} must be str: JSON has no others")
    values, convert = plan(args[1], defs, inside)
    schema: dict[str, JSON] = {"type": "object", "additionalProperties": values}
    if convert is None:
        return schema, None
    inner = convert
    return schema, lambda table: {key: inner(value) for key, value in table.items()}


def _class(hint: type, defs: dict[str, JSON], inside: tuple[Any, ...]) -> Plan:
    cls: Any = hint
    if issubclass(hint, enum.Enum):
        return _enum([member.value for member in cls]), cls
    if hasattr(cls, "model_json_schema"):
        schema = dict(cls.model_json_schema())
        defs.update({name: _closed(item) for name, item in schema.pop("$defs", {}).items()})
        return _closed(schema), cls.model_validate
    is_typed_dict = typing.is_typeddict(hint)
    if not is_typed_dict and not dataclasses.is_dataclass(hint):
        raise HintError(f"the class {hint.__name__} has no JSON form; use a dataclass, a TypedDict or plain types")
    if cls in inside:
        raise HintError(f"{hint.__name__} contains itself")
    hints = typing.get_type_hints(cls, include_extras=True)
    if is_typed_dict:
        names, required = list(hints), [name for name in hints if name in cls.__required_keys__]
        hints = {name: _bare(hint) for name, hint in hints.items()}
    else:
        fields = [field for field in dataclasses.fields(cls) if field.init]
        names = [field.name for field in fields]
        missing = dataclasses.MISSING
        required = [f.name for f in fields if f.default is missing and f.default_factory is missing]
    plans = {name: plan(hints[name], defs, (*inside, cls)) for name in names}
    schema = {
        "type": "object",
        "properties": {name: item for name, (item, _) in plans.items()},
        "required": required,
        "additionalProperties": False,
    }
    converts = {name: convert for name, (_, convert) in plans.items() if convert}
    if is_typed_dict and not converts:
        return schema, None
    build: Convert = dict if is_typed_dict else lambda table: cls(**table)
    return schema, lambda table: build({k: converts[k](v) if k in converts else v for k, v in table.items()})


def _closed(schema: dict[str, JSON]) -> dict[str, JSON]:
    return {"additionalProperties": False, **schema} if "properties" in schema else schema


def _bare(hint: Any) -> Any:
    return typing.get_args(hint)[0] if typing.get_origin(hint) in (typing.Required, typing.NotRequired) else hint


def _same(value: Any) -> Any:
    return value
