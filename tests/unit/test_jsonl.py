"""JSON from outside: whatever is wrong with it is a DataError with its place."""

from pathlib import Path

import pytest

from agentgym.errors import DataError
from agentgym.jsonl import parse_json, read_objects


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON: .* at character 2"),
        ('{"id', "not valid JSON: Unterminated string starting at character 2"),
        ("[" * 100_000, "nested too deeply"),
        ("1" * 5_000, "number of more than 4300 digits"),
        ('{"a": -' + "1" * 5_000 + "}", "number of more than 4300 digits"),
    ],
)
def test_what_is_no_json_is_named_with_its_place(text: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^f:7: .*{message}"):
        parse_json(text, "f:7")


def test_a_number_that_is_too_long_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    path.write_text('{"n": ' + "9" * 4_300 + '}\n{"n": ' + "9" * 4_301 + "}\n", encoding="utf-8")
    rows = read_objects(path)
    assert next(rows)[1]["n"] == int("9" * 4_300)
    with pytest.raises(DataError, match=r"d\.jsonl:2: "):
        next(rows)
