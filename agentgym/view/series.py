"""Curves and warnings out of the lines of metrics.jsonl."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from agentgym.types import JSON
from agentgym.view.folder import cut, finite

MAX_POINTS = 400
"""Points of a curve in the report; longer ones are averaged in equal stretches of steps. Evaluations are kept whole."""
_NUMBER = re.compile(r"(?<![\w.])[-+−]?\d+(?:\.\d+)?(?:e[-+]?\d+)?(?!\w)")


def series(lines: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, JSON]]:
    """Return per phase its steps and its metrics and scales, aligned with them.

    Returns:
        phase -> {"x": [steps], "y": {name: [values, None where there is no finite one]}}. Steps are learner steps;
        those of the warm start are negative, so that 0 is where learning begins.
    """
    phases: dict[str, list[tuple[int, dict[str, Any]]]] = {}
    n_warm = max((line["step"] + 1 for line in lines if line["phase"] == "warmstart"), default=0)
    for line in lines:
        scales = line.get("scales")
        values = {**line["metrics"], **(scales if isinstance(scales, dict) else {})}
        x = line["step"] - n_warm if line["phase"] == "warmstart" else line["step"]
        phases.setdefault(line["phase"], []).append((x, values))
    return {phase: _columns(sorted(rows, key=lambda r: r[0]), phase != "evaluation") for phase, rows in phases.items()}


def _columns(rows: list[tuple[int, dict[str, Any]]], thin: bool) -> dict[str, JSON]:
    names = list(dict.fromkeys(name for _, values in rows for name in values))
    columns = {name: [finite(values.get(name)) for _, values in rows] for name in names}
    width = -(-len(rows) // MAX_POINTS) if thin else 1
    starts = range(0, len(rows), width)
    return {
        "x": [round(_mean([x for x, _ in rows[i : i + width]]) or 0) for i in starts],
        "y": {
            name: [_short(_mean(column[i : i + width])) for i in starts]
            for name, column in columns.items()
            if any(v is not None for v in column)
        },
        "stretch": width,
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return math.fsum(v / len(known) for v in known) if known else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.5g}")


def warnings(lines: Sequence[Mapping[str, Any]]) -> list[dict[str, JSON]]:
    """Return what the guards said, once per kind.

    Two warnings are of one kind when they differ in numbers only; a number that changed is shown as "first → last".

    Returns:
        [{"text", "n" (how often it was said), "phase", "first", "last" (steps)}], in order of their first step.
    """
    kinds: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for line in lines:
        said = line.get("warnings")
        for text in said if isinstance(said, list) else ():
            if isinstance(text, str):
                kinds.setdefault((line["phase"], _NUMBER.sub("#", text)), []).append((line["step"], text))
    return [
        {
            "text": cut(_from_to(said[0][1], said[-1][1]), 600),
            "n": len(said),
            "phase": phase,
            "first": min(step for step, _ in said),
            "last": max(step for step, _ in said),
        }
        for (phase, _), said in kinds.items()
    ]


def _from_to(first: str, last: str) -> str:
    """Return `last` with each number that differs from its place in `first` written as "old → new"."""
    before = iter(_NUMBER.findall(first))

    def both(match: re.Match[str]) -> str:
        old = next(before, match.group())
        return match.group() if old == match.group() else f"{old} → {match.group()}"

    return _NUMBER.sub(both, last)
