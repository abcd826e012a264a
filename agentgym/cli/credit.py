"""`agentgym credit`: what a recipe makes of recorded trajectories."""

import argparse
import json
import sys
from dataclasses import asdict
from itertools import islice
from typing import Any

from agentgym.cli.options import existing_path
from agentgym.cli.parser import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("path", type=existing_path, metavar="FILE", help="trajectories of a run, or a log of another system")
    parser.add_argument("--format", default="agentgym", help="who wrote it: agentgym, atif, chat, search_r1, …")
    parser.add_argument("--recipe", default="turn_grpo", help="how scores become advantages")
    parser.add_argument(
        "--credit", action="append", default=[], metavar="KEY=VALUE", help="setting of [credit], e.g. turn_weight=1"
    )
    parser.add_argument("--limit", type=whole_number(0), default=3, help="groups whose advantages are printed")
    parser.add_argument("--first", type=whole_number(1), help="read this many trajectories only")


def run(args: argparse.Namespace) -> int:
    """Print advantages per turn and diagnostics; all trajectories of the file are one batch."""
    from agentgym import config as configs
    from agentgym import hooks
    from agentgym.credit import CreditConfig, advantages, recipe_of
    from agentgym.credit.diagnostics import by_component, by_turn, grouped
    from agentgym.credit.forecast import forecast
    from agentgym.credit.scales import Scales
    from agentgym.errors import DataError

    config = configs.load(CreditConfig, None, [f'recipe="{args.recipe}"', *args.credit])
    path = args.path / "trajectories.jsonl" if args.path.is_dir() and args.format == "agentgym" else args.path
    trajectories = list(islice(hooks.TRAJECTORY_FORMATS.resolve(args.format)(path), args.first))
    if not trajectories:
        raise DataError(f"{path}: holds no trajectory")
    groups = grouped(trajectories)
    result, recipe = advantages(config, groups), recipe_of(config)
    turns = by_turn(recipe, result.arrays, Scales.start(config))
    components, told = by_component(groups), forecast(result.arrays)
    notes = _notes(args.recipe, trajectories, result.metrics)
    if args.json:
        document = {
            "path": str(path), "format": args.format, "credit": asdict(config), "recipe": recipe.describe(),
            "n_trajectories": len(trajectories), "metrics": result.metrics, "scales": result.scales,
            "by_turn": [asdict(t) for t in turns], "by_component": [asdict(c) for c in components],
            "forecast": asdict(told), "notes": notes,
            "advantages": {g.id: {t.id: result.advantages[t.id] for t in g.trajectories} for g in groups},
        }  # fmt: skip
        sys.stdout.write(json.dumps(document) + "\n")
        return 0
    from agentgym.view.credit_table import advantage_lines, component_table, turn_table

    sys.stdout.write(f"{path}: {len(trajectories)} trajectories in {len(groups)} groups\n\n{recipe.describe()}\n\n")
    sys.stdout.write(f"{turn_table(turns)}\n{component_table(components)}\n{told.sentence}\n\n")
    if args.limit:
        sys.stdout.write(advantage_lines(groups, result.advantages, args.limit))
    sys.stdout.write("".join(f"\nnote: {note}" for note in notes) + ("\n" if notes else ""))
    return 0


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
