"""`agentgym export`: trajectories, our own or others' logs, as chat messages or as ATIF documents."""

import argparse
import hashlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentgym.atomic import write_text
from agentgym.cli.options import existing_path
from agentgym.errors import ConfigError

if TYPE_CHECKING:
    from agentgym.types import Trajectory

WHAT = {"chat": "conversations", "atif": "ATIF documents"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.add_argument(
        "trajectories", type=existing_path, help="run folder, evaluation folder or trajectories.jsonl, or a log of the format --from",
    )
    parser.add_argument("--format", choices=tuple(WHAT), default="chat", help="what to write")
    parser.add_argument(
        "--from", dest="source", default="agentgym", metavar="FORMAT", help="what to read: agentgym, atif, chat, search_r1, trl, verl, cm2"
    )
    parser.add_argument(
        "--out", type=Path, help="file to write; for atif also a folder, one file each; stdout without it"
    )
    parser.add_argument("--only-success", action="store_true", help="leave out failed episodes")


def run(args: argparse.Namespace) -> int:
    """Write one JSON line per trajectory, or a file each; gold is left out."""
    from agentgym.rollout.logs import read_logs

    if args.out is not None and args.out.is_file() and not _is_export(args.out):
        raise ConfigError(f"--out {args.out}: is there and holds something else than an export; name a new file")
    chosen = (t for t in read_logs(args.trajectories, args.source) if t.turns and (t.success or not args.only_success))
    if args.format == "atif" and args.out is not None and (args.out.is_dir() or not args.out.suffix):
        written = _write_folder(args.out, chosen)
    else:
        lines = [json.dumps(_written(t, args.format), ensure_ascii=False) for t in chosen]
        text, written = "".join(line + "\n" for line in lines), len(lines)
        if args.out is not None:
            write_text(args.out, text)
    if not written:
        sys.stderr.write(f"warning: nothing was exported: no episode {'succeeded' if args.only_success else 'has a turn'}\n")
    if args.out is None:
        sys.stdout.write(text)
        return 0
    message = {"out": str(args.out), "written": written}
    told = f"wrote {written} {WHAT[args.format]} to {args.out}"
    sys.stdout.write((json.dumps(message) if args.json else told) + "\n")
    return 0


def _is_export(path: Path) -> bool:
    """Whether a file may be written anew: it is empty, or begins as one that this command wrote."""
    with path.open("rb") as file:
        first = file.readline()
    try:
        body = json.loads(first) if first.strip() else {"messages": []}
    except ValueError:
        return False
    return isinstance(body, dict) and ("messages" in body or str(body.get("schema_version", "")).startswith("ATIF"))


def _written(trajectory: "Trajectory", format: str) -> dict[str, Any]:
    from agentgym.interop.atif import to_atif
    from agentgym.rollout import to_chat

    return to_atif(trajectory) if format == "atif" else to_chat(trajectory)


def _write_folder(folder: Path, trajectories: "Iterator[Trajectory]") -> int:
    folder.mkdir(parents=True, exist_ok=True)
    written = 0
    for trajectory in trajectories:
        write_text(folder / f"{_file_name(trajectory.id)}.json", json.dumps(_written(trajectory, "atif"), ensure_ascii=False))
        written += 1
    return written


def _file_name(id_: str) -> str:
    """Return a file name for an id; one that had to change, or was too long, ends in a hash that keeps it apart."""
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", id_).strip(".-")[:80]
    return plain if plain == id_ else f"{plain}-{hashlib.blake2b(id_.encode(), digest_size=4).hexdigest()}"
