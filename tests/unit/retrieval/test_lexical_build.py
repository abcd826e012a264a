"""Builds of the engine lucene: chunks, processes, resumption, locks, full disks, bad input, damaged files."""

import contextlib
import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lucene_corpus import passages

from agentgym.errors import ConfigError, DataError, ServiceError
from agentgym.retrieval import LexicalRetriever, build_index, manifest, merge_indexes, open_index, verify
from agentgym.retrieval.lexical import build as building
from agentgym.retrieval.lexical import chunks
from agentgym.retrieval.lexical.build import Meter
from agentgym.retrieval.lexical.layout import FILES, MAXIMA
from agentgym.retrieval.pyserini_backend import write_collection

QUERIES = ["relational museum", "gyroscope", "Beyoncé 東京", "the of", "happiness hopeful capital"]


def lexical(folder: Path, **options: Any) -> LexicalRetriever:
    found = open_index(folder, **options)
    assert isinstance(found, LexicalRetriever)
    return found


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    write_collection(passages(), tmp_path / "corpus")
    return tmp_path / "corpus" / "passages.jsonl"


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "CHUNK_UNITS", 200)


def answers(folder: Path) -> list[Any]:
    return lexical(folder).search_many(QUERIES, 9)


def files_of(folder: Path) -> dict[str, str]:
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir()}


def test_the_number_of_processes_changes_no_byte(corpus: Path, tmp_path: Path, small_chunks: None) -> None:
    one, three = (build_index(corpus, tmp_path / f"p{n}", processes=n) for n in (1, 3))
    assert one == three
    assert files_of(tmp_path / "p1") == files_of(tmp_path / "p3")
    assert one["counts"]["tiles"] == 8
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_chunks_change_no_result(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_index(corpus, tmp_path / "whole")
    monkeypatch.setattr(building, "CHUNK_UNITS", 170)
    monkeypatch.setattr(chunks, "TILE_BYTES", 5_000)
    assert build_index(corpus, tmp_path / "cut")["counts"]["tiles"] > 20
    assert answers(tmp_path / "whole") == answers(tmp_path / "cut")


def test_the_manifest_tells_sources_parameters_and_counts(corpus: Path, tmp_path: Path) -> None:
    build_index([corpus], tmp_path / "ix", k1=1.2, b=0.75)
    info = verify(tmp_path / "ix")
    assert info["sources"] == [{
        "name": "passages.jsonl", "format": "rows", "bytes": corpus.stat().st_size,
        "sha256": hashlib.sha256(corpus.read_bytes()).hexdigest(), "passages": 1500,
    }]  # fmt: skip
    assert info["parameters"] == {"k1": 1.2, "b": 0.75, "method": "lucene"}
    assert (info["format"], info["analyzer"]) == ("agentgym-lucene", "lucene-english-1")
    assert set(info["files"]) == {*FILES.values(), MAXIMA}
    assert lexical(tmp_path / "ix").k1 == 1.2


KILLED = """
import sys
from agentgym.retrieval import build_index
from agentgym.retrieval.lexical import build
build.CHUNK_UNITS = 150
build_index(sys.argv[1], sys.argv[2], processes=int(sys.argv[3]), overwrite=True, progress=lambda *a: print(*a, flush=True))
"""


@pytest.mark.parametrize("processes", [1, 2])
def test_a_killed_build_goes_on_where_it_stopped(
    processes: int, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "CHUNK_UNITS", 150)
    build_index(corpus, tmp_path / "expected")
    build_index(corpus, tmp_path / "ix", k1=2.0)
    before = files_of(tmp_path / "ix")
    with subprocess.Popen([sys.executable, "-c", KILLED, corpus, tmp_path / "ix", str(processes)], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        while len(list((tmp_path / ".ix.building").glob("chunk-??????"))) < 3:
            assert child.stdout.readline(), "the build ended before it was killed"
        child.send_signal(signal.SIGKILL)
    time.sleep(0.5)  # a child of the killed process may finish the chunk that it has
    finished = sorted((tmp_path / ".ix.building").glob("chunk-??????"))
    assert len(finished) >= 3
    assert files_of(tmp_path / "ix") == before, "the old index is there until the new one is whole"
    stamps = [(p / "chunk.json").stat().st_mtime_ns for p in finished]
    written: list[int] = []
    write = chunks.ChunkWriter.write
    monkeypatch.setattr(chunks.ChunkWriter, "write", lambda self, number, *rest: (written.append(number), write(self, number, *rest))[1])
    monkeypatch.setattr(building.shutil, "rmtree", lambda *a, **k: None)
    build_index(corpus, tmp_path / "ix", overwrite=True)
    assert [(p / "chunk.json").stat().st_mtime_ns for p in finished if p.exists()] in ([], stamps)
    assert len(written) == 10 - len(finished)
    assert files_of(tmp_path / "ix") == files_of(tmp_path / "expected")


def test_chunks_of_other_bytes_are_not_taken(corpus: Path, tmp_path: Path, small_chunks: None) -> None:
    lines = corpus.read_text(encoding="utf-8").splitlines(keepends=True)
    corpus.write_text("".join([*lines[:-1], "broken\n"]), encoding="utf-8")
    with pytest.raises(DataError, match=r"passages\.jsonl:1500: not valid JSON"):
        build_index(corpus, tmp_path / "ix")
    kept = tmp_path / ".ix.building"
    assert len(list(kept.glob("chunk-??????"))) == 7, "what was read is kept"
    changed = json.loads(lines[0]) | {"contents": '"new"\nzzyzx'}
    corpus.write_text("".join([json.dumps(changed) + "\n", *lines[1:]]), encoding="utf-8")
    build_index(corpus, tmp_path / "ix")
    assert [h.passage.id for h in lexical(tmp_path / "ix").search("zzyzx", 5)] == ["p0000"]
    assert not kept.exists()


def test_two_builders_of_one_folder(corpus: Path, tmp_path: Path) -> None:
    with building.building(tmp_path / "ix"):
        with pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* \(since .*\) builds this index"):
            build_index(corpus, tmp_path / "ix")
        build_index(corpus, tmp_path / "other")
    build_index(corpus, tmp_path / "ix")


def test_a_full_disk_keeps_chunks_and_the_old_index(
    corpus: Path, tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(corpus, tmp_path / "ix", k1=2.0)
    before = files_of(tmp_path / "ix")
    save, calls = np.save, []

    def full(path: Any, values: Any) -> None:
        calls.append(path)
        if len(calls) > 70:
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, values)

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(ServiceError, match=r"the disk is full.*\.ix\.building.*run the same command again"):
        build_index(corpus, tmp_path / "ix", overwrite=True)
    monkeypatch.setattr(np, "save", save)
    assert files_of(tmp_path / "ix") == before
    assert len(list((tmp_path / ".ix.building").glob("chunk-??????"))) >= 2
    build_index(corpus, tmp_path / "ix", overwrite=True)
    assert lexical(tmp_path / "ix").k1 == 0.9
    monkeypatch.setattr(building.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 10})())
    with pytest.raises(ServiceError, match=r"the merge needs [\d,]+ bytes, 10 are free"):
        build_index(corpus, tmp_path / "other")


def test_a_worker_that_dies_is_reported(corpus: Path, tmp_path: Path, small_chunks: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgym.retrieval.lexical.workers.sys.executable", "/bin/false")
    with pytest.raises(ServiceError, match="a process of the build died"):
        build_index(corpus, tmp_path / "ix", processes=2)


def test_repeated_ids_are_named_with_both_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(building, "CHUNK_UNITS", 3)
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps({"id": i, "contents": "x"}) + "\n\n" for i in "abcdefcg"))
    with pytest.raises(DataError, match=r"p\.jsonl:13: id 'c' is used already at .*p\.jsonl:5"):
        build_index(path, tmp_path / "ix")
    for name, ids in (("one", "ab"), ("two", "cb")):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps({"id": i, "contents": "x"}) + "\n" for i in ids))
        build_index(tmp_path / f"{name}.jsonl", tmp_path / name)
    with pytest.raises(DataError, match=r"two \(passage 1\): id 'b' is used already at .*one \(passage 1\)"):
        merge_indexes([tmp_path / "one", tmp_path / "two"], tmp_path / "both")


def test_long_passages_long_queries_and_any_k(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    huge = "lorem " * 1_700_000 + "needle"  # 10 MB
    with path.open("w", encoding="utf-8") as file:
        for doc_id, text in (("huge", huge), ("small", "lorem needle"), ("empty", ""), ("same", "lorem needle")):
            file.write(json.dumps({"id": doc_id, "title": "", "text": text}) + "\n")
    build_index(path, tmp_path / "ix")
    retriever = lexical(tmp_path / "ix")
    assert retriever.passage("huge").text == huge  # pyright: ignore[reportOptionalMemberAccess]
    for k in (3, 1_000_000_000):
        assert [h.passage.id for h in retriever.search("needle", k)] == ["small", "same", "huge"]
    assert retriever.search("needle", 0) == retriever.search("needle", -5) == retriever.search("", 3) == []
    assert retriever.search("\ud800 \x00 the of", 3) == []
    million = "needle " + " ".join(f"w{i}" for i in range(120_000))
    assert [h.passage.id for h in retriever.search(million, 2)] == ["small", "same"]
    plain = LexicalRetriever(tmp_path / "ix", manifest.read_manifest(tmp_path / "ix")["counts"], {"k1": 0.9, "b": 0.4}, numba=False)
    assert plain.search("lorem needle", 9) == retriever.search("lorem needle", 9)


def test_many_terms_of_one_query_are_all_scored(corpus: Path, tmp_path: Path) -> None:
    build_index(corpus, tmp_path / "ix")
    retriever = lexical(tmp_path / "ix")
    everything = " ".join(p.text for p in passages(400))
    plain = LexicalRetriever(tmp_path / "ix", manifest.read_manifest(tmp_path / "ix")["counts"], {"k1": 0.9, "b": 0.4}, numba=False)
    assert retriever.search(everything, 20) == plain.search(everything, 20)


def test_parameters_without_meaning_are_refused(corpus: Path, tmp_path: Path) -> None:
    for options in ({"k1": -1.0}, {"k1": float("nan")}, {"b": 1.5}):
        with pytest.raises(ConfigError, match=r"(k1|b)=.*: give a"):
            build_index(corpus, tmp_path / "ix", **options)
    build_index(corpus, tmp_path / "old", engine="bm25s")
    with pytest.raises(ConfigError, match="fixed in an index of the engine bm25s"):
        open_index(tmp_path / "old", k1=1.0)
    with pytest.raises(ConfigError, match="engine 'lucen' is not known; did you mean 'lucene'"):
        build_index(corpus, tmp_path / "ix", engine="lucen")


# tile_bases, big_at and big_tfs are small in every index, so opening compares their checksums.
LARGE = sorted({*FILES.values(), MAXIMA} - {"tile_bases.npy", "big_at.npy", "big_tfs.npy"})


@pytest.mark.parametrize("name", LARGE)
def test_damage_that_no_checksum_has_seen_never_crashes(
    name: str, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_chunks: None
) -> None:
    build_index(corpus, tmp_path / "ix")
    with pytest.MonkeyPatch.context() as full:
        path = tmp_path / "ix" / name
        whole = path.read_bytes()
        rng = np.random.default_rng(len(name))
        full.setattr(manifest, "SMALL_FILE", 0)
        full.setattr(manifest, "SMALL_INDEX", 0)
        places = [*range(0, min(140, len(whole)), 9), *rng.integers(0, len(whole), 25).tolist()]
        for place in places:
            broken = bytearray(whole)
            broken[place] ^= 1 << int(rng.integers(8))
            path.write_bytes(broken)
            with contextlib.suppress(DataError):
                retriever = lexical(tmp_path / "ix")
                retriever.search_many(QUERIES, 5)
                retriever.passage("p0007")
                lexical(tmp_path / "ix", k1=1.0).search_many(QUERIES, 5)
            path.write_bytes(whole)
        for length in (0, 1, 100, 129, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(DataError, match=name.replace(".", r"\.")):
                lexical(tmp_path / "ix")
        path.write_bytes(whole)
    broken = bytearray(whole)
    broken[-1] ^= 1
    path.write_bytes(broken)
    with pytest.raises(DataError, match=rf"{name}: damaged"):
        verify(tmp_path / "ix")


def test_a_meter_gives_rate_and_time_left() -> None:
    now = iter([0.0, 10.0, 20.0, 21.0])
    meter = Meter(lambda: next(now))
    assert meter.update("read", 500, 2000) == (0.0, None), "what an earlier build had done counts for nothing"
    assert meter.update("read", 1000, 2000) == (50.0, 20.0)
    assert meter.update("read", 2000, 2000) == (75.0, 0.0)
    assert meter.update("merge", 0, 5) == (0.0, None)
