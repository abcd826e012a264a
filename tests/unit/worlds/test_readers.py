import copy
import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import ConfigError, DataError
from agentgym.seeding import stream
from agentgym.task import Answer, Entity, TaskSource
from agentgym.types import Passage
from agentgym.worlds.readers import FORMATS, FileTasks, read_context, read_tasks

HOTPOT = {
    "_id": "5a8b",
    "question": "Which river flows through the birthplace of Ada?",
    "answer": "Thames",
    "type": "bridge",
    "level": "hard",
    "supporting_facts": [["Ada", 0], ["London", 1], ["Ada", 2]],
    "context": [["Ada", ["Ada was born in London.", " She wrote."]], ["London", ["A city.", "On the Thames."]]],
}
TWO_WIKI = {
    **HOTPOT,
    "type": "compositional",
    "evidences": [["Ada", "born in", "London"], ["London (UK)", "river", "thames"]],
}
MUSIQUE = {
    "id": "2hop__1_2",
    "question": "Who leads the company that made X?",
    "answer": "Ann Lee",
    "answer_aliases": ["A. Lee"],
    "answerable": True,
    "paragraphs": [
        {"idx": 0, "title": "X", "paragraph_text": "Made by Y.", "is_supporting": True},
        {"idx": 1, "title": "Z", "paragraph_text": "Nothing.", "is_supporting": False},
        {"idx": 2, "title": "Y", "paragraph_text": "Led by Ann Lee.", "is_supporting": True},
    ],
    "question_decomposition": [
        {"id": 1, "question": "X >> manufacturer", "answer": "Y", "paragraph_support_idx": 0},
        {"id": 2, "question": "Who leads #1 ?", "answer": "Ann Lee", "paragraph_support_idx": 2},
    ],
}


def read(tmp_path: Path, *rows: Any, name: str = "q.jsonl", format: str = "auto") -> FileTasks:
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (tmp_path / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return read_tasks(tmp_path / name, format)


def test_the_smallest_rows(tmp_path: Path) -> None:
    tasks = read(
        tmp_path,
        {"question": "Capital of Chad?", "answer": "N'Djamena", "aliases": ["Ndjamena"], "gold_passages": ["chad-1", 7]},
        {"question": "A primary colour?", "answers": ["red", "blue"], "id": 7, "hops": 1, "type": "list"},
    ).split("all")
    assert tasks[0].gold.answers == (Answer("N'Djamena", ("Ndjamena",)),)
    assert (tasks[0].gold.doc_ids, tasks[0].meta["gold_unit"]) == (("chad-1", "7"), "passage"), "numbers are ids too"
    assert tasks[1].gold.answers == (Answer("red"), Answer("blue"))
    assert (tasks[1].id, tasks[1].hops, tasks[1].kind, tasks[1].source) == ("7", 1, "list", "q.jsonl")
    assert tasks[1].meta == {"gold_unit": "none"}


def test_default_ids_depend_on_content_alone(tmp_path: Path) -> None:
    one = read(tmp_path, '{"question": "é?", "answer": "b"}').split()[0].id
    same = read(tmp_path, "", '{ "answer":"b", "question":"\\u00e9?" }').split()[0].id
    other = read(tmp_path, '{"question": "é?", "answer": "c"}').split()[0].id
    canonical = '{"answer":"b","question":"é?"}'
    assert one == same == hashlib.sha256(canonical.encode()).hexdigest()[:16]
    assert other != one


def test_hotpotqa_as_published_is_one_json_list(tmp_path: Path) -> None:
    columns = {
        "supporting_facts": {"title": ["Ada", "London"], "sent_id": [0, 1]},
        "context": {"title": ["Ada"], "sentences": [["Ada was born in London.", " She wrote."]]},
    }
    text = json.dumps([HOTPOT, HOTPOT | {"_id": "2"} | columns], indent=1)
    task, table = read(tmp_path, text, name="dev.json", format="hotpotqa").split()
    assert task.gold.doc_ids == table.gold.doc_ids == ("Ada", "London")
    assert (task.id, task.hops, task.kind, task.meta["gold_unit"], task.meta["level"]) == (
        "5a8b",
        2,
        "bridge",
        "title",
        "hard",
    )
    assert read_context(tmp_path / "dev.json") == [
        Passage("Ada", "Ada", "Ada was born in London. She wrote."),
        Passage("London", "London", "A city. On the Thames."),
    ]


def test_2wiki_evidences_become_entities_and_path(tmp_path: Path) -> None:
    gold = read(tmp_path, TWO_WIKI, format="2wiki").split()[0].gold
    assert gold.path == (("Ada", "born in", "London"), ("London (UK)", "river", "thames"))
    assert gold.path_doc_ids == ("Ada", "")
    assert gold.entities == (
        Entity("Ada", "Ada", (), 0, "start"),
        Entity("London", "London", (), 1, "bridge"),
        Entity("London (UK)", "London (UK)", (), 1, "bridge"),
        Entity("thames", "thames", ("Thames",), 2, "answer"),
    )
    ids = [["Q7", "born in", "Q84"], ["Q84", "river", "Q19"]]
    gold = read(tmp_path, TWO_WIKI | {"evidences_id": ids}).split()[0].gold
    assert gold.path == (("Q7", "born in", "Q84"), ("Q84", "river", "Q19"))
    assert [(e.id, e.name, e.hop) for e in gold.entities] == [
        ("Q7", "Ada", 0),
        ("Q84", "London", 1),
        ("Q19", "thames", 2),
    ]
    comparison = read(tmp_path, TWO_WIKI | {"type": "bridge_comparison"}).split()[0]
    assert comparison.hops == 4
    assert comparison.gold.entities[2] == Entity("London (UK)", "London (UK)", (), 0, "start")


def test_musique_paragraphs_and_decomposition(tmp_path: Path) -> None:
    task = read(tmp_path, MUSIQUE, format="musique").split()[0]
    context = read_context(tmp_path / "q.jsonl")
    assert [p.title for p in context] == ["X", "Z", "Y"]
    assert task.gold.doc_ids == task.gold.path_doc_ids == (context[0].id, context[2].id)
    assert task.gold.path == (("X", "manufacturer", "#1"), ("#1", "Who leads #1 ?", "#2"))
    assert task.gold.entities == (
        Entity("X", "X", (), 0, "start"),
        Entity("#1", "Y", (), 1, "bridge"),
        Entity("#2", "Ann Lee", ("A. Lee",), 2, "answer"),
    )
    assert (task.kind, task.hops, task.meta) == ("2hop", 2, {"answerable": True, "gold_unit": "paragraph"})


def test_open_domain_files(tmp_path: Path) -> None:
    nq = read(tmp_path, {"question": "q", "answer": ["a", "b"]}).split()[0]
    assert nq.gold.answers == (Answer("a"), Answer("b"))
    row = {"id": "train_0", "question": "q", "golden_answers": ["a"], "metadata": {"type": "bridge", "question": "x"}}
    flashrag = read(tmp_path, row, format="flashrag").split()[0]
    assert (flashrag.question, flashrag.kind, flashrag.gold.answers) == ("q", "bridge", (Answer("a"),))


def test_a_misspelt_optional_field_is_told_once(tmp_path: Path) -> None:
    rows = [{"question": f"Where is {i}?", "answer": "a", "gold_pasages": ["d"], "context_passages": []} for i in range(3)]
    path = tmp_path / "q.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    with pytest.warns(UserWarning, match="is not read") as told:
        read_tasks(path)
    assert [str(w.message) for w in told] == [f"{path}:1: field 'gold_pasages' is not read; did you mean 'gold_passages'?"]


def test_gzip(tmp_path: Path) -> None:
    for name, text in (("a.jsonl.gz", json.dumps(HOTPOT)), ("b.json.gz", json.dumps([HOTPOT]))):
        (tmp_path / name).write_bytes(gzip.compress(text.encode()))
        assert read_tasks(tmp_path / name).by_id("5a8b").question == HOTPOT["question"]


GOOD = {"id": "a", "question": "q", "answer": "x"}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ('{"question": "q", ', "not valid JSON"),
        ([1], "a JSON object is needed, found a list"),
        (
            {"answer": "x", "qestion": "q"},
            "field 'question' is missing; did you mean 'qestion'.; found answer, qestion",
        ),
        (
            {"question": "q", "anwser": "x"},
            "no answer; did you mean 'anwser'.; give one of answer, answers, golden_answers",
        ),
        ({"question": " ", "answer": "x"}, "field 'question' is empty"),
        ('{"question": "\\ud800", "answer": "x"}', "field 'question' holds half of a surrogate pair"),
        ({"question": 3, "answer": "x"}, "field 'question' must be a string, found a number: 3"),
        ({"question": "q", "answer": True}, "'answer' must be a string or a list of strings, found true or false"),
        ({"question": "q", "answers": "x"}, "field 'answers' must be a list of strings, found a string"),
        ({"question": "q", "answers": []}, "field 'answers' is an empty list"),
        ({"question": "q", "answers": ["x", 1]}, "item 2 of field 'answers' must be a string, found a number"),
        (GOOD | {"id": []}, "field 'id' must be a string, found a list"),
        (GOOD | {"aliases": "y"}, "field 'aliases' must be a list of strings"),
        (GOOD | {"gold_passages": "p"}, "field 'gold_passages' must be a list of strings"),
        (GOOD | {"hops": -1}, "field 'hops' must be a whole number from 0"),
        (GOOD | {"supporting_facts": ["t"]}, r"'supporting_facts' must be a list of \[title, sentence\]"),
        (GOOD | {"evidences": [["h", "r"]]}, r"'evidences' must be \[head, relation, tail\]"),
        (GOOD | {"decomposition": [{"question": "s"}]}, "field 'answer' is missing"),
        (GOOD | {"paragraphs": [1]}, "field 'paragraphs' must be a list of objects"),
        (GOOD | {"question": "another"}, r"id 'a' is used already at .*q\.jsonl:1"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, bad: Any, message: str) -> None:
    with pytest.raises(DataError, match=rf"q\.jsonl:3: .*{message}"):
        read(tmp_path, GOOD, "", bad)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"question": "q", "answer": "x"},\n\n{"question": 1}]', r":3: field 'question' must be a string"),
        ('[\n{"question": "q", "answer": "x"},\n 5]', r":3: a list of JSON objects is needed, found a number"),
        ('[\n{"question": "q", "answer": "x"},\n{"quest', r":3: not valid JSON in the item that starts here"),
        ('[\n{"question": "q", "answer": "x"}', r":2: ',' or ']' is needed after the item"),
        ("[]", "no questions found"),
        ("\n", "no questions found"),
    ],
)
def test_broken_lists_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text, name="q.json")


def test_a_named_format_demands_its_fields(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.jsonl:1: format '2wiki' needs the field 'evidences'"):
        read(tmp_path, GOOD, format="2wiki")
    with pytest.raises(DataError, match="'decomposition' or 'question_decomposition'"):
        read(tmp_path, GOOD, format="musique")
    with pytest.raises(ConfigError, match=r"format 'hotpot': use one of auto, .*did you mean 'hotpotqa'"):
        read(tmp_path, GOOD, format="hotpot")
    assert len(read(tmp_path, GOOD, format="qa")) == 1
    assert set(FORMATS) == {"auto", "qa", "flashrag", "hotpotqa", "2wiki", "musique"}


def test_file_tasks_is_a_task_source(tmp_path: Path) -> None:
    tasks = read(tmp_path, *(GOOD | {"id": f"q{i}"} for i in range(5)))
    assert isinstance(tasks, TaskSource)
    assert [t.id for t in tasks] == [t.id for t in tasks.split("all")] == [f"q{i}" for i in range(5)]
    assert len(tasks) == 5
    assert tasks.by_id("q3").id == "q3"
    drawn = [tasks.sample("all", stream("s", i)).id for i in range(40)]
    assert drawn == [tasks.sample("all", stream("s", i)).id for i in range(40)]
    assert set(drawn) == {f"q{i}" for i in range(5)}
    assert copy.deepcopy(tasks) is tasks
    with pytest.raises(ConfigError, match=r"split 'train': question file .* the only name is 'all'"):
        tasks.split("train")
    with pytest.raises(ConfigError, match=r"task 'q9' is not in question file .* did you mean 'q"):
        tasks.by_id("q9")


def test_files_without_contexts_say_so(tmp_path: Path) -> None:
    read(tmp_path, GOOD)
    with pytest.raises(DataError, match="no contexts found"):
        read_context(tmp_path / "q.jsonl")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n", "units"),
    [
        ("hotpotqa", 867, {"passage": 312, "sentence": 418, "none": 137}),
        ("2wiki", 509, {"passage": 509}),
        ("musique", 705, {"passage": 705}),
        ("nq", 508, {"none": 508}),
        ("popqa", 489, {"none": 489}),
    ],
)
def test_real_files(data_dir: Path, name: str, n: int, units: dict[str, int]) -> None:
    path = data_dir / "qa" / f"{name}.questions.jsonl"
    tasks = read_tasks(path)
    assert len(tasks) == n
    for unit, count in units.items():
        having = [t for t in tasks if t.meta["gold_unit"] == unit]
        assert len(having) == count
        assert all(bool(t.gold.doc_ids) == (unit != "none") for t in having)
    corpus = data_dir / "qa" / f"{name}.corpus.jsonl"
    ids = {json.loads(line)["id"] for line in corpus.read_text(encoding="utf-8").split("\n") if line}
    for task in tasks:
        assert set(task.gold.doc_ids) <= ids
        assert len(task.gold.path) == len(task.gold.path_doc_ids)
        known = {e.id for e in task.gold.entities} | {""}
        assert all(head in known and tail in known for head, _, tail in task.gold.path)
    if name == "musique":
        assert all(t.gold.entities[-1].role == "answer" and all(t.gold.path_doc_ids) for t in tasks)
    if name == "2wiki":
        stated = [doc for t in tasks for doc in t.gold.path_doc_ids]
        assert sum(map(bool, stated)) / len(stated) > 0.95
