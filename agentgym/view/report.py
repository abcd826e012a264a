"""report.html of a run or an evaluation: one self-contained file, made from the folder's records alone."""

import json
import tomllib
from collections.abc import Iterable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from agentgym.rollout.record import read_trajectories
from agentgym.types import JSON, Score, Trajectory

MAX_GROUPS = 64
"""Groups that a report shows, spread evenly over the recorded steps; the rest stays in trajectories.jsonl."""
SLOT = "/*DATA*/null"


def write_report(folder: Path, target: Path | None = None) -> Path:
    """Write the report of a run or evaluation folder, or of a trajectories.jsonl.

    Args:
        folder: The folder (metrics.jsonl, trajectories.jsonl, config.toml: each may be missing) or the file.
        target: File to write; `report.html` in the folder without it.

    Returns:
        The written file.

    Raises:
        DataError: There is nothing to show, or a record is broken.
    """
    records = folder / "trajectories.jsonl" if folder.is_dir() else folder
    home = folder if folder.is_dir() else folder.parent
    lines = list(_lines(home / "metrics.jsonl")) if folder.is_dir() else []
    trajectories = list(read_trajectories(records)) if records.exists() else []
    if not lines and not trajectories:
        raise DataError(f"{folder}: neither metrics.jsonl nor trajectories.jsonl with anything in it; nothing to report")
    tokens_file = home / "tokens.json"
    data = {
        "title": home.resolve().name,
        "config": _config(home / "config.toml"),
        "curves": _curves(lines),
        "warnings": [f"step {ln['step']}: {w}" for ln in lines for w in ln.get("warnings", ())][:200],
        "tokens": json.loads(tokens_file.read_text(encoding="utf-8")) if tokens_file.exists() else {},
        "n_recorded": len(trajectories),
        "groups": _groups(trajectories, _advantages(lines)),
    }
    page = (files("agentgym.view") / "report.html").read_text(encoding="utf-8")
    # "</" would end the script element early, whatever a policy wrote.
    body = json.dumps(data, ensure_ascii=True, separators=(",", ":")).replace("<", "\\u003c")
    target = target or home / "report.html"
    temporary = target.with_name(f".{target.name}.tmp")
    temporary.write_text(page.replace(SLOT, body), encoding="utf-8")
    temporary.replace(target)
    return target


def _lines(path: Path) -> Iterable[dict[str, Any]]:
    if not path.exists():
        return
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, 1):
            try:
                yield json.loads(line)
            except ValueError as error:
                if not line.endswith("\n"):
                    return  # the line that a running or killed run is writing
                raise DataError(f"{path}:{number}: not JSON ({error})") from error


def _config(path: Path) -> dict[str, JSON]:
    return tomllib.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def _curves(lines: Sequence[dict[str, Any]]) -> dict[str, list[list[float]]]:
    """Return name -> [[x, y], …]; x is the learner step, negative in the warm start."""
    warm = sum(line["phase"] == "warmstart" for line in lines)
    curves: dict[str, list[list[float]]] = {}
    for line in lines:
        x = line["step"] - warm if line["phase"] == "warmstart" else line["step"]
        for name, value in {**line["metrics"], **line.get("scales", {})}.items():
            if isinstance(value, int | float):
                curves.setdefault(f"{line['phase']}/{name}", []).append([x, round(float(value), 5)])
    return curves


def _advantages(lines: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    return {i: a for line in lines for i, a in line.get("advantages", {}).items()}


def _groups(trajectories: Sequence[Trajectory], advantages: dict[str, list[float]]) -> list[dict[str, JSON]]:
    by_id: dict[str, list[Trajectory]] = {}
    for trajectory in trajectories:
        by_id.setdefault(trajectory.group_id or trajectory.task_id, []).append(trajectory)
    chosen = list(by_id.items())
    if len(chosen) > MAX_GROUPS:
        chosen = [chosen[round(i * (len(chosen) - 1) / (MAX_GROUPS - 1))] for i in range(MAX_GROUPS)]
    return [
        {
            "id": group_id,
            "step": members[0].seed[1] if len(members[0].seed) > 1 else 0,
            "task": members[0].task_id,
            "question": members[0].question,
            "gold": [a["text"] for a in (members[0].gold or {}).get("answers", ())],
            "kind": str(members[0].info.get("kind", "")),
            "members": [_member(t, advantages.get(t.id, [])) for t in members],
        }
        for group_id, members in chosen
    ]


def _member(trajectory: Trajectory, advantages: Sequence[float]) -> dict[str, JSON]:
    tokens = {s.turn: (g, s) for g in trajectory.segments for s in g.spans}
    turns = []
    for turn in trajectory.turns:
        row: dict[str, JSON] = {
            "action": turn.action,
            "error": turn.error_code or next((r.code for r in turn.results if r.code), ""),
            "answer": "\n".join(m.text for m in turn.messages),
            "reward": round(turn.reward, 4),
            "scores": _scores(turn.scores),
        }
        if turn.index < len(advantages):
            row["advantage"] = round(advantages[turn.index], 4)
        if turn.index in tokens:
            segment, span = tokens[turn.index]
            row["ids"] = list(segment.ids[span.start : span.end])
            row["logprobs"] = [round(p, 3) for p in segment.logprobs[span.start : span.end]]
        turns.append(row)
    return {
        "id": trajectory.id,
        "success": trajectory.success,
        "end": trajectory.end_reason,
        "answer": trajectory.answer,
        "total": round(trajectory.total, 4),
        "scores": _scores(trajectory.scores),
        "turns": turns,
    }


def _scores(scores: dict[str, Score]) -> list[list[JSON]]:
    return [
        [name, None if s.raw is None else round(s.raw, 4), s.weight, round(s.value, 4), s.reason]
        for name, s in scores.items()
        if s.raw or s.value or not s.valid or s.deferred
    ]
