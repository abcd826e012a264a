"""Arguments against a JSON schema: typed as JSON is (true is no 1), nothing coerced but integer to number."""

import json
from collections.abc import Mapping
from typing import Any

from agentgym.errors import suggestion
from agentgym.toolspec import resolve, signature, type_words
from agentgym.types import JSON, ToolSpec

_MAX_DEPTH = 100
_WORDS = frozenset({"type", "description", "title", "default"})
"""Keywords of a schema that lets every value of its type pass."""
_NOUNS = {
    "string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false",
    "null": "null", "array": "a list", "object": "an object",
}  # fmt: skip


class ArgumentsError(ValueError):
    """Raised for arguments that do not fit; the message names the field, what is allowed and the form."""


def validate(arguments: Mapping[str, JSON], spec: ToolSpec) -> dict[str, JSON]:
    """Return the arguments, integers turned to floats where a number is wanted.

    Keywords that are checked: type, enum, const, properties, required, additionalProperties, items,
    prefixItems, min/maxItems, uniqueItems, min/maxLength, (exclusive) minimum and maximum, anyOf, oneOf,
    allOf, local $ref. Others (pattern, format) describe and are not checked.

    Raises:
        ArgumentsError: at the first field that does not fit.
    """
    try:
        return _object(dict(arguments), spec.parameters, spec.parameters, "", 0)
    except _Bad as bad:
        raise ArgumentsError(f"{spec.name}: {bad}; expected {signature(spec)}") from None


class _Bad(Exception):  # noqa: N818 (never leaves this module)
    pass


def _check(value: JSON, schema: JSON, root: dict[str, JSON], path: str, depth: int) -> JSON:
    if depth > _MAX_DEPTH:
        raise _Bad(f"{path!r} is nested too deep")
    if value.__class__ is str and isinstance(schema, dict) and schema.get("type") == "string" and _WORDS.issuperset(schema):
        return value  # most arguments are plain text
    if schema is False:
        raise _Bad(f"{path!r} is not allowed")
    schema = resolve(schema, root)
    if "enum" in schema or "const" in schema:
        allowed = schema["enum"] if "enum" in schema else [schema["const"]]
        if not any(_same(value, option) for option in allowed):
            words = ", ".join(json.dumps(option, ensure_ascii=False) for option in allowed)
            near = suggestion(value, [o for o in allowed if isinstance(o, str)]) if isinstance(value, str) else ""
            raise _Bad(f"{path!r} must be one of {words}, got {_shown(value)}{near}")
    for part in schema.get("allOf", ()):
        value = _check(value, part, root, path, depth + 1)
    options = schema.get("anyOf", schema.get("oneOf"))
    if options:
        value = _any_of(value, options, schema, root, path, depth)
    kinds = schema.get("type")
    if kinds is None:
        return value
    allowed = [str(k) for k in kinds] if isinstance(kinds, list) else [str(kinds)]
    kind = _kind(value, allowed)
    if kind is None:
        names = " or ".join(_NOUNS.get(k, k) for k in allowed)
        raise _Bad(f"{path!r} must be {names}, got {_shown(value)}")
    if kind == "object":
        return _object(value, schema, root, path, depth)
    if kind == "array":
        return _array(value, schema, root, path, depth)
    if kind == "string":
        _bounds(len(value), schema, "minLength", "maxLength", path, "characters")
    elif kind in ("integer", "number"):
        value = _number(value, schema, path, as_float=kind == "number")
    return value


def _kind(value: JSON, kinds: list[str]) -> str | None:
    """Return the first of the kinds that the value is of; an integer is a number only where it is no integer."""
    if value is None:
        own: tuple[str, ...] = ("null",)
    elif isinstance(value, bool):
        own = ("boolean",)
    elif isinstance(value, int):
        own = ("integer", "number")
    elif isinstance(value, float):
        own = ("number",)
    elif isinstance(value, str):
        own = ("string",)
    else:
        own = ("array",) if isinstance(value, list) else ("object",) if isinstance(value, dict) else ()
    return next((kind for kind in own if kind in kinds), None)


def _any_of(
    value: JSON, options: list[JSON], schema: dict[str, JSON], root: dict[str, JSON], path: str, depth: int
) -> JSON:
    problems = []
    for option in options:
        try:
            return _check(value, option, root, path, depth + 1)
        except _Bad as bad:
            problems.append(str(bad))
    # where one option fits the outer type of the value its own complaint says more than the list of types
    close = [p for p, option in zip(problems, options, strict=True) if _outer_fits(value, option, root)]
    words = type_words({"anyOf": options}, root)
    raise _Bad(close[0] if len(close) == 1 else f"{path!r} must be {words}, got {_shown(value)}")


def _outer_fits(value: JSON, option: JSON, root: dict[str, JSON]) -> bool:
    kinds = resolve(option, root).get("type")
    return kinds is not None and _kind(value, kinds if isinstance(kinds, list) else [kinds]) is not None


def _object(
    value: dict[str, JSON], schema: dict[str, JSON], root: dict[str, JSON], path: str, depth: int
) -> dict[str, JSON]:
    known: dict[str, JSON] = schema.get("properties", {})
    rest = schema.get("additionalProperties", True)
    result = {}
    for key, item in value.items():
        inner = f"{path}.{key[:80]}" if path else key[:80]
        if key in known:
            result[key] = _check(item, known[key], root, inner, depth + 1)
        elif rest is False:
            hint = suggestion(key[:80], known)
            raise _Bad(f"there is no parameter {inner!r}{hint}; allowed: {', '.join(known) or 'none'}")
        else:
            result[key] = _check(item, {} if rest is True else rest, root, inner, depth + 1)
    for key in schema.get("required", ()):
        if key not in result:
            inner = f"{path}.{key}" if path else key
            raise _Bad(f"{inner!r} is missing")
    return result


def _array(value: list[JSON], schema: dict[str, JSON], root: dict[str, JSON], path: str, depth: int) -> list[JSON]:
    _bounds(len(value), schema, "minItems", "maxItems", path, "items")
    prefix, items = schema.get("prefixItems", ()), schema.get("items", {})
    result = [
        _check(item, prefix[i] if i < len(prefix) else items, root, f"{path}[{i}]", depth + 1)
        for i, item in enumerate(value)
    ]
    if schema.get("uniqueItems") and len({json.dumps(i, sort_keys=True) for i in result}) < len(result):
        raise _Bad(f"{path!r} must not hold the same item twice")
    return result


def _number(value: Any, schema: dict[str, JSON], path: str, *, as_float: bool) -> float | int:
    try:
        value = float(value) if as_float else value
    except OverflowError:
        raise _Bad(f"{path!r} is too large for a number") from None
    low, high = schema.get("minimum"), schema.get("maximum")
    if (low is not None and value < low) or (high is not None and value > high):
        raise _Bad(f"{path!r} must be {_interval(low, high)}, got {_shown(value)}")
    low, high = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    if (low is not None and value <= low) or (high is not None and value >= high):
        raise _Bad(f"{path!r} must be strictly {_interval(low, high)}, got {_shown(value)}")
    return value


def _interval(low: Any, high: Any) -> str:
    if low is not None and high is not None:
        return f"between {low} and {high}"
    return f"at least {low}" if low is not None else f"at most {high}"


def _bounds(n: int, schema: dict[str, JSON], low: str, high: str, path: str, what: str) -> None:
    least, most = schema.get(low), schema.get(high)
    if (least is not None and n < least) or (most is not None and n > most):
        raise _Bad(f"{path!r} must have {_interval(least, most)} {what}, got {n}")


def _same(a: JSON, b: JSON) -> bool:
    """Compare as JSON: true is not 1, 1 is 1.0."""
    if isinstance(a, bool) or isinstance(b, bool):
        return a is b
    if isinstance(a, (list, dict)) or isinstance(b, (list, dict)):
        return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)
    return a == b


def _shown(value: JSON) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:77]}…"
