"""Every corpus format, read from a file of that format and searched."""

import bz2
import csv
import gzip
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import ConfigError, DataError
from agentgym.retrieval import build_index, open_index, read_corpus
from agentgym.retrieval.formats import source_files
from agentgym.retrieval.formats.cutting import passages_of, text_of_html
from agentgym.types import Passage

TEXT = 'The Eiffel Tower is a tower in Paris,\twritten "La tour Eiffel" – 330 m.'


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def dpr(path: Path) -> Path:
    with (gzip.open(path, "wt", encoding="utf-8", newline="") if path.suffix == ".gz" else path.open("w", encoding="utf-8", newline="")) as file:
        writer = csv.writer(file, delimiter="\t")
        writer.writerow(["id", "text", "title"])
        writer.writerow(["1", "Aaron was a prophet.", "Aaron"])
        writer.writerow(["2", TEXT, "Eiffel Tower"])
    return path


def beir(folder: Path) -> Path:
    jsonl(folder / "corpus.jsonl", {"_id": "a", "title": "", "text": "x", "metadata": {}}, {"_id": "2", "title": "Eiffel Tower", "text": TEXT})
    jsonl(folder / "queries.jsonl", {"_id": "q1", "text": "tower"})
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq1\t2\t1\n")
    return folder


def json_collection(folder: Path) -> Path:
    jsonl(folder / "a" / "part.jsonl", {"id": "1", "contents": "x"})
    (folder / "b.json").write_text(json.dumps([{"id": "2", "contents": f'"Eiffel Tower"\n{TEXT}', "url": "u"}, {"id": "3", "contents": "y"}], indent=1))
    (folder / "c.json").write_text(json.dumps({"id": "4", "contents": "z"}, indent=1))
    return folder


def hotpot(folder: Path) -> Path:
    (folder / "AA").mkdir(parents=True)
    rows = [
        {"id": "12", "url": "u", "title": "Anarchism", "text": ["Anarchism is ", "a philosophy."], "charoffset": [[0, 1]]},
        {"id": "2", "url": "u", "title": "Eiffel Tower", "text": [["The <a href='T'>Eiffel Tower</a> is a tower in Paris,\t"], ['written "La tour Eiffel" – 330 m.']]},
    ]
    (folder / "AA" / "wiki_00.bz2").write_bytes(bz2.compress("\n".join(map(json.dumps, rows)).encode()))
    return folder


def hotpot_tar(folder: Path) -> Path:
    with tarfile.open(folder.with_suffix(".tar.bz2"), "w:bz2") as archive:
        archive.add(hotpot(folder), "enwiki")
    return folder.with_suffix(".tar.bz2")


def parquet(path: Path) -> Path:
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [{"id": 1, "contents": '"A"\nx'}, {"id": 2, "contents": f'"Eiffel Tower"\n{TEXT}'}]
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


CASES: dict[str, Callable[[Path], Path]] = {
    "wiki-18 jsonl.gz": lambda d: jsonl(d / "wiki-18.jsonl.gz", {"id": "0", "contents": '"A"\nx'}, {"id": "2", "contents": f'"Eiffel Tower"\n{TEXT}'}),
    "own rows": lambda d: jsonl(d / "p.jsonl", {"id": "2", "title": "Eiffel Tower", "text": TEXT}),
    "dpr tsv": lambda d: dpr(d / "psgs_w100.tsv"),
    "dpr tsv.gz": lambda d: dpr(d / "psgs_w100.tsv.gz"),
    "beir": lambda d: beir(d / "scifact"),
    "json collection": lambda d: json_collection(d / "collection"),
    "hotpotqa": lambda d: hotpot(d / "enwiki"),
    "hotpotqa tar": lambda d: hotpot_tar(d / "enwiki"),
    "parquet": lambda d: parquet(d / "corpus.parquet"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_corpus_is_read_and_searched(case: str, tmp_path: Path) -> None:
    source = CASES[case](tmp_path)
    found = {p.id: p for p in read_corpus(source)}
    assert found["2"].title == "Eiffel Tower"
    assert " ".join(found["2"].text.split()) == " ".join(TEXT.split())
    build_index(source, tmp_path / "index")
    index = open_index(tmp_path / "index")
    assert len(index) == len(found)
    assert index.search("eiffel towers", 3)[0].passage == found["2"]


def test_a_kiwix_archive_is_cut_into_passages(tmp_path: Path) -> None:
    pytest.importorskip("libzim")
    from libzim.writer import Creator, Hint, Item, StringProvider

    def page(path: str, title: str, html: str, kind: str = "text/html") -> Any:
        answers = {
            "path": path, "title": title, "mimetype": kind, "contentprovider": StringProvider(html), "hints": {Hint.FRONT_ARTICLE: True},
        }  # fmt: skip
        methods = {f"get_{name}": (lambda self, value=value: value) for name, value in answers.items()}
        return type("Page", (Item,), methods)()  # the library calls these names

    words = " ".join(f"word{i}" for i in range(150))
    html = f"<html><head><title>T</title><style>p{{}}</style></head><body><table><tr><td>box</td></tr></table><p>The <b>Eiffel</b> Tower&nbsp;is &amp; was.<sup>[1]</sup></p><p>{words}</p></body></html>"
    path = tmp_path / "small.zim"
    with Creator(str(path)).config_indexing(False, "eng") as creator:
        creator.set_mainpath("A/Eiffel_Tower")
        creator.add_item(page("A/Eiffel_Tower", "Eiffel Tower", html))
        creator.add_item(page("A/style.css", "", "p{}", "text/css"))
        creator.add_redirection("A/Tour_Eiffel", "Tour Eiffel", "A/Eiffel_Tower", {})
        creator.add_item(page("A/Empty", "Empty", "<html><body></body></html>"))
    found = list(read_corpus(path))
    assert [p.id for p in found] == ["A/Eiffel_Tower#0", "A/Eiffel_Tower#1"]
    assert found[0].text.startswith("The Eiffel Tower is & was. word0")
    assert {p.title for p in found} == {"Eiffel Tower"}
    assert all(len(p.text.split()) == 100 for p in found)
    build_index(path, tmp_path / "index")
    assert open_index(tmp_path / "index").search("eiffel", 1)[0].passage == found[0]
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DataError, match=r"small\.zim: "):
        list(read_corpus(path))


DUMP = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" version="0.10" xml:lang="en">
<siteinfo><sitename>Wikipedia</sitename><dbname>enwiki</dbname><namespaces><namespace key="0"/><namespace key="1">Talk</namespace></namespaces></siteinfo>
<page><title>Eiffel Tower</title><ns>0</ns><id>2</id><revision><id>9</id><timestamp>2018-12-20T00:00:00Z</timestamp><contributor><username>x</username><id>1</id></contributor>
<text xml:space="preserve">{{Infobox building|name=Eiffel|height={{convert|330|m}}}}
[[File:Tour.jpg|thumb|A [[caption]] that goes]]
The '''Eiffel Tower'''&lt;ref name="a"&gt;{{cite book|title=Hidden}}&lt;/ref&gt; ({{IPA|x}}) is a [[wrought iron|wrought-iron]] tower in [[Paris]].
{| class="wikitable"
|-
| table cell
|}
== History ==
* Built in 1889 by [http://eiffel.example Gustave Eiffel].&lt;!-- hidden --&gt;
== References ==
{{reflist}}
[[Category:Towers]]</text></revision></page>
<page><title>Tour Eiffel</title><ns>0</ns><id>3</id><redirect title="Eiffel Tower"/><revision><id>10</id><timestamp>2018-12-20T00:00:00Z</timestamp><text>#REDIRECT [[Eiffel Tower]]</text></revision></page>
<page><title>Talk:Eiffel Tower</title><ns>1</ns><id>4</id><revision><id>11</id><timestamp>2018-12-20T00:00:00Z</timestamp><text>talk</text></revision></page>
</mediawiki>"""


@pytest.mark.parametrize("name", ["enwiki.xml", "enwiki.xml.bz2", "enwiki.xml.gz"])
def test_a_wikipedia_dump_is_cut_into_passages(name: str, tmp_path: Path) -> None:
    pytest.importorskip("mwxml")
    pytest.importorskip("mwparserfromhell")
    path = tmp_path / name
    pack = {".bz2": bz2.compress, ".gz": gzip.compress}.get(path.suffix, bytes)
    path.write_bytes(pack(DUMP.encode()))
    found = list(read_corpus(path))
    assert [(p.id, p.title) for p in found] == [("2#0", "Eiffel Tower")]
    assert found[0].text == "The Eiffel Tower () is a wrought-iron tower in Paris. Built in 1889 by Gustave Eiffel."
    build_index(path, tmp_path / "index")
    assert open_index(tmp_path / "index").search("gustave", 1)[0].passage == found[0]
    path.write_bytes(pack(DUMP[: len(DUMP) // 2].encode()))
    with pytest.raises(DataError, match=rf"{name}: cannot be read past"):
        list(read_corpus(path))


def test_articles_are_cut_as_dpr_does() -> None:
    text = " ".join(str(i) for i in range(230))
    found = list(passages_of("x", "T", text))
    assert [p.id for p in found] == ["x#0", "x#1", "x#2"]
    assert [p.text.split()[0] for p in found] == ["0", "100", "200"]
    assert found[2].text.split() == [str(i) for i in [*range(200, 230), *range(70)]], "filled up from the beginning"
    assert list(passages_of("y", "T", "one two")) == [Passage("y#0", "T", "one two")]
    assert list(passages_of("z", "T", " \n")) == []


def test_broken_html_gives_what_text_there_is() -> None:
    assert text_of_html("<p>a<table><td>x</p>b")[1] == "a"
    assert text_of_html("<title>T &amp; U</title><p>a<br>b</div></span>c")[0] == "T & U"


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.tsv", b"id\ttext\ttitle\n1\tonly two\n", r"x\.tsv:2: 2 fields between tabs"),
        ("x.tsv", b"id\ttext\ttitle\n1\tcaf\xe9\tT\n", r"x\.tsv:\d+: not UTF-8"),
        ("x.tsv", b"id\ttext\ttitle\n\tx\tT\n", r"x\.tsv:2: field 'id' is empty"),
        ("x.tsv.gz", gzip.compress(b"id\ttext\ttitle\n1\tx\tT\n" * 99, mtime=0)[:-9], r"x\.tsv\.gz: cannot be read past line"),
        ("x.jsonl", b'{"id": "1", "contents": "x"}\n{"id": "2"}\n', r"x\.jsonl:2: field 'title' is missing|x\.jsonl:2: field 'text'"),
        ("x.jsonl", b'{"id": "1", "contents": "\xff"}\n', r"x\.jsonl:1: not UTF-8"),
        ("x.jsonl.gz", b"no gzip", r"x\.jsonl\.gz: cannot be read past line"),
        ("x.jsonl.gz", gzip.compress(b'{"id": "1", "contents": "x"}\n' * 99, mtime=0)[:40], r"x\.jsonl\.gz: cannot be read past line"),
        ("x.json", b'[{"id": "1", "contents": "x"}', r"x\.json: not valid JSON"),
        ("x.json", b'[{"id": "1", "contents": "x"},\n 3]', r"x\.json:2: a JSON object is needed"),
        ("wiki_00.bz2", b"no bzip2", r"wiki_00\.bz2: no readable bzip2 file"),
        ("wiki_00.bz2", bz2.compress(b'{"id": 1, "title": "T", "text": 3}'), r"wiki_00\.bz2:1: field 'text' must be a string"),
        ("x.tar.bz2", b"no tar", r"x\.tar\.bz2: cannot be read"),
        ("x.parquet", b"PAR1 no parquet", r"x\.parquet: cannot be read past row 1"),
    ],
)  # fmt: skip
def test_broken_files_are_named(name: str, data: bytes, message: str, tmp_path: Path) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError, match=message):
        build_index(tmp_path / name, tmp_path / "index")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_formats_are_told_by_names_or_asked_for(tmp_path: Path) -> None:
    strange = jsonl(tmp_path / "corpus.txt", {"id": "1", "contents": "x"})
    assert source_files([strange])[0][1].name == "rows"
    with pytest.raises(ConfigError, match="format 'dpt' is not known; did you mean 'dpr'"):
        source_files([strange], "dpt")
    dpr(tmp_path / "a.tsv")
    jsonl(tmp_path / "b.jsonl", {"id": "1", "contents": "x"})
    with pytest.raises(ConfigError, match=r"several formats \(dpr, rows\)"):
        source_files([tmp_path])
    assert [p.name for p, _ in source_files([tmp_path], "dpr")] == ["a.tsv"]
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no file of passages"):
        source_files([tmp_path / "none"])
