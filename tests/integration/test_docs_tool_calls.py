"""docs/tool_calls.md does what it says: its blocks run in order."""

import re
import shlex
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentgym import hooks
from agentgym.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "tool_calls.md").read_text(encoding="utf-8")


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What the page registers is gone after it."""
    before = [(r, dict(r._targets)) for r in (hooks.CHECKLISTS, hooks.TOOLS, hooks.WORLDS)]
    yield
    for registry, targets in before:
        registry._targets.clear()
        registry._targets.update(targets)


def test_the_blocks_of_the_page_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    namespace: dict[str, object] = {"__name__": "page"}
    ran = []
    for kind, body in BLOCK.findall(PAGE):
        if body.startswith("# file: "):
            Path(body.splitlines()[0].removeprefix("# file: ")).write_text(body, encoding="utf-8")
        elif kind == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)
                exec(compile(body, "docs/tool_calls.md", "exec"), namespace)
        else:
            for line in body.strip().splitlines():
                assert main(shlex.split(line)[1:]) == 0, line
        ran.append(kind)
    assert ran.count("python") == 7
    shown = capsys.readouterr().out
    assert "'note': 'call back'" in shown or '"note": "call back"' in shown
    assert "'value': 1.0" in shown or "'value': " in shown
    assert any(float(line) > 1.0 for line in re.findall(r"^[\d.]+$", shown, re.MULTILINE)), "what the oracle earns with the jugs"
    assert "ToolCalls-v0 · scripted · split train · 4 tasks" in shown
