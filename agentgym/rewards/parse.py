"""Expressions as text, for settings and the command line: "answer_em + Cap(0.2*retrieval_gain, -0.2, 0.2)"."""

import ast
from collections.abc import Callable

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component
from agentgym.rewards.expression import Cap, Expression, Gate

_FORMS = "weight * name, A + B, A - B, Cap(node, lo, hi), Gate(by, what, base)"


def parse_expression(text: str, component: Callable[[str], Component]) -> Expression:
    """Return the expression that a text spells; nothing in it is executed.

    Args:
        text: names of components, numbers, `+ - *`, Cap and Gate.
        component: gives the component of a name.

    Raises:
        ConfigError: naming the part that is not understood, and what is allowed.
    """
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"reward {text!r} is no expression ({error}); allowed: {_FORMS}") from None
    value = _Reader(text, component).read(tree)
    if not isinstance(value, Expression):
        raise ConfigError(f"reward {text!r} is a number; name at least one component")
    return value


class _Reader:
    def __init__(self, text: str, component: Callable[[str], Component]) -> None:
        self.text = text
        self.component = component
        self.known: dict[str, Component] = {}

    def read(self, node: ast.AST) -> Expression | float:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return float(node.value)  # pyright: ignore[reportArgumentType]
        if isinstance(node, ast.Name):
            if node.id not in self.known:
                self.known[node.id] = self.component(node.id)
            return self.known[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self.read(node.operand)
        if isinstance(node, ast.BinOp):
            return self._binary(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            return self._call(node, node.func.id)
        raise self._refuse(node)

    def _binary(self, node: ast.BinOp) -> Expression | float:
        left, right = self.read(node.left), self.read(node.right)
        try:
            if isinstance(node.op, ast.Add):
                return left + right  # pyright: ignore[reportOperatorIssue]
            if isinstance(node.op, ast.Sub):
                return left - right  # pyright: ignore[reportOperatorIssue]
            if isinstance(node.op, ast.Mult):
                return left * right  # pyright: ignore[reportOperatorIssue]
        except TypeError:
            pass
        raise self._refuse(node)

    def _call(self, node: ast.Call, name: str) -> Expression:
        makers: dict[str, Callable[..., Expression]] = {"Cap": Cap, "Gate": Gate}
        if name not in makers:
            raise self._refuse(node)
        positional = [self.read(argument) for argument in node.args]
        named = {keyword.arg: self.read(keyword.value) for keyword in node.keywords if keyword.arg}
        try:
            return makers[name](*positional, **named)
        except TypeError:
            raise self._refuse(node) from None

    def _refuse(self, node: ast.AST) -> ConfigError:
        part = ast.get_source_segment(self.text.strip(), node) or self.text  # pyright: ignore[reportArgumentType]
        return ConfigError(f"reward {self.text!r}: {part!r} is not understood; allowed: {_FORMS}")
