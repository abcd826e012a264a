"""The coverage report: what can be found, by whom, in how many searches."""

import json
import math
from pathlib import Path

import pytest
from retrieval_servers import Recording, write_passages

from agentgym import Answer, Gold, Task
from agentgym.cli.main import main
from agentgym.errors import ConfigError
from agentgym.retrieval import BM25Retriever
from agentgym.retrieval.coverage import coverage
from agentgym.types import Passage

CORPUS = [
    Passage("film", "Blue Harbour", "Blue Harbour is a film directed by Mira Halvorsen."),
    Passage("person", "Mira Halvorsen", "Tromsø is her birthplace."),
    Passage("town", "Tromsø", "A town in the north with 77,000 people."),
    *(Passage(f"noise{i}", f"Thing {i}", "A film about a harbour, a town and a director.") for i in range(20)),
]
BIRTH = Task(
    "birth", "Where was the director of the film Blue Harbour born?", Gold((Answer("Tromsø", ("Tromso",)),), doc_ids=("film", "person"))
)
ABSENT = Task("absent", "Who wrote Red Hill?", Gold((Answer("The Bard"),), doc_ids=("hill", "film")))
YES = Task("yes", "Is Tromsø a town?", Gold((Answer("yes"),), doc_ids=("town",)))


def test_each_searcher_finds_what_its_queries_give() -> None:
    report = coverage(BM25Retriever.from_passages(CORPUS), [BIRTH], k=1, searches=3)
    assert (report.n_tasks, report.n_gold, report.n_present, report.n_with_answer) == (1, 2, 2, 1)
    assert report.share("question", "passages", 1) == 0.5
    assert report.share("question", "complete", 1) == 0
    assert report.share("question", "answers", 1) == 0, "the film's passage names no town"
    assert report.share("followed", "passages", 3) == 0.5, "the question names the only title that was read"
    assert [report.share("informed", "complete", n) for n in (1, 2, 3)] == [0, 1, 1]
    assert report.share("informed", "answers", 2) == 1
    assert report.missing == []


def test_following_titles_reaches_the_second_hop() -> None:
    linked = [Passage("film", "Mira", "The film Blue Harbour: where its director began."), *CORPUS[1:]]
    report = coverage(BM25Retriever.from_passages(linked), [BIRTH], k=2, searches=3)
    assert report.share("followed", "complete", 1) == 0
    assert report.share("followed", "complete", 2) == 1
    assert report.share("followed", "answers", 2) == 1


def test_gold_that_is_not_in_the_index_is_counted_and_listed() -> None:
    report = coverage(BM25Retriever.from_passages(CORPUS), [ABSENT, YES], k=3, searches=2)
    assert (report.n_gold, report.n_present, report.n_with_gold) == (3, 2, 2)
    assert report.n_with_answer == 1, "yes is no text to find"
    assert report.share("informed", "complete", 2) == 0.5, "a task with absent gold is never complete"
    assert report.share("informed", "answers", 2) == 0
    assert report.missing == [{"task": "absent", "not_in_index": ["hill"], "not_found": []}]
    text = report.text()
    assert "3 gold passages, 2 of them in the index (66.7%)" in text
    assert "was it built from the corpus of these tasks?" in text


def test_shares_never_fall_and_the_document_is_json() -> None:
    report = coverage(BM25Retriever.from_passages(CORPUS), [BIRTH, ABSENT, YES], k=2, searches=4)
    body = json.loads(json.dumps(report.as_json()))
    assert body["found"]["question"]["passages"] == [pytest.approx(0.4)]
    for searcher in ("followed", "informed"):
        for shares in body["found"][searcher].values():
            assert len(shares) == 4
            assert shares == sorted(shares)


def test_tasks_without_gold_passages_are_judged_by_their_answers() -> None:
    only = Task("only", "Which town is north?", Gold((Answer("77,000 people"),)))
    report = coverage(BM25Retriever.from_passages(CORPUS), [only], k=3)
    assert math.isnan(report.share("question", "passages", 1))
    assert report.share("informed", "answers", 2) == 1
    assert report.as_json()["found"]["question"]["passages"] == [None]
    assert " - " in report.text()
    with pytest.raises(ConfigError, match="nothing to look for"):
        coverage(BM25Retriever.from_passages(CORPUS), [Task("t", "?", Gold())])


def test_all_tasks_search_together_one_batch_a_step() -> None:
    corpus = Recording(CORPUS)
    coverage(corpus, [BIRTH, ABSENT, YES], k=2, searches=2)
    assert len(corpus.batches) <= 5, "one for the question, at most two for each of the others"
    assert len(corpus.batches[0][0]) == 3


def test_the_command_reports_and_lists_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = write_passages(tmp_path / "corpus.jsonl", CORPUS)
    rows = [
        {"id": "birth", "question": BIRTH.question, "answer": "Tromsø", "gold_passages": ["film", "person"]},
        {"id": "absent", "question": "Who wrote Red Hill?", "answer": "Bard", "gold_passages": ["hill"]},
    ]
    tasks = tmp_path / "tasks.jsonl"
    tasks.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    missing = tmp_path / "missing.jsonl"
    assert main(["index", "coverage", str(corpus), "--tasks", str(tasks), "--missing", str(missing), "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["gold_passages"], body["gold_present"], body["tasks_missing_gold"]) == (3, 2, 1)
    assert [json.loads(line)["task"] for line in missing.read_text().splitlines()] == ["absent"]
    assert main(["index", "coverage", str(corpus), "--tasks", str(tasks), "--limit", "1"]) == 0
    assert "1 tasks, 2 gold passages, 2 of them in the index (100.0%)" in capsys.readouterr().out
