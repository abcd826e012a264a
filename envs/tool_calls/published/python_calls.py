"""Calls written as Python text, e.g. `mv(source='a.txt', destination='b')`: read as data, never run."""

import ast
from collections.abc import Sequence

from agentgym.errors import DataError
from agentgym.types import JSON, ToolCall


def read_call(text: str, parameters: Sequence[str]) -> ToolCall:
    """Return a call with literal arguments.

    Args:
        text: a call; its arguments are literals.
        parameters: names of the tool's parameters, which arguments without a name take in turn.

    Raises:
        DataError: It is no call, an argument is no literal, or there are too many.
    """
    name, given, named = parse_call(text)
    if len(given) > len(parameters):
        raise DataError(f"{text[:80]!r}: {len(given)} arguments without a name, and {len(parameters)} parameters")
    return ToolCall(name, {**dict(zip(parameters, given, strict=False)), **named})


def parse_call(text: str) -> tuple[str, list[JSON], dict[str, JSON]]:
    """Return name, arguments without and with a name. Raises DataError as `read_call` does."""
    try:
        call = ast.parse(text.strip(), mode="eval").body
        if not isinstance(call, ast.Call) or any(keyword.arg is None for keyword in call.keywords):
            raise ValueError("not a call")
        given = [_plain(ast.literal_eval(argument)) for argument in call.args]
        named = {str(keyword.arg): _plain(ast.literal_eval(keyword.value)) for keyword in call.keywords}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise DataError(f"{text[:80]!r} is no call with literal arguments ({error})") from None
    return ast.unparse(call.func), given, named


def _plain(value: object) -> JSON:
    """Return a literal as JSON: tuples and sets become lists."""
    if isinstance(value, list | tuple | set):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(f"a {type(value).__name__} is no JSON")
