"""`agentgym index dense` and `agentgym index coverage`."""

import argparse
import json
import sys
import time
from pathlib import Path

from agentgym.cli.options import existing_path, existing_text
from agentgym.cli.parser import whole_number


def dense_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `index dense`."""
    parser.add_argument("index", type=existing_path, help="folder made by `agentgym index build`")
    parser.add_argument("--encoder", default="minilm", help="minilm, hf:FOLDER or static:FOLDER (default: minilm)")
    parser.add_argument("--kind", default="auto", choices=("auto", "flat", "hnsw", "ivfpq"), help="kind of vector index (default: by size)")
    parser.add_argument("--queries", type=existing_path, help="question file whose questions measure recall; without it, words of passages")
    parser.add_argument("--recall", type=float, default=0.95, help="share of the exact best that a search should find (default: 0.95)")
    parser.add_argument("--overwrite", action="store_true", help="replace a dense part that is there already")


def run_dense(args: argparse.Namespace) -> int:
    """Build the dense part of an index."""
    from agentgym.retrieval.dense import build_dense

    started = time.monotonic()
    questions = _questions(args.queries) if args.queries else ()
    manifest = build_dense(
        args.index,
        args.encoder,
        kind=args.kind,
        queries=questions[:1_000],
        target_recall=args.recall,
        overwrite=args.overwrite,
        progress=None if args.quiet else Rate(),
    )
    vectors, size = manifest["vectors"], sum(entry["bytes"] for entry in manifest["files"].values())
    took = round(time.monotonic() - started, 2)
    if args.json:
        sys.stdout.write(json.dumps({**manifest, "bytes": size, "seconds": took}) + "\n")
        return 0
    setting = "".join(f", {name} {value}" for name, value in vectors["settings"].items())
    sys.stdout.write(
        f"{args.index}: {vectors['n']:,} vectors of {vectors['dim']} by {manifest['spec']}, {size / 1e6:,.1f} MB\n"
        f"{vectors['kind']} ({vectors['factory']}{setting}), recall@10 {vectors['recall_at_10']:.3f} "
        f"on {vectors['recall_queries']} queries\nbuilt in {took} s\n"
    )
    if vectors["recall_at_10"] < vectors["target_recall"]:
        sys.stderr.write(f"recall stays under {vectors['target_recall']}: take --kind flat or hnsw where memory allows\n")
        return 1
    return 0


class Rate:
    """Progress with rate and time left, on stderr."""

    def __init__(self) -> None:
        """Start the clock at the first call."""
        self._stage, self._started, self._first, self._told = "", 0.0, 0, 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Tell of a stage, at most once a second."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._started, self._first, self._told = stage, now, done, 0.0
        if now - self._told < 1 and done < total:
            return
        self._told = now
        rate = (done - self._first) / max(now - self._started, 1e-9)
        left = f", {rate:,.0f}/s, {(total - done) / rate:,.0f} s left" if rate > 0 and done < total else ""
        sys.stderr.write(f"{stage} {done / total:.0%}{left}{chr(13) if sys.stderr.isatty() and done < total else chr(10)}")
        sys.stderr.flush()


def coverage_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `index coverage`."""
    parser.add_argument("index", type=existing_text, help="folder made by `agentgym index build`, or a file of passages")
    parser.add_argument("--tasks", type=existing_path, required=True, help="question file with gold passages or answers")
    parser.add_argument("--retriever", default="bm25", help="bm25, dense, hybrid or another registered name (default: bm25)")
    parser.add_argument("--k", type=whole_number(1), default=3, help="passages a search, as the environment's k (default: 3)")
    parser.add_argument("--searches", type=whole_number(1), default=4, help="searches an episode may make (default: 4)")
    parser.add_argument("--limit", type=whole_number(1), help="only the first tasks of the file")
    parser.add_argument("--missing", type=Path, help="file to write: one JSON line a task whose gold cannot be found")


def run_coverage(args: argparse.Namespace) -> int:
    """Report what an index can give."""
    from agentgym.atomic import replacing
    from agentgym.retrieval.backends import open_corpus
    from agentgym.retrieval.coverage import coverage
    from agentgym.worlds.readers import read_tasks

    tasks = list(read_tasks(args.tasks))[: args.limit]
    report = coverage(open_corpus(args.index, args.retriever), tasks, k=args.k, searches=args.searches)
    if args.missing:
        with replacing(args.missing) as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in report.missing)
    text = json.dumps(report.as_json()) + "\n" if args.json else report.text()
    sys.stdout.write(text)
    return 0


def _questions(path: Path) -> list[str]:
    from agentgym.worlds.readers import read_tasks

    return [task.question for task in read_tasks(path)]
