"""Reading a `ToolSpec`: its signature in words, an example value, and whether a parameter is plain text."""

import json
from collections.abc import Iterable
from typing import Literal

from agentgym.types import JSON, ToolSpec

Writing = Literal["text", "json", "mixed"]
"""How the value of a parameter is written outside of JSON: as it is, as JSON, or as JSON if it reads as such."""

_MAX_REFS = 16


def properties(spec: ToolSpec) -> dict[str, dict[str, JSON]]:
    """Return the schema of each parameter, in the order of the signature."""
    return spec.parameters.get("properties", {})


def first_parameter(spec: ToolSpec) -> str:
    """Return the name of the first parameter, or an empty string for a tool without any."""
    return next(iter(properties(spec)), "")


def resolve(schema: JSON, root: dict[str, JSON]) -> dict[str, JSON]:
    """Follow local references ("#/$defs/Name"); a schema that cannot be followed allows anything."""
    for _ in range(_MAX_REFS):
        if not isinstance(schema, dict):
            return {}
        if "$ref" not in schema:
            return schema
        found: JSON = root
        for part in str(schema["$ref"]).removeprefix("#/").split("/"):
            found = found.get(part) if isinstance(found, dict) else None
        schema = found
    return {}


def writing(schema: JSON, root: dict[str, JSON], depth: int = 0) -> Writing:
    """Say how values of a parameter are written where there is no JSON around them."""
    schema = resolve(schema, root) if depth < _MAX_REFS else {}
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list) and values:
        return _merge("text" if isinstance(value, str) else "json" for value in values)
    kinds = schema.get("type")
    if isinstance(kinds, str):
        return "text" if kinds == "string" else "json"
    if isinstance(kinds, list) and kinds:
        return _merge("text" if kind == "string" else "json" for kind in kinds)
    options = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(options, list) and options:
        return _merge(writing(option, root, depth + 1) for option in options)
    return "mixed"


def type_words(schema: JSON, root: dict[str, JSON], depth: int = 0) -> str:
    """Return a schema's type in a few words: `string`, `list of integer`, `"card" | "voucher"`."""
    schema = resolve(schema, root) if depth < _MAX_REFS else {}
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return " | ".join(json.dumps(value, ensure_ascii=False) for value in values)
    kinds = schema.get("type")
    if isinstance(kinds, list):
        return " | ".join(str(kind) for kind in kinds)
    options = schema.get("anyOf", schema.get("oneOf"))
    if isinstance(options, list):
        return " | ".join(type_words(option, root, depth + 1) for option in options)
    if kinds == "array":
        items = schema.get("items")
        return f"list of {type_words(items, root, depth + 1)}" if items else "list"
    return str(kinds) if kinds else "any"


def signature(spec: ToolSpec) -> str:
    """Return the tool as a signature, e.g. `search(query: string, k: integer = 3)`."""
    required = set(spec.parameters.get("required", ()))
    parts = []
    for name, schema in properties(spec).items():
        part = f"{name}: {type_words(schema, spec.parameters)}"
        if "default" in schema:
            part += f" = {json.dumps(schema['default'], ensure_ascii=False)}"
        elif name not in required:
            part += " (optional)"
        parts.append(part)
    return f"{spec.name}({', '.join(parts)})"


def about(spec: ToolSpec) -> str:
    """Return the description of the tool and of its parameters in one line."""
    parts = [spec.description] + [
        f"{name}: {schema['description']}" for name, schema in properties(spec).items() if schema.get("description")
    ]
    return " ".join(p if p.endswith((".", "!", "?")) else f"{p}." for p in (part.strip() for part in parts) if p)


def example_arguments(spec: ToolSpec) -> dict[str, JSON]:
    """Return arguments that show the form of a call: the required ones, or the first where none is required."""
    names = list(spec.parameters.get("required", ())) or [n for n in (first_parameter(spec),) if n]
    shown = properties(spec)
    return {name: example_value(name, shown[name], spec.parameters) for name in shown if name in names}


def example_value(name: str, schema: JSON, root: dict[str, JSON], depth: int = 0) -> JSON:
    """Return a value of the right form, e.g. "your query" for the string parameter `query`."""
    schema = resolve(schema, root) if depth < _MAX_REFS else {}
    if schema.get("default") not in (None, "", [], {}):
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    if "const" in schema:
        return schema["const"]
    kinds = schema.get("type", schema.get("anyOf", schema.get("oneOf")))
    if isinstance(kinds, list) and kinds:
        option = kinds[0] if isinstance(kinds[0], dict) else {"type": kinds[0]}
        return example_value(name, option, root, depth + 1)
    if kinds == "integer":
        return int(schema.get("minimum", 1))
    if kinds == "number":
        return float(schema.get("minimum", 1))
    if kinds == "array":
        return [example_value(name, schema.get("items", {}), root, depth + 1)]
    plain: dict[str, JSON] = {"boolean": True, "object": {}, "null": None}
    return plain.get(str(kinds), f"your {name}")


def _merge(kinds: Iterable[Writing]) -> Writing:
    found = set(kinds)
    return found.pop() if len(found) == 1 else "mixed"
