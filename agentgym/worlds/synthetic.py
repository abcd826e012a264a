"""Synthetic worlds as a source of tasks."""

from collections.abc import Sequence

import numpy as np

from agentgym.errors import ConfigError, suggestion
from agentgym.task import Task
from agentgym.worlds.closed import FIRST_SEED, KINDS, TASKS_PER_WORLD, ClosedWorld, split_of_seed
from agentgym.worlds.natural.templates import FAMILIES as NATURAL_KINDS
from agentgym.worlds.natural.world import NaturalWorld
from agentgym.worlds.spec import WorldSpec, split_key, whole_number
from agentgym.worlds.world import LazyTasks, World, WorldCache, check_split

TRAIN_WORLDS = 256
HELD_OUT_WORLDS = 8
MAX_WORLDS = FIRST_SEED["dev"]
_cache = WorldCache()


def build_world(spec: WorldSpec) -> World:
    """Build a world without looking at the cache."""
    return ClosedWorld(spec) if spec.setting == "closed" else NaturalWorld(spec)


def world(spec: WorldSpec | str) -> World:
    """Return the world of a spec or key, shared by everything in this process that names the same one.

    The worlds used last are kept (at most 288 of at most 250,000 entities together).

    Raises:
        ConfigError: for a text that names no synthetic world.
    """
    spec = WorldSpec.parse(spec) if isinstance(spec, str) else spec
    return _cache.world(spec, build_world)


class SyntheticTasks:
    """The tasks of one natural world, or of many closed ones; a `TaskSource`.

    A natural world is split by the hash of the questions' start entities. Closed worlds are split by their
    seeds: a pool for train, eight each for dev and test.
    """

    default_split = "train"

    def __init__(self, spec: WorldSpec, *, worlds: int = 0, kinds: Sequence[str] = ()) -> None:
        """Offer the tasks of a world.

        Args:
            spec: the world; for a pool of closed worlds only its setting counts.
            worlds: size of the train pool of closed worlds; 0 offers the one world of `spec`.
            kinds: question kinds to keep; empty keeps all.

        Raises:
            ConfigError: an unknown kind, or a pool of natural worlds.
        """
        if worlds and spec.setting != "closed":
            raise ConfigError("worlds=… makes a pool of closed worlds; a natural source has one world: leave it out")
        if not 0 <= worlds <= MAX_WORLDS:
            raise ConfigError(f"worlds={worlds} is out of bounds: a pool takes 1 to {MAX_WORLDS:,} worlds")
        allowed = tuple(KINDS) if spec.setting == "closed" else NATURAL_KINDS
        for kind in kinds:
            if kind not in allowed:
                raise ConfigError(
                    f"kinds: {kind!r} is no question kind of {spec.setting} worlds; allowed: {', '.join(allowed)}"
                    + suggestion(kind, allowed)
                )
        self.spec = spec
        self.worlds = worlds
        self.kinds = tuple(dict.fromkeys(kinds)) or allowed
        self._splits: dict[str, Sequence[Task]] = {}

    @staticmethod
    def parse(text: str) -> "SyntheticTasks":
        """Read e.g. "synthetic:closed?worlds=256&kinds=1,2a" or "synthetic:natural?entities=500&kinds=chain".

        Without a seed, a closed source is a pool of worlds (256 for train unless `worlds` says otherwise).
        """
        setting, options = split_key(text, ("entities", "seed", "worlds", "kinds"))
        kinds = [k for k in options.pop("kinds", "").split(",") if k]
        pool = options.pop("worlds", None)
        worlds = 0 if pool is None else whole_number(text, "worlds", pool)
        if pool is not None and not worlds:
            raise ConfigError(f"world {text!r}: worlds=0 is out of bounds: a pool takes 1 to {MAX_WORLDS:,} worlds")
        if pool is not None and "seed" in options:
            raise ConfigError(
                f"world {text!r}: seed names one closed world, worlds a pool of them: give one of the two"
            )
        if setting == "closed" and pool is None and "seed" not in options:
            worlds = TRAIN_WORLDS
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return SyntheticTasks(
            WorldSpec.parse(f"synthetic:{setting}" + (f"?{query}" if query else "")), worlds=worlds, kinds=kinds
        )

    def split(self, name: str) -> Sequence[Task]:
        """Return the tasks of a split in a fixed order, built when asked for.

        Pools of closed worlds take turns: the first tasks are of different worlds, and of each kind equally many.

        Raises:
            ConfigError: an unknown split, or one without tasks.
        """
        check_split(name)
        if name not in self._splits:
            self._splits[name] = (
                self._closed_split(name) if self.spec.setting == "closed" else self._natural_split(name)
            )
        return self._splits[name]

    @property
    def key(self) -> str:
        """The text that `parse` reads back."""
        key = f"synthetic:closed?worlds={self.worlds}" if self.worlds else self.spec.key
        every = tuple(KINDS) if self.spec.setting == "closed" else NATURAL_KINDS
        return key if self.kinds == every else f"{key}&kinds={','.join(self.kinds)}"

    def __repr__(self) -> str:
        return f"<SyntheticTasks {self.key}>"

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task of a split; in closed pools every world and kind is equally likely."""
        tasks = self.split(name)
        return tasks[int(rng.integers(len(tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task by id, from any world that its id names. Raises ConfigError for an unknown id."""
        key, _, place = task_id.rpartition("#")
        if not key.startswith("synthetic"):
            example = world(self.spec).tasks(split_of_seed(self.spec.seed))[0].id
            raise ConfigError(f"no synthetic task has the id {task_id!r}; ids look like {example!r}")
        split, _, number = place.rpartition(".")
        try:
            spec = WorldSpec.parse(key)
            split = split or split_of_seed(spec.seed)
            task = world(spec).tasks(split)[int(number)]
        except (ConfigError, ValueError, IndexError) as error:
            raise ConfigError(f"no synthetic task has the id {task_id!r}: {error}") from None
        if task.id != task_id:
            raise ConfigError(f"no synthetic task has the id {task_id!r}; did you mean {task.id!r}?")
        return task

    def _closed_split(self, name: str) -> LazyTasks:
        seeds = self._seeds(name)
        numbers = [i for i in range(TASKS_PER_WORLD) if list(KINDS)[i % len(KINDS)] in self.kinds]

        def task(index: int) -> Task:
            turn, place = divmod(index, len(seeds))
            spec = WorldSpec("closed", seed=seeds[place])
            # Shifted by the place, so that the first tasks are of all kinds even in a large pool.
            return world(spec).tasks(name)[numbers[(turn + place) % len(numbers)]]

        return LazyTasks(len(seeds) * len(numbers), task)

    def _seeds(self, split: str) -> range:
        if self.worlds:
            count = self.worlds if split == "train" else HELD_OUT_WORLDS
            return range(FIRST_SEED[split], FIRST_SEED[split] + count)
        if split_of_seed(self.spec.seed) != split:
            world(self.spec).tasks(split)  # raises with the reason
        return range(self.spec.seed, self.spec.seed + 1)

    def _natural_split(self, name: str) -> Sequence[Task]:
        made = world(self.spec)
        if not isinstance(made, NaturalWorld) or self.kinds == NATURAL_KINDS:
            return made.tasks(name)
        numbers = made.task_numbers(name, self.kinds)
        tasks = made.tasks(name)
        return LazyTasks(len(numbers), lambda i: tasks[int(numbers[i])])
