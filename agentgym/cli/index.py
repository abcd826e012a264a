"""`agentgym index`: build search indexes, look at them, join them; encode passages; count what they can give."""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from agentgym.cli.index_dense import coverage_arguments, dense_arguments, run_coverage, run_dense
from agentgym.cli.options import existing_path
from agentgym.cli.parser import whole_number

_EVERY_S = 1.0
"""Seconds between two lines of progress that go to a file."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    build = actions.add_parser("build", help="build an index from passages; a killed build goes on where it stopped")
    build.add_argument("passages", nargs="+", type=existing_path, help="files or folders of passages, articles, an archive or a dump")
    build.add_argument("--format", help="rows, parquet, dpr, hotpotqa, zim or wikipedia-xml, where names do not tell it")
    build.add_argument("--engine", default="lucene", help="lucene (default: exact Lucene BM25) or bm25s (for comparison)")
    _built(build)
    wiki = actions.add_parser("wiki18", help="find or download the Wikipedia of 2018 in 21 million passages, and build its index")
    wiki.add_argument("--corpus", type=existing_path, help="a wiki-18.jsonl(.gz) or psgs_w100.tsv(.gz) that is here already")
    wiki.add_argument("--download", type=Path, help="folder for the downloaded corpus (default: beside --out)")
    wiki.add_argument("--url", help="another place of the corpus")
    wiki.add_argument("--sha256", help="checksum of the downloaded file, if you know it")
    _built(wiki)
    merge = actions.add_parser("merge", help="join indexes: scores are those of one index built of all")
    merge.add_argument("indexes", nargs="+", type=existing_path)
    merge.add_argument("--out", required=True, type=Path, help="folder to make")
    merge.add_argument("--overwrite", action="store_true", help="replace an index that is there already")
    for name in ("--k1", "--b"):
        merge.add_argument(name, type=float, help="BM25 parameter (default: that of the indexes)")
    info = actions.add_parser("info", help="show an index's manifest and verify its checksums")
    info.add_argument("index", type=existing_path)
    check = actions.add_parser("verify", help="compare every file of an index with its checksum")
    check.add_argument("index", type=existing_path)
    dense = actions.add_parser("dense", help="encode the passages of an index, for the retrievers dense and hybrid")
    dense_arguments(dense)
    cover = actions.add_parser("coverage", help="how much of the gold of a question file an index can give, and in how many queries")
    coverage_arguments(cover)
    for action in (build, wiki, merge, info, check, dense, cover):  # also after the action's own arguments
        action.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        action.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _built(parser: argparse.ArgumentParser) -> None:
    """Declare what every build takes."""
    parser.add_argument("--out", required=True, type=Path, help="folder to make")
    parser.add_argument("--overwrite", action="store_true", help="replace an index that is there already")
    parser.add_argument("--processes", type=whole_number(1), help="processes that read passages (default: one a core, at most 8)")
    parser.add_argument("--k1", type=float, default=0.9, help="BM25: saturation of the term frequency (default: 0.9)")
    parser.add_argument("--b", type=float, default=0.4, help="BM25: weight of the passage length (default: 0.4)")


def run(args: argparse.Namespace) -> int:
    """Build, join, describe or measure an index."""
    if args.action in ("dense", "coverage"):
        return run_dense(args) if args.action == "dense" else run_coverage(args)
    from agentgym.retrieval import index_info, verify
    from agentgym.retrieval.dense import check_dense

    if args.action in ("info", "verify"):
        verify(args.index)
        path, body = args.index, {**index_info(args.index), "verified": True}
        if (args.index / "dense").exists():
            body["dense"] = {k: v for k, v in check_dense(args.index.resolve()).items() if k != "files"}
    else:
        started = time.monotonic()
        _make(args, None if args.quiet else Reporter())
        path, body = args.out, {**index_info(args.out), "seconds": round(time.monotonic() - started, 2)}
    sys.stdout.write(json.dumps(body) + "\n" if args.json else _summary(path, body))
    return 0


def _make(args: argparse.Namespace, progress: "Reporter | None") -> None:
    """Write the index that was asked for."""
    from agentgym.retrieval import build_index, merge_indexes

    if args.action == "merge":
        merge_indexes(args.indexes, args.out, overwrite=args.overwrite, progress=progress, k1=args.k1, b=args.b)
        return
    options = {
        "overwrite": args.overwrite, "progress": progress, "k1": args.k1, "b": args.b,
        "processes": args.processes or min(os.cpu_count() or 1, 8),
    }  # fmt: skip
    if args.action == "build":
        build_index(args.passages, args.out, engine=args.engine, format=args.format, **options)
        return
    from agentgym.retrieval.wiki18 import corpus_file
    from agentgym.retrieval.workspace import check_target

    check_target(args.out.resolve(), args.overwrite)
    folder = args.download or args.out.resolve().parent
    build_index(corpus_file(folder, corpus=args.corpus, url=args.url, sha256=args.sha256, progress=progress), args.out, **options)


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
    if "dense" in body:
        vectors = body["dense"]["vectors"]
        lines.append(f"dense: {vectors['factory']} over {body['dense']['spec']}, recall@10 {vectors['recall_at_10']:.3f}")
    lines.append("all files match their checksums" if "verified" in body else f"built in {body['seconds']} s")
    return "\n".join(lines) + "\n"


class Reporter:
    """Writes progress to stderr: share, rate and time left; one line that is overwritten on a terminal."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing written."""
        from agentgym.retrieval.lexical.build import Meter

        self._meter, self._clock, self._last, self._stage = Meter(clock), clock, 0.0, ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Report that `done` of `total` bytes or postings are through a stage."""
        rate, left = self._meter.update(stage, done, total)
        now, ended = self._clock(), total and done >= total
        if stage == self._stage and not ended and now - self._last < (0.1 if sys.stderr.isatty() else _EVERY_S):
            return
        if stage == self._stage == "" or (ended and self._stage == f"{stage} ended"):
            return
        self._last, self._stage = now, f"{stage} ended" if ended else stage
        unit = "postings" if stage in ("merge", "score") else "B"
        share = f"{done / total:.0%}" if total else f"{done:,} {unit}"
        speed = f", {rate / 1e6:,.1f} M{unit if unit == 'B' else ' ' + unit}/s" if rate else ""
        remaining = "" if left is None or ended else f", {_duration(left)} left"
        text = f"{stage} {share}{speed}{remaining}"
        overwritten = sys.stderr.isatty() and not ended
        sys.stderr.write(f"{text:<60}{chr(13)}" if overwritten else text + "\n")
        sys.stderr.flush()


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
