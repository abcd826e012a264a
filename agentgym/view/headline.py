"""The numbers above the curves: tiles, and the table of measures."""

import math
from collections.abc import Mapping
from typing import Any

from agentgym.types import JSON
from agentgym.view.episodes import Records
from agentgym.view.folder import Folder, finite
from agentgym.view.terminal import NAMES

Series = Mapping[str, Mapping[str, Any]]


def tiles(folder: Folder, series: Series, records: Records) -> list[dict[str, JSON]]:
    """Return the headline: [{"value", "label", "note"}], and for a share with an interval {"interval": [low, mean, high]}."""
    found = _evaluation_tiles(folder) if folder.result else _run_tiles(folder, series) or _record_tiles(records)
    if records.n_episodes:
        n_shown = sum(len(g["members"]) for g in records.groups)
        note = (
            f"in {records.n_groups:,} groups; {n_shown:,} shown here"
            if n_shown < records.n_episodes
            else f"in {records.n_groups:,} groups"
        )
        found.append(_tile(f"{records.n_episodes:,}", "recorded episodes", note))
    return found


def _tile(value: str, label: str, note: str = "", interval: list[float] | None = None) -> dict[str, JSON]:
    return {"value": value, "label": label, "note": note} | ({"interval": interval} if interval else {})


def _run_tiles(folder: Folder, series: Series) -> list[dict[str, JSON]]:
    found = []
    held = _column(series, "evaluation", "eval/success")
    if held:
        low, high = (_column(series, "evaluation", f"eval/success_{side}") for side in ("low", "high"))
        band = [low[-1], held[-1], high[-1]] if low and high else None
        note = f"95 % interval {low[-1]:.3f} to {high[-1]:.3f}" if low and high else ""
        n_tasks = _within(folder.settings, "evaluation", "tasks")
        note += f", {n_tasks} tasks" if isinstance(n_tasks, int) else ""
        found.append(
            _tile(
                f"{held[0]:.3f} → {held[-1]:.3f}" if len(held) > 1 else f"{held[0]:.3f}", "held-out success", note, band
            )
        )
    success = _column(series, "train", "success")
    if success:
        planned = _within(folder.settings, "train", "steps")
        done = max(int(line["step"]) + 1 for line in folder.lines if line["phase"] == "train")
        short = isinstance(planned, int) and done < planned
        found.append(
            _tile(
                f"{done:,}",
                "learner steps",
                f"of {planned:,} planned: stopped, or still running"
                if short
                else "the run is complete"
                if planned
                else "",
            )
        )
        for label, name, digits in (
            ("training success", "success", 3),
            ("reward an episode", "reward", 2),
            ("turns an episode", "turns", 2),
        ):
            first, last = _ends(_column(series, "train", name))
            if not math.isnan(last):
                found.append(
                    _tile(f"{last:.{digits}f}", label, f"from {first:.{digits}f}; means of the first and last steps")
                )
    weight = _column(series, "train", "w")
    if weight:
        found.append(_tile(f"{weight[-1]:.2f}", "w", "one point of turn score in points of outcome, last step"))
    seconds = [v for phase in ("train", "warmstart") for v in _column(series, phase, "time/total_cpu_s")[-1:]]
    if seconds:
        found.append(_tile(_duration(seconds[0]), "processor time", "warm start included"))
    return found


def _record_tiles(records: Records) -> list[dict[str, JSON]]:
    """Return the means over the recorded episodes: all there is of an unfinished evaluation or a bare file."""
    if not records.n_counted:
        return []
    wanted = (("success", "success", 3), ("reward", "reward an episode", 2), ("turns", "turns an episode", 2))
    note = f"mean of {records.n_counted:,} recorded episodes"
    return [_tile(f"{records.means[name]:.{digits}f}", label, note) for name, label, digits in wanted]


def _evaluation_tiles(folder: Folder) -> list[dict[str, JSON]]:
    found = []
    measures = _table(folder.result, "measures")
    wanted = (
        ("success", "success"),
        ("f1", "F1 (robust)"),
        ("recall", "retrieval recall"),
        ("reward", "reward"),
        ("turns", "turns an episode"),
    )
    for name, label in wanted:
        mean, low, high = (finite(_within(measures, name, key)) for key in ("mean", "low", "high"))
        if mean is not None:
            known = low is not None and high is not None
            note = f"95 % interval {low:.3f} to {high:.3f}" if known else ""
            interval = [low, mean, high] if known and name in ("success", "f1", "recall") else None
            found.append(_tile(f"{mean:.3f}", label, note, interval))  # type: ignore[arg-type]
    passes = _table(folder.result, "pass_at")
    best = max((int(k) for k in passes if k.isdecimal() and int(k) > 1), default=0)
    mean = finite(_within(passes, str(best), "mean"))
    if mean is not None:
        found.append(_tile(f"{mean:.3f}", f"pass@{best}", f"some of {best} samples succeeds"))
    n_faults = finite(folder.result.get("n_faults"))
    if n_faults:
        found.append(_tile(f"{n_faults:.0f}", "episodes lost to faults", "in no mean"))
    return found


def measures(folder: Folder, series: Series) -> list[dict[str, JSON]]:
    """Return a row per measure of held-out tasks: of an evaluation with intervals, of a run first and last."""
    rows: list[dict[str, JSON]] = []
    if folder.result:
        means = _table(folder.result, "measures")
        for name in (*(n for n in NAMES if n in means), *(n for n in means if n not in NAMES)):
            cells = {key: finite(_within(means, name, key)) for key in ("mean", "low", "high", "n")}
            if cells["mean"] is not None:
                rows.append({"name": NAMES.get(name, name), **cells})
        return rows
    for name, label in NAMES.items():
        curve = _column(series, "evaluation", f"eval/{name}")
        if curve:
            rows.append({"name": label, "first": curve[0], "mean": curve[-1]})
    return rows


def kinds(folder: Folder) -> list[dict[str, JSON]]:
    """Return a row per kind of task of an evaluation: name, tasks, success, recall, turns."""
    by_kind = _table(folder.result, "by_kind")
    columns = ("tasks", "success", "recall", "turns")
    return [{"name": kind, **{c: finite(_within(row, c)) for c in columns}} for kind, row in by_kind.items()]


def _column(series: Series, phase: str, name: str) -> list[float]:
    return [v for v in series.get(phase, {}).get("y", {}).get(name, ()) if v is not None]


def _ends(curve: list[float]) -> tuple[float, float]:
    """Return the means of the first and of the last tenth."""
    n = max(1, len(curve) // 10)
    return (sum(curve[:n]) / n, sum(curve[-n:]) / n) if curve else (math.nan, math.nan)


def _within(body: Any, *keys: str) -> Any:
    for key in keys:
        body = body.get(key) if isinstance(body, dict) else None
    return body


def _table(body: Any, key: str) -> dict[str, Any]:
    found = _within(body, key)
    return found if isinstance(found, dict) else {}


def _duration(seconds: float) -> str:
    if seconds < 600:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 3 * 3600 else f"{seconds / 3600:.1f} h"
