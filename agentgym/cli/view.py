"""`agentgym view`: trajectories in the terminal, or the report of a run."""

import argparse
import json
import sys
from pathlib import Path

from agentgym.cli.options import existing_path
from agentgym.cli.parser import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("path", type=existing_path, help="run folder, evaluation folder or trajectories.jsonl")
    parser.add_argument("--html", type=Path, help="write the report here instead of printing episodes")
    parser.add_argument("--limit", type=whole_number(0), default=3, help="episodes to print")
    parser.add_argument("--failed", action="store_true", help="only episodes without success")


def run(args: argparse.Namespace) -> int:
    """Print episodes or write report.html."""
    from itertools import islice

    from agentgym.rollout import read_trajectories
    from agentgym.rollout.record import to_line, without_gold
    from agentgym.view import episode_text, write_report

    if args.html is not None:
        report = write_report(args.path, args.html)
        sys.stdout.write((json.dumps({"report": str(report)}) if args.json else str(report)) + "\n")
        return 0
    path = args.path / "trajectories.jsonl" if args.path.is_dir() else args.path
    chosen = (t for t in read_trajectories(path) if not (args.failed and t.success))
    for trajectory in islice(chosen, args.limit):
        sys.stdout.write(to_line(without_gold(trajectory)) + "\n" if args.json else episode_text(trajectory))
    return 0
