"""What the learning benchmarks share: closed worlds by seed, cached warm starts, one learning run, files of results."""

import contextlib
import json
import logging
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentgym import hooks
from agentgym.errors import TrainingStopped
from agentgym.learn.config import LearnConfig
from agentgym.learn.learner import Learner
from agentgym.learn.sft import SftConfig, WarmStart, demonstration
from agentgym.policies.hf import tiny
from agentgym.policies.scripted import ScriptedPolicy
from agentgym.rollout import EnvPool, EvalConfig, SamplingConfig, evaluate, run_groups, run_groups_async
from agentgym.rollout.demonstrate import Demonstrator
from agentgym.seeding import stream
from agentgym.task import Task, TaskSource
from agentgym.types import TokenRows, Trajectory
from agentgym.worlds import WorldSpec, world

SAMPLING = SamplingConfig(max_tokens=8)
HELD_OUT = 1_000_000_000
"""First seed of the closed worlds that are nobody's training worlds."""

torch.set_num_threads(1)
logging.disable(logging.WARNING)


class ClosedWorlds(TaskSource):
    """Questions of some kinds over closed worlds from a given seed on; splits train and dev."""

    default_split = "train"

    def __init__(self, kinds: Sequence[str], first: int, n_train: int = 128, n_dev: int = 8) -> None:
        """Name the worlds `first` to `first + n_train - 1`, and those of the held-out seeds likewise."""
        self.kinds = tuple(kinds)
        self._seeds = {"train": range(first, first + n_train), "dev": _held_out(first, n_dev)}
        self._splits: dict[str, Sequence[Task]] = {}

    def __deepcopy__(self, memo: object) -> "ClosedWorlds":
        """Return itself: gymnasium copies keyword arguments."""
        return self

    def split(self, name: str) -> Sequence[Task]:
        """Return the tasks of a split: worlds in turn."""
        if name not in self._splits:
            per_world = [self._tasks(seed, name) for seed in self._seeds[name]]
            self._splits[name] = [task for tasks in zip(*per_world, strict=True) for task in tasks]
        return self._splits[name]

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task of a split."""
        tasks = self.split(name)
        return tasks[int(rng.integers(len(tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task by id."""
        return next(t for name in self._seeds for t in self.split(name) if t.id == task_id)

    def _tasks(self, seed: int, split: str) -> list[Task]:
        tasks = [t for t in world(WorldSpec("closed", seed=seed)).tasks(split) if t.kind in self.kinds]
        # Shifted by the seed, so that the first tasks of all worlds together are of every kind.
        shift = seed % len(self.kinds)
        return tasks[shift:] + tasks[:shift]


def _held_out(first: int, n: int) -> range:
    start = HELD_OUT + first // 10
    return range(start, start + n)


def pool_of(source: TaskSource, reward: Any = "search") -> EnvPool:
    """Return environments over these tasks, as the default recipe sets them."""
    return EnvPool("SearchQA-v0", world=source, observation="compact", k=2, reward=reward)


def success_on(pool: EnvPool, policy: Any, n_tasks: int, seed: int) -> dict[str, float]:
    """Return sampled success, its count, and turns on the first held-out tasks."""
    tasks = pool.first.source.split("dev")[:n_tasks]
    result, _ = evaluate(pool, policy, tasks, EvalConfig(seed=seed, concurrency=n_tasks, sampling=SAMPLING))
    m = result.measures
    kinds = {kind: round(row["success"], 4) for kind, row in sorted(result.by_kind.items())}
    return {"success": m["success"].mean, "n": float(len(tasks)), "turns": m["turns"].mean, "kinds": kinds}  # type: ignore


# ---- warm starts ----------------------------------------------------------------------------------


def demonstrations(pool: EnvPool, policy: Any, n: int, noise: float, seed: int) -> list[TokenRows]:
    """Return episodes of the careless scripted policy as rows of tokens."""
    rng, source = stream(seed, "demonstrations"), pool.first.source
    tasks = [source.sample("train", rng) for _ in range(n)]
    sampling = replace(SAMPLING, oracle_noise=noise)
    writer = Demonstrator(ScriptedPolicy(), policy)
    groups = run_groups(pool, writer, tasks, group_size=1, key=(seed, -1), sampling=sampling, concurrency=64, progress=0.0)
    return [demonstration(t) for g in groups for t in g.trajectories if t.segments]


def warm_starts(
    folder: Path, pool: EnvPool, noise: float, steps: Sequence[int], *, n_demonstrations: int = 1_500, n_tasks: int = 200
) -> list[dict[str, Any]]:
    """Imitate noisy demonstrations, keep the weights after each of `steps`, and return what each one can do.

    What is in the folder already is not computed again.
    """
    listing = folder / "warm.json"
    if listing.exists():
        return json.loads(listing.read_text(encoding="utf-8"))
    policy = tiny.load(seed=0)
    config = SftConfig(steps=max(steps))
    warm = WarmStart(config, policy, demonstrations(pool, policy, n_demonstrations, noise, 0), 0)
    found = []
    while warm.steps_done < config.steps:
        warm.step()
        if warm.steps_done in steps:
            policy.sync(0)
            path = folder / f"{warm.steps_done:04d}"
            path.mkdir(parents=True, exist_ok=True)
            policy.save(path)
            row = {"steps": warm.steps_done, "noise": noise, "path": str(path), "c": warm.tokens_per_episode}
            found.append(row | success_on(pool, policy, n_tasks, 0))
    write_json(listing, found)
    return found


# ---- learning -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Start:
    """Where learning begins."""

    model: Path
    tokens_per_episode: float


def learn(
    pool: EnvPool,
    start: Start,
    config: LearnConfig,
    evaluate_at: Sequence[int],
    *,
    n_tasks: int = 200,
    complete: Callable[[Sequence[Trajectory]], Sequence[Trajectory]] | None = None,
    every: int = 5,
) -> dict[str, Any]:
    """Learn from the start's weights; return the evaluations and a thinned curve.

    Args:
        pool: Environments.
        start: Weights and the loss constant.
        config: Recipe; `train.steps` steps are taken.
        evaluate_at: Learner steps after which held-out success is measured.
        n_tasks: Held-out tasks of an evaluation.
        complete: Changes the episodes of a step before credit is computed.
        every: Steps of the curve that become one point (means).
    """
    policy = tiny.load(seed=0)
    policy.load(start.model)
    policy.sync(0)

    def rollout(acting: Any, tasks: Sequence[Task], **group: Any) -> Any:
        return run_groups_async(pool, acting, tasks, sampling=SAMPLING, **group)

    evaluations, curve, rows, stopped = [], [], [], ""
    wall = time.monotonic()
    with Learner(config, policy, rollout, pool.first.source, complete=complete, tokens_per_episode=start.tokens_per_episode) as learner:
        while learner.steps_done < config.train.steps:
            try:
                rows.append(learner.step().metrics)
            except TrainingStopped as error:
                stopped = str(error).split(".")[0]
                break
            if len(rows) == every:
                curve.append({n: round(float(np.mean([m[n] for m in rows])), 4) for n in CURVE})
                rows = []
            if learner.steps_done in evaluate_at:
                row = {"step": learner.steps_done, "cpu_s": round(learner.cpu_s, 3)}
                evaluations.append(row | success_on(pool, policy, n_tasks, config.seed))
        return {
            "evaluations": evaluations,
            "curve": curve,
            "every": every,
            "steps": learner.steps_done,
            "cpu_s": round(learner.cpu_s, 3),
            "wall_s": round(time.monotonic() - wall, 1),
            "stopped": stopped,
        }


CURVE = ("success", "reward", "turns", "entropy", "zero_variance_share")


# ---- noise ----------------------------------------------------------------------------------------


def tell_wrongly(chance: float, seed: int, name: str = "retrieval_gain") -> Callable[[Sequence[Trajectory]], list[Trajectory]]:
    """Return a change of episodes: with this chance a turn's score of `name` is told wrongly.

    A turn that earned it gets 0; a turn that earned nothing gets what one gold passage pays. The draw is keyed by the
    episode, so that every recipe of a seed meets the same noise stream.
    """

    def one(trajectory: Trajectory) -> Trajectory:
        rng, turns = stream(seed, "told wrongly", *trajectory.seed), []
        unit = 1.0 / max(1, len((trajectory.gold or {}).get("doc_ids", ())))
        for turn in trajectory.turns:
            score = turn.scores.get(name)
            if rng.random() < chance and score is not None:
                raw = 0.0 if score.value > 0 else unit
                told = replace(score, raw=raw, value=raw * score.weight)
                turn = replace(turn, scores={**turn.scores, name: told}, reward=turn.reward + told.value - score.value)
            turns.append(turn)
        return replace(trajectory, turns=tuple(turns))

    return lambda trajectories: [one(t) for t in trajectories]


# ---- files ----------------------------------------------------------------------------------------


def write_json(path: Path, value: Any) -> None:
    """Write a file through a temporary name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.tmp")
    draft.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


class Cells:
    """Results of independent runs, one JSON line each: appended as they come, read back to skip what is done."""

    def __init__(self, path: Path) -> None:
        """Read what there is; a last line that a kill cut off is dropped."""
        self.path, self.rows = path, {}
        for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
            with contextlib.suppress(json.JSONDecodeError):
                row = json.loads(line)
                self.rows[row["id"]] = row

    def add(self, row: dict[str, Any]) -> None:
        """Append one result."""
        self.rows[row["id"]] = row
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def versions() -> str:
    """Return what the numbers depend on."""
    names = ", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "numpy"))
    return f"Python {platform.python_version()}, {names}; one thread; {platform.machine()}"


def register_recipe(name: str, factory: Callable[..., Any]) -> None:
    """Register a credit recipe of the benchmark's own, once."""
    if name not in hooks.RECIPES:
        hooks.RECIPES.add(name, factory)


