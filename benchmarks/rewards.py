"""What scoring costs beside the naive formulas that papers publish: CPU time over the same file of 8-turn episodes.

    python benchmarks/rewards.py          # writes benchmarks/results/rewards.md

Ours is the preset `search` (exact match, gain of gold passages, clean record, five costs, caps; no judge, no model):
every turn gets a score per component with its reason, and the record can be scored again. Naive is what training code
of search agents does once per episode on one string, `naive_score` below: regular expressions over the concatenated
transcript for the answer and the order of tags, exact match and token F1 by the usual script, and a substring test for
retrieval. Both read the same JSON lines. CPU time of one core, the best of several rounds.
"""

import argparse
import json
import platform
import re
import string
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym

from agentgym.rewards import Suite, build_suite
from agentgym.rollout import read_trajectories
from agentgym.rollout.record import to_line
from agentgym.types import ToolCall, Trajectory

TRAJECTORIES, PLAYED, TURNS, ROUNDS = 10_000, 500, 8, 3
PUNCTUATION = frozenset(string.punctuation)
LIMITS = {"max_turns": TURNS + 1, "tool_budgets": {}}


# ---- the naive formulas: exact match, F1, form and retrieval on one string, in the manner of Search-R1's rewards


def normalized(text: str) -> str:
    """Lower case, without ASCII punctuation and articles, single blanks."""
    text = "".join(c for c in text.lower() if c not in PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def token_f1(prediction: str, gold: str) -> float:
    """F1 of the bags of tokens."""
    ours, theirs = normalized(prediction).split(), normalized(gold).split()
    same = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * same / (len(ours) + len(theirs)) if same else 0.0


def well_formed(transcript: str) -> bool:
    """Whether think, search, information and answer are opened and closed in an order that makes sense."""
    for tag in ("think", "search", "information", "answer"):
        if len(re.findall(f"<{tag}>", transcript)) != len(re.findall(f"</{tag}>", transcript)):
            return False
    state = "start"
    for part in re.split(r"(</?(?:think|search|information|answer)>)", transcript):
        tag = re.fullmatch(r"<(/?)(think|search|information|answer)>", part)
        if tag is None:
            if part.strip() and state not in ("think", "search", "information", "answer"):
                return False
        elif not tag[1]:
            if tag[2] == "information" and state != "after search":
                return False
            state = tag[2]
        else:
            if state != tag[2]:
                return False
            state = f"after {tag[2]}"
    return state == "after answer"


def naive_score(transcript: str, golds: list[str]) -> tuple[float, float]:
    """Exact match with a ladder for form and retrieval (.2, .1), and F1: two numbers per episode."""
    answers = re.findall(r"<answer>(.*?)</answer>", transcript, re.DOTALL)
    valid = well_formed(transcript)
    found = [normalized(block) for block in re.findall(r"<information>(.*?)</information>", transcript, re.DOTALL)]
    retrieved = any(normalized(gold) in block for gold in golds for block in found)
    if not answers:
        return 0.2 * valid + 0.1 * (valid and retrieved), 0.0
    f1 = max(token_f1(answers[-1], gold) for gold in golds)
    if any(normalized(answers[-1]) == normalized(gold) for gold in golds):
        return (1.0 if valid else 0.8), f1
    return (0.2 + 0.1 * retrieved if valid else 0.1), f1


def transcript_of(line: str) -> tuple[str, list[str]]:
    """Return the concatenated text of a stored episode, and its gold answers."""
    body = json.loads(line)
    parts = []
    for turn in body["turns"]:
        parts.append(turn["action"])
        shown = [block["text"] for message in turn.get("messages", ()) for block in message["content"]]
        if shown and "<answer>" not in turn["action"]:
            parts += ["<information>", *shown, "</information>"]
    golds = [name for answer in body["gold"]["answers"] for name in (answer["text"], *answer.get("aliases", ()))]
    return "".join(parts), golds


# ---- the episodes


def write_episodes(path: Path, total: int) -> int:
    """Write `total` records of eight turns, of PLAYED different episodes; return the bytes of the file."""
    env: Any = gym.make("SearchQA-v0", world="synthetic:natural?entities=1000&seed=0", limits=LIMITS).unwrapped
    records = [_played(env, task, right=bool(i % 2)) for i, task in enumerate(env.tasks("train")[:PLAYED])]
    assert {len(r.turns) for r in records} == {TURNS}
    with path.open("w", encoding="utf-8") as file:
        for i in range(total):
            record = records[i % len(records)]
            file.write(to_line(record.with_(id=f"{record.id}/{i}")) + "\n")
    return path.stat().st_size


def _played(env: Any, task: Any, right: bool) -> Trajectory:
    """Seven searches for growing parts of the question, and the right answer or a wrong one."""
    env.reset(seed=0, options={"task": task})
    words = task.question.split()
    for turn in range(TURNS - 1):
        query = " ".join(words[: 2 + turn]) + f" {turn}"
        env.step(env.dialect.render([ToolCall("search", {"query": query})], env.specs))
    env.step(f"<answer>{task.gold.answers[0].text if right else 'nobody at all'}</answer>")
    return env.trajectory


# ---- measuring


def best_us(work: Callable[[], int], rounds: int) -> float:
    """Return the least CPU microseconds per item of several rounds; `work` returns how many items it did."""
    found = []
    for _ in range(rounds):
        started = time.process_time()
        n = work()
        found.append((time.process_time() - started) / n)
    return 1e6 * min(found)


def measure(path: Path, rounds: int) -> dict[str, float]:
    """Return CPU microseconds per episode of each part, and how often both say that the answer is right."""
    suite: Suite = build_suite("search")
    lines = path.read_text(encoding="utf-8").splitlines()
    kept = list(read_trajectories(path))[:1000]
    transcripts = [transcript_of(line) for line in lines[:1000]]
    done = [suite.rescore(record) for record in kept]
    assert all(again.total == record.total for again, record in zip(done, kept, strict=True)), "re-scoring repeats"
    agree = sum((naive_score(*t)[0] >= 0.8) == r.success for t, r in zip(transcripts, done, strict=True))
    assert agree == len(done), "both find the same answers right"

    def rescored_file() -> int:
        return sum(1 for record in read_trajectories(path) if suite.rescore(record) is not None)

    def naive_file() -> int:
        with path.open(encoding="utf-8") as file:
            return sum(1 for line in file if naive_score(*transcript_of(line)) is not None)

    return {
        "components": len(suite.components),
        "score": best_us(lambda: sum(suite.rescore(r) is not None for r in kept), rounds),
        "naive_score": best_us(lambda: sum(naive_score(*t) is not None for t in transcripts), rounds),
        "file": best_us(rescored_file, rounds),
        "naive_file": best_us(naive_file, rounds),
        "json": best_us(lambda: sum(json.loads(line) is not None for line in lines), rounds),
    }


def page(found: dict[str, float], n: int, size: int, rounds: int) -> str:
    """Return the result as Markdown."""
    f = found
    rows = [
        ("score an episode in memory", f["score"], f["naive_score"]),
        (f"read {n:,} episodes from JSON lines and score them", f["file"], f["naive_file"]),
    ]
    table = "\n".join(f"| {name} | {a:.0f} | {b:.0f} | {a / b:.2f} |" for name, a, b in rows)
    return f"""# Cost of scoring

Written by `make rewards` (`python benchmarks/rewards.py`). CPU time of one core, best of {rounds} rounds, per episode of {TURNS} turns
(seven searches, one answer); {n:,} records of {PLAYED} different episodes, {size / n / 1000:.1f} kB each.

Python {platform.python_version()}, numpy {version("numpy")}, {platform.machine()} {platform.system()}.

| what | `search`, µs | naive, µs | ratio |
|---|---:|---:|---:|
{table}

From the file: {1e6 / f["file"]:,.0f} episodes a second here, {1e6 / f["naive_file"]:,.0f} for the naive formulas; `json.loads` alone is {f["json"]:.0f} µs an episode.

Not the same work: `search` gives {f["components"]} components, those of turns for each of the {TURNS} turns, and a new record that equals the stored one
to the last bit, and its reader checks every field of the record; the naive formulas give two numbers per episode. Both agree about which
answers are right on every episode here. No judge and no model in either.
"""


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trajectories", type=int, default=TRAJECTORIES)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "rewards.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trajectories.jsonl"
        size = write_episodes(path, args.trajectories)
        text = page(measure(path, args.rounds), args.trajectories, size, args.rounds)
    print(text, end="")
    temporary = args.out.with_suffix(".tmp")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
