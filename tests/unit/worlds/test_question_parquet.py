"""Parquet question files as Search-R1 publishes them."""

from pathlib import Path
from typing import Any

import pytest

from agentgym.errors import DataError
from agentgym.worlds.readers import read_tasks

pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")


def search_r1(source: str, number: int, question: str, answers: list[str], metadata: dict[str, Any] | None) -> dict[str, Any]:
    return {
        "id": f"train_{number}", "question": question, "golden_answers": answers, "data_source": source, "ability": "fact-reasoning",
        "prompt": [{"role": "user", "content": f"Answer the given question. Question: {question}\n"}],
        "reward_model": {"style": "rule", "ground_truth": {"target": answers}},
        "extra_info": {"split": "train", "index": number}, "metadata": metadata,
    }  # fmt: skip


HOTPOT = {"type": "bridge", "level": "easy", "supporting_facts": {"title": ["Chad", "Mali"], "sent_id": [0, 1]}}
ROWS = [
    search_r1("nq", 0, "capital of chad?", ["N'Djamena"], None),
    search_r1("hotpotqa", 0, "Which is larger?", ["Mali", "Republic of Mali"], HOTPOT),
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def test_search_r1_training_files_become_tasks(tmp_path: Path) -> None:
    tasks = list(read_tasks(write(tmp_path / "train.parquet", ROWS)))
    assert [t.id for t in tasks] == ["nq:train_0", "hotpotqa:train_0"], "ids repeat between the data sets"
    assert [t.question for t in tasks] == ["capital of chad?", "Which is larger?"]
    assert [[a.text for a in t.gold.answers] for t in tasks] == [["N'Djamena"], ["Mali", "Republic of Mali"]]
    assert (tasks[0].gold.doc_ids, tasks[1].gold.doc_ids) == ((), ("Chad", "Mali"))
    assert tasks[1].kind == "bridge"


def test_files_in_the_shape_of_verl_keep_question_and_answers_elsewhere(tmp_path: Path) -> None:
    rows = [{k: v for k, v in row.items() if k not in ("id", "question", "golden_answers", "metadata")} for row in ROWS]
    tasks = list(read_tasks(write(tmp_path / "test.parquet", rows)))
    assert [(t.id, t.question) for t in tasks] == [("nq:train_0", "capital of chad?"), ("hotpotqa:train_0", "Which is larger?")]
    assert [a.text for a in tasks[1].gold.answers] == ["Mali", "Republic of Mali"]


def test_broken_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "x.parquet").write_bytes(b"PAR1 cut")
    with pytest.raises(DataError, match=r"x\.parquet: cannot be read past row 0"):
        read_tasks(tmp_path / "x.parquet")
    with pytest.raises(DataError, match=r"y\.parquet:2: .*question"):
        read_tasks(write(tmp_path / "y.parquet", [{"question": "a?", "answer": "b"}, {"question": None, "answer": "b"}]))
