"""Is a JSON schema from outside one that we can read? Servers send what they like."""

import json
from typing import Any

MAX_CHARS = 100_000
MAX_DEPTH = 40
_KINDS = frozenset({"string", "integer", "number", "boolean", "null", "array", "object"})
_TABLES = ("properties", "$defs", "definitions")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")


def schema_problem(schema: Any) -> str:
    """Return why a schema of arguments cannot be used, or an empty string."""
    try:
        size = len(json.dumps(schema, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        return f"it is not JSON ({type(error).__name__})"
    if size > MAX_CHARS:
        return f"it has {size} characters; at most {MAX_CHARS} are read"
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return "arguments must be of type object"
    return _problem(schema, "", 0)


def _problem(schema: Any, path: str, depth: int) -> str:
    here = path or "the schema"
    if isinstance(schema, bool):
        return ""
    if not isinstance(schema, dict):
        return f"{here} is neither an object nor true or false"
    if depth > MAX_DEPTH:
        return f"{here} is nested deeper than {MAX_DEPTH} levels"
    if problem := _own(schema, here):
        return problem
    below = [(f"{here}.{key}", item) for key in _TABLES for key, item in schema.get(key, {}).items()]
    below += [(f"{here}.{key}[{i}]", item) for key in _LISTS for i, item in enumerate(schema.get(key, ()))]
    below += [(f"{here}.{key}", schema[key]) for key in ("items", "additionalProperties") if key in schema]
    return next((problem for name, item in below if (problem := _problem(item, name, depth + 1))), "")


def _own(schema: dict[str, Any], here: str) -> str:
    """Return what is wrong with the keywords of one level."""
    kinds = schema.get("type", [])
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if unknown := [kind for kind in kinds if not isinstance(kind, str) or kind not in _KINDS]:
        return f"{here} has the unknown type {unknown[0]!r:.80}"
    for key in _TABLES:
        if not isinstance(schema.get(key, {}), dict):
            return f"{key} of {here} is no object"
    for key in (*_LISTS, "enum", "required"):
        if not isinstance(schema.get(key, []), list):
            return f"{key} of {here} is no list"
    if not all(isinstance(name, str) for name in schema.get("required", ())):
        return f"required of {here} names something that is no text"
    for key in (*_BOUNDS, *_COUNTS):
        value = schema.get(key, 0)
        if isinstance(value, bool) or not isinstance(value, int if key in _COUNTS else int | float):
            return f"{key} of {here} is {value!r:.80}"
    if not isinstance(schema.get("$ref", ""), str) or not schema.get("$ref", "#").startswith("#"):
        return f"$ref of {here} leads elsewhere"
    return ""
