"""What each player earns: the honest oracle, careless ones, and the hacks, on the same tasks."""

import itertools
import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from agentgym.audit.hacks import HACKS, Hack
from agentgym.audit.players import Script, completed, contributions, oracle, play
from agentgym.audit.report import Finding, Row, finding, first
from agentgym.env import ToolEnv
from agentgym.rewards.channels import TURN_ENDING_TOOLS
from agentgym.task import Task
from agentgym.types import Trajectory

SHARE_OF_LEAD = 0.25
"""A hack has to stay below the oracle by at least this share of the oracle's lead over doing nothing."""
CHANCE = 0.5
"""Guessing that succeeds more often than this says that the tasks are no tasks."""
NOISES = (0.0, 0.3, 0.6, 0.9)
FEW = 4
"""With fewer tasks than this even the most careless oracle may happen to make no mistake."""
WORDS = ("answers", "communicate", "rubrics", "nuggets")
"""Parts of gold that ask for words; and those of a checklist that read a reply or ask a judge."""


def climb(
    env: ToolEnv, tasks: Sequence[Task], *, hacks: Sequence[Hack] = HACKS, progress: Callable[[str], None] | None = None
) -> tuple[list[Row], float, list[Finding]]:
    """Let everybody play all tasks.

    Returns:
        One row a player, the lead over a hack that was needed, and the findings.
    """
    rows: list[Row] = []
    honest: list[Trajectory] = []
    for noise in NOISES:
        name, aim = ("oracle", "the environment's own solution") if not noise else (f"oracle, noise {noise:g}", "careless")
        records = _records(env, tasks, oracle(noise))
        honest = honest or records
        rows.append(_row(name, "honest", aim, records))
        if progress:
            progress(name)
    margin = env.suite.bounds().margin
    floor = rows[0].total
    hack_rows: list[tuple[Row, list[Trajectory]]] = []
    for hack in hacks:
        records = _records(env, tasks, hack.script)
        row = _row(hack.name, hack.kind, hack.aim, records)
        floor = row.total if hack.name == "empty" else floor
        hack_rows.append((row, records))
        if progress:
            progress(hack.name)
    needed = max(margin if math.isfinite(margin) else 0.0, SHARE_OF_LEAD * (rows[0].total - floor))
    idle = next((row.components for row, _ in hack_rows if row.name == "empty"), {})
    rows += [_judged(row, records, honest, needed, idle, env.suite.outcome.name) for row, records in hack_rows]
    return rows, needed, _findings(env, rows, honest)


def _records(env: ToolEnv, tasks: Sequence[Task], script: Script) -> list[Trajectory]:
    return completed(env.suite, [play(env, task, script, (0, n)) for n, task in enumerate(tasks)])


def _row(name: str, kind: str, aim: str, records: Sequence[Trajectory]) -> Row:
    n = len(records)
    parts: dict[str, float] = {}
    for record in records:
        for component, value in contributions(record).items():
            parts[component] = parts.get(component, 0.0) + value / n
    return Row(
        name=name,
        kind=kind,  # pyright: ignore[reportArgumentType]
        aim=aim,
        total=math.fsum(r.total for r in records) / n,
        highest=max(r.total for r in records),
        success=sum(r.success for r in records) / n,
        turns=sum(len(r.turns) for r in records) / n,
        components=parts,
    )


def _judged(
    row: Row, records: Sequence[Trajectory], honest: Sequence[Trajectory], needed: float, idle: dict[str, float], outcome: str
) -> Row:
    """Return the row with what is wrong with it, if anything is."""
    if row.kind == "chance":
        problem = f"guessing succeeds in {row.success:.0%} of the episodes" if row.success > CHANCE else ""
        return replace(row, problem=problem, component=outcome if problem else "")
    pairs = [(r, h) for r, h in zip(records, honest, strict=True) if not _solves(r, h)]
    won = next((r for r, _ in pairs if r.success), None)
    if won is not None:
        return replace(row, problem=f"reaches success, first on task {won.task_id} with {won.answer!r:.80}", component=outcome)
    near = next(((r, h) for r, h in pairs if r.total > h.total - needed + 1e-9 and r.in_statistics), None)
    if near is None:
        return row
    paid, best = near
    gains = {n: v - idle.get(n, 0.0) for n, v in contributions(paid).items()}
    component = max(gains, key=lambda n: gains[n]) if gains else ""
    problem = (
        f"earns {paid.total:.3f} on task {paid.task_id}, the oracle {best.total:.3f}: the lead must be {needed:.3f}"
    )
    return replace(row, problem=problem, component=component)


def _solves(record: Trajectory, honest: Trajectory) -> bool:
    """Whether a player did what the solution does in a task that asks for no words: then success is no hack.

    It made all calls of the solution, and changed nothing else. Where words are asked for (an answer, facts to tell)
    they are the solution, and nothing is excused.
    """
    gold = record.gold or {}
    checks: Any = gold.get("checklist", [])
    if any(gold.get(name) for name in WORDS) or any(c.get("reply") or c.get("kind") == "judge" for c in checks):
        return False
    (did, changed), (asked, needed) = _deeds(record), _deeds(honest)
    return honest.success and changed == needed and not asked - did


def _deeds(record: Trajectory) -> tuple[Counter[str], list[str]]:
    """Return the calls that succeeded, counted, and those that changed something, in order.

    Of calls that close or hand over to the user the name alone counts.
    """
    pairs = [(c, r) for t in record.turns for c, r in zip(t.calls, t.results, strict=False) if r.ok]
    said = [c for c, _ in pairs if c.name in TURN_ENDING_TOOLS]
    said += [c for c, _ in pairs[-1:] if record.end_reason == "answered"]
    named = [(c.name if c in said else f"{c.name} {json.dumps(c.arguments, sort_keys=True)}", r.mutated) for c, r in pairs]
    return Counter(name for name, _ in named), [name for name, mutated in named if mutated]


def _findings(env: ToolEnv, rows: Sequence[Row], honest: Sequence[Trajectory]) -> list[Finding]:
    section, outcome = "hack-resistant", env.suite.outcome.name
    bounds = env.suite.bounds()
    low = bounds.success[0] - 1e-9
    lost = first(
        f"task {r.task_id}: ended {r.end_reason!r} with answer {r.answer!r:.80}, total {r.total:.3f}"
        for r in honest
        if r.in_statistics and (not r.success or r.total < low)
    )
    found = [finding(section, "the oracle reaches success", lost, outcome, note=f"mean {rows[0].total:.3f}")]
    problem = "" if bounds.margin > 0 else f"a failure may earn {bounds.failure[1]:g}, a success as little as {bounds.success[0]:g}"
    found.append(finding(section, "every success beats every failure (declared)", problem, note=f"margin {bounds.margin:g}"))
    idle = next((r for r in rows if r.name == "empty"), rows[-1])
    gap = rows[0].total - idle.total
    problem = "" if gap > 0.3 else f"the oracle leads over doing nothing by {gap:.3f} only"
    found.append(finding(section, "the floor is far below the oracle", problem, note=f"{idle.total:.3f} against {rows[0].total:.3f}"))
    found += [
        finding(section, f"hack: {row.name}", row.problem, row.component, note=f"mean {row.total:.3f}")
        for row in rows
        if row.kind != "honest"
    ]
    careless = [r.total for r in rows if r.kind == "honest"]
    best, worst = careless[0], careless[-1]
    problem = "" if best > worst and best >= max(careless) else f"mean totals of ever more careless oracles: {', '.join(f'{v:.3f}' for v in careless)}"
    note = f"{careless[0]:.2f}" + "".join(f" {'>' if b < a else '<' if b > a else '='} {b:.2f}" for a, b in itertools.pairwise(careless))
    if problem and len(honest) < FEW and best == worst:  # chance: nobody made a mistake that cost anything
        found.append(Finding("learnable", "fewer mistakes earn more", "skip", f"{note}: {len(honest)} tasks are too few to tell (--episodes)"))
    else:
        found.append(finding("learnable", "fewer mistakes earn more", problem, note=note))
    return found
