"""How fast the environment is with several instances at once, and whether recorded training shows that it can be learned."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from agentgym.audit.players import advance, begin, oracle
from agentgym.audit.report import Finding, finding
from agentgym.env import ToolEnv
from agentgym.errors import DataError
from agentgym.jsonl import read_objects
from agentgym.task import Task
from agentgym.types import Trajectory

INSTANCES = 8
SLOWEST = 20.0
"""Turns per CPU second below which the environment would be the bottleneck of any training."""
LEARNED = 0.1
"""Rise of success, first tenth of the steps to last tenth, that counts as learning."""
MEASURE = ("success", "eval/success", "reward/success")


def check_scale(
    tasks: Sequence[Task], records: Sequence[Trajectory], make: Callable[[], ToolEnv], instances: int = INSTANCES
) -> tuple[list[Finding], dict[str, float]]:
    """Play episodes in turn over several instances; compare the records with those of one, and take the CPU time.

    Args:
        tasks: What to play.
        records: The episodes of these tasks, each played alone by the noiseless oracle with key (0, n).
        make: Gives an instance.
        instances: How many.
    """
    envs = [make() for _ in range(instances)]
    alone, _ = _rate(envs[:1], tasks, rounds=1)
    rate, seen = _rate(envs, tasks, rounds=3)
    problem = "" if rate > SLOWEST else f"{rate:.0f} turns per CPU second; the floor is {SLOWEST:g}"
    found = [finding("scales", "throughput over concurrent instances", problem, note=f"{rate:,.0f} turns per CPU second")]
    wrong = [n for n, record in seen.items() if n < len(records) and record.turns != records[n].turns]
    problem = f"task {tasks[wrong[0]].id} goes another way beside {instances - 1} other episodes" if wrong else ""
    found.append(finding("scales", "concurrent instances do not change results", problem, note=f"{instances} instances"))
    return found, {"turns_per_cpu_s": rate, "turns_per_cpu_s_alone": alone, "instances": float(instances)}


def _rate(envs: Sequence[ToolEnv], tasks: Sequence[Task], rounds: int) -> tuple[float, dict[int, Trajectory]]:
    """Return turns per CPU second and the records by task number."""
    seen: dict[int, Trajectory] = {}
    script, turns, spent = oracle(), 0, 0.0
    for start in range(0, len(tasks) * rounds, len(envs)):
        batch = [(n % len(tasks)) for n in range(start, min(start + len(envs), len(tasks) * rounds))]
        players = [begin(env, tasks[n], (0, n)) for env, n in zip(envs, batch, strict=False)]
        while any(not p.env.ended for p in players):
            for player in players:
                if player.env.ended:
                    continue
                action = script(player)
                before = time.process_time()
                advance(player, action)
                spent += time.process_time() - before
                turns += 1
        seen |= {n: p.env.trajectory for n, p in zip(batch, players, strict=True)}
    return turns / max(spent, 1e-9), seen


def check_learned(run: Path | None, steps: int) -> tuple[list[Finding], dict[str, float]]:
    """Read the metrics of a training run: does success rise within a stated number of steps?

    Args:
        run: A run folder or its metrics.jsonl; None: not asked.
        steps: How many steps may be used.

    Raises:
        DataError: The file holds no measure of success.
    """
    name = f"success rises within {steps} training steps"
    if run is None:
        return [Finding("learnable", name, "skip", "no training run was given (--run FOLDER)")], {}
    path = run / "metrics.jsonl" if run.is_dir() else run
    values = _curve(path)[:steps]
    tenth = max(1, len(values) // 10)
    start, end = sum(values[:tenth]) / tenth, sum(values[-tenth:]) / tenth
    problem = "" if end - start >= LEARNED else f"{path}: success went from {start:.2f} to {end:.2f} in {len(values)} steps"
    note = f"from {start:.2f} to {end:.2f} in {len(values)} steps"
    return [finding("learnable", name, problem, note=note)], {"learned_from": start, "learned_to": end, "steps": float(len(values))}


def _curve(path: Path) -> list[float]:
    values = []
    for _, row in read_objects(path):
        if row.get("phase", "train") != "train":
            continue
        metrics = row.get("metrics", row)
        found = next((metrics[name] for name in MEASURE if name in metrics), None)
        if isinstance(found, int | float):
            values.append(float(found))
    if len(values) < 2:
        raise DataError(f"{path}: no row has one of {', '.join(MEASURE)}; give the folder of a training run")
    return values


