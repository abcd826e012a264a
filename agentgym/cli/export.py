"""`agentgym export`: trajectories as chat messages."""

import argparse
import json
import sys
from pathlib import Path

from agentgym.cli.options import existing_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument("trajectories", type=existing_path, help="trajectories.jsonl")
    parser.add_argument("--out", type=Path, help="file to write; stdout without it")
    parser.add_argument("--only-success", action="store_true", help="leave out failed episodes")


def run(args: argparse.Namespace) -> int:
    """Write one JSON line per trajectory; gold is left out."""
    from agentgym.rollout import read_trajectories, to_chat

    lines = [
        json.dumps(to_chat(t), ensure_ascii=False)
        for t in read_trajectories(args.trajectories)
        if t.turns and (t.success or not args.only_success)
    ]
    text = "".join(line + "\n" for line in lines)
    if args.out is None:
        sys.stdout.write(text)
        return 0
    temporary = args.out.with_name(f".{args.out.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(args.out)
    message = {"out": str(args.out), "written": len(lines)}
    sys.stdout.write((json.dumps(message) if args.json else f"wrote {len(lines)} conversations to {args.out}") + "\n")
    return 0
