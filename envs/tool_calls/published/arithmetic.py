"""Arithmetic of models, calculated and never evaluated as a program."""

import ast
import math
import operator
from collections.abc import Callable

from agentgym.errors import ToolError

_OPERATORS: dict[type, Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
}
MAX_CHARS = 1_000


def calculated(expression: str) -> float:
    """Return the value of an expression of numbers, + - * / and brackets.

    Raises:
        ToolError: It is something else, is too long, divides by zero or has no finite value.
    """
    allowed = "numbers, + - * / and brackets"
    if len(expression) > MAX_CHARS:
        raise ToolError(f"the expression has {len(expression):,} characters; at most {MAX_CHARS:,} are calculated")
    try:
        value = _value(ast.parse(expression.strip(), mode="eval").body)
    except (SyntaxError, ValueError, RecursionError, MemoryError, TypeError):
        raise ToolError(f"{expression[:80]!r} is no expression of {allowed}") from None
    except ZeroDivisionError:
        raise ToolError(f"{expression[:80]!r} divides by zero") from None
    except OverflowError:
        raise ToolError(f"{expression[:80]!r} is too large") from None
    if not math.isfinite(value):
        raise ToolError(f"{expression[:80]!r} is too large")
    return value


def _value(node: ast.expr) -> float:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_value(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _value(inner)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
    raise ValueError
