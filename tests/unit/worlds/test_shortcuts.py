"""The bounds of the checked-in shortcut table, on small worlds."""

import importlib.util
import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(scope="module")
def shortcuts():
    spec = importlib.util.spec_from_file_location("shortcuts", BENCHMARKS / "shortcuts.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_small_worlds_keep_the_bounds(shortcuts, capsys):
    rows = shortcuts.closed_rows(20) + shortcuts.natural_rows(600, 60, seed=4)
    assert shortcuts.failures(rows) == []
    by_hops = {r["hops"]: r for r in rows if r["kind"] == "all"}
    assert set(by_hops) == {1, 2, 3, 4}
    assert by_hops[1]["one_search"] > 0.7, "a policy that can answer what one page states must be in the comparison"


def test_broken_bounds_are_reported(shortcuts):
    row = {
        "world": "w",
        "kind": "all",
        "hops": 2,
        "oracle": 0.99,
        "bm25_all_gold": 0.2,
        "one_search": 0.1,
        "closed_book": 0.0,
    }
    assert [f.split(": ")[1].split()[0] for f in shortcuts.failures([row])] == ["oracle", "bm25_all_gold", "one_search"]
    assert shortcuts.failures([row | {"hops": 1, "oracle": 1.0}]) == []


def test_the_checked_in_table_holds(shortcuts):
    saved = json.loads((BENCHMARKS / "results" / "shortcuts.json").read_text())
    assert shortcuts.failures(saved["rows"]) == []
    assert {r["hops"] for r in saved["rows"]} == {1, 2, 3, 4}
    assert any("100,000" in r["world"] for r in saved["rows"])
    assert any(r["world"] == "closed" for r in saved["rows"])
