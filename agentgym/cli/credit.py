"""`agentgym credit`: what a recipe makes of recorded trajectories."""

import argparse
import json
import sys
import tomllib
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from agentgym.cli.options import existing_path
from agentgym.cli.parser import whole_number
from agentgym.errors import DataError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("path", type=existing_path, metavar="FILE", help="trajectories of a run, or a log of another system")
    parser.add_argument("--format", default="agentgym", help="who wrote it: agentgym, atif, chat, search_r1, …")
    parser.add_argument("--recipe", help="how scores become advantages; by default that of the run, or turn_grpo")
    parser.add_argument(
        "--credit", action="append", default=[], metavar="KEY=VALUE", help="setting of [credit], e.g. turn_weight=1"
    )
    parser.add_argument("--limit", type=whole_number(0), default=3, help="groups whose advantages are printed")
    parser.add_argument("--first", type=whole_number(1), help="read this many trajectories only")


def run(args: argparse.Namespace) -> int:
    """Print advantages per turn and diagnostics; all trajectories of the file are one batch."""
    from agentgym import config as configs
    from agentgym.credit import CreditConfig, advantages, recipe_of
    from agentgym.credit.diagnostics import by_component, by_turn, grouped
    from agentgym.credit.forecast import forecast
    from agentgym.credit.scales import Scales
    from agentgym.rollout.logs import read_logs

    recipe_given = [f'recipe="{args.recipe}"'] if args.recipe else []
    # Settings of another recipe than the run's would be settings of nothing.
    of_run = [] if args.recipe else _settings_of_run(args.path)
    config = configs.load(CreditConfig, None, [*of_run, *recipe_given, *args.credit])
    trajectories = list(islice(read_logs(args.path, args.format), args.first))
    groups = grouped(trajectories)
    result, recipe = advantages(config, groups), recipe_of(config)
    turns = by_turn(recipe, result.arrays, Scales.start(config))
    components, told = by_component(groups), forecast(result.arrays)
    notes = _notes(config.recipe, trajectories, result.metrics)
    if args.json:
        document = {
            "path": str(args.path), "format": args.format, "credit": asdict(config), "recipe": recipe.describe(),
            "n_trajectories": len(trajectories), "metrics": result.metrics, "scales": result.scales,
            "by_turn": [asdict(t) for t in turns], "by_component": [asdict(c) for c in components],
            "forecast": asdict(told), "notes": notes,
            "advantages": {g.id: {t.id: result.advantages[t.id] for t in g.trajectories} for g in groups},
        }  # fmt: skip
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    from agentgym.view.credit_table import advantage_lines, component_table, turn_table

    sys.stdout.write(f"{args.path}: {len(trajectories)} trajectories in {len(groups)} groups\n\n{recipe.describe()}\n\n")
    sys.stdout.write(f"{turn_table(turns)}\n{component_table(components)}\n{told.sentence}\n\n")
    if args.limit:
        sys.stdout.write(advantage_lines(groups, result.advantages, args.limit))
    sys.stdout.write("".join(f"\nnote: {note}" for note in notes) + ("\n" if notes else ""))
    return 0


def _settings_of_run(path: Path) -> list[str]:
    """Return the settings of [credit] with which the run of a folder (or of its trajectories) was trained, as overrides."""
    recipe = (path if path.is_dir() else path.parent) / "config.toml"
    if not recipe.is_file():
        return []
    try:
        table = tomllib.loads(recipe.read_text(encoding="utf-8")).get("credit", {})
    except (OSError, ValueError) as error:
        raise DataError(f"{recipe}: cannot be read ({error}); name a recipe with --recipe") from None
    flat = {k: v for k, v in table.items() if not isinstance(v, dict)}
    inner = {f"{k}.{name}": v for k, of in table.items() if isinstance(of, dict) for name, v in of.items()}
    return [f"{key}={json.dumps(value)}" for key, value in (flat | inner).items()]


def _notes(recipe: str, trajectories: list[Any], metrics: dict[str, float]) -> list[str]:
    """Return what explains advantages that are all 0 or missing."""
    notes = []
    if not any(t.scores or any(turn.scores for turn in t.turns) for t in trajectories):
        notes.append("no trajectory has a score: this log holds none, so every advantage is 0")
    elif not metrics["effective_groups"]:
        notes.append("every advantage is 0: no group has members whose scores differ")
    if recipe == "counterfactual" and not any(t.parent for t in trajectories):
        notes.append("no trajectory is a branch: every turn has its episode's difference to the others; train with branch.mode")
    if metrics["singletons"]:
        notes.append(
            f"{metrics['singletons']:.0f} trajectories have nobody to be compared with (one member of their group in "
            "the statistics): their advantage is 0"
        )
    if metrics["not_in_loss"]:
        notes.append(f"{metrics['not_in_loss']:.0f} trajectories are not in the loss (faults of a service or environment)")
    return notes
