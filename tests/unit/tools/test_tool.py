"""@tool: signature and docstring to spec."""

import dataclasses
import enum
import functools
import pickle
from collections.abc import Callable
from typing import Annotated, Any, Literal, NotRequired, Optional, TypedDict

import pytest

from agentgym.errors import RegistrationError
from agentgym.tools import Tool, ToolContext, tool


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Item:
    name: str
    n: int = 1
    colour: Colour = Colour.RED


class Place(TypedDict):
    city: str
    zip: NotRequired[int]


@dataclasses.dataclass
class Loop:
    next: "Loop | None" = None


@tool
def module_level(x: str) -> str:
    """Stands in its module."""
    return x


ITEM = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "n": {"type": "integer"},
        "colour": {"type": "string", "enum": ["red", "blue"]},
    },
    "required": ["name"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("hint", "schema"),
    [
        (str, {"type": "string"}),
        (int, {"type": "integer"}),
        (float, {"type": "number"}),
        (bool, {"type": "boolean"}),
        (Any, {}),
        (Literal["a", "b"], {"type": "string", "enum": ["a", "b"]}),
        (Literal["a", 1, None], {"enum": ["a", 1, None]}),
        (Colour, {"type": "string", "enum": ["red", "blue"]}),
        (str | None, {"type": ["string", "null"]}),
        (Optional[list[int]], {"anyOf": [{"type": "array", "items": {"type": "integer"}}, {"type": "null"}]}),  # noqa: UP045
        (list, {"type": "array"}),
        (list[str], {"type": "array", "items": {"type": "string"}}),
        (set[int], {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}),
        (tuple[str, ...], {"type": "array", "items": {"type": "string"}}),
        (tuple[str, int], {"type": "array", "prefixItems": [{"type": "string"}, {"type": "integer"}], "minItems": 2, "maxItems": 2}),
        (dict, {"type": "object"}),
        (dict[str, float], {"type": "object", "additionalProperties": {"type": "number"}}),
        (Item, ITEM),
        (Place, {"type": "object", "properties": {"city": {"type": "string"}, "zip": {"type": "integer"}}, "required": ["city"], "additionalProperties": False}),
        (Annotated[int, "how many", {"minimum": 1}], {"type": "integer", "description": "how many", "minimum": 1}),
    ],
)  # fmt: skip
def test_hints_become_schema(hint: Any, schema: dict):
    def fn(x): ...

    fn.__annotations__ = {"x": hint}
    assert tool(fn).spec.parameters == {
        "type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False,
    }  # fmt: skip


def test_defaults_are_optional_and_shown():
    @tool(mutates=True, timeout_s=5, final=True, name="other")
    def fn(a: str, b: int = 3, c: Colour = Colour.BLUE, d: Any = object, e: list[str] | None = None) -> None:
        """Do it."""

    assert (fn.spec.name, fn.spec.description) == ("other", "Do it.")
    assert (fn.spec.mutates, fn.spec.timeout_s, fn.spec.final) == (True, 5, True)
    assert fn.spec.parameters["required"] == ["a"]
    properties = fn.spec.parameters["properties"]
    assert list(properties) == ["a", "b", "c", "d", "e"]
    assert {k: v.get("default", "none") for k, v in properties.items()} == {
        "a": "none", "b": 3, "c": "blue", "d": "none", "e": None,
    }  # fmt: skip


def google(order_id: str, amount: float) -> None:
    """Refund an order, wholly or
    in part.

    More about it: not for the policy.

    Args:
        order_id (str): which order;
            it must be paid.
        amount: in the order's currency: e.g. 3.50.

    Returns:
        order_id: nothing of the kind
    """


def inline(order_id: str, amount: float) -> None:
    """Refund an order.  amount: in the order's currency. order_id: which order."""


def lines(order_id: str, amount: float) -> None:
    """Refund an order.

    order_id: which order
    amount: in the order's
        currency
    """


@pytest.mark.parametrize(
    ("fn", "description", "order", "amount"),
    [
        (google, "Refund an order, wholly or in part.", "which order; it must be paid.", "in the order's currency: e.g. 3.50."),
        (inline, "Refund an order.", "which order.", "in the order's currency."),
        (lines, "Refund an order.", "which order", "in the order's currency"),
    ],
)  # fmt: skip
def test_docstrings(fn: Callable[..., Any], description: str, order: str, amount: str):
    spec = tool(fn).spec
    assert spec.description == description
    assert spec.parameters["properties"]["order_id"]["description"] == order
    assert spec.parameters["properties"]["amount"]["description"] == amount


def test_the_context_is_injected_and_absent_from_the_schema():
    @tool
    def fn(a: str, ctx: ToolContext, b: int = 1) -> Any:
        return ctx.state, a, b

    assert list(fn.spec.parameters["properties"]) == ["a", "b"]
    ctx = ToolContext({"x": 1})
    assert fn.fn(**fn.keywords({"a": "q"}, ctx)) == ({"x": 1}, "q", 1)


def test_values_are_converted_to_what_the_function_expects():
    @tool
    def fn(c: Colour, s: set[int], t: tuple[str, Item], m: dict[str, Item], o: Colour | None) -> Any:
        return c, s, t, m, o

    given = {
        "c": "red", "s": [1, 2], "t": ["a", {"name": "b", "colour": "blue"}], "m": {"k": {"name": "c", "n": 2}}, "o": None,
    }  # fmt: skip
    assert fn.fn(**fn.keywords(given, ToolContext())) == (
        Colour.RED, {1, 2}, ("a", Item("b", 1, Colour.BLUE)), {"k": Item("c", 2)}, None,
    )  # fmt: skip


def test_pydantic_models_are_closed_and_built():
    pydantic = pytest.importorskip("pydantic")
    inner = pydantic.create_model("Inner", a=(int, ...))
    outer = pydantic.create_model("Outer", inner=(inner, ...))

    def fn(m) -> int:
        return m.inner.a

    fn.__annotations__ = {"m": outer}
    made = tool(fn)
    assert made.spec.parameters["properties"]["m"]["additionalProperties"] is False
    assert made.spec.parameters["$defs"]["Inner"]["additionalProperties"] is False
    assert made.fn(**made.keywords({"m": {"inner": {"a": 3}}}, ToolContext())) == 3


def bad_bare(a) -> None: ...
def bad_args(*args: str) -> None: ...
def bad_kwargs(**rest: str) -> None: ...
def bad_positional(a: str, /) -> None: ...
def bad_hint(a: bytes) -> None: ...
def bad_key(a: dict[int, str]) -> None: ...
def bad_loop(a: Loop) -> None: ...
def bad_union(a: Item | Place) -> None: ...
def bad_forward(a: "Nowhere") -> None: ...  # noqa: F821
def think(a: str) -> None: ...


@pytest.mark.parametrize(
    ("fn", "says"),
    [
        (bad_bare, "'bad_bare': parameter 'a' has no type hint"),
        (bad_args, r"'\*args: str' has no schema"),
        (bad_kwargs, r"'\*\*rest: str' has no schema"),
        (bad_positional, "'a' must be usable by keyword"),
        (bad_hint, "'a': the class bytes has no JSON form"),
        (bad_key, "'a': keys of .* must be str"),
        (bad_loop, "'a': Loop contains itself"),
        (bad_union, "'a': a union of types that need conversion"),
        (bad_forward, "signature cannot be read: .*Nowhere"),
        (think, "'think': the name is reserved"),
        (lambda: None, "'<lambda>': a name has letters"),
        (3, "needs a function, got 3"),
        (module_level, "needs a function"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(fn: Any, says: str):
    with pytest.raises(RegistrationError, match=says):
        tool(fn)
    with pytest.raises(RegistrationError, match="timeout_s must be above 0"):
        tool(timeout_s=0)(google)


def test_a_tool_is_still_the_function_and_travels():
    assert module_level("a") == "a"
    assert module_level.__doc__ == "Stands in its module."
    assert repr(module_level) == "Tool(module_level)"

    @tool
    async def waits(x: int) -> int:
        return x

    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

    assert (module_level.is_async, waits.is_async) == (False, True)
    assert tool(name="plus")(Adder()).fn(x=1) == 2
    assert tool(name="part")(functools.partial(google, amount=1.0)).spec.parameters["required"] == ["order_id"]


def test_pickle_and_deepcopy():
    spec = module_level.spec
    plain = Tool(spec, google)
    assert pickle.loads(pickle.dumps(plain)).spec == spec
    import copy

    assert copy.deepcopy([plain])[0] is plain


def test_context_without_rng_says_so():
    with pytest.raises(RegistrationError, match="made without rng"):
        _ = ToolContext().rng
