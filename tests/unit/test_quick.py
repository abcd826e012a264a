"""`quick`: the `__init__` of hot dataclasses, and what it must leave as it is."""

import dataclasses
import inspect
import pickle
from dataclasses import dataclass, field

import pytest

from agentgym.quick import quick
from agentgym.types import DocRef, Turn


@dataclass(frozen=True, slots=True)
class Slow:
    a: int
    b: str = "b"
    c: list[int] = field(default_factory=list)


Fast = quick(dataclasses.make_dataclass("Fast", [(f.name, f.type, f) for f in dataclasses.fields(Slow)], frozen=True, slots=True))


def test_arguments_and_defaults_are_the_same() -> None:
    for args, named in (((1,), {}), ((1, "x"), {"c": [2]}), ((), {"a": 3, "b": ""})):
        assert dataclasses.astuple(Fast(*args, **named)) == dataclasses.astuple(Slow(*args, **named))
    assert Fast(1).c is not Fast(1).c
    assert list(inspect.signature(Fast).parameters) == ["a", "b", "c"]
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'a'"):
        Fast()


def test_values_stay_frozen_comparable_and_storable() -> None:
    turn = Turn(0, "<a>", scores={})
    assert pickle.loads(pickle.dumps(turn)) == turn == dataclasses.replace(turn)
    with pytest.raises(dataclasses.FrozenInstanceError):
        turn.index = 1  # pyright: ignore[reportAttributeAccessIssue]
    assert hash(DocRef("a", "b", "c")) == hash(DocRef("a", "b", "c", rank=0))


@pytest.mark.parametrize(
    ("options", "namespace"), [({}, {}), ({"frozen": True}, {}), ({"frozen": True, "slots": True}, {"__post_init__": lambda self: None})]
)
def test_others_are_refused(options: dict, namespace: dict) -> None:
    made = dataclasses.make_dataclass("Made", [("a", int)], namespace=namespace, **options)
    with pytest.raises(TypeError, match="Made: only a frozen dataclass with slots"):
        quick(made)
