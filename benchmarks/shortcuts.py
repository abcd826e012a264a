"""How far shortcuts get in synthetic worlds: one search, closed book, the question as the only query.

    python benchmarks/shortcuts.py                # writes benchmarks/results/shortcuts.md and .json
    python benchmarks/shortcuts.py --entities 1000 --questions 100 --out /tmp/shortcuts

Each policy is given more than a real one has: it knows the relation that the question asks for, finds every name
of the right type in what it reads, and the best of several heuristics counts, chosen after the fact.
"""

import argparse
import json
import platform
import re
import resource
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from agentgym import worlds
from agentgym.retrieval import BM25Retriever
from agentgym.task import Task
from agentgym.types import Passage
from agentgym.worlds.closed import ClosedWorld
from agentgym.worlds.closed_words import CITIES, COUNTRIES

K = 3
"""Passages a search shows, as in the environment's default."""
BOUNDS = {"bm25_all_gold": 0.20, "one_search": 0.10, "closed_book": 0.10, "oracle": 1.0}
CLOSED_MARGIN = 0.05
CLOSED_WORLDS = 100
SMALL_WORLDS = 10
WORD = re.compile(r"[\w.]*\w")
HEURISTICS = ("stated", "first", "frequent", "overlap", "last")


class Reader:
    """What a policy with one search may use: typed names, and the relation that is asked for."""

    def __init__(self, world: worlds.World) -> None:
        self.world = world
        self.names: dict[str, dict[str, str]] = defaultdict(dict)
        tails: dict[str, Counter[str]] = defaultdict(Counter)
        for entity in world.entities():
            for name in (entity.name, *entity.aliases):
                self.names[entity.id[0]][" ".join(WORD.findall(name))] = entity.name
            for fact in world.facts(entity.id):
                tails[fact.relation][fact.tail] += 1
        self.usual = {r: world.entity(c.most_common(1)[0][0]).name for r, c in tails.items()}
        """The most frequent tail of each relation in the whole world."""
        if world.spec.setting == "closed":  # what is frequent in one closed world cannot be known beforehand
            self.usual = dict.fromkeys(tails, CITIES[0]) | {"country": COUNTRIES[0]}
        self.longest = max(len(name.split()) for names in self.names.values() for name in names)

    def candidates(self, kind: str, text: str, question: str) -> list[str]:
        """Return names of a type (or years) in a text that are not in the question, in the order of the text."""
        words = WORD.findall(text)
        if kind == "y":
            return [w for w in words if re.fullmatch(r"\d{3,4}", w)]
        found, names = [], self.names[kind]
        for i in range(len(words)):
            for n in range(1, self.longest + 1):
                name = names.get(" ".join(words[i : i + n]))
                if name and " ".join(words[i : i + n]) not in question and name not in question:
                    found.append(name)
        return found

    def guesses(self, task: Task, shown: Sequence[Passage]) -> dict[str, str]:
        """Return each heuristic's answer after one search; without a candidate, the usual tail of the relation."""
        _, relation, tail = task.gold.path[-1]
        kind, usual = tail[0], self.usual[relation]
        texts = [f"{p.title}. {p.text}" for p in shown]
        found = [c for text in texts for c in self.candidates(kind, text, task.question)]
        stated = [f.tail for p in shown if p.id[0] != "d" for f in self.world.facts(p.id) if f.relation == relation]
        asked = set(WORD.findall(task.question.lower()))
        sentences = [s for text in texts for s in re.split(r"(?<=[.?]) ", text)]
        sentences.sort(key=lambda s: -len(asked & set(WORD.findall(s.lower()))))
        overlap = [c for s in sentences for c in self.candidates(kind, s, task.question)]
        return {
            "stated": self.world.entity(stated[0]).name if stated else usual,
            "first": found[0] if found else usual,
            "frequent": Counter(found).most_common(1)[0][0] if found else usual,
            "overlap": overlap[0] if overlap else usual,
            "last": found[-1] if found else usual,
        }


def right(task: Task, answer: str) -> bool:
    """Return whether an answer is one of the accepted ones."""
    return any(answer in (a.text, *a.aliases) for a in task.gold.answers)


def names_in(task: Task) -> str:
    """Return the names of the start entities as the question has them: the shortest query that a reader would try."""
    starts = [e for e in task.gold.entities if e.role == "start"]
    return " ".join(max((n for n in (e.name, *e.aliases) if n in task.question), key=len) for e in starts)


def measure(world: worlds.World, tasks: Iterable[Task], leave_one_out: dict[str, Counter[str]]) -> list[dict]:
    """Return one record a task: what each policy achieved."""
    retriever = BM25Retriever.from_passages(world.passages())
    reader = Reader(world)
    records = []
    for task in tasks:
        _, relation, _ = task.gold.path[-1]
        shown = [hit.passage for hit in retriever.search(task.question, K)]
        ids = {p.id for p in shown}
        searched = [{h.passage.id for h in retriever.search(q, K)} for q in worlds.oracle_queries(task)]
        one_search = {h: right(task, a) for h, a in reader.guesses(task, shown).items()}
        said = [hit.passage for hit in retriever.search(names_in(task), K)]
        one_search |= {f"names, {h}": right(task, a) for h, a in reader.guesses(task, said).items()}
        counts = Counter(leave_one_out[relation])
        counts[task.gold.answers[0].text] -= 1
        closed_book = {"usual tail": reader.usual[relation], "usual answer": counts.most_common(1)[0][0]}
        records.append({
            "kind": task.kind,
            "hops": task.hops,
            "answer": "country" if task.gold.path[-1][2][0] == "k" else "other",
            "bm25_all_gold": set(task.gold.doc_ids) <= ids,
            "one_search": one_search,
            "closed_book": {h: right(task, a) for h, a in closed_book.items()},
            "oracle": len(searched) == len(task.gold.doc_ids)
            and all(doc in found for doc, found in zip(task.gold.doc_ids, searched, strict=True)),
        })  # fmt: skip
    return records


def summary(records: list[dict]) -> dict:
    """Return the shares over some records; of several heuristics the best."""
    n = len(records)

    def best(name: str) -> tuple[float, str]:
        return max((sum(r[name][h] for r in records) / n, h) for h in records[0][name])

    (one, how), (book, prior) = best("one_search"), best("closed_book")
    return {
        "questions": n,
        "bm25_all_gold": sum(r["bm25_all_gold"] for r in records) / n,
        "one_search": one,
        "one_search_by": how,
        "closed_book": book,
        "closed_book_by": prior,
        "oracle": sum(r["oracle"] for r in records) / n,
    }


def natural_rows(entities: int, questions: int, seed: int) -> list[dict]:
    """Return one row per family and hops, and one per hops, for natural worlds of a size.

    `questions` of each family and length are measured, from all splits. Small worlds have few, so several are taken.
    """
    n_worlds = max(1, min(SMALL_WORLDS, 500 // entities * 2))
    records, costs = [], []
    for number in range(n_worlds):
        world, cost = build(entities, seed + number)
        costs.append(cost)
        chosen: dict[tuple[str, int], list[Task]] = defaultdict(list)
        answers: dict[str, Counter[str]] = defaultdict(Counter)
        for split in ("test", "dev", "train"):
            for task in world.tasks(split)[: questions * 40]:
                answers[task.gold.path[-1][1]][task.gold.answers[0].text] += 1
                if len(chosen[task.kind, task.hops]) < questions:
                    chosen[task.kind, task.hops].append(task)
        records += measure(world, [t for key in sorted(chosen) for t in chosen[key]], answers)
    name = f"natural, {entities:,}" + (f" ({n_worlds} seeds)" if n_worlds > 1 else "")
    groups = [
        ((kind, hops), [r for r in records if (r["kind"], r["hops"]) == (kind, hops)])
        for kind, hops in sorted({(r["kind"], r["hops"]) for r in records})
    ]
    groups += [(("all", hops), [r for r in records if r["hops"] == hops]) for hops in (1, 2, 3, 4)]
    rows = [{"world": name, "kind": kind, "hops": hops} | summary(mine) for (kind, hops), mine in groups if mine]
    rows[-1]["cost"] = costs[0]
    return rows


def build(entities: int, seed: int) -> tuple[worlds.World, dict]:
    """Build a natural world, write its passages once without keeping them, and return what both cost."""
    cpu = time.process_time()
    world = worlds.world(f"synthetic:natural?entities={entities}&seed={seed}")
    tasks = {split: len(world.tasks(split)) for split in ("train", "dev", "test")}
    built = time.process_time() - cpu
    cpu = time.process_time()
    passages = sum(1 for _ in world.passages())
    cost = {
        "facts_and_plans_cpu_s": built,
        "passages": passages,
        "passages_cpu_s": time.process_time() - cpu,
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "tasks": tasks,
    }
    print(f"{world.key}: {cost}", file=sys.stderr)
    return world, cost


def closed_rows(n_worlds: int) -> list[dict]:
    """Return one row per question kind over many closed worlds."""
    made = [ClosedWorld(worlds.WorldSpec("closed", seed=seed)) for seed in range(n_worlds)]
    tasks = {w.key: list(w.tasks(w.split)) for w in made}
    answers: dict[str, Counter[str]] = defaultdict(Counter)
    for task in (t for ts in tasks.values() for t in ts):
        answers[task.gold.path[-1][1]][task.gold.answers[0].text] += 1
    records = [r for w in made for r in measure(w, tasks[w.key], answers)]
    rows = []
    for kind in ("1", "2a", "2b", "2c", "3a", "3b", "4"):
        mine = [r for r in records if r["kind"] == kind]
        chance = 1 / len(COUNTRIES if mine[0]["answer"] == "country" else CITIES)
        rows.append(
            {"world": "closed", "kind": kind, "hops": mine[0]["hops"], "bound": chance + CLOSED_MARGIN} | summary(mine)
        )
    return rows


def failures(rows: list[dict]) -> list[str]:
    """Return which rows of 2 and more hops break a bound (the rows over all families, and the closed ones)."""
    broken = []
    for row in rows:
        if row["oracle"] < BOUNDS["oracle"]:
            broken.append(f"{row['world']} {row['kind']} {row['hops']}: oracle {row['oracle']:.3f} < 1")
        if row["hops"] < 2 or (row["world"] != "closed" and row["kind"] != "all"):
            continue
        for name in ("bm25_all_gold", "one_search", "closed_book"):
            bound = row.get("bound", BOUNDS[name]) if name != "bm25_all_gold" else BOUNDS[name]
            if row[name] >= bound:
                broken.append(f"{row['world']} {row['kind']} {row['hops']}: {name} {row[name]:.3f} >= {bound:.3f}")
    return broken


def markdown(rows: list[dict], command: str) -> str:
    """Return the table as Markdown."""
    lines = [
        "# Shortcuts in synthetic worlds", "",
        f"Made by `{command}` (Python {platform.python_version()}). Shares of questions. On 2 and more hops the bounds are: "
        f"BM25 with the question (k = {K}) finds all gold passages in under .20; the best of {2 * len(HEURISTICS)} one-search policies (the query "
        "is the question, or the names in it) and the better of two closed-book policies answer under .10 (closed worlds: chance + .05, in the column *bound*); the oracle 1.", "",
        "| world | questions | hops | n | BM25 finds all gold | one search | closed book | bound | oracle |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for r in rows:
        bound = "" if r["hops"] < 2 else f"{r.get('bound', BOUNDS['one_search']):.3f}"
        lines.append(
            f"| {r['world']} | {r['kind']} | {r['hops']} | {r['questions']} | {r['bm25_all_gold']:.3f} | "
            f"{r['one_search']:.3f} ({r['one_search_by']}) | {r['closed_book']:.3f} | {bound} | {r['oracle']:.3f} |"
        )
    lines += [
        "",
        "| world | facts and plans, CPU-s | passages | writing them, CPU-s | peak memory, MiB | tasks train/dev/test |",
        "|---|---|---|---|---|---|",
    ]
    for r in rows:
        if "cost" in r:
            c = r["cost"]
            lines.append(
                f"| {r['world']} | {c['facts_and_plans_cpu_s']:.2f} | {c['passages']:,} | {c['passages_cpu_s']:.2f} | {c['peak_mib']:.0f} | "
                f"{c['tasks']['train']:,} / {c['tasks']['dev']:,} / {c['tasks']['test']:,} |"
            )
    broken = failures(rows)
    lines += ["", "All bounds hold." if not broken else "Bounds that do not hold: " + "; ".join(broken) + "."]
    return "\n".join(lines) + "\n"


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print and write the table; return 1 where a bound is broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--entities", type=lambda s: [int(n) for n in s.split(",")], default=[100, 1_000, 10_000, 100_000]
    )
    parser.add_argument("--questions", type=int, default=300, help="questions per family and number of hops")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--closed-worlds", type=int, default=CLOSED_WORLDS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "shortcuts")
    options = parser.parse_args(argv)
    rows = closed_rows(options.closed_worlds) if options.closed_worlds else []
    for entities in sorted(options.entities):
        rows += natural_rows(entities, options.questions, options.seed)
    given = sys.argv[1:] if argv is None else argv
    command = " ".join(["python benchmarks/shortcuts.py", *given])
    text = markdown(rows, command)
    print(text)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    for suffix, content in ((".md", text), (".json", json.dumps({"command": command, "rows": rows}, indent=1) + "\n")):
        fresh = options.out.with_suffix(f"{suffix}.new")
        fresh.write_text(content, encoding="utf-8")
        fresh.replace(options.out.with_suffix(suffix))
    return 1 if failures(rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
