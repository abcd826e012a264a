"""`agentgym check reward | tool` and the gold answers of a question file, as users run them."""

import json
from pathlib import Path

import pytest

from agentgym.cli.main import main

MODULE = '''
import agentgym

@agentgym.reward(scope="turn", range=(0, 1), supply="once", replace=True)
def eager(view):
    """Pays every search."""
    return 0.1 * any(c.name == "search" for c in view.turns[-1].calls)

@agentgym.tool
def second(text: str) -> str:
    """Return the second character."""
    return text[1]

@agentgym.tool
def orders_of(customer: str, ctx: agentgym.ToolContext) -> list:
    """List the orders of a customer."""
    from agentgym.envs.tool_calls import tables
    return tables(ctx).where("orders", "customer_id", customer)
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "checked_parts.py").write_text(MODULE, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "code", "named"),
    [
        (["reward", "answer_em", "--env-id", "SearchQA-v0", "--world", "synthetic:closed?worlds=4"], 0, []),
        (["reward", "checked_parts:eager", "--world", "synthetic:closed?worlds=4"], 1, ["eager: supply: a loop earns nothing"]),
        (["reward", "trace_match", "--env-id", "SearchQA-v0", "--world", "synthetic:closed?worlds=4"], 1, ["trace_match: needs"]),
        (["tool", "checked_parts:second"], 1, ["second: hostile arguments get an answer"]),
        (["tool", "checked_parts:second", "--call", '{"text": "x"}'], 1, ["second: calls succeed"]),
        (["tool", "checked_parts.py:orders_of"], 1, ["orders_of: its services are there"]),
        (["tool", "checked_parts.py:orders_of", "--world", "shop?seed=0"], 0, []),
    ],
)
def test_findings_name_component_and_rule(
    words: list[str], code: int, named: list[str], folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *words, "--json"]) == code
    failed = [r["name"] for r in json.loads(capsys.readouterr().out) if not r["passed"]]
    assert (failed == []) == (code == 0)
    assert set(named) <= set(failed)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["reward"], "say which"),
        (["reward", "anser_em"], "did you mean 'answer_em'"),
        (["tool", "checked_parts:secnd"], "did you mean 'second'"),
        (["tool", "no_such_module:x"], "cannot be imported"),
        (["tool", "checked_parts:second", "--call", "[1]"], "JSON object"),
        (["SearchQA-v0", "answer_em"], "two names"),
    ],
)
def test_misuse_is_one_line(words: list[str], wanted: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", *words]) == 2
    err = capsys.readouterr().err
    assert wanted in err
    assert err.count("\n") == 1


def test_gold_answers_that_no_one_could_give_are_found(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"question": "Who?", "answer": "Mira"}, {"question": "What is it?", "answer": "?!"}]
    (folder / "q.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    passages = [{"id": "a", "title": "A", "text": "Mira was here."}]
    (folder / "p.jsonl").write_text("\n".join(map(json.dumps, passages)), encoding="utf-8")
    assert main(["check", "SearchQA-v0", "--tasks", "q.jsonl", "--index", "p.jsonl", "--reward", "answer_em", "--json"]) == 1
    failed = {r["name"]: r["detail"] for r in json.loads(capsys.readouterr().out) if not r["passed"]}
    assert "'?!'" in failed["gold answers score as a success"]
