"""Arguments against schemas."""

import pytest

from agentgym.tools.validate import ArgumentsError, validate
from agentgym.types import JSON, ToolSpec


def spec(schema: JSON, **more: JSON) -> ToolSpec:
    return ToolSpec(
        "t",
        "",
        {"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False, **more},
    )


@pytest.mark.parametrize(
    ("schema", "good", "bad"),
    [
        ({"type": "string"}, ["", "a"], [1, None, True, ["a"]]),
        ({"type": "integer"}, [0, -3], ["1", 1.0, True, None]),
        ({"type": "number"}, [0.5], ["1", True, None]),
        ({"type": "boolean"}, [True, False], [0, 1, "true"]),
        ({"type": "null"}, [None], [0, "", False]),
        ({"type": ["string", "null"]}, ["a", None], [1, False]),
        ({"enum": ["a", 1]}, ["a", 1], [True, "b", "1"]),
        ({"const": {"a": [1]}}, [{"a": [1]}], [{"a": [True]}, {"a": [2]}]),
        ({"type": "array", "items": {"type": "integer"}}, [[], [1, 2]], [[1, "2"], "12", {"0": 1}]),
        ({"type": "array", "prefixItems": [{"type": "string"}], "items": False}, [["a"], []], [["a", "b"], [1]]),
        ({"type": "array", "minItems": 1, "maxItems": 2, "uniqueItems": True}, [[1], [1, 2]], [[], [1, 2, 3], [1, 1]]),
        ({"type": "array", "uniqueItems": True}, [[1, True]], [[{"a": 1}, {"a": 1}]]),
        ({"type": "integer", "minimum": 1, "maximum": 10}, [1, 10], [0, 11]),
        ({"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1}, [0.5], [0, 1]),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["a", "ab"], ["", "abc"]),
        ({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}, ["a", ["a"]], [1, [1]]),
        ({"allOf": [{"type": "integer"}, {"minimum": 3}], "type": "integer", "minimum": 2}, [3], [1, "3"]),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, [{}, {"a": 1}], [{"a": "1"}, []]),
        ({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}, [{"a": "b"}], [{}, {"a": 1}, {"a": "b", "c": 1}]),
        ({}, [1, None, [{}]], []),
    ],
)  # fmt: skip
def test_schemas(schema: JSON, good: list[JSON], bad: list[JSON]):
    for value in good:
        assert repr(validate({"x": value}, spec(schema))) == repr({"x": value})
    for value in bad:
        with pytest.raises(ArgumentsError, match=r"^t: .*'x.*; expected t\(x: "):
            validate({"x": value}, spec(schema))


def test_integers_become_floats_where_a_number_is_wanted():
    schema = {"type": "array", "items": {"type": "number"}}
    assert repr(validate({"x": [1, 2.5]}, spec(schema))) == "{'x': [1.0, 2.5]}"
    assert repr(validate({"x": 1}, spec({"type": ["integer", "number"]}))) == "{'x': 1}"
    with pytest.raises(ArgumentsError, match="too large"):
        validate({"x": 10**400}, spec({"type": "number"}))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "t: 'x' is missing; expected t(x: \"card\" | \"voucher\")"),
        ({"x": "card", "y": 1}, "t: there is no parameter 'y'; allowed: x; expected t(x: \"card\" | \"voucher\")"),
        ({"ｘ": "card"}, "t: there is no parameter 'ｘ'; allowed: x; expected t(x: \"card\" | \"voucher\")"),
        ({"x": "cart"}, "t: 'x' must be one of \"card\", \"voucher\", got \"cart\"; did you mean 'card'?; expected t(x: \"card\" | \"voucher\")"),
        ({"__proto__": {}}, "t: there is no parameter '__proto__'; allowed: x; expected t(x: \"card\" | \"voucher\")"),
    ],
)  # fmt: skip
def test_messages_name_field_choice_and_form(arguments: dict[str, JSON], message: str):
    with pytest.raises(ArgumentsError) as error:
        validate(arguments, spec({"enum": ["card", "voucher"]}))
    assert str(error.value) == message


def test_nested_fields_are_named_by_path():
    schema = {"type": "array", "items": {"type": "object", "properties": {"a": {"type": "integer"}}}}
    with pytest.raises(ArgumentsError, match=r"'x\[1\]\.a' must be an integer, got \"b\""):
        validate({"x": [{"a": 1}, {"a": "b"}]}, spec(schema))


def test_references_are_followed_and_loops_end():
    tree = {
        "type": "object",
        "properties": {"kids": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}},
        "additionalProperties": False,
    }
    tool = spec({"$ref": "#/$defs/Tree"}, **{"$defs": {"Tree": tree, "Loop": {"$ref": "#/$defs/Loop"}}})
    value = {"x": {"kids": [{"kids": []}]}}
    assert validate(value, tool) == value
    with pytest.raises(ArgumentsError, match=r"no parameter 'x\.kids\[0\]\.kid'; did you mean 'kids'"):
        validate({"x": {"kids": [{"kid": []}]}}, tool)
    endless = spec({"$ref": "#/$defs/All"}, **{"$defs": {"All": {"allOf": [{"$ref": "#/$defs/All"}]}}})
    with pytest.raises(ArgumentsError, match="nested too deep"):
        validate({"x": 1}, endless)
    assert validate({"x": 1}, spec({"$ref": "#/$defs/Loop"}, **{"$defs": {"Loop": {"$ref": "#/$defs/Loop"}}})) == {
        "x": 1
    }
