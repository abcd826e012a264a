"""What an installed wheel holds: everything under agentgym, envs and policies, and nothing at the top level beside it."""

import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not (ROOT / "envs").is_dir(), reason="not a checkout of the repository"),
]
DATA_FILES = (".md", ".toml", ".html", ".css", ".js", ".json", ".typed")


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel that was built from it."""
    out = tmp_path_factory.mktemp("dist")
    # The build backend of this environment, so that the test needs no network; the wheel comes from the unpacked sdist.
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return out


def sources(*endings: str) -> set[str]:
    """Names inside the wheel of every source file of the three folders."""
    names = set()
    for folder, prefix in (("agentgym", "agentgym"), ("envs", "agentgym/envs"), ("policies", "agentgym/policies")):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and path.suffix in endings and "__pycache__" not in path.parts:
                names.add(f"{prefix}/{path.relative_to(ROOT / folder).as_posix()}")
    return names


def test_wheel_holds_every_file_and_one_top_level_name(dist: Path) -> None:
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
        top_level = wheel.read(next(n for n in held if n.endswith("top_level.txt"))).decode().split()
    assert top_level == ["agentgym"]
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {"agentgym"}
    code = {name for name in held if name.startswith("agentgym/") and name.endswith(".py")}
    assert code == sources(".py")
    assert sources(*DATA_FILES) <= held


def test_sdist_holds_real_folders(dist: Path) -> None:
    with tarfile.open(next(dist.glob("*.tar.gz"))) as archive:
        members = archive.getmembers()
    assert not [m.name for m in members if m.issym() or m.islnk()]
    inside = {m.name.split("/", 1)[1] for m in members if "/" in m.name}
    assert sources(".py") <= inside
    assert "LICENSE" in inside


def test_installed_wheel_imports_without_torch(dist: Path, tmp_path: Path) -> None:
    """A bare environment that sees the core dependencies, but not torch, and starts in an empty folder."""
    venv.create(tmp_path / "bare", with_pip=False)
    site = next((tmp_path / "bare" / "lib").glob("python*/site-packages"))
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    core = Path(next(p for p in sys.path if p.endswith("site-packages")))
    blocked = ("torch", "transformers", "numba", "pyarrow", "safetensors", "agentgym", "__editable__", "agentic_gym")
    for path in core.iterdir():
        if not path.name.startswith(blocked) and path.suffix != ".pth" and not (site / path.name).exists():
            (site / path.name).symlink_to(path)
    code = (
        "import importlib.util, gymnasium, agentgym; assert importlib.util.find_spec('torch') is None; "
        "env = gymnasium.make('SearchQA-v0'); env.reset(seed=0); env.step('<answer>x</answer>'); print(agentgym.__file__)"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(tmp_path / "bare" / "bin" / "python"), "-W", "ignore", "-c", code],
        capture_output=True, text=True, check=False, cwd=tmp_path, env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert str(site) in done.stdout
