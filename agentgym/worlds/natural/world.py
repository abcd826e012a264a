"""A natural world: facts, names, pages and questions behind the interface that all worlds share."""

from collections.abc import Iterator
from functools import cached_property

import numpy as np

from agentgym.errors import ConfigError
from agentgym.task import Entity, Task
from agentgym.types import Passage
from agentgym.worlds.natural.facts import Facts
from agentgym.worlds.natural.names import Names
from agentgym.worlds.natural.passages import Pages
from agentgym.worlds.natural.plans import find_plans
from agentgym.worlds.natural.questions import Questions
from agentgym.worlds.natural.schema import OF_TYPE, RELATIONS, YEAR
from agentgym.worlds.natural.templates import FAMILIES
from agentgym.worlds.spec import MAX_ENTITIES, WorldSpec
from agentgym.worlds.world import SPLITS, Fact, LazyTasks, World, check_split

NEXT_SIZES, LARGEST_TRIED = 50, 10_000
"""To name the smallest world that has questions of a kind, so many next sizes are tried, then doubled ones."""


class NaturalWorld(World):
    """A world of any size. Only the facts' arrays and the plans are held; texts are written when asked for."""

    def __init__(self, spec: WorldSpec) -> None:
        super().__init__(spec)
        self._facts = Facts(spec.seed, spec.entities)
        self._names = Names(spec.seed, spec.entities)
        self._pages = Pages(self._names, self._facts)
        self._questions = Questions(self._names, self._facts)

    @property
    def relations(self) -> tuple[str, ...]:
        """All relation names."""
        return tuple(r.name for r in RELATIONS)

    def passages(self) -> Iterator[Passage]:
        """Yield each entity's page, then the distractor pages, one at a time."""
        for kind, count in self._facts.counts.items():
            for index in range(count):
                yield self._pages.page(kind, index)
        for index in range(self._pages.n_distractors):
            yield self._pages.distractor(index)

    @property
    def n_passages(self) -> int:
        """The number of passages that `passages` yields."""
        return len(self) + self._pages.n_distractors

    def entities(self) -> Iterator[Entity]:
        """Yield every entity, one at a time."""
        for kind, count in self._facts.counts.items():
            for index in range(count):
                yield self._questions.entity((kind, index))

    def entity(self, entity_id: str) -> Entity:
        """Return an entity or a year by id, e.g. "p12" or "y1931". Raises ConfigError for an unknown id."""
        return self._questions.entity(self._node(entity_id))

    def split_of(self, entity_id: str) -> str:
        """Return the split of the questions that start at this entity."""
        kind, index = self._node(entity_id)
        if kind == YEAR:
            raise ConfigError(f"{entity_id!r} is a year; only entities belong to a split")
        return SPLITS[int(self._facts.split[kind][index])]

    def facts(self, entity_id: str) -> tuple[Fact, ...]:
        """Return the facts that this entity's own page states."""
        kind, index = self._node(entity_id)
        relations = OF_TYPE.get(kind, ())
        return tuple(
            self._questions.fact((kind, index), r.name) for r in relations if self._facts.tail(r.name, index) >= 0
        )

    def incoming(self, entity_id: str) -> tuple[Fact, ...]:
        """Return the facts that other pages state about this entity or year."""
        kind, index = self._node(entity_id)
        return tuple(
            self._questions.fact((r.head, head), r.name)
            for r in RELATIONS
            if r.tail == kind
            for head in self._facts.heads(r.name, index)
        )

    def tasks(self, split: str) -> LazyTasks:
        """Return the tasks of a split, in a fixed shuffled order. Raises ConfigError where there are none."""
        plans = self._plans_of(split)
        if not len(plans):
            raise ConfigError(empty_split(self.spec, split, FAMILIES))
        return LazyTasks(len(plans), lambda i: self._task(split, i, plans[i]))

    def task_numbers(self, split: str, kinds: tuple[str, ...]) -> np.ndarray:
        """Return the positions in `tasks(split)` of the given kinds, ascending. Raises ConfigError for none."""
        wanted = [FAMILIES.index(k) for k in kinds]
        found = np.flatnonzero(np.isin(self._plans_of(split)[:, 0], wanted))
        if not len(found):
            raise ConfigError(empty_split(self.spec, split, kinds))
        return found

    @cached_property
    def _plans(self) -> dict[int, np.ndarray]:
        return find_plans(self._facts)

    def _plans_of(self, split: str) -> np.ndarray:
        check_split(split)
        return self._plans[SPLITS.index(split)]

    def _task(self, split: str, index: int, plan: np.ndarray) -> Task:
        question, gold, kind, hops = self._questions.write(plan)
        return Task(
            id=f"{self.key}#{split}.{index}",
            question=question,
            gold=gold,
            world=self.key,
            split=split,
            kind=kind,
            hops=hops,
            source="synthetic:natural",
        )

    def _node(self, entity_id: str) -> tuple[str, int]:
        kind, number = entity_id[:1], entity_id[1:]
        limit = 10**4 if kind == YEAR else self._facts.counts.get(kind, 0)
        index = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else limit
        if index < limit and str(index) == number:
            return kind, index
        ranges = ", ".join(f"{t}0…{t}{n - 1}" for t, n in self._facts.counts.items())
        raise ConfigError(f"world {self.key} has no entity {entity_id!r}; ids are {ranges}, and y1931 for a year")


def empty_split(spec: WorldSpec, split: str, kinds: tuple[str, ...]) -> str:
    """Return the message for a split without tasks: it names the smallest size with the same seed that has some."""
    wanted = [FAMILIES.index(k) for k in kinds]
    sizes = list(range(spec.entities + 1, spec.entities + 1 + NEXT_SIZES))
    while sizes[-1] * 2 <= LARGEST_TRIED:
        sizes.append(sizes[-1] * 2)
    advice = f"no size up to {sizes[-1]} has any with this seed; use another seed"
    for size in (s for s in sizes if s <= MAX_ENTITIES):
        plans = find_plans(Facts(spec.seed, size))[SPLITS.index(split)]
        if np.isin(plans[:, 0], wanted).any():
            advice = f"the smallest size that works is entities={size}"
            break
    return f"the split {split!r} of {spec.key} has no {' or '.join(kinds)} questions; {advice}"
