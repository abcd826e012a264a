"""Search turns per CPU second, client and server counted: SearchQA beside the search environments of skyrl-gym and gem.

    make extra-peers; python benchmarks/env_throughput.py      # writes benchmarks/results/env_throughput.md

All play the same actions over the same passages: three searches and an answer for each question. Those of others search
through `agentgym serve retrieval`, which is cheaper than the servers they come with, and skyrl-gym also through a plain
FastAPI server; ours searches in its own process, and, for comparison, through our server, alone and 64 at once. CPU time is user and system time of the process that
steps plus that of the server. What the search itself costs is measured apart and gives our own overhead.
"""

import argparse
import asyncio
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gymnasium as gym
from retrieval_server import running

from agentgym.atomic import write_text
from agentgym.retrieval import build_index, open_retriever
from agentgym.worlds.readers import read_tasks

RESULTS = Path(__file__).parent / "results"
PEERS = Path(os.environ.get("AGENTGYM_PEERS_PYTHON", ".venv-peers/bin/python"))
TOPK, ROUNDS, WAVE = 3, 3, 64
TARGET_RATIO, TARGET_US, AIM_US = 5.0, 150.0, 50.0


def episodes_of(tasks: list[Any], corpus: Any) -> list[dict[str, Any]]:
    """Return for each task three searches (the question, and the titles of what is found first) and the answer."""
    episodes = []
    for task in tasks:
        titles = [hit.passage.title for hit in corpus.search(task.question, 2)]
        answer = task.gold.answers[0].text
        searches = [f"<search>{text}</search>" for text in (task.question, *titles)]
        episodes.append({"task": task.id, "question": task.question, "answer": answer, "actions": [*searches, f"<answer>{answer}</answer>"]})
    return episodes


def cpu_of(process: subprocess.Popen[Any]) -> float:
    """Return user and system seconds of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def server(index: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Run our server over an index."""
    command = [sys.executable, "-m", "agentgym", "serve", "retrieval", str(index), "--port", "0", "--json", "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = json.loads(process.stdout.readline())["url"]
        open_retriever_when_ready(url)
        yield url, process
    finally:
        process.terminate()
        process.wait()


def open_retriever_when_ready(url: str) -> None:
    """Wait until a server answers."""
    from agentgym.retrieval.client import RemoteRetriever

    RemoteRetriever(url).search("ready", 1)


def make(tasks: Any, **kwargs: Any) -> Any:
    """Return SearchQA as it is by default, but for budgets that the three searches need."""
    return gym.make("SearchQA-v0", tasks=tasks, k=TOPK, disable_env_checker=True, **kwargs)


def stepped(env: Any, episodes: list[dict[str, Any]]) -> int:
    """Play all episodes in one environment; return the number of turns."""
    turns = 0
    for episode in episodes:
        env.reset(options={"task": episode["task"]})
        for action in episode["actions"]:
            _, _, terminated, truncated, _ = env.step(action)
            turns += 1
        assert terminated
        assert not truncated
    return turns


def gathered(envs: list[Any], episodes: list[dict[str, Any]]) -> int:
    """Play episodes in waves of one turn of every environment; return the number of turns."""

    async def play() -> int:
        turns = 0
        for start in range(0, len(episodes), len(envs)):
            group = list(zip(envs, episodes[start : start + len(envs)], strict=False))
            for env, episode in group:
                env.reset(options={"task": episode["task"]})
            for n in range(len(group[0][1]["actions"])):
                await asyncio.gather(*(env.astep(episode["actions"][n]) for env, episode in group))
                turns += len(group)
        return turns

    return asyncio.run(play())


def spent(run: Callable[[], int], process: subprocess.Popen[Any] | None = None) -> dict[str, float]:
    """Return turns, and the CPU seconds of this process and of a server, of the cheapest of several rounds."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        before = cpu_of(process) if process else 0.0
        started = time.process_time()
        turns = run()
        row = {"turns": turns, "client_s": time.process_time() - started, "server_s": (cpu_of(process) if process else 0.0) - before}
        if not best or row["client_s"] + row["server_s"] < best["client_s"] + best["server_s"]:
            best = row
    return best


def peer(name: str, url: str, process: subprocess.Popen[Any], given: Path) -> dict[str, float]:
    """Return the same for an environment of others, in a process of its own."""
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        command = [str(PEERS), str(Path(__file__).with_name("peer_turns.py")), name, url, str(given)]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdin is not None
        assert child.stdout is not None
        while (line := child.stdout.readline()) and line != "warm\n":
            pass
        before = cpu_of(process)
        child.stdin.write("\n")
        child.stdin.flush()
        told = json.loads(child.stdout.readline())
        row = {"turns": told["turns"], "client_s": told["cpu_s"], "server_s": cpu_of(process) - before}
        child.communicate()
        if not best or row["client_s"] + row["server_s"] < best["client_s"] + best["server_s"]:
            best = row
    return best


def main() -> int:
    """Measure, print, write; exit code 1 where a target is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGENTGYM_DATA", "../shared/data")) / "qa")
    parser.add_argument("--set", default="hotpotqa")
    parser.add_argument("--episodes", type=int, default=300)
    parser.add_argument("--out", type=Path, default=RESULTS / "env_throughput.md")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "ix"
        build_index(args.data / f"{args.set}.corpus.jsonl", index)
        corpus = open_retriever(index)
        questions = args.data / f"{args.set}.questions.jsonl"
        tasks = list(read_tasks(questions))[: args.episodes]
        episodes = episodes_of(tasks, corpus)
        given = Path(folder) / "episodes.json"
        given.write_text(json.dumps({"topk": TOPK, "episodes": episodes}), encoding="utf-8")
        rows = measured(tasks, episodes, index, corpus, given)
    lines = page(rows, args, len(corpus))
    print(lines, end="")
    write_text(args.out, lines)
    write_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    return int(min(rows["ratios"].values(), default=0) < TARGET_RATIO or rows["overhead_us"] >= TARGET_US)


def measured(tasks: Any, episodes: list[dict[str, Any]], index: Path, corpus: Any, given: Path) -> dict[str, Any]:
    """Return all rows, the ratios and the overhead."""
    env = make(tasks, index=index)
    stepped(env, episodes[:10])
    rows: dict[str, Any] = {"SearchQA, index in process": spent(lambda: stepped(env, episodes))}
    envs = [make(tasks, index=index).unwrapped for _ in range(WAVE)]
    rows[f"SearchQA, {WAVE} in waves, index in process"] = spent(lambda: gathered(envs, episodes))
    queries = [a[len("<search>") : -len("</search>")] for e in episodes for a in e["actions"][:-1]]
    bare = spent(lambda: sum(bool(corpus.search(query, TOPK)) for query in queries))
    with server(index) as (url, process):
        remote = make(tasks, retriever=url)
        stepped(remote, episodes[:10])
        rows["SearchQA, our server"] = spent(lambda: stepped(remote, episodes), process)
        remotes = [make(tasks, retriever=url).unwrapped for _ in range(WAVE)]
        rows[f"SearchQA, {WAVE} in waves, our server"] = spent(lambda: gathered(remotes, episodes), process)
        if PEERS.exists():
            for name, label in (("skyrl", "skyrl-gym SearchEnv, our server"), ("gem", "gem QaEnv and SearchTool, our server")):
                rows[label] = peer(name, url, process, given)
    if PEERS.exists():
        with running("FastAPI", index) as (port, process):
            url = f"http://127.0.0.1:{port}/retrieve"
            rows["skyrl-gym SearchEnv, plain FastAPI server"] = peer("skyrl", url, process, given)
    for row in rows.values():
        row["per_cpu_s"] = row["turns"] / (row["client_s"] + row["server_s"])
    ours = rows["SearchQA, index in process"]
    ratios = {name: ours["per_cpu_s"] / row["per_cpu_s"] for name, row in rows.items() if not name.startswith("SearchQA")}
    overhead = 1e6 * (ours["client_s"] - bare["client_s"]) / ours["turns"]
    return {"rows": rows, "ratios": ratios, "bare_us": 1e6 * bare["client_s"] / len(queries), "overhead_us": overhead}


def page(found: dict[str, Any], args: argparse.Namespace, n_passages: int) -> str:
    """Return the results as Markdown."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("gymnasium", "numpy", "httpx", "uvicorn"))
    table = [
        f"| {name} | {row['turns']:,.0f} | {1e6 * row['client_s'] / row['turns']:.0f} | {1e6 * row['server_s'] / row['turns']:.0f}"
        f" | {row['per_cpu_s']:,.0f} | {found['rows']['SearchQA, index in process']['per_cpu_s'] / row['per_cpu_s']:.1f} |"
        for name, row in found["rows"].items()
    ]
    return "\n".join(
        [
            "# Search turns per CPU second",
            "",
            f"Written by `python benchmarks/env_throughput.py --set {args.set} --episodes {args.episodes}`. Python"
            f" {platform.python_version()}, {packages}, skyrl-gym 0.4.0, gem-llm 0.1.0, {platform.machine()} {platform.system()}.",
            "",
            f"{args.episodes} episodes of three searches and an answer over {n_passages:,} passages, {TOPK} passages a search;"
            f" the cheapest of {ROUNDS} rounds. CPU microseconds per turn of the process that steps and of the server.",
            "",
            "| environment | turns | client µs | server µs | turns per CPU second | ours in process is so many times as fast |",
            "|---|---:|---:|---:|---:|---:|",
            *table,
            "",
            f"A bare search costs {found['bare_us']:.0f} µs. SearchQA's own share of a turn (parsing, limits, rendering, rewards,"
            f" records; resets included) is {found['overhead_us']:.0f} µs; the target is under {TARGET_US:.0f}, the aim {AIM_US:.0f}.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
