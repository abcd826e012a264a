"""On real files, the environment shows exactly what the library bm25s finds when it is called on its own."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bm25s
import numpy as np
import pytest

from agentgym.cli.main import main
from agentgym.retrieval.analyzer import terms

pytestmark = pytest.mark.data
K1, B, K = 0.9, 0.4, 3
LIMIT = 100


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


@pytest.mark.parametrize(
    ("name", "dialect"), [("hotpotqa", "tags"), ("hotpotqa", "json"), ("2wiki", "tags"), ("musique", "tags")]
)
def test_recall_is_that_of_bm25s_called_directly(name: str, dialect: str, data_dir: Path, tmp_path: Path, capsys: Any) -> None:
    corpus, questions = data_dir / "qa" / f"{name}.corpus.jsonl", data_dir / "qa" / f"{name}.questions.jsonl"
    index, out = tmp_path / "index", tmp_path / "out"
    assert main(["index", "build", str(corpus), "--out", str(index), "--engine", "bm25s", "--quiet"]) == 0
    capsys.readouterr()
    files = ["--tasks", str(questions), "--index", str(index), "--dialect", dialect]
    options = ["--policy", "extractive", "--limit", str(LIMIT), "--out", str(out), "--json", "--quiet"]
    assert main(["eval", "SearchQA-v0", *files, *options]) == 0
    result = json.loads(capsys.readouterr().out)

    passages = list(rows(corpus))
    scorer = bm25s.BM25(k1=K1, b=B, method="lucene")
    scorer.index([terms(f"{p['title']} {p['text']}") for p in passages], show_progress=False)
    known = set(scorer.vocab_dict)
    shown = {r["task_id"]: r for r in rows(out / "trajectories.jsonl")}
    recalls = {}
    for row in list(rows(questions))[:LIMIT]:
        query = [t for t in terms(row["question"]) if t in known]
        scores = scorer.get_scores(query) if query else np.zeros(len(passages), np.float32)
        best = [i for i in np.argsort(-scores, kind="stable")[:K] if scores[i] > 0]
        expected = [passages[i]["id"] for i in best]
        (turn, *_) = shown[str(row["id"])]["turns"]
        documents = turn["results"][0].get("documents", [])
        assert [d["id"] for d in documents] == expected
        assert [d["score"] for d in documents] == pytest.approx(scores[best].tolist(), rel=1e-6)
        gold = set(row["gold_passages"])
        recalls[str(row["id"])] = len(gold & set(expected)) / len(gold)
    assert {task: row["recall"] for task, row in result["per_task"].items()} == recalls
    assert result["measures"]["recall"]["mean"] == pytest.approx(sum(recalls.values()) / LIMIT, abs=1e-12)
    assert 0.1 < result["measures"]["recall"]["mean"] < 1.0


@pytest.mark.parametrize(("name", "n"), [("nq", 508), ("popqa", 489)])
def test_single_hop_sets_are_evaluated_without_a_fault(name: str, n: int, data_dir: Path, capsys: Any) -> None:
    """Their alternatives hold emoji and signs, of which normalisation leaves nothing."""
    corpus, questions = data_dir / "qa" / f"{name}.corpus.jsonl", data_dir / "qa" / f"{name}.questions.jsonl"
    files = ["--tasks", str(questions), "--index", str(corpus)]
    assert main(["eval", "SearchQA-v0", *files, "--policy", "extractive", "--json", "--quiet"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["n_tasks"], result["n_faults"], result["faults"]) == (n, 0, {})
    assert result["measures"]["success"]["mean"] > 0.04
