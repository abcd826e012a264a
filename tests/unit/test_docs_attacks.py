"""docs/attacks.md names tests that exist, one or more a row."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in (ROOT / "docs" / "attacks.md").read_text(encoding="utf-8").splitlines()
    if line.startswith("| ") and "test_" in line
]


def existing() -> set[str]:
    found = re.compile(r"^(?:async )?def (test_\w+)", re.MULTILINE)
    return {name for path in (ROOT / "tests").rglob("test_*.py") for name in found.findall(path.read_text(encoding="utf-8"))}


def test_every_row_names_tests_that_exist() -> None:
    assert len(ROWS) > 75
    names = existing()
    for row in ROWS:
        named = re.findall(r"test_\w+", row[-1])
        assert named, row
        assert not set(named) - names, row


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda p: p.name)
def test_links_of_the_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), target
