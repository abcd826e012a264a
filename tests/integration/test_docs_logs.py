"""docs/logs.md does what it says: its first block prints what is shown, its commands run."""

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from agentgym.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8")


def blocks(kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_block_prints_what_is_shown(folder: Path) -> None:
    shown = io.StringIO()
    with contextlib.redirect_stdout(shown):
        exec(compile(blocks("python")[0], "docs/logs.md", "exec"), {"__name__": "page"})
    assert shown.getvalue() == blocks("text")[0]


def test_the_commands_run(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--world", "synthetic:closed?worlds=4", "--policy", "scripted", "--limit", "2", "--quiet"]
    assert main(["eval", "SearchQA-v0", *small, "--out", "runs/eval"]) == 0
    for line in blocks("sh")[0].splitlines():
        assert main(shlex.split(line)[1:]) == 0, line
    assert len(list(Path("runs/atif").iterdir())) == 2
    assert len(Path("chats.jsonl").read_text(encoding="utf-8").splitlines()) == 2
