"""The codec between dataclasses and JSON: what it reads back, and what it says about what does not fit."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest

from agentgym.errors import ConfigError, DataError
from agentgym.schema import from_json, to_json
from agentgym.types import DocRef, Message, Score, Segment, Span, ToolCall, ToolResult, Trajectory, Turn


@dataclass(frozen=True, slots=True)
class Leaf:
    size: int
    share: float = 0.5
    kind: Literal["a", "b", 3] = "a"


@dataclass(frozen=True, slots=True)
class Tree:
    leaves: tuple[Leaf, ...] = ()
    named: dict[str, Leaf] = field(default_factory=dict)
    pair: tuple[str, int] | None = None
    either: int | float | str = 0
    free: Any = None
    path: Path = Path("x")
    child: "Tree | None" = None


@dataclass(frozen=True)
class Positive:
    n: int = 1

    def __post_init__(self) -> None:
        if self.n <= 0:
            raise ConfigError(f"n must be positive, got {self.n}")


def trajectory(n_tokens: int = 300) -> Trajectory:
    scores = {"gain": Score("turn", 0.5, 0.2, 0.1, parts={"hits": 1.0}), "late": Score("turn", None, deferred=True)}
    turns = tuple(
        Turn(
            index=i,
            action="<search>capital of Chad</search>",
            calls=(ToolCall("search", {"query": "capital of Chad", "k": 3}, "c0"),),
            results=(ToolResult("c0", "search", True, {"n": 1}, documents=(DocRef("d1", "Chad", "text", 0, 1.5),)),),
            messages=(Message.of("tool", "Doc 1", name="search", call_id="c0"),),
            scores=scores,
        )
        for i in range(5)
    )
    ids = tuple(range(n_tokens))
    segment = Segment(ids, tuple(i % 2 for i in ids), tuple(-0.25 * i for i in ids), (Span(0, 3, 9),))
    return Trajectory(
        "t", "SearchQA-v0", "task", (Message.of("user", "é 🐪"),), turns,
        segments=(segment,), seed=(1, 2, 3, 4), parent=("p", 2), gold={"answers": ["N'Djamena"]},
    )  # fmt: skip


def test_trajectory_survives_json() -> None:
    original = trajectory()
    for keep in (False, True):
        text = json.dumps(to_json(original, keep_defaults=keep), allow_nan=False)
        assert from_json(Trajectory, json.loads(text)) == original


def test_defaults_are_left_out_unless_kept() -> None:
    assert to_json(Leaf(1)) == {"size": 1}
    assert to_json(Leaf(1), keep_defaults=True) == {"size": 1, "share": 0.5, "kind": "a"}
    # A value that only compares equal to the default (True == 1) is not the default.
    assert to_json(Tree(either=False)) == {"either": False}


def test_nested_values_keep_their_types() -> None:
    tree = Tree((Leaf(1),), {"l": Leaf(2, kind=3)}, ("a", 1), 2.5, {"x": [1]}, Path("a/b"), Tree(child=Tree()))
    again = from_json(Tree, json.loads(json.dumps(to_json(tree))))
    assert again == tree
    assert isinstance(again.leaves, tuple)
    assert isinstance(again.pair, tuple)
    assert isinstance(again.path, Path)


def test_int_becomes_float_and_nothing_else_is_coerced() -> None:
    assert type(from_json(Leaf, {"size": 1, "share": 2}).share) is float
    assert type(from_json(Tree, {"either": 2}).either) is int


def test_a_whole_number_beyond_floats_is_refused() -> None:
    with pytest.raises(DataError, match=r"^here: share: expected float, got int 1000000.*beyond"):
        from_json(Leaf, {"size": 1, "share": 10**400}, "here")
    assert from_json(Leaf, {"size": 10**400}).size == 10**400


@pytest.mark.parametrize(
    ("cls", "data", "message"),
    [
        (Leaf, {"size": True}, r"^here: size: expected int, got bool True$"),
        (Leaf, {"size": 1.0}, r"size: expected int, got float 1.0"),
        (Leaf, {"size": 1, "share": "0.5"}, r"share: expected float, got str '0.5'"),
        (Leaf, {"size": 1, "share": True}, r"share: expected float, got bool True"),
        (
            Leaf,
            {"size": 1, "shape": 1},
            r"shape: unknown key; did you mean 'share'\? \(known keys: size, share, kind\)",
        ),
        (Leaf, {}, r"missing key 'size'"),
        (Leaf, {"size": 1, "kind": True}, r"kind: expected one of 'a', 'b', 3, got bool True"),
        (Tree, {"leaves": [{"size": 1}, {"size": None}]}, r"leaves\[1\].size: expected int, got none"),
        (Tree, {"named": {"l": {"sise": 1}}}, r"named.l.sise: unknown key; did you mean 'size'"),
        (Tree, {"pair": ["a"]}, r"pair: expected tuple\[str, int\] \| none"),
        (Tree, {"pair": ["a", "b"]}, r"pair\[1\]: expected int, got str 'b'"),
        (Tree, {"child": {"child": {"free": 1, "leaves": 3}}}, r"child.child.leaves: expected tuple\[Leaf, ...\]"),
        (Tree, {"child": 3}, r"child: expected a table \(Tree\), got int 3"),
        (Tree, [], r"^here: expected a table \(Tree\), got list \[\]$"),
        (Positive, {"n": 0}, r"^here: n must be positive, got 0$"),
    ],
)
def test_what_does_not_fit_is_named(cls: type, data: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        from_json(cls, data, "here")


def test_error_class_is_chosen_by_the_caller() -> None:
    with pytest.raises(ConfigError, match="size"):
        from_json(Leaf, {"size": "x"}, error=ConfigError)


def test_values_that_are_not_json_are_refused_on_writing() -> None:
    with pytest.raises(TypeError, match="complex"):
        to_json(Tree(leaves=(1j,)))  # pyright: ignore[reportArgumentType]
