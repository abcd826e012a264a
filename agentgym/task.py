"""Tasks: one problem with its gold data, its limits, and where tasks come from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np

from agentgym.types import JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """One accepted answer."""

    text: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Entity:
    """An entity on the way to the answer."""

    id: str
    name: str
    aliases: tuple[str, ...] = ()
    hop: int = 0
    """0 for entities named in the question; otherwise the hop that finds it."""
    role: str = "bridge"
    """start, bridge, answer or constraint."""


@dataclass(frozen=True, slots=True)
class Rubric:
    """A single-hop statement with slots: <E0> is the answer, <E1>, <E2>… other entities."""

    id: str
    text: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Nugget:
    """A fact that a good long answer states."""

    id: str
    text: str
    doc_ids: tuple[str, ...] = ()
    vital: bool = True


@dataclass(frozen=True, slots=True)
class Gold:
    """What only rewards may read. Every field is optional; a component declares what it needs."""

    answers: tuple[Answer, ...] = ()
    """Alternatives: any of them is right."""
    entities: tuple[Entity, ...] = ()
    doc_ids: tuple[str, ...] = ()
    """Passages that together hold all needed facts."""
    path: tuple[tuple[str, str, str], ...] = ()
    """Triples (head, relation, tail) by entity id, in the order in which they are needed."""
    path_doc_ids: tuple[str, ...] = ()
    """For each triple of `path` the passage that states it."""
    rubrics: tuple[Rubric, ...] = ()
    nuggets: tuple[Nugget, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one episode in turns, calls and characters (token limits belong to the driver)."""

    max_turns: int = 6
    """Truncates the episode (end_reason max_turns)."""
    max_calls_per_turn: int = 1
    tool_budgets: dict[str, int] = field(default_factory=dict)
    """Calls allowed per tool; running out is an observation (E_BUDGET), not an end."""
    max_invalid: int = 3
    """Consecutive bad actions that end the episode (too_many_invalid)."""
    max_repeats: int = 3
    """Same call and same result this many times in a row end the episode (loop)."""
    max_action_chars: int = 65_536
    max_result_chars: int = 2_000
    """Longer results keep head and tail."""


@dataclass(frozen=True, slots=True)
class Task:
    """One problem with its gold data; frozen."""

    id: str
    question: str
    gold: Gold = Gold()
    world: str = ""
    """Key of the world that holds the answer, e.g. "synthetic:closed?seed=7"; empty for file tasks."""
    split: str = ""
    kind: str = ""
    """Question family, e.g. "chain", "comparison", "bridge"."""
    hops: int = 0
    """0 if unknown."""
    limits: Limits | None = None
    """None: the environment's own."""
    source: str = ""
    meta: dict[str, JSON] = field(default_factory=dict)


@runtime_checkable
class TaskSource(Protocol):
    """Where an environment's tasks come from."""

    default_split: str
    """The split that an environment draws from unless it is told otherwise."""

    def split(self, name: str) -> Sequence[Task]:
        """Return the tasks of a split in a fixed order (may be lazy). Raises ConfigError if empty."""
        ...

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task of a split."""
        ...

    def by_id(self, task_id: str) -> Task:
        """Return a task by id. Raises ConfigError for an unknown id."""
        ...
