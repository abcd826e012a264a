"""The page of `turn_credit.py`: tables with bootstrap intervals, the plan's expectations, and pictures."""

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import tiny_runs
from tiny_runs import Cells

from agentgym.seeding import stream

LAST, N_TASKS, DRAWS = 100, 200, 4_000
LEAST = 0.05
"""Smallest mean difference that the plan calls better or worse."""
PAIRS = (("turn", "outcome"), ("turn", "grpo"), ("plain", "summed"), ("plain", "outcome"), ("summed", "outcome"), ("turn", "plain"),
         ("turn2", "plain"), ("one", "turn"), ("shared", "plain"), ("turn2", "turn"))  # fmt: skip
PLANNED_PAIRS = PAIRS[:3]
BLIND = ("outcome", "grpo")

Key = tuple[int, str, float, int]
Rows = dict[tuple[Key, str], dict[int, dict[str, Any]]]


@dataclass(frozen=True)
class Comparison:
    """Two recipes under one condition, by seed."""

    key: Key
    a: str
    b: str
    gaps: list[float]
    """After equal episodes, one per seed."""
    low: float
    high: float
    cpu: list[float]
    """After equal CPU time."""
    area: list[float]

    @property
    def mean(self) -> float:
        """Mean difference after equal episodes."""
        return statistics.fmean(self.gaps)

    @property
    def verdict(self) -> str:
        """What the plan calls it."""
        if len(self.gaps) < 3:
            return f"{len(self.gaps)} seed{'s' * (len(self.gaps) > 1)} only"
        if self.low > 0 and self.mean >= LEAST and min(self.gaps) > 0:
            return "**better**"
        if self.high < 0 and self.mean <= -LEAST and max(self.gaps) < 0:
            return "**worse**"
        return "no difference shown"


def success_at(run: dict[str, Any], step: int) -> float:
    """Return success after a step; a run that a guard stopped keeps its last."""
    known = [e["success"] for e in run["evaluations"] if e["step"] <= step]
    return known[-1] if known else run["warm"]["success"]


def success_by(run: dict[str, Any], cpu_s: float) -> float:
    """Return success after some CPU time of learning, interpolated between evaluations."""
    points = [(0.0, run["warm"]["success"]), *((e["cpu_s"], e["success"]) for e in run["evaluations"])]
    for (a, x), (b, y) in itertools.pairwise(points):
        if a <= cpu_s <= b:
            return x + (y - x) * (cpu_s - a) / (b - a)
    return points[-1][1]


def area(run: dict[str, Any]) -> float:
    """Return the mean success over the evaluations."""
    return statistics.fmean(success_at(run, step) for step in (25, 50, 75, 100))


def grouped(cells: Cells) -> Rows:
    """Return the runs by condition and recipe, then seed."""
    found: Rows = {}
    for row in cells.rows.values():
        key = (row["horizon"], row["start"], row["noise"], row["group"])
        found.setdefault((key, row["recipe"]), {})[row["seed"]] = row
    return found


def runs_of(rows: Rows, key: Key, recipe: str) -> dict[int, dict[str, Any]]:
    """Return the runs of a recipe by seed; one that reads no turn score has its runs without noise."""
    return rows.get(((*key[:2], 0.0, key[3]) if recipe in BLIND else key, recipe), {})


def compare(rows: Rows, key: Key, a: str, b: str) -> Comparison | None:
    """Return a against b on the seeds that both have; None without any."""
    left, right = runs_of(rows, key, a), runs_of(rows, key, b)
    seeds = sorted(left.keys() & right.keys())
    if not seeds:
        return None
    budget = min(row["cpu_s"] for s in seeds for row in (left[s], right[s]))
    pairs = [(left[s], right[s]) for s in seeds]
    x, y = (np.array([success_at(pair[i], LAST) for pair in pairs]) for i in range(2))
    rng = stream("turn-credit", "bootstrap", *map(str, key), a, b)
    picks = rng.integers(len(seeds), size=(DRAWS, len(seeds)))
    drawn = (rng.binomial(N_TASKS, x[picks]) - rng.binomial(N_TASKS, y[picks])) / N_TASKS
    low, high = np.quantile(drawn.mean(1), [0.025, 0.975])
    return Comparison(
        key, a, b, (x - y).tolist(), float(low), float(high),
        [success_by(p, budget) - success_by(q, budget) for p, q in pairs], [area(p) - area(q) for p, q in pairs],
    )  # fmt: skip


def comparisons(rows: Rows) -> list[Comparison]:
    """Return all comparisons that have a seed, the plan's first."""
    keys = sorted({key for key, _ in rows}, key=lambda k: (-k[0], k[1], k[2], k[3]))
    found = [compare(rows, key, a, b) for a, b in PAIRS for key in keys if any((key, n) in rows for n in (a, b) if n not in BLIND)]
    return [c for c in found if c is not None]


def named(key: Key) -> str:
    """Return a condition in words."""
    horizon, start, noise, group = key
    return f"horizon {horizon}, {start} start, noise {noise:g}, groups of {group}"


def write(cells: Cells, planned: Sequence[str], folder: Path) -> None:
    """Write the page and its pictures."""
    if not cells.rows:
        return
    rows = grouped(cells)
    found = comparisons(rows)
    (folder / "turn_credit.md").write_text("\n".join(page(cells, rows, found, planned)) + "\n", encoding="utf-8")
    forest = [(f"{c.a} − {c.b}: h{c.key[0]} {c.key[1]}, noise {c.key[2]:g}, G {c.key[3]}", c.mean, c.low, c.high, c.gaps) for c in found]
    words = f"after {LAST} steps of 64 episodes · bars: 95 % bootstrap intervals · small dots: seeds"
    picture = pictures.intervals("Difference of held-out success", words, forest, "success of the first minus the second")
    (folder / "turn_credit.svg").write_text(picture, encoding="utf-8")
    main = (4, "low", 0.0, 8)
    series = {name: [_points(run) for run in runs.values()] for (key, name), runs in rows.items() if key == main}
    if series:
        picture = pictures.curves("Horizon 4, low start", "held-out success, one thin line a seed", series, "learner steps")
        (folder / "turn_credit_curves.svg").write_text(picture, encoding="utf-8")


def _points(run: dict[str, Any]) -> list[tuple[float, float]]:
    return [(0.0, run["warm"]["success"]), *((float(s), success_at(run, s)) for s in (25, 50, 75, 100))]


def page(cells: Cells, rows: Rows, found: Sequence[Comparison], planned: Sequence[str]) -> list[str]:
    """Return the lines of the page."""
    done = [i for i in planned if i in cells.rows]
    cpu = sum(row["cpu_s"] for row in cells.rows.values())
    return [
        "# Turn credit against outcome credit",
        "",
        f"`make turn-credit` goes on with the runs and writes this page; the plan is [turn_credit_plan.md](../turn_credit_plan.md). {tiny_runs.versions()}.",
        "",
        f"**{len(done)} of the {len(planned)} cells of the plan's first part have run** ({len(cells.rows)} cells in all, {cpu / 60:.0f} CPU-minutes of learning).",
        *([f"Not run: {', '.join(i for i in planned if i not in cells.rows)}."] if len(done) < len(planned) else []),
        "",
        *summary(found),
        "",
        "![Differences with intervals](turn_credit.svg)",
        "![Learning curves](turn_credit_curves.svg)",
        "",
        "## Differences",
        "",
        f"Success of the first recipe minus the second after {LAST} steps, then by seed, at equal CPU time and over the whole curve.",
        "",
        "| first − second | condition | difference [95 %] | seeds | equal CPU | area | by the plan's rule |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {c.a} − {c.b}{'' if (c.a, c.b) in PLANNED_PAIRS else ' (not in the plan)'} | {named(c.key)} | {c.mean:+.3f} [{c.low:+.3f}, {c.high:+.3f}] "
            f"| {', '.join(f'{g:+.2f}' for g in c.gaps)} | {statistics.fmean(c.cpu):+.3f} | {statistics.fmean(c.area):+.3f} | {c.verdict} |"
            for c in found
        ),
        "",
        "## Expectations of the plan",
        "",
        *expectations(rows),
        "",
        "## All cells",
        "",
        "| condition | recipe | start | success after 100 steps, by seed | mean | turns at the end | groups without advantage | CPU-s |",
        "|---|---|---|---|---|---|---|---|",
        *cell_lines(rows),
        "",
        "## Where this differs from the plan",
        "",
        "- Low start: the plan's rule (the first warm start in the band) would take one of 60 steps that has hardly learned to"
        " write a search; the *last* one in the band is taken. Decided before any cell ran.",
        "- The first two cells (horizon 4, low, seed 0: turn, outcome) ran before the learner cut its batches by length: their CPU"
        " times are higher than they would be now, their other numbers are not affected.",
        "- Pairs marked \"not in the plan\" were added after looking at results, and are to be read so.",
    ]  # fmt: skip


def summary(found: Sequence[Comparison]) -> list[str]:
    """Return the page's first sentences, from the numbers."""
    lines = []
    for verdict, words in (("**better**", "is better than"), ("**worse**", "is worse than"), ("no difference shown", "shows no difference from")):
        lines += [
            f"- `{c.a}` {words} `{c.b}` at {named(c.key)}: {c.mean:+.3f} [{c.low:+.3f}, {c.high:+.3f}]."
            for c in found
            if c.verdict == verdict
        ]
    few = [c for c in found if len(c.gaps) < 3]
    if few:
        lines.append(f"- {len(few)} comparisons have fewer than three seeds and decide nothing.")
    return [*lines, "- With three seeds an interval is narrower than it should be: read \"better\" as \"in these runs\"."]


def expectations(rows: Rows) -> list[str]:
    """Return H1 to H6 of the plan with what was found."""
    hard, easy, mid = (4, "low", 0.0, 8), (2, "mid", 0.0, 8), (4, "mid", 0.0, 8)
    said = []
    for name, words, pairs in (
        ("H1", "turn better than outcome and than grpo at horizon 4, low start", ((hard, "turn", "outcome"), (hard, "turn", "grpo"))),
        ("H2", "no difference between turn and outcome at horizon 2, mid start", ((easy, "turn", "outcome"),)),
        ("H3", "plain better than summed at horizon 4, low start", ((hard, "plain", "summed"),)),
        ("H4", "noise .4 at least halves the gain", (((4, "low", 0.4, 8), "turn", "outcome"), (hard, "turn", "outcome"))),
        ("H5", "larger gain with groups of 4 than of 16", (((4, "low", 0.0, 4), "turn", "outcome"), ((4, "low", 0.0, 16), "turn", "outcome"))),
        ("H6", "larger gain at horizon 4 than at horizon 2, mid start", ((mid, "turn", "outcome"), (easy, "turn", "outcome"))),
    ):
        found = [compare(rows, *pair) for pair in pairs]
        if any(c is None or len(c.gaps) < 3 for c in found):
            said.append(f"- {name} ({words}): **not decided**, cells are missing.")
            continue
        known = [c for c in found if c is not None]
        shown = "; ".join(f"{c.a} − {c.b} {c.mean:+.3f} [{c.low:+.3f}, {c.high:+.3f}] at {named(c.key)}" for c in known)
        said.append(f"- {name} ({words}): **{'as expected' if _holds(name, known) else 'not as expected'}**. {shown}.")
    return said


def _holds(name: str, found: Sequence[Comparison]) -> bool:
    if name in ("H1", "H3"):
        return all(c.verdict == "**better**" for c in found)
    if name == "H2":
        return found[0].verdict == "no difference shown"
    first, second = found[0].mean, found[1].mean
    return second > 0 and first <= second / 2 if name == "H4" else first > second


def cell_lines(rows: Rows) -> list[str]:
    """Return a table row per condition and recipe."""
    lines = []
    for (key, recipe), runs in sorted(rows.items(), key=lambda item: (-item[0][0][0], item[0][0][1:], item[0][1])):
        ordered = [runs[s] for s in sorted(runs)]
        ends = [success_at(run, LAST) for run in ordered]
        shown = ", ".join(f"{v:.2f}{' (stopped)' if run['stopped'] else ''}" for v, run in zip(ends, ordered, strict=True))
        turns = statistics.fmean(run["evaluations"][-1]["turns"] if run["evaluations"] else 0.0 for run in ordered)
        idle = statistics.fmean(statistics.fmean(point["zero_variance_share"] for point in run["curve"]) for run in ordered)
        cpu = statistics.fmean(run["cpu_s"] for run in ordered)
        start = ordered[0]["warm"]["success"]
        lines.append(f"| {named(key)} | {recipe} | {start:.3f} | {shown} | **{statistics.fmean(ends):.3f}** | {turns:.1f} | {idle:.0%} | {cpu:.0f} |")
    return lines
