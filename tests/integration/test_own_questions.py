"""docs/evaluate.md does what it says: its commands run as written, in order, and print what it shows."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-c", "import sys; from agentgym.cli.main import main; sys.exit(main())")
BLOCK = re.compile(r"^```(sh|text|json|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
PAGE = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")


class Step(NamedTuple):
    """The commands of one block, and the output that the page shows for the last of them."""

    commands: tuple[str, ...]
    shown: str = ""


def steps() -> list[Step]:
    found: list[Step] = []
    for kind, body in BLOCK.findall(PAGE):
        if kind == "sh":
            found.append(Step(tuple(body.splitlines())))
        elif kind == "text":
            found[-1] = found[-1]._replace(shown=body)
    return found


def run(command: str, folder: Path) -> str:
    """Run one command of the page as a process of its own, and return what it printed."""
    program, *arguments = shlex.split(os.path.expandvars(command))
    assert program == "agentgym"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, cwd=folder, env=env, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert "warning" not in done.stderr
    return done.stdout


def lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip().splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


def test_the_commands_of_the_page_run_as_written(folder: Path) -> None:
    own = [step for step in steps() if "AGENTGYM_DATA" not in step.commands[0]]
    assert sum(len(step.commands) for step in own) == 6
    for step in own:
        printed = [run(command, folder) for command in step.commands]
        assert not step.shown or lines(printed[-1]) == lines(step.shown)
    assert "answer 'Ottilie Brandner'" in run("agentgym view runs/extractive --failed --limit 1", folder)
    results = [json.loads((folder / "runs" / n / "result.json").read_text(encoding="utf-8")) for n in ("extractive", "careless")]
    assert [(r["n_tasks"], r["n_episodes"], list(r["pass_at"])) for r in results] == [(5, 5, ["1"]), (5, 15, ["1", "2", "3"])]
    # four of the five questions name gold passages; the one without a type is a kind of its own
    assert results[0]["measures"]["recall"]["n"] == 4
    assert {kind: row["tasks"] for kind, row in results[0]["by_kind"].items()} == {"chain": 2, "comparison": 1, "date": 1, "none": 1}
    assert run(own[-1].commands[0] + " --json", folder).startswith('{"comparison": {"success": {"first": 0.8')


@pytest.mark.data
def test_the_commands_on_public_files_run_as_written(folder: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENTGYM_DATA", str(data_dir))
    (step,) = (step for step in steps() if "AGENTGYM_DATA" in step.commands[0])
    printed = [run(command, folder) for command in step.commands]
    assert "9,616 passages" in printed[0]
    assert "100 tasks, 100 episodes" in printed[1]


def test_the_corpus_of_a_published_file_has_the_ids_of_its_gold(folder: Path) -> None:
    """Runs the page's Python on a file in HotpotQA's own layout."""
    (code,) = (body for kind, body in BLOCK.findall(PAGE) if kind == "python")
    rows = [{
        "_id": "a", "question": "Where was the founder of Ropes born?", "answer": "Karlsund", "type": "bridge",
        "supporting_facts": [["Ropes", 0], ["Ada Ropes", 0]],
        "context": [["Ropes", ["Ada Ropes founded Ropes."]], ["Ada Ropes", ["She was born in Karlsund."]], ["Tar", ["Tar."]]],
    }]  # fmt: skip
    (folder / "hotpot_dev_distractor_v1.json").write_text(json.dumps(rows), encoding="utf-8")
    subprocess.run([sys.executable, "-c", code], check=True, cwd=folder)
    told = run("agentgym eval SearchQA-v0 --tasks hotpot_dev_distractor_v1.json --index corpus.jsonl --json --quiet", folder)
    measures = json.loads(told)["measures"]
    assert (measures["recall"]["mean"], measures["success"]["mean"]) == (1.0, 1.0)


def test_the_page_names_every_measure_and_option_that_it_should() -> None:
    from agentgym.cli.main import build_parser
    from agentgym.rollout.evaluate import HEADLINE
    from agentgym.view.terminal import NAMES

    columns = PAGE.split("## 4. Read the columns")[1].split("## 5.")[0]
    for name in HEADLINE:
        word, *script = re.findall(r"[\w ]*\w", NAMES[name])
        assert word in columns, name
        assert all(part in columns for part in script), name
    known = {o for a in build_parser()._subparsers._group_actions[0].choices["eval"]._actions for o in a.option_strings}  # type: ignore[union-attr]
    used = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE)) - {"--failed"}
    assert used <= known
