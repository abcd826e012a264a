import gzip
import json
from pathlib import Path

import pytest

from agentgym.errors import DataError
from agentgym.retrieval import read_passages
from agentgym.types import Passage

GOOD = '{"id": "a", "title": "A", "text": "one"}'


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_rows_are_read_in_order_over_files_gzip_bom_and_blank_lines(tmp_path: Path) -> None:
    plain = tmp_path / "a.jsonl"
    plain.write_bytes(b"\xef\xbb\xbf" + GOOD.encode() + b"\r\n\r\n" + '{"id":"é","title":"","text":"","x":1}'.encode())
    packed = tmp_path / "b.jsonl.gz"
    packed.write_bytes(gzip.compress(b'{"id": "c", "title": "C", "text": "three"}\n'))
    assert list(read_passages(plain, str(packed))) == [
        Passage("a", "A", "one"),
        Passage("é", "", ""),
        Passage("c", "C", "three"),
    ]


def test_contents_rows_have_their_title_in_the_first_line(tmp_path: Path) -> None:
    row = json.dumps({"id": "0", "contents": '"Ada ""the"" Great"\nline one\nline two'})
    assert list(read_passages(write(tmp_path / "w.jsonl", row))) == [
        Passage("0", 'Ada ""the"" Great', "line one\nline two")
    ]


def test_a_whole_number_is_an_id_too(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", '{"id": 7, "title": "B", "text": "x"}', '{"_id": 8, "title": "C", "text": "y"}')
    assert [p.id for p in read_passages(path)] == ["7", "8"]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"id": "b", "title": "B", ', r":3: not valid JSON"),
        ('{"id": "b", "title": "B"}', r":3: field 'text' is missing; found id, title"),
        ('{"id": 7.5, "title": "B", "text": "x"}', r":3: field 'id' must be a string, found a number: 7\.5"),
        ('{"id": true, "title": "B", "text": "x"}', r":3: field 'id' must be a string, found true or false"),
        ('{"id": "b", "title": null, "text": "x"}', r":3: field 'title' must be a string, found null"),
        ('{"id": "b", "title": "B", "text": ["x"]}', r":3: field 'text' must be a string, found a list"),
        ('{"id": "", "title": "B", "text": "x"}', r":3: field 'id' is empty"),
        ('{"id": "b", "contents": 3}', r":3: field 'contents' must be a string"),
        ('{"id": "b", "title": "B", "text": "\\ud83d"}', r":3: field 'text' holds half of a surrogate pair"),
        ('["b"]', r":3: a JSON object is needed, found a list"),
        ("[" * 100_000, r":3: "),
        (GOOD, r"p.jsonl:3: id 'a' is used already at .*p.jsonl:1"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, bad: str, message: str) -> None:
    path = write(tmp_path / "p.jsonl", GOOD, "", bad)
    with pytest.raises(DataError, match=message):
        list(read_passages(path))


def test_the_same_file_twice_is_a_repeated_id(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", GOOD)
    with pytest.raises(DataError, match="used already"):
        list(read_passages(path, path))


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.jsonl: cannot be read"):
        list(read_passages(tmp_path / "none.jsonl"))
    with pytest.raises(DataError, match="no passages found"):
        list(read_passages(write(tmp_path / "empty.jsonl", "", " ")))
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(GOOD.encode() + b'\n{"id": "caf\xe9"}')
    with pytest.raises(DataError, match=r"latin\.jsonl:2: not UTF-8"):
        list(read_passages(latin))
    for name, data in (("cut", gzip.compress(GOOD.encode() * 50)[:-9]), ("plain", GOOD.encode())):
        path = tmp_path / f"{name}.jsonl.gz"
        path.write_bytes(data)
        with pytest.raises(DataError, match=rf"{name}\.jsonl\.gz: cannot be read past line"):
            list(read_passages(path))
