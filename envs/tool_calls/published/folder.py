"""What published task sets share: files with clear complaints, tasks built when asked for, splits."""

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from agentgym.envs.tool_calls.domain import Domain
from agentgym.errors import ConfigError, DataError, suggestion
from agentgym.task import Task
from agentgym.worlds.world import LazyTasks

CACHED = 4_096


class Published(ABC):
    """A task source with domains over one published set."""

    default_split = "all"

    def __init__(self, world: str, ids: Sequence[str], splits: Mapping[str, Sequence[str]] | None = None) -> None:
        """Offer tasks by id; `splits` names some of them, "all" is always there."""
        known = set(ids)
        self.world, self.ids = world, tuple(ids)
        self.splits = {"all": self.ids} | {n: kept for n, names in (splits or {}).items() if (kept := tuple(i for i in names if i in known))}
        self._built = lru_cache(maxsize=CACHED)(self.build)
        if not ids:
            raise DataError(f"world {world!r}: no tasks were found")

    def __deepcopy__(self, memo: object) -> "Published":
        """Return itself: gymnasium copies keyword arguments."""
        return self

    @abstractmethod
    def build(self, task_id: str) -> Task:
        """Build a task that the set has."""

    @abstractmethod
    def domain(self, task: Task) -> Domain:
        """Return the domain of a task."""

    def split_of(self, task_id: str) -> str:
        """Return the narrowest split that a task is in."""
        return next((name for name, ids in self.splits.items() if name != "all" and task_id in ids), "all")

    def split(self, name: str) -> Sequence[Task]:
        """Return the tasks of a split. Raises ConfigError for an unknown one."""
        if name not in self.splits:
            raise ConfigError(f"world {self.world!r} has no split {name!r}; allowed: {', '.join(self.splits)}{suggestion(name, self.splits)}")
        ids = self.splits[name]
        return LazyTasks(len(ids), lambda n: self._built(ids[n]))

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task of a split."""
        tasks = self.split(name)
        return tasks[int(rng.integers(len(tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task by id. Raises ConfigError for an unknown one."""
        if task_id not in set(self.ids):
            raise ConfigError(f"world {self.world!r} has no task {task_id!r}{suggestion(task_id, self.ids)}")
        return self._built(task_id)


def text_file(path: Path) -> str:
    """Return a text. Raises DataError where the file is missing or not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 ({error.reason} at byte {error.start})") from None


def json_file(path: Path, kind: type) -> Any:
    """Return the JSON of a file. Raises DataError where it is missing, broken or of another kind."""
    try:
        found = json.loads(text_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON: {error}") from None
    if not isinstance(found, kind):
        raise DataError(f"{path}: a JSON {'list' if kind is list else 'object'} is needed, found {type(found).__name__}")
    return found


def json_lines(path: Path, key: str = "id") -> list[Any]:
    """Return the JSON objects of a file of lines. Raises DataError, with the line, where one is broken."""
    rows = []
    for number, line in enumerate(text_file(path).splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{path}:{number}: no JSON: {error}") from None
        if not isinstance(row, dict) or key not in row:
            raise DataError(f"{path}:{number}: a JSON object with the key {key!r} is needed")
        rows.append(row)
    return rows
