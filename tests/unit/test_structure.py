"""The shape of the house: file lengths, names, the root's public names, the tree that the README draws."""

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import agentgym

ROOT = Path(__file__).resolve().parents[2]
OURS = ("agentgym", "envs", "policies", "tests", "examples", "benchmarks", "docs", "docker")
TEXT = (".py", ".md", ".toml", ".cff", ".yaml", ".yml", ".html", ".json", ".txt", ".Dockerfile", ".css", ".js")
# Longer files than the cap, each with the length it may not exceed; entries only shrink or go.
RATCHET: dict[str, int] = {}

pytestmark = pytest.mark.skipif(not (ROOT / "envs").is_dir(), reason="not a checkout of the repository")


def files(*endings: str) -> list[Path]:
    found = [p for p in ROOT.iterdir() if p.is_file() and p.suffix in endings]
    for folder in OURS:
        # rglob does not follow the links agentgym/envs and agentgym/policies: every file is seen once
        found += [p for p in (ROOT / folder).rglob("*") if p.suffix in endings and p.is_file()]
    return [p for p in found if "__pycache__" not in p.parts and "build" not in p.relative_to(ROOT).parts]


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def test_files_stay_short() -> None:
    too_long = {}
    for path in files(".py", ".css", ".js"):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        cap = RATCHET.get(name_of(path), 600 if name_of(path).startswith("tests/") else 400)
        if lines > cap:
            too_long[name_of(path)] = lines
    assert not too_long, f"split along a seam of the design: {too_long}"
    assert all((ROOT / name).exists() for name in RATCHET), "an entry of RATCHET is gone: remove it"


def test_no_module_has_a_name_that_says_nothing() -> None:
    forbidden = {"utils", "util", "common", "helpers", "helper", "misc", "base"}
    named = [name_of(p) for p in files(".py", ".css", ".js") if p.stem.strip("_") in forbidden or p.parent.name in forbidden]
    assert not named


def test_no_function_has_a_prefix_that_says_nothing() -> None:
    pattern = re.compile(r"^\s*(?:async )?def (_?(?:get|handle|process)_\w+)", re.MULTILINE)
    theirs = {"handle_error", "handle_starttag", "handle_startendtag", "handle_endtag", "handle_data", "handle_async_request"}  # overridden
    found = {name_of(p): names for p in files(".py") if (names := {*pattern.findall(p.read_text("utf-8"))} - theirs)}
    assert not found


def test_no_path_of_a_machine_is_written_down() -> None:
    pattern = re.compile(r"(?:^|[^\w.])/(?:wo" r"rk|ro" r"ot|fa" r"rm|ho" r"me)/[A-Za-z]")
    found = [
        f"{name_of(path)}:{number}"
        for path in files(*TEXT)
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1)
        if pattern.search(line)
    ]
    assert not found


def test_root_has_few_public_names_and_they_exist() -> None:
    names = agentgym.__all__
    assert len(names) <= 30
    assert len(set(names)) == len(names)
    assert [name for name in names if not hasattr(agentgym, name)] == []


def test_every_environment_family_has_a_card() -> None:
    families = [p.parent for p in (ROOT / "envs").glob("*/__init__.py")]
    assert families
    assert [f.name for f in families if not (f / "CARD.md").is_file()] == []


def test_every_registered_id_is_in_exactly_one_card() -> None:
    from agentgym.envs import ENVIRONMENTS

    cards = {p.parent.name: p.read_text(encoding="utf-8") for p in (ROOT / "envs").glob("*/CARD.md")}
    for env_id in ENVIRONMENTS:
        holders = [family for family, text in cards.items() if re.search(rf"^#.*{env_id}\b", text, re.MULTILINE)]
        assert len(holders) == 1, f"{env_id} has a heading in the cards of {holders}, expected exactly one"


@pytest.mark.parametrize("folder", ["envs", "policies"])
def test_plain_import_of_a_linked_folder_is_refused(folder: str) -> None:
    spec = importlib.util.spec_from_file_location(folder, ROOT / folder / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=rf"agentgym\.{folder}"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


@pytest.mark.parametrize("folder", ["envs", "policies"])
def test_links_are_relative(folder: str) -> None:
    link = ROOT / "agentgym" / folder
    assert link.is_symlink()
    assert link.readlink().as_posix() == f"../{folder}"


def test_import_is_light() -> None:
    heavy = ("torch", "transformers", "numba", "networkx", "pyarrow", "docker", "playwright", "httpx", "rich", "bm25s")
    code = f"import sys, agentgym; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    heads = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert heads[:2] == ["Unreleased", version]
    assert f"\nversion: {version}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert agentgym.__version__ == version, "installed metadata is older than pyproject.toml: run `make setup`"


def test_readme_draws_the_tree_that_is_there() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    drawn = re.search(r"^## (?:The tree|Layout)\n(?:.*\n)*?```\w*\n(.*?)```", readme, re.MULTILINE | re.DOTALL)
    assert drawn, "README.md has no section 'Layout' with a code block"
    entries = _entries(drawn.group(1))
    assert [e for e in entries if not (ROOT / e).exists()] == [], "drawn, but not there"
    rooms = [p.name for p in (ROOT / "agentgym").iterdir() if (p / "__init__.py").is_file() and not p.is_symlink()]
    tops = [p for p in OURS if (ROOT / p).is_dir()]
    expected = {*tops, *(f"agentgym/{room}" for room in rooms)}
    assert expected - {e.rstrip("/") for e in entries} == set(), "there, but not drawn"


def _entries(block: str) -> list[str]:
    """Read a tree drawn by indentation, two blanks a level; a line names one or more entries, then describes them."""
    stack: list[str] = []
    found = []
    for line in block.splitlines():
        if not line.strip():
            continue
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.split(r"\s{2,}", line.strip())[0].split()
        stack = [*stack[:depth], names[0]]
        found += ["/".join([*(s.rstrip("/") for s in stack[:depth]), name]) for name in names]
    return found
