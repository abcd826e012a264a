"""The command line as users run it: exit codes, one JSON document, one clear line for every mistake, resuming."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentgym.cli.main import main
from agentgym.rollout.lock import locked

COMMAND = (sys.executable, "-c", "import sys; from agentgym.cli.main import main; sys.exit(main())")
ENV = "SearchQA-v0"
SMALL = ("--world", "synthetic:closed?worlds=4")


def agentgym(*arguments: str | Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


def document(done: subprocess.CompletedProcess[str], code: int = 0) -> Any:
    """The one JSON document on stdout."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    body, end = json.JSONDecoder().raw_decode(done.stdout)
    assert done.stdout[end:] == "\n", "something beside the document"
    return body


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with passages and questions."""
    folder = tmp_path_factory.mktemp("corpus")
    names = ("Alma Reed", "Boris Kahn", "Cleo Marsh", "Dario Penn")
    with (folder / "passages.jsonl").open("w", encoding="utf-8") as file:
        for i, name in enumerate(names):
            text = f"{name} wrote the opera number {i} in {1900 + i}."
            file.write(json.dumps({"id": f"p{i}", "title": name, "text": text}) + "\n")
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for i, name in enumerate(names):
            row = {"id": f"q{i}", "question": f"Who wrote opera number {i}?", "answer": name, "gold_passages": [f"p{i}"]}
            file.write(json.dumps(row) + "\n")
    return folder


# ---- what works


def test_list_is_one_document_and_knows_the_default_environment() -> None:
    listed = document(agentgym("list", "--json"))
    assert ENV in listed["envs"]
    assert {"scripted", "random"} <= set(listed["policies"])
    assert {kind for kind, names in listed.items() if not names} == {"tools", "checklists"}, "those are the user's own"
    assert "FILE.py:NAME" in agentgym("list", "tools").stdout
    plain = agentgym("list", "policies")
    assert plain.returncode == 0
    assert plain.stdout.startswith("policies: ")


def test_play_shows_an_episode_or_its_record() -> None:
    record = document(agentgym("play", ENV, *SMALL, "--seed", "5", "--json"))
    assert record["success"] is True
    assert "gold" not in record
    shown = agentgym("play", ENV, *SMALL, "--seed", "5")
    assert shown.returncode == 0
    assert shown.stderr == ""
    assert record["answer"] in shown.stdout
    assert "\x1b[" not in shown.stdout, "colours without a terminal"
    assert document(agentgym("play", ENV, *SMALL, "--task", record["task_id"], "--json"))["task_id"] == record["task_id"]


def test_check_passes_and_says_what_it_checked() -> None:
    results = document(agentgym("check", ENV, *SMALL, "--dialect", "json", "--json"))
    assert len(results) >= 7
    assert all(r["passed"] for r in results)


def test_a_tool_that_ends_its_process_is_a_fault_that_the_command_survives(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import os\nimport agentgym\n\n@agentgym.tool\ndef leave(word: str) -> str:\n"
        '    """Leave.\n\n    Args:\n        word: anything.\n    """\n    return word or os._exit(0)\n'
    )
    done = agentgym("check", "tool", "mine.py:leave", "--json", cwd=tmp_path)
    results = json.loads(done.stdout)
    assert done.returncode == 1
    assert [r["name"] for r in results if not r["passed"]] == ["leave: leaves the process alone"]
    assert "exit code 0" in results[-1]["detail"]
    wrong = agentgym("check", "tool", "mine.py:leave", "--env-id", "ToolCalls-v0", "--world", "shp", cwd=tmp_path)
    assert (wrong.returncode, "did you mean 'shop'" in wrong.stderr) == (2, True)


def test_index_build_info_and_a_flipped_byte(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "index"
    built = document(agentgym("index", "build", corpus / "passages.jsonl", "--out", out, "--json"))
    assert built["counts"]["passages"] == 4
    assert document(agentgym("index", "info", out, "--json"))["verified"] is True
    again = agentgym("index", "build", corpus / "passages.jsonl", "--out", out)
    assert again.returncode == 2
    assert "holds an index already" in again.stderr
    assert "--overwrite" in again.stderr
    # replaced only when asked for, and then equal to the first byte for byte
    replaced = document(agentgym("index", "build", corpus / "passages.jsonl", "--out", out, "--overwrite", "--json", "--quiet"))
    assert replaced["files"] == built["files"]
    for name in built["files"]:
        path = out / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        done = agentgym("index", "info", out)
        assert done.returncode == 2
        assert f"{name}: damaged" in done.stderr
        assert done.stderr.count("\n") == 1
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    files = {"--tasks": corpus / "questions.jsonl", "--index": out}
    result = document(agentgym("eval", ENV, *_flat(files), "--policy", "extractive", "--json"))
    assert result["n_tasks"] == 4
    assert result["measures"]["recall"]["mean"] == 1.0


def test_export_of_atif_and_back(tmp_path: Path) -> None:
    from agentgym.rollout import read_trajectories
    from agentgym.rollout.logs import read_logs
    from agentgym.rollout.record import without_gold

    out, lines, folder = tmp_path / "e", tmp_path / "a.jsonl", tmp_path / "docs"
    document(agentgym("eval", ENV, *SMALL, "--policy", "scripted", "--limit", "3", "--out", out, "--json"))
    source = out / "trajectories.jsonl"
    assert document(agentgym("export", source, "--format", "atif", "--out", lines, "--json"))["written"] == 3
    assert document(agentgym("export", source, "--format", "atif", "--out", folder, "--json"))["written"] == 3
    records = [without_gold(t) for t in read_trajectories(source)]
    assert list(read_logs(lines, "atif")) == records
    assert sorted(r.id for r in read_logs(folder, "atif")) == sorted(r.id for r in records)
    told = agentgym("export", lines, "--from", "atif")
    assert [json.loads(line)["id"] for line in told.stdout.splitlines()] == [r.id for r in records]


def test_export_and_view_of_an_evaluation(tmp_path: Path) -> None:
    out = tmp_path / "out"
    document(agentgym("eval", ENV, *SMALL, "--limit", "6", "--noise", "0.7", "--out", out, "--json", "--quiet"))
    chats = tmp_path / "chats.jsonl"
    told = document(agentgym("export", out / "trajectories.jsonl", "--out", chats, "--json"))
    lines = [json.loads(line) for line in chats.read_text(encoding="utf-8").splitlines()]
    assert told["written"] == len(lines) == 6
    assert all(line["messages"][-1]["role"] == "assistant" for line in lines)
    assert all("gold" not in line for line in lines)
    piped = agentgym("export", out / "trajectories.jsonl", "--only-success")
    assert [json.loads(line) for line in piped.stdout.splitlines()] == [line for line in lines if line["success"]]
    assert agentgym("export", out, "--only-success").stdout == piped.stdout, "a folder does as well as its records"
    assert "or JSON lines" in " ".join(agentgym("view", "--help").stdout.split()), "what --json prints is said"
    refused = agentgym("view", out, "--html", chats)
    assert (refused.returncode, len(chats.read_text(encoding="utf-8").splitlines())) == (2, 6)
    assert "is no HTML file" in refused.stderr
    page = tmp_path / "report.html"
    assert document(agentgym("view", out, "--html", page, "--json")) == {"report": str(page)}
    html = page.read_text(encoding="utf-8")
    assert "http://" not in html.replace("http://www.w3.org/", "")
    assert lines[0]["id"].split("#")[1].split("/")[0] in html
    shown = agentgym("view", out, "--limit", "2")
    assert shown.returncode == 0
    assert "turn 0" in shown.stdout


# ---- evaluation: resume and compare

EVAL = ("eval", ENV, *SMALL, "--limit", "150", "--samples", "3", "--noise", "0.6", "--concurrency", "3")


def _flat(options: dict[str, Any]) -> list[str]:
    return [str(part) for pair in options.items() for part in pair]


def _lines(out: Path) -> list[bytes]:
    path = out / "trajectories.jsonl"
    return path.read_bytes().split(b"\n")[:-1] if path.exists() else []


def _stop_after(n: int, out: Path, how: signal.Signals) -> int:
    """Start the evaluation, stop it once `n` records are written; return its exit code."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = subprocess.Popen([*COMMAND, *EVAL, "--out", str(out), "--quiet"], env=env, stderr=subprocess.PIPE, text=True)
    while len(_lines(out)) < n:
        assert started.poll() is None, "finished before it could be stopped"
        time.sleep(0.002)
    started.send_signal(how)
    _, errors = started.communicate(timeout=300)
    assert "Traceback" not in errors
    return started.returncode


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole evaluation."""
    out = tmp_path_factory.mktemp("unbroken") / "out"
    document(agentgym(*EVAL, "--out", out, "--json", "--quiet"))
    return out


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_stopped_evaluation_resumes_to_the_same_result(unbroken: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert _stop_after(20, out, signal.SIGINT) == 130
    after_interrupt = len(_lines(out))
    assert 20 <= after_interrupt < 450
    assert _stop_after(after_interrupt + 40, out, signal.SIGKILL) == -signal.SIGKILL
    assert not (out / "result.json").exists()
    kept = _lines(out)
    with (out / "trajectories.jsonl").open("ab") as file:
        file.write(kept[0][: len(kept[0]) // 2])  # the record that was being written
    half = agentgym("view", out, "--limit", "1")
    assert half.returncode == 0, "a run can be looked at while it is written"
    finished = document(agentgym(*EVAL, "--out", out, "--json", "--quiet"))
    assert (out / "result.json").read_bytes() == (unbroken / "result.json").read_bytes()
    assert _lines(out)[: len(kept)] == kept, "finished episodes are not run again"
    assert sorted(_lines(out)) == sorted(_lines(unbroken))
    assert finished == json.loads((unbroken / "result.json").read_text(encoding="utf-8"))
    assert (out / "eval.json").read_bytes() == (unbroken / "eval.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "name"),
    [(("--noise", "0.5"), "--noise 0.6, this one has 0.5"), (("--seed", "1"), "--seed"), (("--samples", "2"), "--samples"),
     (("--policy", "random", "--noise", "0"), '--policy "scripted"'), (("--dialect", "json"), "--dialect not set, this one has \"json\""),
     (("--env-arg", "k=2"), "--env-arg k not set")],
)  # fmt: skip
def test_other_settings_are_refused(unbroken: Path, change: tuple[str, ...], name: str, capsys: Any) -> None:
    before = _lines(unbroken)
    code, _, errors = call(capsys, *EVAL, *change, "--out", unbroken, "--quiet")
    assert code == 2
    assert name in errors
    assert "choose another --out" in errors
    assert _lines(unbroken) == before


def test_results_do_not_depend_on_concurrency(unbroken: Path) -> None:
    alone = document(agentgym(*EVAL[:-1], "1", "--json", "--quiet"))
    assert alone == json.loads((unbroken / "result.json").read_text(encoding="utf-8"))


def test_compare_is_paired_by_task(unbroken: Path, capsys: Any) -> None:
    careful = [*EVAL, "--noise", "0.0", "--quiet"]
    code, out, _ = call(capsys, *careful, "--compare", unbroken, "--json")
    assert code == 0
    row = json.loads(out)["comparison"]["success"]
    assert row["second"] == 1.0
    assert row["difference"] == pytest.approx(row["second"] - row["first"])
    assert row["low"] <= row["difference"] <= row["high"]
    assert row["p"] < 0.01
    code, out, _ = call(capsys, *careful, "--compare", unbroken / "result.json")
    assert "paired by task" in out
    code, _, _ = call(capsys, *EVAL, "--quiet", "--fail-under", "0.99")
    assert code == 1


def test_two_finished_evaluations_are_compared_without_running(unbroken: Path, tmp_path: Path, capsys: Any) -> None:
    again, later = [*EVAL, "--noise", "0.0", "--quiet"], tmp_path / "later"
    assert call(capsys, *again, "--out", later)[0] == 0
    ran = json.loads(call(capsys, *again, "--compare", unbroken, "--json")[1])
    code, out, _ = call(capsys, "eval", "--compare", unbroken, later, "--json")
    assert code == 0
    assert json.loads(out) == {"comparison": ran["comparison"]}
    shown = call(capsys, "eval", "--compare", unbroken / "result.json", later)[1]
    assert "later − out, paired by task" in shown
    for arguments in (["eval"], ["eval", "--compare", unbroken], [*EVAL, "--compare", unbroken, later]):
        code, _, errors = call(capsys, *arguments)
        assert code == 2
        assert "two" in errors
        assert errors.count("\n") == 1


@pytest.mark.parametrize("changed", ["questions.jsonl", "passages.jsonl"])
def test_an_evaluation_is_not_resumed_over_other_files(changed: str, corpus: Path, tmp_path: Path, capsys: Any) -> None:
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    index = tmp_path / "index"
    build = ["index", "build", tmp_path / "passages.jsonl", "--out", index, "--overwrite", "--quiet"]
    files = ["--tasks", tmp_path / "questions.jsonl", "--index", index]
    again = ["eval", ENV, *files, "--policy", "extractive", "--out", tmp_path / "out", "--quiet"]
    assert call(capsys, *build)[0] == call(capsys, *again, "--limit", "2")[0] == call(capsys, *again)[0] == 0
    assert len(_lines(tmp_path / "out")) == 4, "a longer evaluation goes on from a shorter one"
    path = tmp_path / changed
    path.write_text(path.read_text(encoding="utf-8").replace("Alma Reed", "Alma Rood"), encoding="utf-8")
    assert call(capsys, *build)[0] == 0
    code, _, errors = call(capsys, *again)
    assert code == 2
    assert "sha256" in errors
    assert "choose another --out" in errors


def test_a_shorter_evaluation_does_not_replace_a_longer_one(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    again = ["eval", ENV, *SMALL, "--noise", "0.5", "--out", out, "--limit"]
    assert "split train" in call(capsys, *again, "4")[1]
    before = (out / "result.json").read_bytes()
    code, _, errors = call(capsys, *again, "2")
    assert code == 2
    assert "larger --limit" in errors
    assert (out / "result.json").read_bytes() == before
    errors = call(capsys, *again, "8")[2]
    assert errors.startswith("4 of 8 episodes kept\n")
    assert "5/8 episodes" in errors
    assert "1/8 episodes" not in errors


@pytest.mark.skipif(os.name != "posix", reason="folder locks")
def test_two_evaluations_do_not_share_a_folder(tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with locked(out, "evaluating"):
        code, _, errors = call(capsys, "eval", ENV, *SMALL, "--limit", "2", "--out", out)
    assert code == 2
    assert f"{out}: another process is evaluating there" in errors
    assert not (out / "trajectories.jsonl").exists()
    code, shown, _ = call(capsys, "eval", ENV, *SMALL, "--limit", "1", "--out", out)
    assert code == 0, "the lock ends with its holder"
    assert shown.startswith(f"{ENV} · scripted · split train · 1 tasks, 1 episodes\n")


def test_questions_over_a_foreign_index_are_warned_of(corpus: Path, tmp_path: Path, capsys: Any) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text('{"id": "p1", "title": "A", "text": "x"}\n', encoding="utf-8")
    arguments = ["eval", ENV, "--tasks", corpus / "questions.jsonl", "--policy", "extractive", "--quiet", "--index"]
    code, _, errors = call(capsys, *arguments, other)
    assert code == 0
    assert errors.startswith("warning: 3 of 4 tasks name gold passages that the corpus does not hold (the first is 'q0')")
    assert call(capsys, *arguments, corpus / "passages.jsonl")[2] == ""


def test_a_folder_that_is_no_evaluation_is_left_alone(unbroken: Path, tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "trajectories.jsonl").write_bytes(b"precious\n")
    code, _, errors = call(capsys, *EVAL, "--out", tmp_path, "--quiet")
    assert code == 2
    assert "choose another --out" in errors
    assert (tmp_path / "trajectories.jsonl").read_bytes() == b"precious\n"


# ---- mistakes: in this process, since nothing of them depends on a process of its own


def call(capsys: Any, *arguments: str | Path) -> tuple[int, str, str]:
    """Run the command here; return exit code, stdout, stderr. An exception is a failure of the test."""
    capsys.readouterr()
    try:
        code = main([str(a) for a in arguments])
    except SystemExit as left:
        code = int(left.code or 0)
    out, errors = capsys.readouterr()
    return code, out, errors


MISTAKES: list[tuple[Sequence[str], str]] = [
    (["paly", ENV], "did you mean 'play'"),
    (["play", "SearchQA-v1"], "did you mean 'SearchQA-v0'"),
    (["play", "CartPole-v1"], "is no agentgym.ToolEnv"),
    (["check", "CartPole-v1"], "is no agentgym.ToolEnv"),
    (["play", "nowhere_to_be_found:SearchQA-v0"], "cannot be imported"),
    (["eval", ENV, "--polcy", "scripted"], "did you mean '--policy'"),
    (["eval", ENV, "--limt=3"], "did you mean '--limit'"),
    (["index", "build", "passages.jsonl", "--ot", "x"], "the following arguments are required: --out"),
    (["index", "info", "broken", "--jsno"], "did you mean '--json'"),
    (["play", ENV, "--policy", "scriptd"], "did you mean 'scripted'"),
    (["play", ENV, "--policy-arg", "speed=3"], "takes no arguments"),
    (["play", ENV, "--policy-arg", "speed"], "write KEY=VALUE"),
    (["play", ENV, "--reward", "serch"], "did you mean 'search'"),
    (["play", ENV, "--reward", "answer_em + "], "answer_em"),
    (["play", ENV, "--env-arg", "obsevation=full"], "did you mean 'observation'"),
    (["check", ENV, "--env-arg", "obsevation=full"], "did you mean 'observation'"),
    (["play", ENV, "--env-arg", "k=many"], "from 1 to 10"),
    (["play", ENV, "--env-arg", "limits=[1]"], "limits=[1]"),
    (["play", ENV, "--env-arg", "index=5"], "index=5"),
    (["play", ENV, "--dialect", "tag"], "did you mean 'tags'"),
    (["play", ENV, "--observation", "ful"], "did you mean 'full'"),
    (["play", ENV, "--split", "tran"], "did you mean 'train'"),
    (["play", ENV, "--task", "synthetic:closed?seed=0#9999"], "no synthetic task has the id"),
    (["play", ENV, "--task", "nope"], "no synthetic task has the id 'nope'; ids look like 'synthetic:"),
    (["play", ENV, "--reward", "gui"], "needs the events elements, which this environment does not record"),
    (["eval", ENV, "--reward", "gui", "--limit", "3"], "needs the events elements, which this environment does not record"),
    (["eval", ENV, "--reward", "search_ig", "--limit", "2"], "information_gain need the log-probabilities of a model"),
    (["play", ENV, "--world", "synthetic:closed?sed=3"], "did you mean 'seed'"),
    (["play", ENV, "--world", "atlas"], "not known here; allowed: synthetic"),
    (["play", ENV, "--temperature", "-1"], "temperature is -1.0"),
    (["play", ENV, "--max-tokens", "0"], "whole number from 1"),
    (["eval", ENV, "--limit", "0"], "whole number from 1"),
    (["eval", ENV, "--limit", "1", "--out", "questions.jsonl"], "questions.jsonl: is or lies below a file; choose a folder"),
    (["eval", ENV, "--limit", "1", "--out", "questions.jsonl/run"], "is or lies below a file; choose a folder"),
    (["eval", ENV, "--samples", "two"], "whole number from 1"),
    (["eval", ENV, "--tasks", "question.jsonl"], "did you mean 'questions.jsonl'"),
    (["eval", ENV, "--tasks", "questions.jsonl"], "give index="),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "nowhere"], "nowhere: no such file or folder"),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "broken"], "manifest.json: missing"),
    (["eval", ENV, "--tasks", "no_json.jsonl"], "no_json.jsonl:2: not valid JSON"),
    (["eval", ENV, "--tasks", "no_answer.jsonl"], "no_answer.jsonl:1: no answer"),
    (["eval", ENV, "--tasks", "same_id.jsonl"], "same_id.jsonl:2: id 'q' is used already"),
    (["eval", ENV, "--tasks", "empty.jsonl"], "no questions found"),
    (["eval", ENV, "--tasks", "latin.jsonl"], "latin.jsonl:1: not UTF-8"),
    (["eval", ENV, "--tasks", "broken"], "broken"),
    (["index", "build", "empty.jsonl", "--out", "made"], "no passages found"),
    (["index", "build", "same_passage.jsonl", "--out", "made"], "same_passage.jsonl:2: id 'a' is used already"),
    (["index", "build", "questions.jsonl", "--out", "made"], "questions.jsonl:1: field 'title' is missing"),
    (["index", "build", "passage.jsonl", "--out", "made"], "did you mean 'passages.jsonl'"),
    (["index", "info", "broken"], "manifest.json: missing"),
    (["index", "info", "passages.jsonl"], "passages.jsonl: a file, not the folder of an index"),
    (["index", "build", "passages.jsonl", "passages.jsonl", "--out", "made"], "id 'p0' is used already"),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "cut_passage.jsonl"], "cut_passage.jsonl:2: not valid JSON"),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "cut.jsonl.gz"], "cut.jsonl.gz: cannot be read"),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "same_passage.jsonl"], "same_passage.jsonl:2: id 'a' is used"),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "empty.jsonl"], "no passages found"),
    (["eval", ENV, "--tasks", "questions.jsonl", "--index", "passages.jsonl", "--split", "dev"], "no splits"),
    (["play", ENV, "--tasks", "questions.jsonl", "--index", "passages.jsonl", "--task", "q9"], "task 'q9' is not in question file questions.jsonl"),
    (["eval", ENV, "--env-arg", "retriever=bm52"], "did you mean 'bm25'"),
    (["eval", ENV, "--noise", "1.5"], "oracle_noise is 1.5; allowed: 0 to 1"),
    (["play", ENV, "--policy", "random", "--noise", ".5"], "noise is for scripted"),
    (["eval", "--compare", "broken", "broken"], "result.json: no such file"),
    (["eval", ENV, "--compare", "broken"], "result.json: no such file"),
    (["eval", ENV, "--compare", "no_json.jsonl"], "no_json.jsonl"),
    (["eval", ENV, "--out", "questions.jsonl"], "questions.jsonl"),
    (["view", "broken"], "trajectories.jsonl: no such file"),
    (["view", "questions.jsonl"], "questions.jsonl:1: no trajectory of ours (schema_version is missing)"),
    (["view", "questions.jsonl", "--html", "x.html"], "schema_version"),
    (["view", "broken", "--html", "x.html"], "nothing to report"),
    (["view", "no_json.jsonl", "--limit", "-1"], "whole number from 0"),
    (["export", "questions.jsonl"], "schema_version"),
    (["export", "nowhere"], "nowhere: no such file or folder"),
    (["export", "questions.jsonl", "--from", "atfi"], "did you mean 'atif'"),
    (["export", "questions.jsonl", "--from", "atif"], "questions.jsonl:1: schema_version is None"),
    (["list", "polices"], "did you mean 'policies'"),
]  # fmt: skip


@pytest.fixture
def mess(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of good and broken files, as working directory."""
    for path in corpus.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    good = (corpus / "questions.jsonl").read_text(encoding="utf-8").splitlines()[0] + "\n"
    passage = '{"id": "a", "title": "A", "text": "x"}\n'
    broken = {
        "no_json.jsonl": good + '{"question": "Who?"',
        "no_answer.jsonl": '{"question": "Who?", "anwser": "x"}\n',
        "same_id.jsonl": '{"id": "q", "question": "Who?", "answer": "a"}\n{"id": "q", "question": "Why?", "answer": "b"}\n',
        "same_passage.jsonl": passage + passage,
        "cut_passage.jsonl": passage + '{"id": "b", "tit',
        "empty.jsonl": "\n",
    }
    for name, text in broken.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(passage.encode())[:-12])
    (tmp_path / "latin.jsonl").write_bytes('{"question": "Où?", "answer": "x"}\n'.encode("latin-1"))
    (tmp_path / "broken").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(m[0])[:60] for m in MISTAKES])
def test_every_mistake_gives_one_clear_line(arguments: Sequence[str], message: str, mess: Path, capsys: Any) -> None:
    before = sorted(p.name for p in mess.rglob("*"))
    code, out, errors = call(capsys, *arguments, "--quiet")
    assert code == 2, errors
    assert out == ""
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1, "one line"
    assert message in errors
    assert sorted(p.name for p in mess.rglob("*")) == before, "nothing is left behind"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ({"version": 7}, "index format version 7; this AgentGym reads version"),
        ({"analyzer": "words-0"}, "does not match its own checksum"),
        ("docs.npy", "docs.npy: damaged"),
        ("term_text.bin", "term_text.bin: damaged"),
    ],
)  # fmt: skip
def test_an_index_that_cannot_be_used_is_refused(damage: Any, message: str, mess: Path, capsys: Any) -> None:
    assert call(capsys, "index", "build", "passages.jsonl", "--out", "made", "--quiet")[0] == 0
    path = mess / "made" / (damage if isinstance(damage, str) else "manifest.json")
    if isinstance(damage, str):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    else:
        path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | damage), encoding="utf-8")
    arguments = ["--tasks", "questions.jsonl", "--index", "made", "--policy", "extractive", "--out", "out", "--quiet"]
    code, out, errors = call(capsys, "eval", ENV, *arguments)
    assert (code, out, errors.count("\n")) == (2, "", 1)
    assert message in errors
    assert "agentgym index build" in errors, "what to do"
    assert not (mess / "out").exists()


def test_a_mistake_of_a_real_process_has_no_traceback(mess: Path) -> None:
    done = agentgym("eval", ENV, "--tasks", "no_json.jsonl", "--json", cwd=mess)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1


def test_without_a_command_the_help_goes_to_stderr() -> None:
    done = agentgym()
    assert done.returncode == 2
    assert done.stdout == ""
    assert "COMMAND" in done.stderr
    assert agentgym("--version").stdout.strip() == __import__("agentgym").__version__


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_reader_that_leaves_early_is_no_error(unbroken: Path) -> None:
    command = " ".join(f"'{part}'" for part in COMMAND)
    shell = f"set -o pipefail; {command} export '{unbroken}/trajectories.jsonl' | head -n 1 | wc -l; {command} list | true"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0
    assert done.stdout.strip() == "1"
    assert done.stderr == ""


@pytest.mark.parametrize("what", ["", "from agentgym.cli.main import build_parser; build_parser()", "import agentgym.envs"])
def test_importing_loads_nothing_heavy(what: str) -> None:
    """Neither the library nor the parser of all commands imports what only some of them need."""
    heavy = ("torch", "transformers", "numba", "bm25s", "scipy", "networkx", "rich", "httpx", "pandas", "pyarrow")
    code = f"import sys, agentgym; {what or 'pass'}; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
