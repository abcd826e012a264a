"""Where SearchQA's tasks and corpora come from, cached per process."""

from collections import OrderedDict
from typing import Any

from agentgym import worlds
from agentgym.errors import ConfigError
from agentgym.retrieval import Retriever
from agentgym.retrieval.backends import retriever_factory
from agentgym.task import Task, TaskSource
from agentgym.worlds.readers import open_tasks

DEFAULT_WORLD = "synthetic:natural?entities=1000&seed=0"
CACHED_CORPORA = 320
"""Corpora of small worlds kept in memory: more than the worlds of one training run."""

_corpora: OrderedDict[tuple[str, str], Retriever] = OrderedDict()


def open_source(world: Any, tasks: Any) -> TaskSource:
    """Return the task source of `gym.make`'s arguments.

    Args:
        world: A spec such as "synthetic:closed", a World, or a TaskSource of worlds; None for the default.
        tasks: A question file, a list of Tasks or a TaskSource; None takes the world's own questions.

    Raises:
        ConfigError: For anything else.
    """
    if tasks is not None:
        return open_tasks(tasks)
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
