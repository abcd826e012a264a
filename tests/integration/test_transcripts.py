"""A thousand genuine transcripts: recorded scores come back, every other difference is known by name."""

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def replayed(data_dir: Path) -> tuple[ModuleType, list]:
    spec = importlib.util.spec_from_file_location("transcripts", ROOT / "benchmarks" / "transcripts.py")
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = data_dir / "transcripts"
    return module, [module.replay(folder / f"searchr1.{name}.jsonl", name) for name in module.SETS]


def test_recorded_scores_come_back(replayed: tuple[ModuleType, list]) -> None:
    for result in replayed[1]:
        assert result.n == result.predictions == 500
        assert result.reproduced == {"em": 500, "acc": 500, "f1": 500}


def test_every_difference_has_a_cause(replayed: tuple[ModuleType, list]) -> None:
    found = Counter((d.set, d.measure, d.cause) for r in replayed[1] for d in r.robust)
    assert found == {
        ("nq", "acc", "short gold"): 1,
        ("nq", "acc", "vanished gold"): 2,
        ("nq", "f1", "hyphen"): 2,
        ("nq", "f1", "vanished answer"): 1,
        ("popqa", "acc", "short gold"): 1,
        ("popqa", "f1", "hyphen"): 2,
    }
    assert [(d.id, d.measure, d.cause) for r in replayed[1] for d in r.strict] == [("test_13678", "f1", "refused answer")]


def test_malformed_turns_are_counted(replayed: tuple[ModuleType, list]) -> None:
    nq, popqa = replayed[1]
    assert nq.ends == {"answered": 499, "max_tokens": 1}
    assert popqa.ends == {"answered": 390, "max_tokens": 110}
    assert nq.codes == {"": 998, "E_PARSE": 1}
    assert popqa.codes == {"": 737, "E_RESERVED": 127, "E_PARSE": 39, "E_UNKNOWN_TOOL": 1}
    assert (nq.scored, popqa.scored) == (499, 500)
    assert list(nq.reasons) == [
        "answer_em: nothing is left of its answer '---' after normalisation; correct the text or give an alias"
    ]


def test_the_checked_in_page_is_what_the_benchmark_writes(replayed: tuple[ModuleType, list]) -> None:
    module, results = replayed
    page = ROOT / "benchmarks" / "results" / "transcripts.md"
    assert page.read_text(encoding="utf-8") == module.report(results), "run `make transcripts`"
