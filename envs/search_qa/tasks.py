"""Where SearchQA's tasks and corpora come from, cached per process."""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentgym import worlds
from agentgym.errors import ConfigError
from agentgym.retrieval import Retriever
from agentgym.retrieval.backends import retriever_factory
from agentgym.task import Task, TaskSource
from agentgym.worlds.readers import read_tasks

DEFAULT_WORLD = "synthetic:natural?entities=1000&seed=0"
CACHED_CORPORA = 320
"""Corpora of small worlds kept in memory: more than the worlds of one training run."""

_corpora: OrderedDict[tuple[str, str], Retriever] = OrderedDict()


class TaskList(TaskSource):
    """Tasks that the caller made; every split name gives all of them."""

    default_split = "all"

    def __init__(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks. Raises ConfigError for an empty list or duplicate ids."""
        self._tasks = {t.id: t for t in tasks}
        if not tasks or len(self._tasks) != len(tasks):
            problem = "the list is empty" if not tasks else "two tasks have the same id"
            raise ConfigError(f"tasks=: {problem}; give at least one Task, each with an id of its own")

    def __deepcopy__(self, memo: object) -> "TaskList":
        """Return itself: gymnasium copies keyword arguments."""
        return self

    def split(self, name: str) -> Sequence[Task]:
        """Return all tasks."""
        return tuple(self._tasks.values())

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task."""
        return self.split(name)[int(rng.integers(len(self._tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task by id."""
        if task_id not in self._tasks:
            raise ConfigError(f"no task has the id {task_id!r}; the list holds {len(self._tasks)}")
        return self._tasks[task_id]


def open_source(world: Any, tasks: Any) -> TaskSource:
    """Return the task source of `gym.make`'s arguments.

    Args:
        world: A spec such as "synthetic:closed", a World, or a TaskSource of worlds; None for the default.
        tasks: A question file, a list of Tasks or a TaskSource; None takes the world's own questions.

    Raises:
        ConfigError: For anything else.
    """
    if tasks is not None:
        if isinstance(tasks, str | Path):
            return read_tasks(tasks)
        if isinstance(tasks, TaskSource):
            return tasks
        if isinstance(tasks, Sequence) and all(isinstance(t, Task) for t in tasks):
            return TaskList(tasks)
        raise ConfigError(f"tasks={tasks!r:.80}: give a question file, a list of Task, or a TaskSource")
    if world is None:
        world = DEFAULT_WORLD
    if isinstance(world, TaskSource):
        return world
    if isinstance(world, worlds.World):
        return worlds.SyntheticTasks(world.spec)
    if isinstance(world, str):
        return worlds.SyntheticTasks.parse(world)
    raise ConfigError(f"world={world!r:.80}: give a spec such as {DEFAULT_WORLD!r}, a World, or a TaskSource")


def corpus_of(task: Task, backend: str) -> Retriever:
    """Return the retriever over the task's own world, from the cache if it is there."""
    if not task.world:
        raise ConfigError(f"task {task.id!r} names no world; give gym.make an index= or retriever= to search")
    key = (task.world, backend)
    if key in _corpora:
        _corpora.move_to_end(key)
        return _corpora[key]
    _corpora[key] = retriever_factory(backend)(worlds.world(task.world).passages())
    while len(_corpora) > CACHED_CORPORA:
        _corpora.popitem(last=False)
    return _corpora[key]
