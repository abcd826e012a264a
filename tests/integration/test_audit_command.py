"""`agentgym audit` as a user runs it: exit codes, one JSON document, tables, logs of our own and of others."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentgym.audit.report import SECTIONS
from agentgym.cli.main import main

WORLD = ["--world", "synthetic:closed?seed=0", "--episodes", "2", "--instances", "2"]


def run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main(["audit", *argv])
    except SystemExit as left:
        code = int(left.code or 0)
    said = capsys.readouterr()
    return code, said.out, said.err


def test_a_sound_environment_passes(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "SearchQA-v0", "--reward", "search", *WORLD)
    assert code == 0
    assert "PASS hack-resistant" in out
    assert "FAIL" not in out
    assert out.count("\n") > 30


def test_a_real_process_prints_one_document_and_says_by_its_exit_code_what_it_found() -> None:
    command = [sys.executable, "-m", "agentgym", "audit", "SearchQA-v0", "--reward", "answer_cover + 0.1*all_valid"]
    done = subprocess.run([*command, "--json", *WORLD], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.count("\n") == 1
    report = json.loads(done.stdout)
    assert report["passed"] is False
    assert set(report["verdicts"]) == set(SECTIONS)
    assert report["verdicts"]["hack-resistant"] == "fail"
    assert all(report["verdicts"][s] != "fail" for s in SECTIONS if s != "hack-resistant")


def test_a_loose_match_fails_with_its_component(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "SearchQA-v0", "--reward", "answer_cover + 0.1*all_valid", "--json", *WORLD)
    assert code == 1
    report: dict[str, Any] = json.loads(out)
    assert report["passed"] is False
    broken = {f["name"]: f["component"] for f in report["findings"] if f["status"] == "fail"}
    assert broken["hack: alternatives"] == "answer_cover"
    assert report["verdicts"]["secure"] == "pass"


def test_usage_errors_say_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys)[0] == 2
    assert "--logs FILE" in run(capsys)[2]
    assert "not both" in run(capsys, "SearchQA-v0", "--logs", __file__)[2]
    code, _, err = run(capsys, "SerchQA-v0")
    assert code == 2
    assert "SearchQA-v0" in err
    assert run(capsys, "SearchQA-v0", "--episodes", "0")[0] == 2
    assert run(capsys, "SearchQA-v0", "--reward", "serch")[0] == 2
    assert run(capsys, "--logs", "no_such_file.jsonl")[0] == 2


def test_logs_of_our_own_agree_and_a_forged_one_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    args = ["eval", "SearchQA-v0", "--world", "synthetic:closed?seed=0", "--policy", "scripted", "--limit", "4"]
    assert main([*args, "--out", str(out), "--quiet"]) == 0
    capsys.readouterr()
    log = out / "trajectories.jsonl"
    code, said, _ = run(capsys, "--logs", str(log), "--reward", "search")
    assert code == 0
    assert "0 disagreements" in said
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    rows[1]["success"], rows[1]["answer"] = True, "Nowhere"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, said, _ = run(capsys, "--logs", str(log), "--reward", "search", "--json")
    assert code == 1
    report = json.loads(said)
    odd = [e for e in report["entries"] if e["disagreements"]]
    assert [e["id"] for e in odd] == [rows[1]["id"]]


def test_a_log_of_others_is_scored_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = '<information>Doc 1(Title: "Ada Lovelace") Ada Lovelace was born in London.</information>'
    text = f"<think>a</think><search>Ada Lovelace</search>\n\n{found}\n\n<think>b</think><answer> London </answer>"
    rows = [
        {"id": "q1", "question": "Where was Ada Lovelace born?", "golden_answers": ["London"],
         "output": {"query": "Where was Ada Lovelace born?", "final_response": text, "pred": "London"}},
        {"id": "q2", "question": "Where was Ada Lovelace born?", "golden_answers": ["London"],
         "output": {"query": "Where was Ada Lovelace born?", "pred": "London",
                    "final_response": "<information>London</information><answer>London</answer>"}},
    ]  # fmt: skip
    log = tmp_path / "log.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    code, said, _ = run(capsys, "--logs", str(log), "--format", "search_r1", "--reward", "answer_em", "--json")
    report = json.loads(said)
    assert code == 1, "the forged record is a success"
    assert report["kinds"]["forged result"] == 1
    assert [e["success"] for e in report["entries"]] == [True, True]
