"""Runs groups of sibling episodes: the one rollout loop of the project."""

import asyncio
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator

from agentgym.env import ToolEnv
from agentgym.errors import ConfigError, suggestion
from agentgym.rewards import Suite
from agentgym.rollout.batcher import Batcher
from agentgym.rollout.episode import Keep, SamplingConfig, Start, run_episode
from agentgym.rollout.policy import Policy
from agentgym.task import Task
from agentgym.tools.waiting import run_waiting
from agentgym.types import Group, Trajectory

OnTrajectory = Callable[[Trajectory], None]


class EnvPool:
    """Environments of one id and one set of arguments, made once and reused."""

    def __init__(self, env_id: str, **kwargs: Any) -> None:
        """Remember how to make one; the first is made at once, so that bad arguments raise here."""
        check_arguments(env_id, kwargs)
        self.env_id, self.kwargs = env_id, kwargs
        self._free = [self._make()]

    def _make(self) -> ToolEnv:
        env = gym.make(self.env_id, disable_env_checker=True, **self.kwargs).unwrapped
        if not isinstance(env, ToolEnv):
            raise ConfigError(f"{self.env_id} is no agentgym.ToolEnv; rollouts need its record and its messages")
        return env

    @property
    def first(self) -> ToolEnv:
        """An environment to ask for tasks, tools and suite."""
        if not self._free:
            self._free.append(self._make())
        return self._free[0]

    def take(self) -> ToolEnv:
        """Return a free environment, making one if there is none."""
        return self._free.pop() if self._free else self._make()

    def give(self, env: ToolEnv) -> None:
        """Take one back."""
        self._free.append(env)


def check_arguments(env_id: str, kwargs: Mapping[str, Any]) -> None:
    """Raise ConfigError for an argument that the environment does not take (gym.make raises a bare TypeError)."""
    entry_point = gym.spec(env_id).entry_point
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    parameters = inspect.signature(creator).parameters if callable(creator) else {}
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for name in kwargs:
        if name not in parameters:
            allowed = ", ".join(parameters)
            raise ConfigError(f"{env_id} takes no argument {name!r}; allowed: {allowed}{suggestion(name, parameters)}")


@dataclass(frozen=True, slots=True)
class Job:
    """One episode to run."""

    task: Task
    key: tuple[int, ...]
    """Of all its randomness: (run, step, group, member), and for branches what tells them apart."""
    group_id: str
    start: Start | None = None
    """Where a branch begins."""
    keep: Keep | None = None
    """Is handed snapshots."""


async def run_jobs(
    pool: EnvPool,
    policy: Policy,
    jobs: Sequence[Job],
    *,
    sampling: SamplingConfig | None = None,
    concurrency: int = 0,
    max_wait_s: float = 30.0,
    on_trajectory: OnTrajectory | None = None,
    progress: float | None = None,
) -> list[Trajectory]:
    """Run episodes and return their records in the order of the jobs; see `run_groups_async` for the arguments."""
    sampling, batcher = sampling or SamplingConfig(), Batcher(policy, max_wait_s)
    records: dict[int, Trajectory] = {}
    queue = iter(enumerate(jobs))

    async def work() -> None:
        for i, job in queue:
            env = pool.take()
            record = await run_episode(
                env, batcher, job.task, job.key, sampling, job.group_id, progress, start=job.start, keep=job.keep
            )
            pool.give(env)
            records[i] = record
            if on_trajectory is not None:
                on_trajectory(record)
        batcher.leave()

    n_workers = min(concurrency or len(jobs), len(jobs))
    batcher.enter(n_workers)
    workers = [asyncio.ensure_future(work()) for _ in range(n_workers)]
    try:
        await asyncio.gather(*workers)
    finally:  # where one failed (a record that cannot be written), the others end with it
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
    return [records[i] for i in range(len(jobs))]


async def run_groups_async(
    pool: EnvPool,
    policy: Policy,
    tasks: Sequence[Task],
    *,
    group_size: int,
    key: tuple[int, int],
    sampling: SamplingConfig | None = None,
    concurrency: int = 0,
    max_wait_s: float = 30.0,
    on_trajectory: OnTrajectory | None = None,
    done: Mapping[tuple[int, int], Trajectory] | None = None,
    progress: float | None = None,
    keeper: Callable[[int, int], Keep] | None = None,
) -> list[Group]:
    """Run `group_size` episodes of every task.

    Args:
        pool: Where environments come from.
        policy: Who acts; behind one batcher for all episodes.
        tasks: One group each.
        group_size: Siblings per group.
        key: (run seed, step): with group and member it keys all randomness, so that results do not depend
            on `concurrency`.
        sampling: Temperature and token limits.
        concurrency: Episodes at once; 0 is all of them.
        max_wait_s: See Batcher.
        on_trajectory: Called with every new record as soon as its episode ends.
        done: Records by (group, member) that need not run again.
        progress: Of training, 0 to 1, for suites with a schedule.
        keeper: (group, member) -> what takes the snapshots of that episode (`agentgym.rollout.branch`).

    Returns:
        One Group per task, in order; a crashed sibling is a Trajectory with its end_reason.
    """
    if group_size < 1:
        raise ConfigError(f"group_size is {group_size}; allowed: 1 or more")
    if concurrency < 0:
        raise ConfigError(f"concurrency is {concurrency}; allowed: 0 (all episodes at once) or more")
    records: dict[tuple[int, int], Trajectory] = dict(done or {})
    places = [(g, m) for g in range(len(tasks)) for m in range(group_size) if (g, m) not in records]
    jobs = [
        Job(tasks[g], (*key, g, m), f"{key[0]}/{key[1]}/{g}", keep=keeper(g, m) if keeper is not None else None)
        for g, m in places
    ]
    found = await run_jobs(
        pool, policy, jobs, sampling=sampling, concurrency=concurrency, max_wait_s=max_wait_s,
        on_trajectory=on_trajectory, progress=progress,
    )  # fmt: skip
    records |= dict(zip(places, found, strict=True))
    return [
        Group(f"{key[0]}/{key[1]}/{g}", task.id, tuple(records[g, m] for m in range(group_size)))
        for g, task in enumerate(tasks)
    ]


def transform_groups(suite: Suite, groups: Sequence[Group]) -> list[Group]:
    """Return the groups with the suite's group transforms applied, from stored raw values alone."""
    if not suite.group_transforms:
        return list(groups)
    done = iter(suite.transform_groups([t for g in groups for t in g.trajectories]))
    return [Group(g.id, g.task_id, tuple(next(done) for _ in g.trajectories)) for g in groups]


def run_groups(pool: EnvPool, policy: Policy, tasks: Sequence[Task], **options: Any) -> list[Group]:
    """Run `run_groups_async` to its end, also from a notebook, whose thread runs an event loop already."""
    return run_waiting(run_groups_async(pool, policy, tasks, **options))
