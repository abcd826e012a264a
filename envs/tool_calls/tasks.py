"""Where ToolCalls' tasks come from: worlds by name, files, lists; and the domains behind them, cached per process."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Protocol

import numpy as np

from agentgym import hooks
from agentgym.envs.tool_calls.domain import PLAIN, Domain, DomainSource
from agentgym.envs.tool_calls.draft import Draft, build
from agentgym.errors import ConfigError, suggestion
from agentgym.named import is_object_name
from agentgym.seeding import key_int, stream
from agentgym.task import Limits, Task, TaskSource
from agentgym.worlds.closed import split_of_seed
from agentgym.worlds.readers import open_tasks
from agentgym.worlds.spec import MAX_SEED
from agentgym.worlds.synthetic import HELD_OUT_WORLDS
from agentgym.worlds.world import SPLITS, LazyTasks, check_split

DEFAULT_WORLD = "shop?seed=0"
CACHED_DOMAINS = 320
"""More than the worlds of one training run."""
CACHED_TASKS = 8_192
MAX_SIZE = 1_000_000
FIRST_SEED = {"train": 0, "dev": 1_000_000_000, "test": 1_500_000_000}
TRIES = 64
"""Starts that are tried for one task before the world counts as too small for its kind."""


class DrawnDomain(Protocol):
    """What a built-in world offers beside `Domain`."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of tasks, which take turns."""
        ...

    @property
    def starts(self) -> Sequence[str]:
        """Ids that tasks start from; their hash picks the split."""
        ...

    def draft(self, kind: str, start: str, rng: np.random.Generator) -> Draft | None:
        """Return a task of a kind, or None where the start has none."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class Family:
    """A world by name: how to make it."""

    name: str
    make: Callable[[int, int], Any]
    """(size, seed) -> a domain with kinds, starts and draft."""
    size: int
    """Default size."""
    min_size: int = 20
    max_size: int = MAX_SIZE
    pool: int = 0
    """Above 0: worlds are split by their seeds, and this many train worlds are meant where no seed is given."""
    limits: Limits | None = None
    """Of its tasks; None: those of the environment."""
    unit: str = "people"
    """What `size` counts."""


@dataclass(frozen=True, slots=True)
class WorldKey:
    """What one world is made from."""

    family: str
    size: int
    seed: int

    @property
    def text(self) -> str:
        """The text that `open_world` reads back."""
        return f"{self.family}?seed={self.seed}&size={self.size}"


class WorldTasks:
    """The tasks of one world, or of a pool of worlds; a `TaskSource` with domains."""

    default_split = "train"

    def __init__(
        self, family: Family, *, seed: int | None = None, size: int = 0, worlds: int = 0, kinds: Sequence[str] = ()
    ) -> None:
        """Offer tasks.

        Args:
            family: The world.
            seed: One world; without it a pool where the family has one, else seed 0.
            size: How many people (or what else the world counts by); 0: the family's default.
            worlds: Train worlds of the pool; 0: the family's default.
            kinds: Kinds to keep; empty: all.

        Raises:
            ConfigError: An option that is out of bounds, or a kind that is not known.
        """
        self.family, self.size = family, size or family.size
        if not family.min_size <= self.size <= family.max_size:
            raise ConfigError(f"world {family.name!r}: size={self.size} {family.unit}; allowed: {family.min_size} to {family.max_size:,} {family.unit}")
        if worlds and (not family.pool or seed is not None or not 1 <= worlds <= 1_000_000):
            raise ConfigError(
                f"world {family.name!r}: worlds={worlds} names a pool of worlds (1 to 1,000,000), which "
                + ("goes without a seed" if family.pool else "this world does not have; leave it out")
            )
        if seed is not None and not 0 <= seed <= MAX_SEED:
            raise ConfigError(f"world {family.name!r}: seed={seed}; allowed: 0 to {MAX_SEED}")
        self.worlds = (worlds or family.pool) if seed is None else 0
        self.seed = (seed or 0) if not self.worlds else None
        every = self._domain_at(self._seeds(self._own_split)[0]).kinds
        for kind in kinds:
            if kind not in every:
                raise ConfigError(f"world {family.name!r}: kinds: {kind!r} is not known; allowed: {', '.join(every)}{suggestion(kind, every)}")
        self.kinds = tuple(dict.fromkeys(kinds))
        self._splits: dict[str, Sequence[Task]] = {}

    def __deepcopy__(self, memo: dict[int, Any]) -> "WorldTasks":
        """Return itself: gymnasium copies keyword arguments."""
        return self

    def __repr__(self) -> str:
        return f"<WorldTasks {self.family.name} of {len(self._splits)} splits>"

    @property
    def home(self) -> str:
        """The module that makes the world: the card of the environment describes worlds of its own package alone."""
        return self.family.make.__module__

    @property
    def _own_split(self) -> str:
        return split_of_seed(self.seed) if self.family.pool and self.seed is not None else "train"

    def split(self, name: str) -> Sequence[Task]:
        """Return the tasks of a split, built when asked for. Raises ConfigError where there are none."""
        check_split(name)
        if name not in self._splits:
            self._splits[name] = self._made(name)
        return self._splits[name]

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task of a split."""
        tasks = self.split(name)
        return tasks[int(rng.integers(len(tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task of any world of this family by id. Raises ConfigError for an unknown one."""
        key, _, place = task_id.rpartition("#")
        split, _, number = place.partition(".")
        try:
            world = _read_key(key, {self.family.name: self.family})
            if split not in SPLITS or not number.isdigit():
                raise ConfigError("what follows # must be a split and a number")
            return _task(self.family, world, split, int(number))
        except (ConfigError, IndexError) as error:
            raise ConfigError(f"no task has the id {task_id!r}: {error}; ids look like {self.split(self._own_split)[0].id!r}") from None

    def domain(self, task: Task) -> Domain:
        """Return the domain of a task."""
        return domain_of(task.world, self.family)

    def _seeds(self, split: str) -> range:
        if self.seed is not None:
            if self.family.pool and split != self._own_split:
                raise ConfigError(f"world {self.family.name}?seed={self.seed} belongs to the split {self._own_split!r} by its seed and has no {split} tasks")
            return range(self.seed, self.seed + 1)
        return range(FIRST_SEED[split], FIRST_SEED[split] + (self.worlds if split == "train" else HELD_OUT_WORLDS))

    def _domain_at(self, seed: int) -> Any:
        return domain_of(WorldKey(self.family.name, self.size, seed).text, self.family)

    def _made(self, split: str) -> Sequence[Task]:
        seeds = self._seeds(split)
        first = self._domain_at(seeds[0])
        starts = len(_starts(self.family, WorldKey(self.family.name, self.size, seeds[0]), split))
        places = len(first.kinds)
        numbers = [n for n in range(places) if not self.kinds or first.kinds[n] in self.kinds]

        def task(index: int) -> Task:
            round_, place = divmod(index, len(seeds))
            # Shifted by the place, so that the first tasks are of all kinds even in a large pool.
            turn, which = divmod(round_ + place, len(numbers))
            world = WorldKey(self.family.name, self.size, seeds[place])
            return _task(self.family, world, split, (turn % starts) * places + numbers[which])

        return LazyTasks(len(seeds) * starts * len(numbers), task)


@lru_cache(maxsize=CACHED_DOMAINS)
def _starts(family: Family, world: WorldKey, split: str) -> Sequence[str]:
    domain: DrawnDomain = domain_of(world.text, family)
    if family.pool:
        return tuple(domain.starts)
    found = tuple(s for s in domain.starts if _split_of(s) == split)
    if not found:
        raise ConfigError(f"world {world.text}: the split {split!r} is empty at {world.size} {family.unit}{_larger(family, world, split)}")
    return found


def _split_of(start: str) -> str:
    place = key_int("split", start, bits=32) % 10
    return "train" if place < 8 else "dev" if place == 8 else "test"


@lru_cache(maxsize=CACHED_TASKS)
def _task(family: Family, world: WorldKey, split: str, number: int) -> Task:
    """Return a task by its number: kinds take turns, then starts; a start without such a task passes to the next."""
    domain = domain_of(world.text, family)
    starts, kinds = _starts(family, world, split), domain.kinds
    if family.pool and split_of_seed(world.seed) != split:
        raise ConfigError(f"world {world.text} belongs to the split {split_of_seed(world.seed)!r}")
    if number >= len(starts) * len(kinds):
        raise IndexError(f"there are {len(starts) * len(kinds)} tasks")
    place, kind = divmod(number, len(kinds))
    rng = stream("task", world.text, split, number)
    for attempt in range(TRIES):
        start = starts[(place + attempt) % len(starts)]
        draft = domain.draft(kinds[kind], start, rng)
        if draft is not None:
            id_ = f"{world.text}#{split}.{number}"
            return build(domain, draft, id=id_, world=world.text, split=split, kind=kinds[kind], limits=family.limits)
    raise ConfigError(
        f"world {world.text}: at {world.size} {family.unit} the split {split!r} has no task of the kind {kinds[kind]!r}"
        f"{_larger(family, world, split)}"
    )


def _larger(family: Family, world: WorldKey, split: str) -> str:
    """Return the advice to take the next size at which the split has tasks of every kind, or the kinds that it has."""
    size, kinds, there = world.size, family.make(world.size, world.seed).kinds, _kinds_at(family, world.size, world.seed, split)
    others = f", or keep the kinds that are there: kinds={','.join(there)}" if there else ""
    for _ in range(TRIES):
        size += max(1, size // 8)
        if size > family.max_size:
            break
        if len(_kinds_at(family, size, world.seed, split)) == len(kinds):
            return f"; size={size} has tasks of every kind{others}"
    return f"; give another seed{others}"


def _kinds_at(family: Family, size: int, seed: int, split: str) -> list[str]:
    """Return the kinds of tasks that a split of a small world has."""
    domain: DrawnDomain = family.make(size, seed)
    starts = [s for s in domain.starts if family.pool or _split_of(s) == split][:TRIES]
    rng = stream("kinds", family.name, size, seed, split)
    return [k for k in domain.kinds if any(domain.draft(k, start, rng) is not None for start in starts)]


# ---- worlds by name


def open_world(text: str) -> TaskSource:
    """Return the tasks of a world, e.g. "shop?seed=0", "office?size=200&kinds=move", "drawn?worlds=64".

    A name that is not built in is looked up in `hooks.WORLDS` and called with the options, as texts; "MODULE:NAME" or
    "FILE.py:NAME" is a Family, a TaskSource, or what is called with the options.

    Raises:
        ConfigError: Unknown name or option.
    """
    from_name, options = _split_text(text)
    maker: Any = hooks.WORLDS.resolve(from_name) if from_name in hooks.WORLDS or is_object_name(from_name) else None
    if isinstance(maker, TaskSource):
        if options:
            raise ConfigError(f"world {text!r}: {from_name} is a source of tasks, which takes no options")
        return maker
    if maker is None:
        names = hooks.WORLDS.names()
        raise ConfigError(f"world {text!r}: {from_name!r} is not known; allowed: {', '.join(names)}{suggestion(from_name, names)}")
    if isinstance(maker, Family):
        _register(maker, text)
    else:
        if not callable(maker):
            raise ConfigError(f"world {text!r}: {from_name} is {type(maker).__name__}; name a Family, a TaskSource, or a function that makes one")
        try:
            inspect.signature(maker).bind(**options)
        except TypeError as error:
            raise ConfigError(f"world {text!r}: {from_name} takes other options: {error}") from error
        made: Any = maker(**options)
        if not isinstance(made, TaskSource):
            raise ConfigError(f"world {text!r}: {from_name} made {type(made).__name__}; a TaskSource is needed")
        return made
    for name in options:
        if name not in _OPTIONS:
            raise ConfigError(f"world {text!r}: option {name!r} is not known; allowed: {', '.join(_OPTIONS)}{suggestion(name, _OPTIONS)}")
    numbers = {name: _whole(text, name, options[name]) for name in ("seed", "size", "worlds") if name in options}
    if numbers.get("size") == 0 or numbers.get("worlds") == 0:
        raise ConfigError(f"world {text!r}: size and worlds are 1 or more")
    kinds = [k for k in options.get("kinds", "").split(",") if k]
    return WorldTasks(maker, kinds=kinds, **numbers)


def _register(family: Family, text: str) -> None:
    """Let the tasks of a family that was named by its place find their world when they are given alone."""
    if family.name not in hooks.WORLDS:
        hooks.WORLDS.add(family.name, family)
    elif hooks.WORLDS.resolve(family.name) is not family:
        raise ConfigError(f"world {text!r}: its Family is called {family.name!r}, as another world is; give it another name")


_OPTIONS = ("seed", "size", "worlds", "kinds")


def _split_text(text: str) -> tuple[str, dict[str, str]]:
    name, _, query = text.partition("?")
    options: dict[str, str] = {}
    for part in query.split("&") if query else ():
        key, equals, value = part.partition("=")
        if not equals or key in options:
            raise ConfigError(f"world {text!r}: option {key!r} {'is given twice' if key in options else 'has no value'}; write name?key=value&key=value")
        options[key] = value
    return name, options


def _whole(text: str, name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= 12):
        raise ConfigError(f"world {text!r}: {name}={value!r} is not a whole number, e.g. {name}=100")
    return int(value)


def _read_key(text: str, families: Mapping[str, Family]) -> WorldKey:
    name, options = _split_text(text)
    if name not in families or set(options) != {"seed", "size"}:
        raise ConfigError(f"{text!r} is no world of {', '.join(families)}")
    key = WorldKey(name, _whole(text, "size", options["size"]), _whole(text, "seed", options["seed"]))
    if not families[name].min_size <= key.size <= families[name].max_size or key.seed > MAX_SEED or key.text != text:
        raise ConfigError(f"{text!r} is out of bounds")
    return key


@lru_cache(maxsize=CACHED_DOMAINS)
def domain_of(text: str, family: Family) -> Any:
    """Return the domain of a world's key, shared by everything in this process that names the same one."""
    key = _read_key(text, {family.name: family})
    return family.make(key.size, key.seed)


# ---- sources


def open_source(world: Any, tasks: Any) -> TaskSource:
    """Return the task source of `gym.make`'s arguments.

    Args:
        world: A name with options such as "shop?seed=0", or a TaskSource; None for the default.
        tasks: A file of tasks (JSON lines), a list of Tasks or a TaskSource; None takes the world's own.

    Raises:
        ConfigError: For anything else.
    """
    if tasks is not None:
        return open_tasks(tasks)
    world = DEFAULT_WORLD if world is None else world
    if isinstance(world, TaskSource):
        return world
    if isinstance(world, str):
        return open_world(world)
    raise ConfigError(f"world={world!r:.80}: give a name such as {DEFAULT_WORLD!r}, or a TaskSource")


def domain_for(source: TaskSource, task: Task) -> Domain:
    """Return the domain of a task: its source's, else the world's that it names, else its own words alone."""
    if isinstance(source, DomainSource) and not isinstance(source, WorldTasks):
        return source.domain(task)
    if not task.world:
        return PLAIN
    name = _split_text(task.world)[0]
    if isinstance(source, WorldTasks) and name == source.family.name:
        return source.domain(task)
    if name not in hooks.WORLDS:
        raise ConfigError(f"task {task.id!r}: its world {task.world!r} is not known; allowed: {', '.join(hooks.WORLDS.names())}")
    family = hooks.WORLDS.resolve(name)
    if isinstance(family, Family):
        return domain_of(task.world, family)
    made = open_world(task.world)
    if not isinstance(made, DomainSource):
        raise ConfigError(f"task {task.id!r}: the world {task.world!r} has no method domain(task)")
    return made.domain(task)


def with_limits(task: Task, limits: Limits) -> Task:
    """Return a task with limits of its own."""
    return replace(task, limits=limits)
