"""`agentgym index`: build a search index, or look at one."""

import argparse
import json
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgym.cli.options import existing_path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build an index from passages")
    build.add_argument("passages", nargs="+", type=existing_path, help="JSON lines of {id, title, text}; .gz too")
    build.add_argument("--out", required=True, type=Path, help="folder to make")
    build.add_argument("--overwrite", action="store_true", help="replace an index that is there already")
    info = actions.add_parser("info", help="show an index's manifest and verify its checksums")
    info.add_argument("index", type=existing_path)
    for action in (build, info):  # also after the action's own arguments
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        action.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Build or describe an index."""
    from agentgym.retrieval import build_index, index_info, verify

    if args.action == "build":
        started = time.monotonic()
        build_index(
            args.passages, args.out, overwrite=args.overwrite, progress=None if args.quiet else _progress
        )
        took = time.monotonic() - started
        body = {**index_info(args.out), "seconds": round(took, 2)}
    else:
        verify(args.index)
        body = {**index_info(args.index), "verified": True}
    sys.stdout.write(json.dumps(body) + "\n" if args.json else _summary(args.out if args.action == "build" else args.index, body))
    return 0


def _summary(path: Path, body: Mapping[str, Any]) -> str:
    """Return what a person wants to know of an index."""
    counts, parameters = body["counts"], body["parameters"]
    size = f"{body['bytes'] / 1e6:,.1f} MB" if body["bytes"] >= 1e6 else f"{body['bytes'] / 1e3:,.1f} kB"
    lines = [
        f"{path}: {counts['passages']:,} passages, {counts['terms']:,} terms, {size}",
        f"BM25 ({parameters['method']}, k1 {parameters['k1']}, b {parameters['b']}), analyzer {body['analyzer']}, "
        f"format {body['format']} {body['version']}",
        *(f"from {s['name']}: {s['passages']:,} passages, sha256 {s['sha256'][:16]}…" for s in body["sources"]),
    ]
    lines.append("all files match their checksums" if "verified" in body else f"built in {body['seconds']} s")
    return "\n".join(lines) + "\n"


def _progress(stage: str, done: int, total: int) -> None:
    share = f"{done / total:.0%}" if total else f"{done:,}"
    sys.stderr.write(f"{stage} {share}{chr(13) if sys.stderr.isatty() and done < total else chr(10)}")
    sys.stderr.flush()
