"""What a turn costs beside the search itself, and what importing the library costs: CPU time, not wall time.

    python benchmarks/overhead.py          # writes benchmarks/results/overhead.md

One episode is four searches and an answer through `gymnasium.make`, wrappers included, over a retriever that
returns three passages from memory. A turn is parsing, the toolbox, the passages cut and escaped, limits, rewards
and the record. Resets are measured on their own and taken off. The best of several rounds counts: other work on
the machine can only make a round slower.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym

from agentgym import Answer, Gold, Passage, Task
from agentgym.retrieval import Hit

TARGET_US = 150.0
"""Microseconds of CPU per turn that the default settings may cost."""
TEXT = "A passage of about the usual length, with names such as Mira Halvorsen and a year, 1931, in it. " * 4
ROUNDS, EPISODES, IMPORTS = 15, 100, 7


class Constant:
    """A retriever that finds the same three passages for every query."""

    def __init__(self) -> None:
        """Make the passages."""
        self.passages = {f"d{i}": Passage(f"d{i}", f"Title {i}", TEXT) for i in range(3)}
        self.hits = [Hit(p, 3.0 - i) for i, p in enumerate(self.passages.values())]

    def search(self, query: str, k: int) -> list[Hit]:
        """Return the first k."""
        return self.hits[:k]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the first k for each."""
        return [self.hits[:k] for _ in queries]

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id."""
        return self.passages.get(doc_id)

    def __len__(self) -> int:
        """Return the number of passages."""
        return len(self.passages)

    def __deepcopy__(self, memo: Any) -> "Constant":
        """Return itself."""
        return self


def turn_us(dialect: str, observation: str) -> tuple[float, float]:
    """Return the CPU microseconds of a turn and of a reset."""
    task = Task("t", "Who directed Blue Harbour?", Gold(answers=(Answer("Mira Halvorsen"),), doc_ids=("d0", "d2")))
    env = gym.make("SearchQA-v0", tasks=[task], retriever=Constant(), dialect=dialect, observation=observation)
    inner: Any = env.unwrapped
    calls = [("search", {"query": f"who directed the blue harbour, part {i}"}) for i in range(4)]
    actions = [_written(inner, *call) for call in (*calls, ("answer", {"text": "Mira Halvorsen"}))]
    turns, resets = [], []
    for _ in range(ROUNDS):
        started = time.process_time()
        for _ in range(EPISODES):
            env.reset()
        reset = (time.process_time() - started) / EPISODES
        started = time.process_time()
        for _ in range(EPISODES):
            env.reset()
            for action in actions:
                env.step(action)
        whole = (time.process_time() - started) / EPISODES
        turns.append((whole - reset) / len(actions))
        resets.append(reset)
    assert inner.trajectory.success
    return 1e6 * min(turns), 1e6 * min(resets)


def _written(env: Any, name: str, arguments: dict[str, str]) -> str:
    from agentgym.types import ToolCall

    return env.dialect.render([ToolCall(name, arguments)], env.specs)


def import_s(statement: str) -> float:
    """Return the median CPU seconds of a fresh interpreter that runs a statement, less those of one that does not."""
    code = "import time; a = time.process_time(); {}; print(time.process_time() - a)"
    runs = [
        float(subprocess.run([sys.executable, "-c", code.format(statement)], capture_output=True, check=True).stdout)
        for _ in range(IMPORTS)
    ]
    return statistics.median(runs)


def main() -> int:
    """Measure, print, write; exit code 1 if the default settings cost more than the target."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "overhead.md")
    out = parser.parse_args().out
    rows = [(d, o, *turn_us(d, o)) for d in ("tags", "json") for o in ("full", "compact")]
    imports = {s: import_s(s) for s in ("import agentgym", "import gymnasium", "import numpy")}
    lines = [
        "# Overhead of the environment",
        "",
        "Written by `python benchmarks/overhead.py`. CPU time on one core; the search itself is left out.",
        "",
        f"Python {platform.python_version()}, gymnasium {version('gymnasium')}, numpy {version('numpy')},"
        f" {platform.machine()} {platform.system()}.",
        "",
        "| dialect | observation | µs per turn | µs per reset |",
        "|---|---|---:|---:|",
        *(f"| {d} | {o} | {turn:.0f} | {reset:.0f} |" for d, o, turn, reset in rows),
        "",
        "| statement in a fresh interpreter | CPU seconds, median |",
        "|---|---:|",
        *(f"| `{s}` | {seconds:.3f} |" for s, seconds in imports.items()),
    ]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    temporary = out.with_suffix(".tmp")
    out.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(out)
    default = rows[0][2]
    print(f"default settings: {default:.0f} µs per turn, target {TARGET_US:.0f}", file=sys.stderr)
    return int(default > TARGET_US)


if __name__ == "__main__":
    sys.exit(main())
