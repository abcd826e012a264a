"""`agentgym view`: trajectories in the terminal, the report of a run, or the learning curves of several."""

import argparse
import json
import sys
from pathlib import Path

from agentgym.atomic import write_text
from agentgym.cli.options import existing_path
from agentgym.cli.parser import whole_number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=existing_path,
        metavar="PATH",
        help="run folder, evaluation folder or trajectories.jsonl",
    )
    parser.add_argument("--html", type=Path, help="write the report here instead of printing episodes")
    parser.add_argument(
        "--curve", type=Path, metavar="FILE.svg", help="draw success on held-out tasks, a line per run folder"
    )
    parser.add_argument("--against", choices=("steps", "cpu"), default="steps", help="what the curve's axis counts")
    parser.add_argument("--limit", type=whole_number(0), default=3, help="episodes to print")
    parser.add_argument("--failed", action="store_true", help="only episodes without success")


def run(args: argparse.Namespace) -> int:
    """Print episodes, write the report, or draw the curve."""
    from itertools import islice

    from agentgym.errors import ConfigError
    from agentgym.rollout.logs import read_logs
    from agentgym.rollout.record import to_line, without_gold
    from agentgym.view import draw_curves, episode_text, write_report

    written = {}
    if args.curve is not None:
        write_text(args.curve, draw_curves(args.paths, args.against))
        written["curve"] = str(args.curve)
    elif len(args.paths) > 1:
        raise ConfigError(
            f"view shows one path at a time, got {len(args.paths)}; several runs go together with --curve FILE.svg"
        )
    if args.html is not None:
        if len(args.paths) > 1:
            raise ConfigError("--html writes the report of one run; leave it out to draw the curve of several")
        if args.html.exists() and args.html.suffix.lower() not in (".html", ".htm"):
            raise ConfigError(f"--html {args.html}: is there and is no HTML file; name a new file, or one that ends in .html")
        written["report"] = str(write_report(args.paths[0], args.html))
    if written:
        sys.stdout.write((json.dumps(written) if args.json else "\n".join(written.values())) + "\n")
        return 0
    shown = 0
    chosen = (t for t in read_logs(args.paths[0]) if not (args.failed and t.success))
    for shown, trajectory in enumerate(islice(chosen, args.limit), start=1):  # noqa: B007 (counted for what comes after)
        sys.stdout.write(to_line(without_gold(trajectory)) + "\n" if args.json else episode_text(trajectory))
    if args.failed and not shown and args.limit:
        sys.stderr.write("every episode is a success: --failed leaves none\n")
    return 0
