"""report.html of a run or an evaluation: one self-contained file, made from the folder's records alone."""

import base64
import hashlib
import inspect
import json
import re
from collections.abc import Iterable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from agentgym import hooks
from agentgym.atomic import write_text
from agentgym.errors import AgentGymError, DataError
from agentgym.types import JSON
from agentgym.view.charts import charts, component_rows
from agentgym.view.credit_rows import credit_rows
from agentgym.view.episodes import read_records, token_texts
from agentgym.view.folder import Folder, cut, number, read_folder
from agentgym.view.headline import kinds, measures, tiles
from agentgym.view.series import series, warnings

SCRIPTS = ("core.js", "charts.js", "episodes.js", "start.js")


def write_report(folder: Path, target: Path | None = None) -> Path:
    """Write the report of a run or evaluation folder, or of a trajectories.jsonl.

    Every file of the folder may be missing or broken: the report shows the rest, and says what it left out.

    Args:
        folder: The folder (metrics.jsonl, trajectories.jsonl, config.toml, …) or the file.
        target: File to write; `report.html` in the folder without it.

    Returns:
        The written file.

    Raises:
        DataError: There is nothing to show.
    """
    target = target or (folder if folder.is_dir() else folder.parent) / "report.html"
    page = render(report_data(folder))
    write_text(target, page)
    return target


def report_data(path: Path) -> dict[str, JSON]:
    """Return everything that a report shows, as plain JSON (no NaN, texts cut to size).

    Raises:
        DataError: There is neither a metric, a result nor a trajectory.
    """
    folder = read_folder(path)
    problems = list(folder.problems)
    records = read_records(folder.records, _advantages(folder), problems)
    if not folder.lines and not folder.result and not records.n_episodes:
        said = (
            "; ".join(problems[:3]) or "neither metrics.jsonl, result.json nor trajectories.jsonl with anything in it"
        )
        raise DataError(f"{path}: nothing to report: {said}")
    curves = series(folder.lines)
    names = {n.removeprefix("reward/") for n in curves.get("train", {}).get("y", {}) if n.startswith("reward/")}
    names |= set(records.components)
    return {
        "title": cut(folder.name, 200),
        "facts": _facts(folder),
        "tiles": tiles(folder, curves, records),
        "series": curves,
        "charts": charts(curves),
        "components": [_rounded(row) for row in component_rows(curves, records.components, _about(names))],
        "credit": credit_rows(folder.lines),
        "measures": [_rounded(row) for row in measures(folder, curves)],
        "kinds": [_rounded(row) for row in kinds(folder)],
        "warnings": warnings(folder.lines),
        "problems": [cut(p, 600) for p in problems[:20]],
        "ends": dict(sorted(records.ends.items(), key=lambda item: -item[1])[:20]),
        "faults": {cut(str(k), 400): number(v) for k, v in _pairs(folder.result.get("faults"))},
        "n_episodes": records.n_episodes,
        "n_groups": records.n_groups,
        "groups": records.groups,
        "prompts": records.prompts,
        "tokens": token_texts(records.groups, folder.tokens),
        "settings": [[cut(key, 200), cut(value, 2_000)] for key, value in _flat(folder.settings)][:400],
        "versions": [[cut(key, 200), cut(value, 200)] for key, value in _flat(folder.versions)][:60],
    }


def render(data: Mapping[str, JSON]) -> str:
    """Return the page that shows `data`.

    The data stands in an element of its own that is parsed, never run; the page's policy allows its own script by
    hash and no connection at all, whatever a recorded text says.
    """
    page = files("agentgym.view") / "page"
    script = "\n".join((page / name).read_text(encoding="utf-8") for name in SCRIPTS)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    parts = {
        "STYLE": (page / "style.css").read_text(encoding="utf-8"),
        "SCRIPT": script,
        "HASH": f"sha256-{digest}",
        # "<" as an escape: no text can end the element. ASCII only: lone surrogates and line separators are escapes too.
        "DATA": json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c"),
    }
    return re.sub("@@([A-Z]+)@@", lambda m: parts[m.group(1)], (page / "report.html").read_text(encoding="utf-8"))


def _advantages(folder: Folder) -> dict[str, Any]:
    return {i: a for line in folder.lines for i, a in _pairs(line.get("advantages"))}


def _pairs(body: Any) -> Iterable[tuple[str, Any]]:
    return body.items() if isinstance(body, dict) else ()


def _facts(folder: Folder) -> list[str]:
    """Return the line under the title: what was run on what."""
    s = folder.settings
    credit = s.get("credit")
    arguments = s.get("env_args") or s.get("env_kwargs")
    world = arguments.get("world") or arguments.get("tasks") if isinstance(arguments, dict) else None
    found = [
        s.get("env"),
        f"policy {s['policy']}" if s.get("policy") else None,
        f"credit {credit.get('recipe', 'turn_grpo')}" if isinstance(credit, dict) else None,
        world,
        f"seed {s['seed']}" if "seed" in s else None,
    ]
    return [cut(str(fact), 200) for fact in found if fact]


def _about(names: Iterable[str]) -> dict[str, str]:
    """Return the first sentence on each component that is registered; others stay without."""
    said = {}
    known = set(hooks.COMPONENTS.names())
    for name in sorted(names):
        if name.partition(":")[0] not in known:
            continue
        try:
            doc = inspect.getdoc(hooks.COMPONENTS.resolve(name.partition(":")[0])) or ""
        except (AgentGymError, ImportError):
            continue  # a component whose module is not installed here: the row shows its numbers
        said[name] = re.sub(r"^Row \d+: ", "", doc.split("\n\n")[0].replace("\n", " "))
    return said


def _rounded(row: Mapping[str, JSON]) -> dict[str, JSON]:
    return {key: number(value, 5) if isinstance(value, float) else value for key, value in row.items()}


def _flat(body: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    for key, value in body.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value, default=str)
