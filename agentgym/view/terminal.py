"""What the terminal shows: an episode turn by turn, evaluation tables, progress."""

import io
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from agentgym.rollout.evaluate import HEADLINE, EvalResult, Measure
from agentgym.types import Score, Trajectory
from agentgym.view.folder import visible

WIDTH = 100
NAMES = {
    "success": "success",
    "em": "EM (robust)",
    "f1": "F1 (robust)",
    "cover": "cover (robust)",
    "squad_em": "EM (SQuAD)",
    "squad_f1": "F1 (SQuAD)",
    "recall": "retrieval recall",
    "turns": "turns",
    "calls": "tool calls",
    "invalid": "invalid rate",
    "answered": "answered",
}


def _text(*renderables: Any) -> str:
    buffer = io.StringIO()
    colour = sys.stdout.isatty()
    console = Console(file=buffer, width=WIDTH, force_terminal=colour, no_color=not colour, highlight=False)
    for renderable in renderables:
        console.print(renderable)
    return buffer.getvalue()


def score_line(scores: Mapping[str, Score]) -> str:
    """Return "name raw x weight = value" for every score that is not silent."""
    shown = []
    for name, score in scores.items():
        if score.deferred:
            shown.append(f"{name} deferred")
        elif not score.valid:
            shown.append(f"{name} invalid ({score.reason})")
        elif score.raw:
            capped = abs(score.raw * score.weight - score.value) > 1e-9
            notes = [text for text in ("capped" * capped, score.reason) if text]
            reason = f" ({'; '.join(notes)})" if notes else ""
            sign = "→" if capped else "="
            shown.append(f"{name} {score.raw:+.2f} × {score.weight:g} {sign} {score.value:+.3f}{reason}")
    return "   ".join(shown) or "no scores"


def episode_text(trajectory: Trajectory) -> str:
    """Return an episode as panels: one a turn with action, answer and scores, then the outcome."""
    panels: list[Any] = [
        Panel(Text(visible(message.text)), title=message.role, title_align="left", border_style="dim")
        for message in trajectory.prompt
    ]
    running = 0.0
    for turn in trajectory.turns:
        running += turn.reward
        body = Text(visible(turn.action), style="bold")
        for message in turn.messages:
            body.append("\n" + visible(message.text), style="not bold")
        footer = f"\n{score_line(turn.scores)}   so far {running:+.3f}"
        body.append(visible(footer), style="cyan not bold" if not turn.error_code else "red not bold")
        panels.append(Panel(body, title=f"turn {turn.index}", title_align="left"))
    outcome = "success" if trajectory.success else "no success"
    lines = Text(f"{outcome} · {trajectory.end_reason} · answer {trajectory.answer!r}\n", style="bold")
    lines.append(f"{visible(score_line(trajectory.scores))}\ntotal {trajectory.total:+.3f}", style="cyan not bold")
    panels.append(
        Panel(
            lines,
            title=escape(visible(trajectory.id)),
            title_align="left",
            border_style="green" if trajectory.success else "red",
        )
    )
    return _text(*panels)


def _interval(measure: Measure) -> str:
    return f"{measure.low:.3f} … {measure.high:.3f}"


def evaluation_table(result: EvalResult, title: str) -> str:
    """Return the measures with 95 % intervals, pass@k, and success by kind of task."""
    heading_line = Text(f"{title} · {result.n_tasks} tasks, {result.n_episodes} episodes", style="italic")
    table = Table()
    for heading, justify in (("measure", "left"), ("mean", "right"), ("95 % interval", "right"), ("tasks", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for name in HEADLINE:
        if name in result.measures:
            measure = result.measures[name]
            table.add_row(NAMES[name], f"{measure.mean:.3f}", _interval(measure), str(measure.n))
    for k, measure in result.pass_at.items():
        if k > 1:
            table.add_row(f"pass@{k}", f"{measure.mean:.3f}", _interval(measure), str(measure.n))
    kinds = Table(title="by kind of task", title_justify="left")
    for heading in ("kind", "tasks", "success", "recall", "turns"):
        kinds.add_column(heading, justify="left" if heading == "kind" else "right")
    for kind, row in result.by_kind.items():
        recall = "–" if row["recall"] != row["recall"] else f"{row['recall']:.3f}"
        kinds.add_row(kind, f"{row['tasks']:.0f}", f"{row['success']:.3f}", recall, f"{row['turns']:.2f}")
    return _text(heading_line, table, *([kinds] if len(result.by_kind) > 1 else []))


def comparison_table(table: Mapping[str, Any], first: str, second: str) -> str:
    """Return the paired comparison of two evaluations; `first` and `second` are what they are called."""
    first, second = escape(visible(first)), escape(visible(second))
    shown = Table(title=f"{second} − {first}, paired by task", title_justify="left")
    for heading in ("measure", first, second, "difference", "95 % interval", "p", "tasks"):
        shown.add_column(heading, justify="left" if heading == "measure" else "right")
    for name, row in table.items():
        low, difference, high = (f"{round(row[n], 3) + 0.0:+.3f}" for n in ("low", "difference", "high"))  # no "-0.000"
        values = (f"{row['first']:.3f}", f"{row['second']:.3f}", difference, f"{low} … {high}", f"{row['p']:.4f}")
        shown.add_row(NAMES.get(name, name), *values, str(row["n"]))
    return _text(shown)


class ProgressLine:
    """A callback that keeps one line on stderr up to date (a line every 10 % without a terminal)."""

    def __init__(self, total: int) -> None:
        self._total, self._kept = total, 0
        self._done, self._good, self._next = 0, 0, 0.1
        self._started = time.monotonic()

    def keep(self, records: Sequence[Trajectory]) -> None:
        """Count what an earlier run left, and say how much that is."""
        self._kept = self._done = len(records)
        self._good = sum(record.success for record in records)
        self._next = self._done / max(1, self._total) + 0.1
        sys.stderr.write(f"{self._kept} of {self._total} episodes kept\n")

    def __call__(self, record: Trajectory) -> None:
        """Count one finished episode."""
        self._done += 1
        self._good += int(record.success)
        share = self._done / max(1, self._total)
        if not sys.stderr.isatty() and share < self._next and self._done < self._total:
            return
        self._next = share + 0.1
        left = (time.monotonic() - self._started) * (self._total - self._done) / (self._done - self._kept)
        end = "\r" if sys.stderr.isatty() and self._done < self._total else "\n"
        sys.stderr.write(
            f"{self._done}/{self._total} episodes, success {self._good / self._done:.3f}, {left:.0f} s left{end}"
        )
        sys.stderr.flush()


def progress_line(total: int) -> ProgressLine:
    """Return a callback that keeps one line on stderr up to date; its `keep` counts what a resumed run keeps."""
    return ProgressLine(total)
