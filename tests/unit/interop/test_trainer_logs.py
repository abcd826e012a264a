"""Logs of TRL's and verl's trainers: groups, turns, rewards, and credit from them."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentgym.cli.main import main
from agentgym.credit import CreditConfig, advantages
from agentgym.credit.diagnostics import grouped
from agentgym.errors import DataError
from agentgym.interop.trainer_logs import read_trl, read_verl

PROMPT = [{"role": "user", "content": "Who wrote Emma?"}]
NAN = float("nan")


def talk(query: str, answer: str) -> list[dict[str, Any]]:
    call = {"type": "function", "function": {"name": "search", "arguments": {"query": query}}}
    return [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "name": "search", "content": "Emma is by Jane Austen."},
        {"role": "assistant", "content": answer},
    ]


def trl_rows() -> list[dict[str, Any]]:
    """As GRPOTrainer lays them out: step, prompt, completion, reward columns, logged extras, advantage."""
    rows = []
    for n, (answer, exact, form) in enumerate([("Jane Austen", 1.0, 0.5), ("Bo", 0.0, 0.5), ("Cy", 0.0, 0.0), ("", NAN, NAN)]):
        rows.append(
            {"step": 10, "prompt": PROMPT, "completion": talk("emma", answer), "exact": exact, "form": form, "trace": f"t{n}", "advantage": 0.0}
        )  # fmt: skip
    return rows


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def jsonl(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_trl_completions(tmp_path: Path) -> None:
    parquet(tmp_path / "completions" / "completions_00010.parquet", trl_rows())
    parquet(tmp_path / "completions" / "completions_00009.parquet", [{**row, "step": 9} for row in trl_rows()[:2]])
    records = list(read_trl(tmp_path / "completions"))
    assert [(r.id, r.group_id, r.seed[1]) for r in records[:3]] == [
        ("trl-0/0", "trl-0", 9), ("trl-0/1", "trl-0", 9), ("trl-1/0", "trl-1", 10),
    ]  # fmt: skip
    assert len(records) == 6
    first = records[0]
    assert [c.name for c in first.turns[0].calls] == ["search"]
    assert first.turns[0].calls[0].arguments == {"query": "emma"}
    assert first.answer == "Jane Austen"
    assert {n: s.value for n, s in first.scores.items()} == {"exact": 1.0, "form": 0.5}
    assert first.reward == 1.5
    assert first.info["extra"] == {"trace": "t0"}
    assert not records[-1].in_statistics  # no reward function gave one
    assert not records[-1].in_loss
    weighed = list(read_trl(tmp_path / "completions" / "completions_00009.parquet", weights={"exact": 2.0}))
    assert weighed[0].reward == 2.0
    assert weighed[0].scores["form"].raw == 0.5


def test_trl_texts_and_turn_scores(tmp_path: Path) -> None:
    text = "<search>emma</search>\n\n<information>Doc 1(Title: Emma) by Jane Austen</information>\n\n<answer>Jane Austen</answer>"
    rows = [{"step": 1, "prompt": "Who?", "completion": text, "em": e, "turn_scores": s} for e, s in ((1.0, [0.5, 0.0]), (0.0, [0.0, 0.25]))]
    records = list(read_trl(jsonl(tmp_path / "log.jsonl", rows)))
    assert [t.reward for t in records[0].turns] == [0.5, 0.0]
    result = advantages(CreditConfig(turn_weight=1.0, scale="none"), grouped(records))
    assert result.advantages == {"trl-0/0": (1.25, 0.75), "trl-0/1": (-1.25, -0.75)}
    jsonl(tmp_path / "log.jsonl", [{**rows[0], "turn_scores": [1.0]}])
    with pytest.raises(DataError, match=r"log.jsonl:1: 1 turn_scores for 2 turns"):
        list(read_trl(tmp_path / "log.jsonl"))


@pytest.mark.parametrize("marks", [("", ""), ("<|im_start|>", "<|im_end|>")])
def test_verl_rollouts(tmp_path: Path, marks: tuple[str, str]) -> None:
    start, end = marks
    call = '<tool_call>\n{"name": "search", "arguments": {"query": "emma"}}\n</tool_call>'
    output = f"{call}{end}\n{start}user\n<tool_response>\nby Jane Austen\n</tool_response>{end}\n{start}assistant\nJane Austen{end}"
    rows = [
        {"input": "system\nuser\nWho?\nassistant\n", "output": output, "gts": "Jane Austen", "score": 1.5, "step": 3, "acc": 1.0, "turn_scores": [0.5, 0.0]},
        {"input": "system\nuser\nWho?\nassistant\n", "output": "Bo", "gts": "Jane Austen", "score": 0.0, "step": 3, "acc": 0.0, "turn_scores": [0.0]},
    ]  # fmt: skip
    jsonl(tmp_path / "3.jsonl", rows)
    jsonl(tmp_path / "20.jsonl", [{**rows[1], "step": 20}])
    records = list(read_verl(tmp_path))
    assert [r.seed[1] for r in records] == [3, 3, 20]
    assert [r.group_id for r in records] == ["verl-0", "verl-0", "verl-1"]
    first = records[0]
    assert len(first.turns) == 2
    assert first.turns[0].calls[0].name == "search"
    assert first.answer == "Jane Austen"
    assert first.reward == 1.0  # the logged score less the turn scores in it
    assert first.total == 1.5
    assert first.success
    assert first.scores["acc"].weight == 0.0


def test_the_command_reads_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parquet(tmp_path / "completions" / "completions_00010.parquet", trl_rows())
    assert main(["credit", str(tmp_path / "completions"), "--format", "trl", "--recipe", "rloo", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["advantages"]["trl-0"]["trl-0/0"] == [1.25, 1.25]
    assert body["metrics"]["not_in_loss"] == 1
    assert body["forecast"]["verdict"] == "none"
    jsonl(tmp_path / "dump" / "1.jsonl", [{"input": "q", "output": o, "gts": "x", "score": s, "step": 1} for o, s in (("x", 1.0), ("y", 0.0))])
    assert main(["credit", str(tmp_path / "dump"), "--format", "verl"]) == 0
    out = capsys.readouterr().out
    assert "group verl-0" in out
    assert "episodes have one turn" in out


@pytest.mark.parametrize(
    ("reader", "row", "says"),
    [
        (read_verl, {"input": "q", "output": "x", "step": 1}, "score must be a number, found nothing|null|None"),
        (read_verl, {"output": "x", "score": 1.0}, "field 'input' is missing; found output, score"),
        (read_trl, {"prompt": "q", "completion": 7}, "prompt and completion must be texts or lists of messages"),
        (read_trl, {"prompt": "q", "completion": "x", "r": 1e999}, "r is inf"),
        (read_trl, {"prompt": "q", "completion": "x", "r": 1.0, "turn_scores": "no"}, "turn_scores must be a list of numbers"),
    ],
)
def test_broken_rows_are_named(tmp_path: Path, reader: Any, row: dict[str, Any], says: str) -> None:
    path = jsonl(tmp_path / "1.jsonl", [row])
    with pytest.raises(DataError, match=says) as caught:
        list(reader(path))
    assert "1.jsonl:1" in str(caught.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty: holds no"):
        list(reader(tmp_path / "empty"))
