"""Branches in training: counterfactual credit and trees beside turn credit, at equal CPU time, on the tiny policy.

    python benchmarks/branches.py                  # three seeds, about 15 CPU minutes; goes on where it stopped
    python benchmarks/branches.py --seeds 5        # more seeds
    python benchmarks/branches.py --report         # only write the page anew

All runs begin with the same weights, have the same reward and the same objective, E[outcome] + E[sum of turn scores],
and stop after the same CPU time of learning; a step with branches costs more. Writes results/branches.md, .svg, .jsonl.
"""

import argparse
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pictures
import tiny_runs
from hard_start import REWARD
from tiny_runs import Cells, ClosedWorlds, Start, pool_of, success_on

from agentgym.credit import CreditConfig
from agentgym.errors import TrainingStopped
from agentgym.learn.config import LearnConfig, TrainConfig
from agentgym.learn.learner import Learner
from agentgym.policies.hf import tiny
from agentgym.rollout import EnvPool
from agentgym.rollout.branch import BranchConfig, run_branched_async
from agentgym.task import Task

HERE = Path(__file__).resolve().parent
KINDS, FIRST_WORLD = ("3a", "3b"), 110_000
"""Three-hop questions of worlds that no default was chosen on."""
NOISE, WARM_STEPS, BAND = 0.5, (100, 150, 200, 250, 300), (0.1, 0.35)
"""The first warm start whose success lies in the band is where all runs begin."""
CPU_S, EVERY_S, PROMPTS, TASKS = 75.0, 15.0, 8, 200
RUNS: dict[str, tuple[CreditConfig, BranchConfig, int]] = {
    "turn": (CreditConfig(turn_weight=1.0, scale="none"), BranchConfig(), 8),
    "counterfactual": (
        CreditConfig(recipe="counterfactual", options={"weight": 1.0}),
        BranchConfig(mode="turns", continuations=2, share=0.5),
        8,
    ),
    "tree": (CreditConfig(turn_weight=1.0, scale="none"), BranchConfig(mode="tree", continuations=4, budget=40), 4),
}
"""Credit, branches, and group size."""
SAID = {
    "turn": "`turn_grpo`, turn_weight 1, scale none, 8 tasks x 8 episodes a step",
    "counterfactual": "`counterfactual` with weight 1: the same episodes, and from half of their turns two continuations that only measure",
    "tree": "`turn_grpo` as above on 8 tasks x 4 episodes and trees of up to 40 further completions a task, groups of 4",
}


def learn(pool: EnvPool, start: Start, name: str, seed: int) -> dict[str, Any]:
    """Learn for `CPU_S` seconds of CPU time; return held-out success every `EVERY_S`, and what was played by then."""
    credit, branch, group = RUNS[name]
    policy = tiny.load(seed=0)
    policy.load(start.model)
    policy.sync(0)

    def rollout(acting: Any, tasks: Sequence[Task], **how: Any) -> Any:
        return run_branched_async(pool, acting, tasks, branch=branch, sampling=tiny_runs.SAMPLING, **how)

    train = TrainConfig(steps=100_000, schedule="constant", n_prompts=PROMPTS, group_size=group)
    config = LearnConfig(seed=seed, train=train, credit=credit)
    points, stopped, episodes, continued = [], "", 0.0, 0.0
    with Learner(config, policy, rollout, pool.first.source, tokens_per_episode=start.tokens_per_episode) as learner:
        for until in np.arange(EVERY_S, CPU_S + 1e-9, EVERY_S):
            while learner.cpu_s < until and not stopped:
                try:
                    m = learner.step().metrics
                except TrainingStopped as error:
                    stopped = str(error).split(".")[0]
                    break
                episodes += PROMPTS * group
                continued += m.get("branch/episodes", 0.0)
            played = {"steps": learner.steps_done, "episodes": episodes, "branches": continued, "cpu_s": round(learner.cpu_s, 2)}
            found = success_on(pool, policy, TASKS, seed)
            points.append({**played, "success": round(found["success"], 4), "turns": round(found["turns"], 2)})
    return {"points": points, "stopped": stopped}


def main(arguments: Sequence[str]) -> int:
    """Run what is missing, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--report", action="store_true", help="run nothing, write the page")
    parser.add_argument("--results", type=Path, default=HERE / "results")
    parser.add_argument("--runs", type=Path, default=HERE.parent / "runs" / "branches", help="where the warm starts are kept")
    args = parser.parse_args(arguments)
    cells, pool = Cells(args.results / "branches.jsonl"), pool_of(ClosedWorlds(KINDS, FIRST_WORLD, n_dev=16), REWARD)
    for seed, name in itertools.product(range(0 if args.report else args.seeds), RUNS):
        if f"{name}-s{seed}" in cells.rows:
            continue
        rows = tiny_runs.warm_starts(args.runs, pool, NOISE, WARM_STEPS, n_tasks=TASKS)
        inside = [row for row in rows if BAND[0] <= row["success"] <= BAND[1]]
        if not inside:
            raise SystemExit(f"no warm start with success in {BAND}: {[round(row['success'], 3) for row in rows]}")
        warm = inside[0]
        found = learn(pool, Start(Path(warm["path"]), warm["c"]), name, seed)
        cells.add({"id": f"{name}-s{seed}", "name": name, "seed": seed, "warm": warm["success"], "warm_steps": warm["steps"], **found})
        print(f"{name}-s{seed}: {warm['success']:.3f} ->", *(f"{p['success']:.3f}" for p in found["points"]), found["stopped"], flush=True)
    if cells.rows:
        (args.results / "branches.svg").write_text(picture(cells), encoding="utf-8")
        (args.results / "branches.md").write_text(page(cells), encoding="utf-8")
    return 0


def picture(cells: Cells) -> str:
    """Return the curves against CPU time."""
    series = {
        name: [
            [(0.0, row["warm"]), *(((i + 1) * EVERY_S, p["success"]) for i, p in enumerate(row["points"]))]
            for row in cells.rows.values() if row["name"] == name
        ]
        for name in RUNS
    }  # fmt: skip
    words = f"three-hop questions of worlds never trained on, one objective; evaluated every {EVERY_S:g} CPU-s"
    return pictures.curves("Held-out success with and without branches", words, series, "CPU seconds of learning", 1.0)


def page(cells: Cells) -> str:
    """Return the result as Markdown."""
    rows = sorted(cells.rows.values(), key=lambda row: (list(RUNS).index(row["name"]), row["seed"]))
    n_seeds = len({row["seed"] for row in rows})
    few = "One seed: a difference of a few hundredths says nothing." if n_seeds == 1 else f"{n_seeds} seeds, all shown."
    marks = [f"{(i + 1) * EVERY_S:g} s" for i in range(len(rows[0]["points"]))]
    lines = [
        "# Branches beside turn credit",
        "",
        f"`make branches` runs this anew. {tiny_runs.versions()}. {few}",
        "",
        f"Three-hop questions of closed worlds from seed {FIRST_WORLD} on. All runs begin at {rows[0]['warm']:.3f} held-out"
        f" success (imitation of demonstrations with noise {NOISE}, {rows[0]['warm_steps']} steps: the first warm start with"
        f" success in {BAND[0]:g} to {BAND[1]:g}) and follow one objective, E[outcome] + E[sum of turn scores], with the"
        f" reward `{REWARD}`. Each learns for {CPU_S:g} seconds of CPU time; {TASKS} held-out questions an evaluation.",
        "",
        *(f"- `{name}`: {words}" for name, words in SAID.items()),
        "",
        "![Held-out success](branches.svg)",
        "",
        "| run | seed | " + " | ".join(marks) + " | steps | episodes | continuations | turns at the end |",
        "|---|---|" + "---|" * (len(marks) + 4),
    ]
    for row in rows:
        last = row["points"][-1]
        values = " | ".join(f"{p['success']:.2f}" for p in row["points"])
        note = " (stopped by a guard)" if row["stopped"] else ""
        lines.append(
            f"| {row['name']}{note} | {row['seed']} | {values} | {last['steps']} | {last['episodes']:,.0f} | {last['branches']:,.0f} | {last['turns']:.1f} |"
        )
    lines += ["", "At an equal number of episodes that are learned from (of `tree` its continuations too):", "", *by_episodes(rows)]
    return "\n".join([*lines, "", *verdict(rows)]) + "\n"


def by_episodes(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return success where each run has learned from as many episodes as the one with the fewest at its end."""
    fewest = min(learned(row, row["points"][-1]) for row in rows)
    lines = ["| run | seed | episodes | success |", "|---|---|---|---|"]
    for row in rows:
        xs = [0.0, *(learned(row, p) for p in row["points"])]
        ys = [row["warm"], *(p["success"] for p in row["points"])]
        lines.append(f"| {row['name']} | {row['seed']} | {fewest:,.0f} | {np.interp(fewest, xs, ys):.2f} |")
    return lines


def learned(row: dict[str, Any], point: dict[str, Any]) -> float:
    """Return how many episodes had been learned from at a point."""
    return point["episodes"] + (point["branches"] if row["name"] == "tree" else 0.0)


def verdict(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Return what the numbers say, in a sentence for each comparison."""
    end = {(row["name"], row["seed"]): row["points"][-1]["success"] for row in rows}
    said = []
    for name in RUNS:
        gaps = [end[name, s] - end["turn", s] for n, s in end if n == name and ("turn", s) in end] if name != "turn" else []
        if gaps:
            shown = ", ".join(f"{g:+.2f}" for g in gaps)
            said.append(f"`{name}` minus `turn` after {CPU_S:g} CPU-s, by seed: {shown}.")
    return [" ".join(said)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
