"""Records as every command meets them: a run folder or a file, an empty one, one whose last line is cut."""

import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from agentgym.cli.main import main
from agentgym.rollout import read_logs, write_trajectories

COMMANDS = {
    "view": ["view"],
    "export": ["export"],
    "export atif": ["export", "--format", "atif"],
    "audit": ["audit", "--logs"],
    "credit": ["credit"],
    "check": ["check", "reward", "answer_em", "--records"],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluation of four episodes, two a task."""
    out = tmp_path_factory.mktemp("eval") / "out"
    line = ["eval", "SearchQA-v0", "--world", "synthetic:closed?worlds=4", "--reward", "answer_em", "--limit", "2", "--samples", "2", "--noise", "0.5"]
    assert main([*line, "--quiet", "--out", str(out)]) == 0
    return out


def call(capsys: pytest.CaptureFixture[str], command: str, path: Path, *more: str) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([*COMMANDS[command], str(path), *more])
    said = capsys.readouterr()
    return code, said.out.replace(str(path), "PATH"), said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_a_run_folder_is_as_good_as_its_file(command: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    by_folder = call(capsys, command, folder)
    assert by_folder[0] == 0, by_folder[2]
    assert by_folder == call(capsys, command, folder / "trajectories.jsonl")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("content", [b"", b"\n\n"])
def test_no_trajectory_is_an_error(command: str, content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "trajectories.jsonl"
    path.write_bytes(content)
    for given in (path, tmp_path):
        code, out, errors = call(capsys, command, given)
        assert (code, out, errors) == (2, "", f"error: {path}: holds no trajectory\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_cut_last_line_is_told_and_the_whole_ones_count(command: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (folder / "trajectories.jsonl").read_bytes().splitlines(keepends=True)
    path, whole = tmp_path / "trajectories.jsonl", tmp_path / "whole.jsonl"
    path.write_bytes(b"".join(lines[:2]) + lines[2][:-20])
    whole.write_bytes(b"".join(lines[:2]))
    with pytest.warns(UserWarning, match=r"trajectories\.jsonl:3: the last line is cut .*left out, 2 whole trajectories"):
        code, out, _ = call(capsys, command, path)
    assert (code, out) == call(capsys, command, whole)[:2]
    path.write_bytes(lines[0][:-20])
    with pytest.warns(UserWarning, match=r":1: the last line is cut"):
        assert call(capsys, command, path)[0] == 2
    path.write_bytes(lines[0][:-20] + b"\n" + lines[1])
    assert call(capsys, command, path)[2].startswith(f"error: {path}:1: not valid JSON")


def test_other_formats_without_a_record_are_errors_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"")
    for command, flag in (("export", "--from"), ("audit", "--format"), ("credit", "--format")):
        for name in ("chat", "search_r1"):
            code, _, errors = call(capsys, command, path, flag, name)
            assert (code, errors) == (2, f"error: {path}: holds no trajectory of format '{name}'\n")


@pytest.mark.parametrize("format", ["chat", "atif"])
def test_an_export_replaces_exports_and_nothing_else(format: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.jsonl"
    for content in (None, b"", b"again"):
        if content != b"again" and content is not None:
            out.write_bytes(content)
        assert call(capsys, "export", folder, "--format", format, "--out", str(out))[0] == 0
    for name, content in (("questions.jsonl", b'{"question": "q", "answer": "a"}\n'), ("notes.txt", b"precious\n")):
        (tmp_path / name).write_bytes(content)
        code, _, errors = call(capsys, "export", folder, "--format", format, "--out", str(tmp_path / name))
        assert (code, "name a new file" in errors, (tmp_path / name).read_bytes()) == (2, True, content)
    records = (folder / "trajectories.jsonl").read_bytes()
    assert call(capsys, "export", folder, "--format", format, "--out", str(folder / "trajectories.jsonl"))[0] == 2
    assert (folder / "trajectories.jsonl").read_bytes() == records


def test_an_audit_that_scored_nothing_does_not_pass(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "audit", folder, "--reward", "state_match")
    assert code == 1
    assert "0 scored with state_match, 4 abstained\nnothing could be scored, so nothing was audited\n" in out


def test_failed_that_leaves_none_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "good.jsonl"
    good = [t for t in read_logs(folder) if t.success]
    assert good
    write_trajectories(path, good)
    assert call(capsys, "view", path, "--failed") == (0, "", "every episode is a success: --failed leaves none\n")


def test_an_export_of_nothing_says_so(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_trajectories(tmp_path / "failed.jsonl", [replace(record, success=False) for record in read_logs(folder)])
    code, out, errors = call(capsys, "export", tmp_path / "failed.jsonl", "--only-success")
    assert (code, out, errors) == (0, "", "warning: nothing was exported: no episode succeeded\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full, the disk that is always full")
def test_a_full_disk_says_what_to_do(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with Path("/dev/full").open("w", encoding="utf-8", buffering=1) as full:
        monkeypatch.setattr("sys.stdout", full)
        code = main(["export", str(folder)])
        monkeypatch.undo()
        with contextlib.suppress(OSError):
            full.close()
    assert code == 2
    assert capsys.readouterr().err == "error: input or output: No space left on device; make room, then run the same command again\n"
