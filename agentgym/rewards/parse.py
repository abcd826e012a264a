"""Expressions as text, for settings and the command line: "answer_em + Cap(0.2*retrieval_gain, -0.2, 0.2)"."""

import ast
import re
from collections.abc import Callable

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component
from agentgym.rewards.expression import Cap, Expression, Gate
from agentgym.rewards.nodes import Clip, MaxNorm, Mean, Min, Once, OnlyIf, Product, Schedule, Shaped
from agentgym.rewards.potentials import Potential

_NODES: dict[str, Callable[..., Expression]] = {
    node.__name__: node
    for node in (Cap, Clip, Gate, MaxNorm, Mean, Min, Once, OnlyIf, Potential, Product, Schedule, Shaped)
}
_FORMS = (
    "weight * name, A + B, A - B, Cap(node, lo, hi), Gate(by, what, base), OnlyIf(0, what), and Clip, MaxNorm, Mean,"
    " Min, Once, Potential, Product, Schedule(node, [first, last]), Shaped(node, gamma); a name may be kind:argument,"
    " as in checklist:refund, or of one's own, as in my_rewards.py:brief"
)
_NAMED = re.compile(r"(?<![\w.])(?:[A-Za-z_]\w*:)?(?:[\w./\\][\w./\\-]*\.py|[A-Za-z_][\w.]*):[^\s+*():,\[\]]+")
"""A component made with an argument ("checklist:refund") or one's own ("my_rewards:brief", "rewards/my.py:brief"); what
follows a minus needs a blank before it."""


def is_expression(text: str) -> bool:
    """Say whether a text is more than one name."""
    return any(character in text for character in "+*( ")


def parse_expression(text: str, component: Callable[[str], Component]) -> Expression:
    """Return the expression that a text spells; nothing in it is executed.

    Args:
        text: names of components ("answer_em", "checklist:refund"), numbers, `+ - *`, and the nodes of the algebra.
        component: gives the component of a name.

    Raises:
        ConfigError: naming the part that is not understood, and what is allowed.
    """
    names = {f"named_{place}_": name for place, name in enumerate(dict.fromkeys(_NAMED.findall(text)))}
    places = {name: place for place, name in names.items()}
    python = _NAMED.sub(lambda found: places[found.group()], text.strip())
    try:
        tree = ast.parse(python, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"reward {text!r} is no expression ({error}); allowed: {_FORMS}") from None
    value = _Reader(text, python, names, component).read(tree)
    if not isinstance(value, Expression):
        raise ConfigError(f"reward {text!r} is a number; name at least one component")
    return value


class _Reader:
    def __init__(
        self, text: str, python: str, names: dict[str, str], component: Callable[[str], Component]
    ) -> None:
        self.text, self.python, self.names = text, python, names
        self.component = component
        self.known: dict[str, Component] = {}
        self.potentials: dict[str, Expression] = {}

    def read(self, node: ast.AST) -> Expression | float:
        if isinstance(node, ast.Constant) and type(node.value) in (int, float):
            return float(node.value)  # pyright: ignore[reportArgumentType]
        if isinstance(node, ast.Name):
            if node.id not in self.known:
                self.known[node.id] = self.component(self.names.get(node.id, node.id))
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
        if name not in _NODES or any(keyword.arg is None for keyword in node.keywords):
            raise self._refuse(node)
        positional = [self._argument(argument) for argument in node.args]
        named = {keyword.arg: self._argument(keyword.value) for keyword in node.keywords if keyword.arg}
        try:
            made = _NODES[name](*positional, **named)
        except (TypeError, AttributeError):
            raise self._refuse(node) from None
        # One component per name: the same potential written twice is the same component.
        return self.potentials.setdefault(made.name, made) if isinstance(made, Potential) else made

    def _argument(self, node: ast.AST) -> object:
        """Return an expression, a number, or a list of arguments."""
        if isinstance(node, (ast.List, ast.Tuple)):
            return [self._argument(part) for part in node.elts]
        return self.read(node)

    def _refuse(self, node: ast.AST) -> ConfigError:
        part = ast.get_source_segment(self.python, node) or self.python  # pyright: ignore[reportArgumentType]
        for place, name in self.names.items():
            part = part.replace(place, name)
        return ConfigError(f"reward {self.text!r}: {part!r} is not understood; allowed: {_FORMS}")
