"""docs/tools.md does what it says: its files, Python blocks and commands, one after the other."""

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgym import hooks
from agentgym.cli.main import main

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "tools.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What the page registers and imports is gone after it."""
    before = dict(hooks.CHECKLISTS._targets)
    yield
    hooks.CHECKLISTS._targets.clear()
    hooks.CHECKLISTS._targets.update(before)
    sys.modules.pop("my_tools", None)


def test_the_blocks_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    namespace: dict[str, object] = {"__name__": "page"}
    said = ""
    kinds = []
    for kind, text in BLOCK.findall(PAGE):
        if text.startswith("# not run here"):
            continue
        kinds.append(kind)
        if text.startswith("# file: "):
            (tmp_path / text.splitlines()[0].removeprefix("# file: ")).write_text(text, encoding="utf-8")
        elif kind == "python":
            exec(compile(text, "docs/tools.md", "exec"), namespace)
            said = capsys.readouterr().out
        else:
            for command in text.strip().splitlines():
                assert main(shlex.split(command)[1:]) == 0
        if '"convert"' in said:
            first, second, third = said.strip().splitlines()[:3]
            assert '"result": 11.0' in first
            assert "must be a number" in second
            assert "20 at most" in third
    assert kinds.count("python") >= 5
    assert kinds.count("sh") == 1
    assert '"changed": 1' in said
