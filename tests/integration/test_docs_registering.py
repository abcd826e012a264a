"""docs/registering.md does what it says: its files and commands, and the plugin as an installed distribution."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "registering.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(sh|python|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = (sys.executable, "-c", "import sys; sys.path.remove(''); from agentgym.cli.main import entry; entry()")
"""As the console script: the working folder is not on Python's path."""
PLUGIN = "# with the plugin\n"


def agentgym(line: str, cwd: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run one command line in a process of its own."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", **more}
    return subprocess.run([*COMMAND, *shlex.split(line)[1:]], capture_output=True, text=True, cwd=cwd, env=env, timeout=300)


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the page's files."""
    folder = tmp_path_factory.mktemp("page")
    for _, text in BLOCK.findall(PAGE):
        if text.startswith("# file: "):
            (folder / text.splitlines()[0].removeprefix("# file: ")).write_text(text, encoding="utf-8")
    return folder


LINES = [line for kind, text in BLOCK.findall(PAGE) if kind == "sh" and not text.startswith(PLUGIN) for line in text.splitlines()]


@pytest.mark.torch
def test_the_commands_run(page: Path) -> None:
    assert len(LINES) >= 8
    for line in LINES:
        done = agentgym(line, page)
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        assert "Traceback" not in done.stderr


def test_the_python_block_registers(page: Path) -> None:
    (text,) = (t for kind, t in BLOCK.findall(PAGE) if kind == "python" and not t.startswith("# file"))
    check = "\nassert hooks.POLICIES.resolve('echo')('x').word == 'x'; print(hooks.TOOLS.resolve('count_words')('a b'))"
    done = subprocess.run([sys.executable, "-c", text + check], capture_output=True, text=True, cwd=page, timeout=300)
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr


def test_the_plugin_is_known_once_it_is_installed(page: Path, tmp_path: Path) -> None:
    project = tomllib.loads((page / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (points,) = project["entry-points"].items()
    info = tmp_path / "my_gym_things-0.1.dist-info"  # what an installer leaves behind
    info.mkdir()
    (tmp_path / "my_gym_things.py").write_bytes((page / "my_gym_things.py").read_bytes())
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    (info / "entry_points.txt").write_text(f"[{points[0]}]\n" + "".join(f"{name} = {place}\n" for name, place in points[1].items()))
    (text,) = (t.removeprefix(PLUGIN) for kind, t in BLOCK.findall(PAGE) if t.startswith(PLUGIN))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    said = []
    for line in text.splitlines():
        done = agentgym(line, elsewhere, PYTHONPATH=str(tmp_path))
        assert done.returncode == 0, f"{line}\n{done.stderr}"
        said.append(done.stdout)
    assert "brief" in said[0]
    assert "shrug" in said[1]
    without = agentgym(text.splitlines()[1], elsewhere, PYTHONPATH=str(tmp_path), AGENTGYM_PLUGINS="")
    assert (without.returncode, without.stderr.count("\n")) == (2, 1)
    assert "no reward is called 'brief'" in without.stderr


def test_an_evaluation_is_not_resumed_with_other_code(page: Path, tmp_path: Path) -> None:
    code = tmp_path / "my_code.py"
    code.write_bytes((page / "my_code.py").read_bytes())
    line = "agentgym eval SearchQA-v0 --limit 2 --quiet --reward my_code:reward --env-arg tools=my_code.py:tools --out out"
    assert [agentgym(line, tmp_path).returncode for _ in range(2)] == [0, 0]
    code.write_text(code.read_text(encoding="utf-8").replace("> 8", "> 2"), encoding="utf-8")
    refused = agentgym(line, tmp_path)
    assert refused.returncode == 2
    assert "other contents of --reward (another sha256)" in refused.stderr
