"""The verdict cache: asked once, shared by processes, never silently useless."""

import multiprocessing
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym.errors import DataError
from agentgym.judges import JudgeRequest, StubJudge, judge_service
from agentgym.judges import cache as judge_cache
from agentgym.judges.cache import VerdictCache, cache_key
from agentgym.judges.protocol import decided

ASK = JudgeRequest("names the amount", "12.50")


def test_a_verdict_is_asked_once_and_kept_across_runs(tmp_path: Path) -> None:
    path = tmp_path / "sub" / "judge.sqlite"
    for run in range(2):
        stub = StubJudge({"12.50": True, "lost": None})
        runner = judge_service(stub, cache=str(path), canary_every=0)
        assert [v.passed for v in runner.judge([ASK, ASK])] == [True, True]
        assert runner.judge([ASK])[0].cached
        assert len(stub.asked) == (1 if run == 0 else 0)
        with pytest.warns(UserWarning, match="the judge abstained"):
            assert not runner.judge([replace(ASK, text="lost")])[0].valid
        assert stub.asked[-1].text == "lost", "an abstention is never kept"
    assert len(VerdictCache(path)) == 1


def test_the_key_depends_on_everything_that_a_verdict_does() -> None:
    changes = [
        {"criterion": "c"}, {"text": "t"}, {"channel": "results"}, {"context": "c"}, {"condition": "c"},
        {"evidence": ("e",)}, {"fail_examples": ("f",)}, {"polarity": "absent"}, {"labels": ("a", "b")},
        {"sample": 1}, {"max_chars": 9}, {"grounded": False},
    ]  # fmt: skip
    keys = {cache_key("judge", replace(ASK, **change)) for change in ({}, *changes)}
    assert len(keys) == len(changes) + 1
    assert cache_key("judge@2", ASK) not in keys


def test_a_write_that_fails_at_its_end_leaves_the_file_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judge_cache, "_BUSY_S", 0.1)
    path = tmp_path / "judge.sqlite"
    cache = VerdictCache(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM verdicts").fetchall()
        for _ in range(2):
            with pytest.raises(DataError, match="locked"):
                cache.write({"k": decided(True)})
        reader.execute("COMMIT")
        reader.execute("BEGIN IMMEDIATE")
        reader.execute("COMMIT")
    cache.write({"k": decided(True)})
    assert len(cache) == 1


def _write(path: Path, start: int) -> None:
    cache = VerdictCache(path)
    for i in range(start, start + 40):
        cache.write({f"k{i}": decided(True, quote=str(i)), "shared": decided(True, quote=str(i))})


def test_processes_share_one_file(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, 100 * i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0]
    assert len(VerdictCache(path)) == 3 * 40 + 1


@pytest.mark.parametrize(
    "content", [b"not a database, but long enough to be one" * 40, b"SQLite format 3\x00" + b"\xff" * 4096]
)
def test_a_damaged_file_is_an_error_at_once(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "judge.sqlite"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"judge\.sqlite: the judge cache cannot be used.*move the file away"):
        judge_service("rule", cache=str(path))
    assert path.read_bytes() == content


def test_a_damaged_page_of_a_real_cache_is_found(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    cache = VerdictCache(path)
    cache.write({f"key{i}": decided(True, quote="x" * 200) for i in range(200)})
    cache.close()
    data = bytearray(path.read_bytes())
    data[4096 * 3 : 4096 * 4] = b"\x55" * 4096
    path.write_bytes(bytes(data))
    with pytest.raises(DataError, match="cannot be used"):
        VerdictCache(path)


def test_a_path_that_cannot_be_written_or_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file" / "judge.sqlite", tmp_path):
        with pytest.raises(DataError, match="cannot be used"):
            VerdictCache(path)
    other = sqlite3.connect(tmp_path / "other.sqlite")
    other.execute("CREATE TABLE mine (x)")
    other.close()
    with pytest.raises(DataError, match="a database of something else"):
        VerdictCache(tmp_path / "other.sqlite")


def test_a_row_that_was_tampered_with_is_an_error_not_a_verdict(tmp_path: Path) -> None:
    path = tmp_path / "judge.sqlite"
    cache = VerdictCache(path)
    cache.write({"a": decided(True)})
    raw = sqlite3.connect(path)
    raw.execute("UPDATE verdicts SET verdict = '{\"passed\": 1}'")
    raw.commit()
    raw.close()
    with pytest.raises(DataError, match=r"judge\.sqlite.*a: passed: expected bool"):
        cache.read(["a"])
