"""The closed setting: small worlds over a fixed vocabulary, redrawn for each seed, for policies of any size.

Each world draws 40 of 96 people, 16 of 32 cities, 6 of 10 countries and 24 of 48 works and all their facts anew,
so nothing can be memorised and reading is the only way. The world's seed decides its split.
"""

from collections.abc import Iterator

import numpy as np

from agentgym.errors import ConfigError
from agentgym.seeding import stream
from agentgym.task import Entity, Task
from agentgym.types import Passage
from agentgym.worlds.closed_words import CITIES, COUNTRIES, PEOPLE, WORKS
from agentgym.worlds.gold import build_gold
from agentgym.worlds.spec import WorldSpec
from agentgym.worlds.world import SPLITS, Fact, LazyTasks, World, check_split

N_PEOPLE, N_CITIES, N_COUNTRIES, N_WORKS = 40, 16, 6, 24
RELATIONS = ("country", "birthplace", "spouse", "author")
STATEMENTS = {
    "country": "{h} lies in {t}",
    "birthplace": "{h} was born in {t}",
    "spouse": "{h} is married to {t}",
    "author": "{t} wrote {h}",
}
KINDS: dict[str, tuple[str, ...]] = {
    "1": ("birthplace",),
    "2a": ("birthplace", "country"),
    "2b": ("author", "birthplace"),
    "2c": ("spouse", "birthplace"),
    "3a": ("author", "birthplace", "country"),
    "3b": ("author", "spouse", "birthplace"),
    "4": ("author", "spouse", "birthplace", "country"),
}
"""Question kinds as the relations from the start entity to the answer."""
QUESTIONS = {
    "1": "birthplace of {} ?",
    "2a": "homeland of {} ?",
    "2b": "birthplace of author of {} ?",
    "2c": "birthplace of spouse of {} ?",
    "3a": "homeland of author of {} ?",
    "3b": "birthplace of spouse of author of {} ?",
    "4": "homeland of spouse of author of {} ?",
}
TASKS_PER_KIND = 16
TASKS_PER_WORLD = TASKS_PER_KIND * len(KINDS)
FIRST_SEED = {"train": 0, "dev": 1_000_000_000, "test": 1_500_000_000}
"""A closed world belongs to the last split whose first seed is not above its own."""


def split_of_seed(seed: int) -> str:
    """Return the split that a closed world of this seed belongs to."""
    return max((s for s in SPLITS if FIRST_SEED[s] <= seed), key=FIRST_SEED.__getitem__)


class ClosedWorld(World):
    """40 people, 16 cities, 6 countries, 24 works; pages of one or two short sentences."""

    def __init__(self, spec: WorldSpec) -> None:
        super().__init__(spec)
        rng = stream("closed-world", spec.seed)
        people, cities = _draw(rng, PEOPLE, N_PEOPLE), _draw(rng, CITIES, N_CITIES)
        countries, works = _draw(rng, COUNTRIES, N_COUNTRIES), _draw(rng, WORKS, N_WORKS)
        self._names = {f"{letter}{i}": name for letter, names in zip("ckpw", (cities, countries, people, works), strict=True)
                       for i, name in enumerate(names)}  # fmt: skip
        country = rng.permutation(np.resize(np.arange(N_COUNTRIES), N_CITIES)).tolist()
        birthplace = rng.permutation(np.resize(np.arange(N_CITIES), N_PEOPLE)).tolist()
        couples = rng.permutation(N_PEOPLE).tolist()
        half = N_PEOPLE // 2
        # Only the first of a couple has the marriage on its page; most works are by such people, so that
        # questions about an author's spouse are as many as the others.
        stating, silent = couples[:half], couples[half:]
        authors = [stating[i] for i in rng.choice(half, TASKS_PER_KIND, replace=False)]
        authors += [silent[i] for i in rng.choice(half, N_WORKS - TASKS_PER_KIND, replace=False)]
        self._tails: dict[str, dict[str, str]] = {
            "country": {f"c{i}": f"k{c}" for i, c in enumerate(country)},
            "birthplace": {f"p{i}": f"c{c}" for i, c in enumerate(birthplace)},
            "spouse": {f"p{a}": f"p{b}" for a, b in zip(stating, silent, strict=True)},
            "author": {f"w{i}": f"p{a}" for i, a in enumerate(rng.permutation(authors).tolist())},
        }
        self._starts = {kind: self._draw_starts(rng, relations) for kind, relations in KINDS.items()}

    def _draw_starts(self, rng: np.random.Generator, relations: tuple[str, ...]) -> list[str]:
        """Return the start entities from which all relations lead on, in a drawn order."""
        starts = [h for h in self._tails[relations[0]] if self._reaches(h, relations)]
        return [starts[i] for i in rng.permutation(len(starts))[:TASKS_PER_KIND]]

    def _reaches(self, head: str, relations: tuple[str, ...]) -> bool:
        for relation in relations:
            head = self._tails[relation].get(head, "")
        return bool(head)

    @property
    def split(self) -> str:
        """The split that all tasks of this world belong to."""
        return split_of_seed(self.spec.seed)

    @property
    def relations(self) -> tuple[str, ...]:
        """All relation names."""
        return RELATIONS

    @property
    def n_passages(self) -> int:
        """One page for each entity."""
        return len(self._names)

    def entities(self) -> Iterator[Entity]:
        """Yield cities, countries, people and works."""
        return (Entity(i, name) for i, name in self._names.items())

    def entity(self, entity_id: str) -> Entity:
        """Return an entity by id. Raises ConfigError for an unknown id."""
        if entity_id not in self._names:
            raise ConfigError(f"world {self.key} has no entity {entity_id!r}; ids are c0…, k0…, p0… and w0…")
        return Entity(entity_id, self._names[entity_id])

    def facts(self, entity_id: str) -> tuple[Fact, ...]:
        """Return the facts that this entity's own page states."""
        self.entity(entity_id)
        return tuple(
            Fact(entity_id, r, self._tails[r][entity_id], entity_id) for r in RELATIONS if entity_id in self._tails[r]
        )

    def incoming(self, entity_id: str) -> tuple[Fact, ...]:
        """Return the facts that other pages state about this entity."""
        self.entity(entity_id)
        return tuple(Fact(h, r, t, h) for r in RELATIONS for h, t in self._tails[r].items() if t == entity_id)

    def passages(self) -> Iterator[Passage]:
        """Yield the page of each city, country, person and work. The text starts with the page's name."""
        words = {"country": "in {} .", "birthplace": "born {} .", "spouse": "married {} .", "author": "by {} ."}
        for entity_id, name in self._names.items():
            facts = self.facts(entity_id)
            stated = " ".join(words[f.relation].format(self._names[f.tail]) for f in facts)
            yield Passage(entity_id, name, f"{name} {stated or '.'}")

    def tasks(self, split: str) -> LazyTasks:
        """Return the 112 tasks of this world: kinds in turn, starts in a drawn order."""
        check_split(split)
        if split != self.split:
            raise ConfigError(
                f"world {self.key} belongs to the split {self.split!r} by its seed and has no {split} tasks"
            )
        return LazyTasks(TASKS_PER_WORLD, self._task)

    def _task(self, index: int) -> Task:
        kind = list(KINDS)[index % len(KINDS)]
        start = self._starts[kind][index // len(KINDS)]
        path: list[Fact] = []
        for relation in KINDS[kind]:
            head = path[-1].tail if path else start
            path.append(Fact(head, relation, self._tails[relation][head], head))
        hops = len(path)
        entities = [Entity(start, self._names[start], hop=0, role="start")]
        for hop, fact in enumerate(path, start=1):
            role = "answer" if hop == hops else "bridge"
            entities.append(Entity(fact.tail, self._names[fact.tail], hop=hop, role=role))
        return Task(
            id=f"{self.key}#{index}",
            question=QUESTIONS[kind].format(self._names[start]),
            gold=build_gold(entities, path, STATEMENTS),
            world=self.key,
            split=self.split,
            kind=kind,
            hops=hops,
            source="synthetic:closed",
        )


def _draw(rng: np.random.Generator, names: tuple[str, ...], count: int) -> list[str]:
    return [names[i] for i in rng.choice(len(names), count, replace=False)]
