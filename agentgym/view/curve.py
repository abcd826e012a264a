"""The learning curve of one or several runs as one small SVG: success on held-out tasks, a line per seed."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from agentgym.errors import ConfigError, DataError
from agentgym.view.folder import Folder, cut, finite, read_folder

AGAINST = ("steps", "cpu")
"""What the horizontal axis counts: learner steps, or seconds of processor time with the warm start in it."""
WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 58.0, 636.0, 74.0, 346.0
"""Edges of the plot; names of the lines stand right of it."""
STRIP = 76.0
"""Width of the strip of the warm start, where the axis counts learner steps: it has none of its own."""
MAX_NAMES = 14
"""Lines that get their name and last value beside the plot."""
# On a card of its own, so that it reads on any page; the card follows the reader's choice of light or dark.
STYLE = """
svg { font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; font-size: 12.5px; }
.card { fill: #fff; stroke: #d5dae3; } .title { fill: #182230; font-size: 16px; font-weight: 600; } .soft { fill: #5d6b82; }
.grid { stroke: #e6e9ef; } .axis { stroke: #9aa5b8; } .warm { fill: #b7791f; opacity: .11; } .until { stroke: #b7791f; stroke-dasharray: 4 3; } .warm-text { fill: #8a5a10; }
.l { fill: none; stroke-width: 2.2; stroke-linejoin: round; stroke-linecap: round; } .mean { --c: #182230; } .l.mean { stroke-width: 3; } .l.thin { stroke-width: 1.5; } .thin { opacity: .75; }
.dot { fill: #fff; stroke-width: 1.8; } .name { fill: #182230; } .name-mean { fill: #182230; font-weight: 600; } .area { opacity: .15; }
.s0 { --c: #3056d3 } .s1 { --c: #0b8f6a } .s2 { --c: #d9730d } .s3 { --c: #b3287f } .s4 { --c: #7546e8 } .s5 { --c: #0a87a3 } .s6 { --c: #c43328 } .s7 { --c: #6b7686 }
.l, .dot { stroke: var(--c) } .area { fill: var(--c) }
.dot.mean { stroke-width: 2.2; }
@media (prefers-color-scheme: dark) {
.card { fill: #0d1117; stroke: #2b3340; } .title, .name, .name-mean { fill: #e6eaf2; } .soft { fill: #97a3b8; } .grid { stroke: #222a36; } .axis { stroke: #55617a; }
.warm { fill: #e8b860; } .until { stroke: #e8b860; } .warm-text { fill: #e8b860; } .mean { --c: #e6eaf2; } .dot { fill: #0d1117; }
.s0 { --c: #8aa5ff } .s1 { --c: #45cfa1 } .s2 { --c: #ffa657 } .s3 { --c: #f27bc2 } .s4 { --c: #b79bff } .s5 { --c: #4fc6e0 } .s6 { --c: #ff8075 } .s7 { --c: #a9b4c5 }
}
"""


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation on held-out tasks."""

    step: int
    """Learner steps before it."""
    success: float
    low: float | None
    high: float | None
    """Bounds of the 95 % interval, where the run wrote them."""
    cpu_s: float | None
    """Seconds of processor time before it, warm start included, evaluations not."""


@dataclass(frozen=True, slots=True)
class Curve:
    """The evaluations of one run."""

    name: str
    settings: dict[str, Any]
    points: tuple[Point, ...]
    """By step; at least one."""
    warm_steps: int
    warm_cpu_s: float | None
    """Length of the warm start; 0 steps where there was none."""


def read_curve(path: Path) -> Curve:
    """Read the evaluations of a run folder.

    Raises:
        DataError: The folder holds no evaluation with a success.
    """
    folder = read_folder(path)
    train = {line["step"]: line["metrics"] for line in folder.lines if line["phase"] == "train"}
    warm = {line["step"]: line["metrics"] for line in folder.lines if line["phase"] == "warmstart"}
    warm_cpu_s = _last_cpu(warm, math.inf)
    points = []
    for line in sorted((line for line in folder.lines if line["phase"] == "evaluation"), key=lambda line: line["step"]):
        success, low, high = (finite(line["metrics"].get(f"eval/success{end}")) for end in ("", "_low", "_high"))
        if success is not None and 0.0 <= success <= 1.0:
            cpu_s = _last_cpu(train, line["step"])
            before = warm_cpu_s if warm else 0.0
            points.append(
                Point(line["step"], success, low, high, before if cpu_s is None and line["step"] == 0 else cpu_s)
            )
    if not points:
        said = f" ({'; '.join(folder.problems[:2])})" if folder.problems else ""
        raise DataError(
            f"{path}: no evaluation in metrics.jsonl{said}; a curve is drawn of a folder that `agentgym train` wrote"
        )
    return Curve(_name(folder), folder.settings, tuple(points), max(warm, default=-1) + 1, warm_cpu_s)


def _last_cpu(rows: dict[int, dict[str, Any]], before: float) -> float | None:
    """Return the processor time so far of the last step before `before`."""
    known = [
        (step, cpu)
        for step, m in rows.items()
        if step < before and (cpu := finite(m.get("time/total_cpu_s"))) is not None
    ]
    return max(known)[1] if known else None


def _name(folder: Folder) -> str:
    seed = folder.settings.get("seed")
    return f"seed {seed}" if isinstance(seed, int) else cut(folder.name, 40)


def draw_curves(runs: Sequence[Path], against: str = "steps") -> str:
    """Return the learning curves of run folders as the text of an SVG file.

    Each run is a line through its evaluations. Runs that differ in nothing but the seed, evaluated at the same steps,
    get their mean as a strong line; a single run gets the band of its 95 % interval.

    Args:
        runs: Run folders, as `agentgym train` wrote them.
        against: "steps" (learner steps; the warm start is a strip before 0) or "cpu" (seconds of processor time from
            the start of the warm start, evaluations not counted).

    Raises:
        ConfigError: No run, or an unknown `against`.
        DataError: A folder without evaluations; or, against "cpu", without processor times.
    """
    if not runs:
        raise ConfigError("no run to draw; give one or more folders that `agentgym train` wrote")
    if against not in AGAINST:
        raise ConfigError(f"against={against!r} is not known; allowed: {', '.join(AGAINST)}")
    curves = _named_apart([read_curve(path) for path in runs], runs)
    if against == "cpu":
        lacking = [str(path) for path, c in zip(runs, curves, strict=True) if any(p.cpu_s is None for p in c.points)]
        if lacking:
            raise DataError(
                f"{', '.join(lacking)}: metrics.jsonl holds no time/total_cpu_s for some evaluation; draw against steps"
            )
    return _Drawing(curves, against).text()


def _named_apart(curves: Sequence[Curve], runs: Sequence[Path]) -> list[Curve]:
    """Return the curves with names that differ: the seeds, or the folders where seeds repeat."""
    if len({c.name for c in curves}) == len(curves):
        return list(curves)
    return [
        Curve(cut(path.resolve().name, 40), c.settings, c.points, c.warm_steps, c.warm_cpu_s)
        for path, c in zip(runs, curves, strict=True)
    ]


def mean_curve(curves: Sequence[Curve]) -> list[Point] | None:
    """Return the mean over runs that differ only in their seed; None where a mean would mix different things."""
    first = curves[0]
    same = all({**c.settings, "seed": 0} == {**first.settings, "seed": 0} for c in curves)
    if len(curves) < 2 or not same or any([p.step for p in c.points] != [p.step for p in first.points] for c in curves):
        return None
    points = []
    for at in zip(*(c.points for c in curves), strict=True):
        times = [p.cpu_s for p in at if p.cpu_s is not None]
        cpu_s = _mean(times) if len(times) == len(at) else None
        points.append(Point(at[0].step, _mean([p.success for p in at]), None, None, cpu_s))
    return points


def _mean(values: Sequence[float]) -> float:
    return math.fsum(value / len(values) for value in values)


class _Drawing:
    """Geometry and text of one SVG."""

    def __init__(self, curves: Sequence[Curve], against: str) -> None:
        self.curves, self.cpu = curves, against == "cpu"
        self.mean = mean_curve(curves)
        self.warm = any(c.warm_steps for c in curves)
        self.left = LEFT + (STRIP if self.warm and not self.cpu else 0.0)
        most = max(self.value(p) for c in curves for p in c.points)
        self.most = most if most > 0 else 1.0

    def value(self, point: Point) -> float:
        return (point.cpu_s or 0.0) if self.cpu else float(point.step)

    def x(self, value: float) -> float:
        return self.left + value / self.most * (RIGHT - self.left)

    def y(self, success: float) -> float:
        return BOTTOM - success * (BOTTOM - TOP)

    def text(self) -> str:
        title = "Success on held-out tasks"
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">',
            f"<title>{title}</title><desc>{escape(self.description())}</desc><style>{STYLE}</style>",
            f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="10"/>',
            f'<text class="title" x="24" y="33">{title}</text>',
            f'<text class="soft" x="24" y="53">{escape(self.subtitle())}</text>',
            *self.frame(),
            *self.warm_start(),
            *self.lines(),
            *self.names(),
            "</svg>",
        ]
        return "\n".join(parts) + "\n"

    def description(self) -> str:
        ends = [f"{c.name}: {c.points[0].success:.3f} to {c.points[-1].success:.3f}" for c in self.curves]
        return f"From the first to the last evaluation. {'; '.join(ends)}."

    def subtitle(self) -> str:
        """Say what was run, as far as the runs agree on it."""
        facts: list[str] = []
        for keys, form in (
            (("env",), "{}"),
            (("policy",), "policy {}"),
            (("credit", "recipe"), "{}"),
            (("evaluation", "tasks"), "{} tasks"),
        ):
            found = {str(_within(c.settings, *keys)) for c in self.curves}
            if len(found) == 1 and (fact := found.pop()) != "None":
                facts.append(form.format(cut(fact, 60)))
        if len(self.curves) > 1:
            facts.append(f"{len(self.curves)} {'seeds' if self.mean else 'runs'}")
        elif self.curves[0].points[0].low is not None:
            facts.append("band: 95 % interval")
        return " · ".join(facts)

    def frame(self) -> Iterable[str]:
        for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
            y = self.y(tick)
            yield f'<path class="{"grid" if tick else "axis"}" d="M{LEFT:.1f},{y:.1f}H{RIGHT:.1f}"/>'
            yield f'<text class="soft tick-y" x="{LEFT - 9:.1f}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
        for tick in ticks(self.most):
            yield f'<text class="soft tick-x" x="{self.x(tick):.1f}" y="{BOTTOM + 19:.1f}" text-anchor="middle">{tick:,g}</text>'
        label = "processor time in seconds, warm start included" if self.cpu else "learner steps"
        yield f'<text class="soft" x="{(self.left + RIGHT) / 2:.1f}" y="{BOTTOM + 39:.1f}" text-anchor="middle">{label}</text>'

    def warm_start(self) -> Iterable[str]:
        """Mark the warm start: before 0 on the axis of steps, up to its end (the mean of the runs) on that of time."""
        if not self.warm:
            return
        spans = [c.warm_cpu_s for c in self.curves if c.warm_cpu_s is not None]
        end = self.x(_mean(spans)) if self.cpu and spans else self.left
        if self.cpu and not spans:
            return
        steps = {c.warm_steps for c in self.curves}
        words = ["warm start", f"{steps.pop():,} steps" if len(steps) == 1 else ""]
        yield f'<rect class="warm" x="{LEFT:.1f}" y="{TOP:.1f}" width="{max(0.0, end - LEFT):.1f}" height="{BOTTOM - TOP:.1f}"/>'
        yield f'<path class="until" d="M{end:.1f},{TOP:.1f}V{BOTTOM:.1f}"/>'
        # Inside where there is room for the words, after its end otherwise.
        x, anchor = ((LEFT + end) / 2, "middle") if end - LEFT > 60 else (end + 6, "start")
        for row, word in enumerate(words):
            yield f'<text class="warm-text" x="{x:.1f}" y="{TOP + 15 + 15 * row:.1f}" text-anchor="{anchor}" font-size="11">{word}</text>'

    def lines(self) -> Iterable[str]:
        if len(self.curves) == 1:
            yield self.band(self.curves[0].points)
        for i, curve in enumerate(self.curves):
            yield self.line(
                curve.points,
                f"s{i % 8}{' thin' if self.mean else ''}",
                curve.name,
                dots=not self.mean or len(self.curves) <= 5,
            )
        if self.mean:
            yield self.line(self.mean, "mean", "mean", dots=True)

    def band(self, points: Sequence[Point]) -> str:
        known = [p for p in points if p.low is not None and p.high is not None]
        above = [f"{self.x(self.value(p)):.1f},{self.y(p.high or 0.0):.1f}" for p in known]
        below = [f"{self.x(self.value(p)):.1f},{self.y(p.low or 0.0):.1f}" for p in reversed(known)]
        return f'<path class="area s0" d="M{"L".join([*above, *below])}Z"/>' if len(known) > 1 else ""

    def line(self, points: Sequence[Point], style: str, name: str, dots: bool) -> str:
        at = [(self.x(self.value(p)), self.y(p.success), p) for p in points]
        path = f'<path class="l {style}" d="M{"L".join(f"{x:.1f},{y:.1f}" for x, y, _ in at)}"/>'
        marks = [
            f'<circle class="dot {style}" cx="{x:.1f}" cy="{y:.1f}" r="3.2"><title>{escape(_said(name, p))}</title></circle>'
            for x, y, p in at
        ]
        return "\n".join([path, *(marks if dots else ())])

    def names(self) -> Iterable[str]:
        """Put each line's name and last value beside its end, pushed apart where they would overlap."""
        rows = [(c.points[-1], f"s{i % 8}", "name", c.name) for i, c in enumerate(self.curves)]
        if self.mean:
            rows.append((self.mean[-1], "mean", "name-mean", "mean"))
        if len(rows) > MAX_NAMES:
            rows = rows[-1:] if self.mean else []
        rows.sort(key=lambda row: -row[0].success)
        heights = _apart([self.y(row[0].success) for row in rows], 17.0, TOP, BOTTOM)
        for (point, style, kind, name), y in zip(rows, heights, strict=True):
            yield f'<path class="l {style}" d="M{RIGHT + 10:.1f},{y:.1f}h10"/>'
            shown = name if len(name) <= 9 else f"{name[:8]}…"
            yield f'<text class="{kind}" x="{RIGHT + 25:.1f}" y="{y + 4:.1f}">{escape(shown)} {point.success:.3f}</text>'


def _said(name: str, point: Point) -> str:
    interval = (
        f" (95 % interval {point.low:.3f} to {point.high:.3f})"
        if point.low is not None and point.high is not None
        else ""
    )
    time = f", {point.cpu_s:.0f} s" if point.cpu_s is not None else ""
    return f"{name}, step {point.step}{time}: {point.success:.4f}{interval}"


def _apart(heights: Sequence[float], gap: float, top: float, bottom: float) -> list[float]:
    """Return the ascending heights moved so that neighbours lie at least `gap` apart, inside top and bottom if they fit."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + gap if moved else top))
    limit = bottom
    for i in range(len(moved) - 1, -1, -1):
        moved[i] = min(moved[i], limit)
        limit = moved[i] - gap
    return moved


def ticks(most: float, wanted: int = 7) -> list[float]:
    """Return round numbers from 0 to `most`, about as many as wanted."""
    power = 10.0 ** math.floor(math.log10(most / wanted))
    step = next(k * power for k in (1, 2, 2.5, 5, 10) if k * power * wanted >= most * 0.999)
    step = max(step, 1.0) if most >= 1 else step
    return [k * step for k in range(int(most / step + 1e-9) + 1)]


def _within(body: Any, *keys: str) -> Any:
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body
