import copy
import gzip
import hashlib
import json
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from agentgym.errors import ConfigError, DataError
from agentgym.jsonl import read_objects
from agentgym.retrieval import (
    BM25Retriever,
    index,
    index_info,
    manifest,
    open_index,
    open_retriever,
    read_passages,
    verify,
)
from agentgym.retrieval.index import build_index
from agentgym.retrieval.workspace import workspace
from agentgym.seeding import stream

QUERIES = ("w1 w2", "t3", "w39 w0 w0", "nothing at all", "é w5")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return write_corpus(tmp_path / "corpus.jsonl", 300)


def write_corpus(path: Path, n: int, first: int = 0) -> Path:
    rng = stream("index", first)
    with path.open("w", encoding="utf-8") as file:
        for i in range(first, first + n):
            text = " ".join(f"w{w}" for w in rng.geometric(0.1, 20))
            row = {"id": f"d{i}", "title": f"t{i % 9} é", "text": text}
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return path


def hidden(folder: Path) -> list[str]:
    return [p.name for p in folder.iterdir() if p.name.startswith(".")]


def test_an_opened_index_answers_as_one_in_memory(corpus: Path, tmp_path: Path) -> None:
    returned = build_index(corpus, tmp_path / "ix")
    opened, memory = open_index(tmp_path / "ix"), BM25Retriever.from_passages(read_passages(corpus))
    assert len(opened) == len(memory) == returned["counts"]["passages"] == 300
    for query in QUERIES:
        assert opened.search(query, 7) == memory.search(query, 7)
    assert opened.search_many(QUERIES, 3) == [memory.search(q, 3) for q in QUERIES]
    assert opened.passage("d17") == memory.passage("d17") is not None
    assert opened.passage("d300") is None is opened.passage("")
    assert hidden(tmp_path) == []


def test_large_files_are_mapped(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(corpus, tmp_path / "ix")
    small = open_index(tmp_path / "ix")
    monkeypatch.setattr(index, "SMALL_FILE", 0)
    mapped = open_index(tmp_path / "ix")
    assert isinstance(mapped._scorer.scores["data"].base, np.memmap)
    assert not isinstance(small._scorer.scores["data"].base, np.memmap)
    assert mapped.search_many(QUERIES, 9) == small.search_many(QUERIES, 9)


def test_copies_share_and_pickles_reopen(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "ix")
    opened = open_index(tmp_path / "ix")
    assert copy.deepcopy(opened) is opened
    assert pickle.loads(pickle.dumps(opened)).search("w1", 4) == opened.search("w1", 4)


def test_the_manifest_describes_sources_and_files(corpus: Path, tmp_path: Path) -> None:
    packed = tmp_path / "more.jsonl.gz"
    packed.write_bytes(gzip.compress(write_corpus(tmp_path / "more.jsonl", 20, first=1000).read_bytes()))
    build_index([corpus, str(packed)], tmp_path / "ix")
    info = verify(tmp_path / "ix")
    assert info == index_info(tmp_path / "ix")
    assert [(s["name"], s["passages"], s["sha256"]) for s in info["sources"]] == [
        (p.name, n, hashlib.sha256(p.read_bytes()).hexdigest()) for p, n in ((corpus, 300), (packed, 20))
    ]
    assert info["counts"]["tokens"] == 320 * 22
    assert info["bytes"] == sum(p.stat().st_size for p in (tmp_path / "ix").iterdir() if p.name != "manifest.json")


def test_equal_sources_give_equal_files(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(corpus, tmp_path / "a")
    monkeypatch.setattr("agentgym.retrieval.postings.PostingsBuilder.__init__.__defaults__", (None, 50))
    build_index(corpus, tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_progress_ends_at_the_whole(corpus: Path, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    build_index(corpus, tmp_path / "ix", progress=lambda *report: seen.append(report))
    assert {stage for stage, _, _ in seen} == {"read", "score"}
    assert [(done, total) for stage, done, total in seen if stage == "read"][-1] == (corpus.stat().st_size,) * 2


def test_a_flipped_byte_in_any_file_is_found(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "ix")
    for path in sorted((tmp_path / "ix").iterdir()):
        whole = path.read_bytes()
        for place in range(0, len(whole), 7) if path.name == "manifest.json" else (0, len(whole) // 2, len(whole) - 1):
            broken = bytearray(whole)
            broken[place] ^= 1
            path.write_bytes(broken)
            with pytest.raises(DataError, match=rf"{path.name}.*agentgym index build"):
                open_index(tmp_path / "ix")
        path.write_bytes(whole)
    assert len(open_index(tmp_path / "ix")) == 300


def test_missing_and_cut_files_are_found(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "ix")
    for path in sorted((tmp_path / "ix").iterdir()):
        whole = path.read_bytes()
        path.unlink()
        with pytest.raises(DataError, match=rf"{path.name}.* missing.*agentgym index build"):
            open_index(tmp_path / "ix")
        path.write_bytes(whole[:-2])
        with pytest.raises(DataError, match=path.name):
            open_index(tmp_path / "ix")
        path.write_bytes(whole)
    with pytest.raises(DataError, match="no such folder"):
        open_index(tmp_path / "nowhere")


def test_large_indexes_are_checked_in_full_on_request(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(corpus, tmp_path / "ix")
    monkeypatch.setattr(manifest, "SMALL_FILE", 0)
    monkeypatch.setattr(manifest, "SMALL_INDEX", 0)
    scores = tmp_path / "ix" / "scores.npy"
    scores.write_bytes(scores.read_bytes()[:-1] + b"\xff")
    open_index(tmp_path / "ix")
    with pytest.raises(DataError, match=r"scores\.npy: damaged"):
        open_index(tmp_path / "ix", verify=True)
    with pytest.raises(DataError, match=r"scores\.npy: damaged"):
        verify(tmp_path / "ix")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "index format version 2; this AgentGym reads version 1"),
        ({"format": "lucene"}, "format 'lucene' where 'agentgym-lucene' or 'agentgym-bm25' is needed"),
        ({"analyzer": "words-0"}, "built with analyzer 'words-0'"),
        ({"parameters": {"k1": 1.2}}, "searches with 'words-1'"),
    ],
)
def test_indexes_of_another_kind_are_refused(corpus: Path, tmp_path: Path, change: dict, message: str) -> None:
    build_index(corpus, tmp_path / "ix")
    path = tmp_path / "ix" / "manifest.json"
    changed = json.loads(path.read_text()) | change
    path.write_text(json.dumps(changed | {"seal": manifest._seal(changed)}))
    with pytest.raises(DataError, match=message):
        open_index(tmp_path / "ix")


def test_broken_sources_leave_nothing(corpus: Path, tmp_path: Path) -> None:
    second = tmp_path / "second.jsonl"
    second.write_text('\n{"id": "x", "title": "", "text": ""}\n{"id": "d5", "title": "", "text": ""}\n')
    with pytest.raises(DataError, match=r"second\.jsonl:3: id 'd5' is used already at .*corpus\.jsonl:6"):
        build_index([corpus, second], tmp_path / "ix")
    second.write_text("\n")
    with pytest.raises(DataError, match="no passages found"):
        build_index(second, tmp_path / "ix")
    with pytest.raises(DataError, match="absent"):
        build_index(tmp_path / "absent.jsonl", tmp_path / "ix")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["corpus.jsonl", "second.jsonl"]


@pytest.mark.parametrize("stage", ["read", "score"])
def test_an_interrupt_leaves_the_old_index(corpus: Path, tmp_path: Path, stage: str) -> None:
    def interrupt(at: str, done: int, total: int) -> None:
        if at == stage:
            raise KeyboardInterrupt

    build_index(write_corpus(tmp_path / "old.jsonl", 4), tmp_path / "ix")
    with pytest.raises(KeyboardInterrupt):
        build_index(corpus, tmp_path / "ix", overwrite=True, progress=interrupt)
    assert len(open_index(tmp_path / "ix", verify=True)) == 4
    assert hidden(tmp_path) == []


def test_existing_folders_are_not_overwritten_unasked(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match="holds no index"):
        build_index(corpus, tmp_path / "mine", overwrite=True)
    assert (tmp_path / "mine" / "thesis.tex").exists()
    (tmp_path / "ix").mkdir()
    build_index(corpus, tmp_path / "ix")
    with pytest.raises(ConfigError, match="holds an index already"):
        build_index(corpus, tmp_path / "ix")
    build_index(write_corpus(tmp_path / "small.jsonl", 3), tmp_path / "ix", overwrite=True)
    assert len(open_index(tmp_path / "ix")) == 3
    assert hidden(tmp_path) == []


def test_repeated_keys_of_different_ids_are_no_repeated_ids(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("index", "passages"):
        monkeypatch.setattr(f"agentgym.retrieval.{module}.string_key", lambda text: len(text))
    build_index(corpus, tmp_path / "ix")
    opened, memory = open_index(tmp_path / "ix"), BM25Retriever.from_passages(read_passages(corpus))
    assert opened.search_many(QUERIES, 5) == memory.search_many(QUERIES, 5)
    assert [opened.passage(f"d{i}") for i in range(300)] == list(read_passages(corpus))


def test_dead_workspaces_are_removed_and_live_ones_kept(tmp_path: Path) -> None:
    with workspace(tmp_path / "ix") as live:
        dead = tmp_path / ".ix.building-00000000"
        dead.mkdir()
        (dead / "scores.npy").write_bytes(b"x")
        with workspace(tmp_path / "ix"):
            assert live.exists()
            assert not dead.exists()
    assert list(tmp_path.iterdir()) == []


BUILD = """
import itertools, sys
from agentgym.retrieval.index import build_index
print("go", flush=True)
for i in itertools.count():
    build_index(sys.argv[1], f"{sys.argv[2]}/ix{i}")
"""


def test_a_killed_build_leaves_its_folder_absent_or_complete(tmp_path: Path) -> None:
    source, rng = write_corpus(tmp_path / "corpus.jsonl", 1000), stream("kill")
    for n in range(3):
        out = tmp_path / str(n)
        with subprocess.Popen([sys.executable, "-c", BUILD, str(source), str(out)], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(rng.random() * 0.6)
            process.send_signal(signal.SIGKILL)
        complete = [p for p in out.glob("ix*") if len(open_index(p, verify=True)) == 1000]
        assert len(complete) == len(list(out.glob("ix*")))
        interrupted = out / f"ix{len(complete)}"
        build_index(source, interrupted)
        assert hidden(out) == []
        assert len(open_index(interrupted, verify=True)) == 1000


KILLED = """
import os, sys
from pathlib import Path
from agentgym.retrieval import build_index
rename = Path.rename

def once(path, target):
    if path.name == "ix":
        return rename(path, target)
    if Path(target).name == "ix":
        os._exit(9)  # the old index is away, the new one is not there yet
    return rename(path, target)

Path.rename = once
build_index(sys.argv[1], sys.argv[2], engine=sys.argv[3], overwrite=True)
"""


@pytest.mark.parametrize("engine", ["lucene", "bm25s"])
def test_a_build_that_is_killed_while_it_replaces_an_index_does_not_lose_it(
    corpus: Path, tmp_path: Path, engine: str
) -> None:
    from agentgym.retrieval import build_index

    out, more = tmp_path / "ix", write_corpus(tmp_path / "more.jsonl", 20)
    build_index(corpus, out, engine=engine)
    died = subprocess.run([sys.executable, "-c", KILLED, str(more), str(out), engine], check=False)
    assert (died.returncode, out.exists()) == (9, False)
    with pytest.raises(ConfigError, match="holds an index already"):
        build_index(more, out, engine=engine)
    assert len(open_index(out)) == 300
    build_index(more, out, engine=engine, overwrite=True)
    assert len(open_index(out)) == 20
    assert hidden(tmp_path) == []


def test_open_retriever_takes_what_users_have(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(corpus, tmp_path / "ix")
    from_folder, from_file = open_retriever(str(tmp_path / "ix")), open_retriever(corpus)
    assert from_folder.search("w1", 5) == from_file.search("w1", 5)
    assert open_retriever(from_folder) is from_folder is open_retriever(tmp_path / "ix")
    monkeypatch.chdir(tmp_path)
    assert open_retriever("ix") is from_folder
    build_index(write_corpus(tmp_path / "other.jsonl", 5), tmp_path / "ix", overwrite=True)
    assert len(open_retriever("ix")) == 5
    not_a_retriever: Callable[..., None] = print
    with pytest.raises(ConfigError, match="index=<built-in"):
        open_retriever(not_a_retriever)  # pyright: ignore[reportArgumentType]
    with pytest.raises(DataError, match="no such folder"):
        open_retriever("nowhere")


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "n", "recall_at_5"), [("hotpotqa", 13_622, 0.78), ("2wiki", 9_616, 0.67), ("musique", 7_721, 0.45)]
)
def test_real_corpora(data_dir: Path, tmp_path: Path, name: str, n: int, recall_at_5: float) -> None:
    source = data_dir / "qa" / f"{name}.corpus.jsonl"
    assert build_index(source, tmp_path / "ix")["counts"]["passages"] == n
    retriever = open_index(tmp_path / "ix")
    passages = list(read_passages(source))
    assert [retriever.passage(p.id) for p in passages[::97]] == passages[::97]
    questions = [row for _, row in read_objects(data_dir / "qa" / f"{name}.questions.jsonl")]
    found = [
        len({h.passage.id for h in hits} & set(q["gold_passages"])) / len(set(q["gold_passages"]))
        for q in questions
        if q["gold_passages"]
        for hits in [retriever.search(q["question"], 5)]
    ]
    assert recall_at_5 <= float(np.mean(found)) < recall_at_5 + 0.05
    memory = BM25Retriever.from_passages(passages)
    asked = [q["question"] for q in questions[:100]]
    assert retriever.search_many(asked, 5) == memory.search_many(asked, 5)


@pytest.mark.data
@pytest.mark.parametrize(("name", "n"), [("nq", 2_928), ("popqa", 2_147)])
def test_real_single_hop_corpora(data_dir: Path, name: str, n: int) -> None:
    assert len(open_retriever(data_dir / "qa" / f"{name}.corpus.jsonl")) == n
