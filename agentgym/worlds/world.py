"""What every world offers: entities, facts, passages and tasks; and the cache that shares worlds in a process."""

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, overload

from agentgym.errors import ConfigError, suggestion
from agentgym.task import Entity, Task
from agentgym.types import Passage
from agentgym.worlds.spec import WorldSpec

SPLITS = ("train", "dev", "test")


@dataclass(frozen=True, slots=True)
class Fact:
    """One statement of a world."""

    head: str
    """Entity id."""
    relation: str
    tail: str
    """Entity id, or a literal's id such as "y1931"."""
    doc_id: str
    """The only passage that states it."""


class World(ABC):
    """One set of facts, read-only and shared by all episodes of a process."""

    def __init__(self, spec: WorldSpec) -> None:
        self.spec = spec
        self.key = spec.key

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        """Return the same object: worlds never change, and gymnasium copies keyword arguments."""
        return self

    def __len__(self) -> int:
        return self.spec.entities

    def __repr__(self) -> str:
        return f"<World {self.key}>"

    @abstractmethod
    def passages(self) -> Iterator[Passage]:
        """Yield every passage, one at a time, in a fixed order."""

    @abstractmethod
    def entities(self) -> Iterator[Entity]:
        """Yield every entity in a fixed order (role and hop are the defaults)."""

    @abstractmethod
    def entity(self, entity_id: str) -> Entity:
        """Return an entity or a literal by id. Raises ConfigError for an unknown id."""

    @abstractmethod
    def facts(self, entity_id: str) -> tuple[Fact, ...]:
        """Return the facts whose head is this entity, in a fixed order."""

    @abstractmethod
    def incoming(self, entity_id: str) -> tuple[Fact, ...]:
        """Return the facts whose tail is this entity, in a fixed order."""

    @abstractmethod
    def tasks(self, split: str) -> Sequence[Task]:
        """Return the tasks of a split in a fixed order. Raises ConfigError where there are none."""

    @property
    @abstractmethod
    def n_passages(self) -> int:
        """The number of passages that `passages` yields."""

    @property
    @abstractmethod
    def relations(self) -> tuple[str, ...]:
        """All relation names, in a fixed order."""

    def triples(self) -> Iterator[tuple[str, str, str]]:
        """Yield (head, relation, tail) of all facts, one at a time, in a fixed order."""
        for entity in self.entities():
            for fact in self.facts(entity.id):
                yield fact.head, fact.relation, fact.tail


class LazyTasks(Sequence[Task]):
    """Tasks that are built when they are asked for. A slice gives a list."""

    def __init__(self, count: int, build: Callable[[int], Task]) -> None:
        self._count = count
        self._build = build

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> Task: ...
    @overload
    def __getitem__(self, index: slice) -> list[Task]: ...
    def __getitem__(self, index: int | slice) -> Task | list[Task]:
        if isinstance(index, slice):
            return [self._build(i) for i in range(*index.indices(self._count))]
        if not -self._count <= index < self._count:
            raise IndexError(f"task {index} of {self._count}")
        return self._build(index % self._count)


class WorldCache:
    """Keeps the worlds that were used last, bounded by their number and by their entities together."""

    def __init__(self, max_worlds: int = 288, max_entities: int = 250_000) -> None:
        """Keep at most `max_worlds` worlds of at most `max_entities` together; the newest always stays."""
        self.max_worlds = max_worlds
        self.max_entities = max_entities
        self._worlds: OrderedDict[str, World] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._worlds)

    def world(self, spec: WorldSpec, build: Callable[[WorldSpec], World]) -> World:
        """Return the cached world of a spec, or build and keep it."""
        with self._lock:
            found = self._worlds.get(spec.key)
            if found is not None:
                self._worlds.move_to_end(spec.key)
                return found
        made = build(spec)
        with self._lock:
            made = self._worlds.setdefault(spec.key, made)
            self._worlds.move_to_end(spec.key)
            self._evict()
        return made

    def _evict(self) -> None:
        total = sum(len(w) for w in self._worlds.values())
        while len(self._worlds) > 1 and (len(self._worlds) > self.max_worlds or total > self.max_entities):
            _, dropped = self._worlds.popitem(last=False)
            total -= len(dropped)


def check_split(name: str) -> None:
    """Raise ConfigError unless `name` is train, dev or test."""
    if name not in SPLITS:
        raise ConfigError(f"split {name!r} is not known: use one of {', '.join(SPLITS)}" + suggestion(name, SPLITS))
