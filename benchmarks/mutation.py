"""Small changes of Python sources: mutants that change behaviour, and edits that do not.

A site is one place where one change can be made. Messages, docstrings, annotations and `__repr__` are left alone.
"""

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass

QUIET = {"__repr__", "describe", "_notes", "_complaint", "missing", "complaint"}
"""Functions that only say something."""
COMPARISONS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip
OPERATORS = {ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
             ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Change:
    """One changed source."""

    module: str
    kind: str
    line: int
    where: str
    """Qualified name of the function or class around it."""
    before: str
    after: str
    source: str

    @property
    def key(self) -> str:
        """What names the change in a list that outlives shifted lines."""
        return f"{self.module}:{self.where}:{self.kind}:{self.before} -> {self.after}"


Rules = Callable[[ast.AST], Iterator[tuple[str, ast.AST]]]
Site = tuple[int, int]
"""(number of the node, number of the change at that node)."""


def sites(source: str, rules: Rules) -> list[Site]:
    """Return every place where a rule changes a source."""
    nodes = _walk(ast.parse(source), ())
    return [(number, n) for number, (node, _) in enumerate(nodes) for n, _ in enumerate(rules(node))]


def named(module: str, source: str, rules: Rules) -> dict[str, Site]:
    """Return the key of every change, with its site; of several changes with one key the first."""
    found: dict[str, Site] = {}
    for number, (node, where) in enumerate(_walk(ast.parse(source), ())):
        for n, (kind, new) in enumerate(rules(node)):
            found.setdefault(Change(module, kind, 0, where, _written(node), _written(new), "").key, (number, n))
    return found


def changed(module: str, source: str, site: Site, rules: Rules) -> Change:
    """Make one change."""
    tree = ast.parse(source)
    node, where = next(pair for i, pair in enumerate(_walk(tree, ())) if i == site[0])
    kind, new = next(pair for i, pair in enumerate(rules(node)) if i == site[1])
    before, after = _written(node), _written(new)
    text = ast.unparse(ast.fix_missing_locations(_Swap(node, new).visit(tree)))
    return Change(module, kind, getattr(node, "lineno", 0), where, before, after, text)


def _written(node: ast.AST) -> str:
    return _short(ast.unparse(ast.fix_missing_locations(copy.deepcopy(node))))


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 90 else f"{text[:87]}..."


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def _walk(node: ast.AST, names: tuple[str, ...]) -> Iterator[tuple[ast.AST, str]]:
    """Yield the nodes that may be changed, parents first, with the name of what is around them."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        if node.name in QUIET:
            return
        yield node, ".".join(names)
        names = (*names, node.name)
    else:
        yield node, ".".join(names)
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns", "decorator_list", "type_params", "bases"):
            continue
        if isinstance(node, ast.AnnAssign) and field == "target":
            continue
        if isinstance(node, ast.keyword) and node.arg in ("strict", "stacklevel"):
            continue
        for child in value if isinstance(value, list) else [value]:
            skipped = isinstance(child, ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom | ast.Assert)
            if isinstance(child, ast.AST) and not skipped and not _is_text(child):
                yield from _walk(child, names)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


# ---- mutants


def mutations(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what changes behaviour at one node."""
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        yield "comparison", _with(node, ops=[COMPARISONS[type(node.ops[0])]()])
        if isinstance(node.ops[0], ast.Lt | ast.LtE | ast.Gt | ast.GtE):
            opposite = {ast.Lt: ast.GtE, ast.LtE: ast.Gt, ast.Gt: ast.LtE, ast.GtE: ast.Lt}[type(node.ops[0])]
            yield "comparison", _with(node, ops=[opposite()])
    elif isinstance(node, ast.BoolOp):
        yield "and-or", _with(node, op=ast.Or() if isinstance(node.op, ast.And) else ast.And())
        yield "dropped condition", _with(node, values=node.values[1:]) if len(node.values) > 2 else node.values[0]
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
        yield "dropped not", node.operand
    elif isinstance(node, ast.Constant):
        yield from _constants(node)
    elif isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        yield "operator", _with(node, op=OPERATORS[type(node.op)]())
        if isinstance(node.op, ast.Sub | ast.Div):
            yield "swapped operands", _with(node, left=node.right, right=node.left)
    elif isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
        yield "operator", _with(node, op=OPERATORS[type(node.op)]())
    elif isinstance(node, ast.If) and not node.orelse and _leaves(node.body[-1]):
        yield "dropped guard", ast.Pass()
    elif isinstance(node, ast.If):
        yield "dropped branch", _with(node, test=ast.Constant(False))
    elif isinstance(node, ast.IfExp):
        yield "swapped branches", _with(node, body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        yield "removed call", ast.Pass()
    elif isinstance(node, ast.Assign) and all(isinstance(t, ast.Attribute | ast.Subscript) for t in node.targets):
        if node.col_offset:
            yield "removed assignment", ast.Pass()
    elif isinstance(node, ast.Call):
        yield from _calls(node)


def _leaves(node: ast.AST) -> bool:
    return isinstance(node, ast.Return | ast.Continue | ast.Break | ast.Raise)


def _constants(node: ast.Constant) -> Iterator[tuple[str, ast.AST]]:
    value = node.value
    if isinstance(value, bool):
        yield "constant", ast.Constant(not value)
    elif isinstance(value, int):
        yield "constant", ast.Constant(value + 1)
    elif isinstance(value, float):
        yield "constant", ast.Constant(value * 2 if value else 1.0)


def _calls(node: ast.Call) -> Iterator[tuple[str, ast.AST]]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name in ("min", "max", "any", "all"):
        other = {"min": "max", "max": "min", "any": "all", "all": "any"}[name]
        yield "min-max", _with(node, func=ast.Name(other, ast.Load()))
    if name in ("sorted", "reversed", "set", "frozenset", "robust", "sanitize", "escape_reserved") and len(node.args) == 1:
        yield "removed function", node.args[0]
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("strip", "lower", "casefold", "removeprefix"):
        yield "removed function", node.func.value
    plain = [a for a in node.args if not isinstance(a, ast.Starred)]
    if len(plain) == len(node.args) == 2 and name not in ("isinstance", "min", "max", "getattr", "hasattr", "range"):
        yield "swapped arguments", _with(node, args=[node.args[1], node.args[0]])


def _with(node: ast.AST, **fields: object) -> ast.AST:
    new = copy.deepcopy(node)
    for name, value in fields.items():
        setattr(new, name, copy.deepcopy(value))
    return new


# ---- edits that change nothing


def edits(node: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what leaves behaviour alone at one node."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield from _renamed(node)
        if ast.get_docstring(node) and "Args:" not in (ast.get_docstring(node) or ""):  # those of tools are shown to policies
            text = ast.Expr(ast.Constant("Another docstring."))
            yield "docstring", _with(node, body=[text, *node.body[1:]])
        yield from _reordered(node)
    elif (isinstance(node, ast.If) and node.orelse) or isinstance(node, ast.IfExp):
        yield "turned condition", _with(node, test=ast.UnaryOp(ast.Not(), node.test), body=node.orelse, orelse=node.body)
    elif isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Eq) and len(node.ops) == 1:
        if _pure(node.left) and _pure(node.comparators[0]):
            yield "turned equality", _with(node, left=node.comparators[0], comparators=[node.left])
    elif isinstance(node, ast.Return) and node.value is not None and not isinstance(node.value, ast.Name):
        body = [ast.Assign([ast.Name("outcome_", ast.Store())], node.value), ast.Return(ast.Name("outcome_", ast.Load()))]
        yield "named result", ast.If(ast.Constant(True), body, [])


def _pure(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return _pure(node.value)
    return isinstance(node, ast.Name | ast.Constant)


def _renamed(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, ast.AST]]:
    parameters = {a.arg for n in ast.walk(node) for a in ([n] if isinstance(n, ast.arg) else [])}
    outside = {name for n in ast.walk(node) if isinstance(n, ast.Global | ast.Nonlocal) for name in n.names}
    inner = {n.name for n in ast.walk(node) if isinstance(n, ast.FunctionDef | ast.ClassDef)}
    stored = [n.id for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
    for name in dict.fromkeys(stored):
        if name in parameters | outside | inner:
            continue
        new = copy.deepcopy(node)
        for part in ast.walk(new):
            if isinstance(part, ast.Name) and part.id == name:
                part.id = f"{name}_renamed"
        yield "renamed variable", new


def _reordered(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[tuple[str, ast.AST]]:
    for n in range(len(node.body) - 1):
        one, two = node.body[n], node.body[n + 1]
        if not all(isinstance(s, ast.Assign) and all(isinstance(t, ast.Name) for t in s.targets) for s in (one, two)):
            continue
        simple = all(not isinstance(x, ast.Call | ast.Await | ast.NamedExpr) for s in (one, two) for x in ast.walk(s))
        names = [{x.id for x in ast.walk(s) if isinstance(x, ast.Name)} for s in (one, two)]
        if simple and not names[0] & names[1]:
            yield "reordered statements", _with(node, body=[*node.body[:n], two, one, *node.body[n + 2 :]])
