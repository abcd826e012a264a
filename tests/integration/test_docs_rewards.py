"""docs/rewards.md and the examples do what they say: files, Python blocks and commands, with a judge on the loopback."""

import json
import re
import runpy
import shlex
from collections.abc import Iterator
from pathlib import Path

import chat_server as srv
import judge_server as judges
import pytest

from agentgym import hooks
from agentgym.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
OWN = (ROOT / "docs" / "rewards.md").read_text(encoding="utf-8").partition("## Write your own")[2]
ADDRESS = "http://127.0.0.1:8000/v1"


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """What a page registers is gone after it."""
    before = [(r, dict(r._targets)) for r in (hooks.CHECKLISTS, hooks.COMPONENTS, hooks.TOOLS)]
    yield
    for registry, targets in before:
        registry._targets.clear()
        registry._targets.update(targets)


@pytest.mark.filterwarnings("ignore:suite")
def test_the_blocks_of_write_your_own_run_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    ran: list[str] = []
    namespace: dict[str, object] = {"__name__": "page"}
    with srv.serving() as server:
        server.default = judges.judging(lambda text, statement: (True, text[:4]))
        for kind, body in BLOCK.findall(OWN):
            text = body.replace(ADDRESS, server.url)
            if kind == "toml":
                (tmp_path / text.splitlines()[0].removeprefix("# file: ")).write_text(text, encoding="utf-8")
            elif kind == "python":
                exec(compile(text, "docs/rewards.md", "exec"), namespace)
            else:
                assert main(shlex.split(text)[1:]) == 0
            ran.append(kind)
        assert ran.count("python") >= 5
        assert server.requests, "the judge was asked"
    result = json.loads((tmp_path / "runs" / "judged" / "result.json").read_text(encoding="utf-8"))
    assert result["services"]["judge/requests"] > 0
    assert result["n_faults"] == 0
    assert [t.scores["checklist:careful_file"].raw for t in namespace["done"]] == [1.0] * 4  # type: ignore[attr-defined]


@pytest.mark.torch
def test_the_judge_table_of_the_page_is_a_recipe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (body,) = (text for kind, text in BLOCK.findall(OWN) if kind == "toml" and "[judge]" in text)
    (tmp_path / "judged.toml").write_text(body, encoding="utf-8")
    assert main(["train", str(tmp_path / "judged.toml"), "--print-config", "--json"]) == 0
    judge = json.loads(capsys.readouterr().out)["judge"]
    assert (judge["cache"], judge["options"]["limits"]) == ("verdicts.sqlite", {"max_calls": 5000})


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("custom_*.py")), ids=lambda p: p.name)
def test_examples_run(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out.count("\n") >= 3
