"""What the passage store keeps unpacked: never more than its limit, and never another passage's text."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from agentgym.retrieval import build_index, open_index
from agentgym.retrieval.lexical import store
from agentgym.retrieval.lexical.store import Recent
from agentgym.types import Passage


def held(recent: Recent[str], keys: range) -> list[int]:
    """Return which keys are kept, without looking them up."""
    return [key for key in keys if key in recent._young or key in recent._old]


def test_recent_keeps_what_is_used_and_stays_under_its_limit() -> None:
    recent: Recent[str] = Recent(100)
    recent.keep(0, "in use", 10)
    for key in range(1, 200):
        recent.keep(key, str(key), 10)
        assert recent.find(0) == "in use"
        assert len(held(recent, range(200))) <= 10
    assert recent.find(199) == "199"
    assert recent.find(100) is None


def test_recent_does_not_keep_what_would_drive_out_everything_else() -> None:
    recent: Recent[str] = Recent(100)
    recent.keep(1, "small", 10)
    recent.keep(2, "huge", 60)
    assert recent.find(2) is None
    assert recent.find(1) == "small"


def test_threads_read_the_right_passages_while_the_store_forgets(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(store, "_RECENT_BYTES", 20_000)
    passages = [Passage(f"p{i}", f"title {i}", f"text number {i} " * (1 + i % 40)) for i in range(400)]
    rows = "".join(f'{{"id": "{p.id}", "title": "{p.title}", "text": "{p.text}"}}\n' for p in passages)
    (tmp_path / "corpus.jsonl").write_text(rows, encoding="utf-8")
    build_index(tmp_path / "corpus.jsonl", tmp_path / "ix")
    opened = open_index(tmp_path / "ix").passages  # pyright: ignore[reportAttributeAccessIssue]

    def right(seed: int) -> bool:
        order = np.random.Generator(np.random.PCG64(seed)).integers(len(passages), size=2_000)
        return all(opened[i] == passages[i] for i in order.tolist())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, range(4)))
