"""Search engines side by side: CPU per query, build, memory, size, cold start, batches; and score lists beside Lucene's.

    python benchmarks/retrieval.py                        # 100k and 1M synthetic passages, and the public question sets
    python benchmarks/retrieval.py --sizes 100000 --queries 200
    PYSERINI_PYTHON=/path/to/python python benchmarks/retrieval.py      # pyserini from another environment

Writes benchmarks/results/retrieval.json, .md and .svg; what is not measured again keeps its rows, and an index that
--work holds from an earlier run is not built again. Everything runs on one thread in a process of its own, one after
the other. CPU time is what to compare: wall time also shows what else the machine did. The question sets are read from qa/ in $AGENTGYM_DATA (shared/data beside the checkout without it).
"""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from retrieval_chart import chart
from retrieval_corpus import queries, write_corpus

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "benchmarks" / "results"
SETS = ("hotpotqa", "2wiki", "musique", "nq", "popqa")
KINDS = ("easy", "hard", "natural")
ENGINES = ("agentgym", "agentgym, no numba", "bm25s", "bm25s, no numba", "tantivy", "pyserini")
TARGETS = {"pyserini": 5.0, "bm25s": 3.0}
"""How many times cheaper than these a query must be at a million passages."""


def question_sets(folder: Path, work: Path, limit: int) -> tuple[Path, dict[str, list[str]]]:
    """Return all passages of the question sets as one corpus, and their questions."""
    corpus, asked = work / "questions.jsonl", []
    with corpus.open("w", encoding="utf-8") as file:
        for name in SETS:
            for line in (folder / f"{name}.corpus.jsonl").open(encoding="utf-8"):
                row = json.loads(line)
                file.write(json.dumps({"id": row["id"], "contents": f'"{row["title"]}"\n{row["text"]}'}) + "\n")
            lines = (folder / f"{name}.questions.jsonl").read_text(encoding="utf-8").splitlines()
            asked += [json.loads(line)["question"] for line in lines][: limit or None]
    return corpus, {"natural": asked}


def interpreter(engine: str) -> str:
    """Return the Python that has a library."""
    return os.environ.get("PYSERINI_PYTHON", sys.executable) if engine == "pyserini" else sys.executable


def child(engine: str, action: str, *arguments: str) -> dict[str, Any] | None:
    """Run one measurement in a process of its own; None where the library is missing or fails."""
    command = [interpreter(engine), str(ROOT / "benchmarks" / "retrieval_backends.py"), action, engine, *arguments]
    one = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, **one}, check=False)
    if done.returncode:
        print(f"{engine}: {action} failed: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def build(base: str, corpus: Path, work: Path) -> dict[str, Any] | None:
    """Build an index and return what that cost; one that the folder holds already is not built again."""
    note = work / f"built-{base}.json"
    if not note.exists():
        made = child(base, "build", str(corpus), str(work / f"index-{base}"))
        if made is None:
            return None
        note.write_text(json.dumps(made), encoding="utf-8")
    return json.loads(note.read_text(encoding="utf-8"))


def merged(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return all rows in the order of ENGINES; what was not measured again keeps its row."""
    rows = {row["engine"]: row for row in (*old, *new)}
    return [rows[engine] for engine in ENGINES if engine in rows]


def measure(corpus: Path, asked: dict[str, list[str]], engines: tuple[str, ...], work: Path) -> list[dict[str, Any]]:
    """Return one row per engine on one corpus."""
    found, hits = [], {}
    (work / "asked.json").write_text(json.dumps(asked), encoding="utf-8")
    built: dict[str, dict[str, Any] | None] = {}
    for engine in engines:
        base = engine.partition(",")[0]
        index = work / f"index-{base}"
        if base not in built:
            built[base] = build(base, corpus, work)
        made = built[base]
        searched = child(engine, "search", str(index), str(work / "asked.json")) if made else None
        if made is None or searched is None:
            continue
        hits[engine] = searched.pop("hits")
        found.append({"engine": engine, **made, **searched})
        print(f"{corpus.name}: {engine}: {json.dumps(found[-1])}", file=sys.stderr, flush=True)
    for row in found:
        if "pyserini" in hits:
            row["as_lucene"] = agreement(hits[row["engine"]], hits["pyserini"])
    return found


def agreement(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, int]:
    """Return for how many queries the ten best scores, at four decimals, are Lucene's; and ids, ties aside."""
    pairs = [(a, b) for kind in ours for a, b in zip(ours[kind], theirs[kind], strict=True)]
    scores = sum([round(s, 4) for _, s in a] == [round(s, 4) for _, s in b] for a, b in pairs)
    near = sum(len(a) == len(b) and all(abs(x[1] - y[1]) < 2e-4 for x, y in zip(a, b, strict=True)) for a, b in pairs)
    return {"queries": len(pairs), "scores_equal": scores, "scores_near": near, "ids_equal": sum([i for i, _ in a] == [i for i, _ in b] for a, b in pairs)}


def without_folders(arguments: list[str]) -> list[str]:
    """Return the arguments of a command without those that only say where files lie."""
    folders = ("--work", "--out")
    return [a for i, a in enumerate(arguments) if a not in folders and (i == 0 or arguments[i - 1] not in folders)]


def versions() -> dict[str, str]:
    """Return what was measured."""
    found = {"python": platform.python_version(), "machine": f"{platform.machine()}, {os.cpu_count()} cores"}
    for name in ("numpy", "numba", "bm25s", "tantivy"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    code = "from importlib.metadata import version; print(version('pyserini'))"
    done = subprocess.run([interpreter("pyserini"), "-c", code], capture_output=True, text=True, check=False)
    return {**found, **({"pyserini": done.stdout.strip()} if done.returncode == 0 else {})}


def table(body: dict[str, Any]) -> str:
    """Return the results as Markdown."""
    lines = ["# Search engines side by side", "", f"One thread; {', '.join(f'{k} {v}' for k, v in body['versions'].items())}.", ""]
    lines += ["pyserini, bm25s and ours use k1 0.9 and b 0.4; tantivy has 1.2 and 0.75 and keeps stop words. k is 3. CPU is user and system time.", ""]
    for name, rows in body["corpora"].items():
        kinds = list(rows[0]["kinds"]) if rows else []
        lines += [f"## {name}", "", f"`{body['commands'][name]}`", "", "| engine | " + " | ".join(f"CPU ms/query, {k}" for k in kinds) + " | " + " | ".join(f"in batches of 64, {k}" for k in kinds)
                  + " | build CPU s | build peak MB | index MB (text) | first answer s | memory MB own + mapped | scores as Lucene |"]  # fmt: skip
        lines.append("|---" * (8 + 2 * len(kinds) - 1) + "|")
        for row in rows:
            same = row.get("as_lucene")
            cells = [row["engine"], *(f"{row['kinds'][k]['cpu_ms']:.3f}" for k in kinds), *(f"{row['kinds'][k]['batch_cpu_ms']:.3f}" for k in kinds),
                     f"{row['build_cpu_s']:.0f}", f"{row['build_peak_mb']:,}", f"{row['index_mb']:.0f}" + (f" ({row['text_mb']:.0f})" if row["text_mb"] else ""),
                     f"{row['first_answer_s']:.2f}", f"{row['anonymous_mb']} + {row['mapped_mb']}", f"{same['scores_near']}/{same['queries']}" if same else "-"]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        lines += ["", *ratios(rows), ""]
    return "\n".join(lines)


def ratios(rows: list[dict[str, Any]]) -> list[str]:
    """Say how many times cheaper ours is than each target."""
    by_name = {row["engine"]: row for row in rows}
    mine = by_name.get("agentgym")
    found = []
    for other, least in TARGETS.items():
        if mine and other in by_name:
            parts = [f"{kind} {by_name[other]['kinds'][kind]['cpu_ms'] / mine['kinds'][kind]['cpu_ms']:.1f}" for kind in mine["kinds"]]
            found.append(f"- {other} costs this many times ours (bar at a million: {least:g}): {', '.join(parts)}")
    return found


def main() -> int:
    """Measure, write, and return 1 where score lists differ from Lucene's for more than one query in a thousand."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="*", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=400, help="queries of each kind")
    parser.add_argument("--questions", type=int, default=0, help="questions of each set (0: all; -1: leave the sets out)")
    parser.add_argument("--engines", nargs="*", default=list(ENGINES), choices=ENGINES)
    parser.add_argument("--work", type=Path, help="folder for corpora and indexes (default: a temporary one)")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    file = args.out / "retrieval.json"
    body = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"corpora": {}}
    body |= {"versions": versions()}
    commands = body.setdefault("commands", {})
    command = shlex.join(["python", "benchmarks/retrieval.py", *without_folders(sys.argv[1:])])
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        if args.questions >= 0:
            data = Path(os.environ.get("AGENTGYM_DATA") or ROOT.parent / "shared" / "data") / "qa"
            folder = work / "sets"
            folder.mkdir(parents=True, exist_ok=True)
            corpus, asked = question_sets(data, folder, args.questions)
            name = f"36,034 passages and {len(asked['natural']):,} questions of five public sets"
            body["corpora"] = {n: rows for n, rows in body["corpora"].items() if "public sets" not in n}
            body["corpora"][name], commands[name] = measure(corpus, asked, tuple(args.engines), folder), command
        for size in args.sizes:
            folder = work / str(size)
            folder.mkdir(parents=True, exist_ok=True)
            corpus = folder / "corpus.jsonl"
            if not corpus.exists():
                write_corpus(size, corpus)
            asked = {kind: queries(size, args.queries, kind) for kind in KINDS}
            name = f"{size:,} synthetic passages"
            body["corpora"][name] = merged(body["corpora"].get(name, []), measure(corpus, asked, tuple(args.engines), folder))
            commands[name] = command
    args.out.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(body, indent=1) + "\n", encoding="utf-8")
    (args.out / "retrieval.md").write_text(table(body) + "\n", encoding="utf-8")
    (args.out / "retrieval.svg").write_text(chart(body["corpora"]), encoding="utf-8")
    print(table(body))
    mine = [row["as_lucene"] for rows in body["corpora"].values() for row in rows if row["engine"] == "agentgym" and "as_lucene" in row]
    return int(any(a["scores_near"] < 0.999 * a["queries"] for a in mine))


if __name__ == "__main__":
    sys.exit(main())
