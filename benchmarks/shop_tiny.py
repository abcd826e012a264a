"""The tiny policy in the closed shop: held-out success after the warm start and after training, for some seeds.

    python benchmarks/shop_tiny.py                       # trains seeds 0, 1 and 2: about 80 CPU-seconds each
    python benchmarks/shop_tiny.py --report              # only write the page, from the runs that are there

Writes results/shop_tiny.md.
"""

import argparse
import json
import platform
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RECIPE = HERE.parent / "examples" / "recipes" / "shop_tiny.toml"
PAGE = """# The tiny policy in a closed shop

`make shop-tiny` runs this anew: `agentgym train examples/recipes/shop_tiny.toml --seed N`; torch {torch}, Python {python}, one thread.

Held-out success on {tasks} tasks of worlds that training never saw, sampled at temperature 1; warm start included in the CPU time.

| seed | after the warm start | after {steps} steps | gain | CPU seconds |
|---|---|---|---|---|
{rows}

By kind of task, first and last, mean of the seeds:

| kind | after the warm start | after training |
|---|---|---|
{kinds}
"""


def main(arguments: Sequence[str]) -> int:
    """Train what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs", help="where run folders are")
    parser.add_argument("--report", action="store_true", help="train nothing")
    args = parser.parse_args(arguments)
    folders = {seed: args.runs / f"shop_tiny-seed{seed}" for seed in args.seeds}
    for seed, folder in folders.items():
        if not args.report:
            command = [sys.executable, "-m", "agentgym", "train", str(RECIPE), "--seed", str(seed), "--out", str(folder)]
            subprocess.run(command, check=True)
    (HERE / "results" / "shop_tiny.md").write_text(page({seed: read(folder) for seed, folder in folders.items()}), encoding="utf-8")
    return 0


def read(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def page(runs: dict[int, list[dict[str, Any]]]) -> str:
    """Return the page."""
    rows, first, last = [], [], []
    for seed, run in runs.items():
        held = [r["metrics"] for r in run if r["phase"] == "evaluation"]
        cpu = max(r["metrics"].get("time/total_cpu_s", 0.0) for r in run)
        first.append(held[0])
        last.append(held[-1])
        one, two = held[0]["eval/success"], held[-1]["eval/success"]
        span = f"{two:.3f} [{held[-1]['eval/success_low']:.3f}, {held[-1]['eval/success_high']:.3f}]"
        rows.append(f"| {seed} | {one:.3f} | {span} | {two - one:+.3f} | {cpu:.0f} |")
    kinds = [n.rpartition("/")[2] for n in first[0] if n.startswith("eval/success/")]
    mean = lambda held, kind: sum(h.get(f"eval/success/{kind}", 0.0) for h in held) / len(held)  # noqa: E731
    table = [f"| {kind} | {mean(first, kind):.2f} | {mean(last, kind):.2f} |" for kind in kinds]
    steps = max(r["step"] for r in next(iter(runs.values())) if r["phase"] == "evaluation")
    return PAGE.format(
        torch=version("torch"), python=platform.python_version(), tasks=250, steps=steps, rows="\n".join(rows), kinds="\n".join(table)
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
