"""Tasks: one problem with its gold data, its limits, and where tasks come from."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from agentgym import criterion as criteria
from agentgym import gold as parts
from agentgym.criterion import Criterion
from agentgym.gold import Assertion, Box, FinishStatus, GoldCall, GuiAction, HiddenFact, Milestone, Product
from agentgym.types import JSON


@dataclass(frozen=True, slots=True)
class Answer:
    """One accepted answer."""

    text: str
    aliases: tuple[str, ...] = ()
    type: Literal["string", "number", "date", "entity", "bool", "list"] = "string"
    """What the text stands for. Rewards that compare numbers read the text of a "number" as one."""
    unit: str = ""
    """Of a number: its unit, e.g. "km"; empty where the text names it or there is none."""
    tol: float = 0.0
    """Of a number: the largest difference that is still right, in its unit."""


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
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Gold:
    """What only rewards may read. Every field is optional; a component declares what it needs."""

    answers: tuple[Answer, ...] = ()
    answer_mode: Literal["any", "all", "ordered"] = "any"
    """any: each answer is right by itself; all: the answer is the set of them; ordered: the list, in this order."""
    entities: tuple[Entity, ...] = ()
    doc_ids: tuple[str, ...] = ()
    """Passages that together hold all needed facts."""
    path: tuple[tuple[str, str, str], ...] = ()
    """Triples (head, relation, tail) by entity id, in the order in which they are needed."""
    path_doc_ids: tuple[str, ...] = ()
    """For each triple of `path` the passage that states it."""
    paths: tuple[tuple[tuple[str, str, str], ...], ...] = ()
    """Every minimal path to an answer, each like `path`; for several answers the paths of all of them."""
    rubrics: tuple[Rubric, ...] = ()
    nuggets: tuple[Nugget, ...] = ()
    trace: tuple[GoldCall, ...] = ()
    """The calls of a solution, in an order in which they can be made."""
    accepted_args: dict[str, dict[str, tuple[JSON, ...]]] = field(default_factory=dict)
    """Call id -> argument -> all accepted values; "" among them: the argument may be left out."""
    final_state: JSON = None
    """The state that a solution leaves behind, whole; or the `typed.digest` of it."""
    assertions: tuple[Assertion, ...] = ()
    communicate: tuple[Answer, ...] = ()
    """Facts that the user must be told."""
    finish: FinishStatus = ""
    """The status that the closing call must state; empty: none in particular."""
    milestones: tuple[Milestone, ...] = ()
    minefields: tuple[Milestone, ...] = ()
    """Moments that forfeit the milestones."""
    hidden_facts: tuple[HiddenFact, ...] = ()
    actions: tuple[GuiAction, ...] = ()
    """A reference trajectory in a graphical interface."""
    regions: dict[str, tuple[Box, ...]] = field(default_factory=dict)
    """Page id -> the boxes that hold the answer."""
    crop_required: bool = False
    """The answer can only be read in a crop of a page."""
    product: Product | None = None
    checklist: tuple[Criterion, ...] = ()
    """What a good episode does, one statement each (reward "checklist")."""

    def __post_init__(self) -> None:
        """Refuse gold that means nothing (see `agentgym.gold.check`, `agentgym.criterion.check`)."""
        if self.checklist:
            criteria.check(self.checklist)
        if self.trace or self.accepted_args or self.assertions or self.milestones or self.minefields or self.hidden_facts:
            parts.check(
                trace=self.trace,
                accepted_args=self.accepted_args,
                assertions=self.assertions,
                milestones=self.milestones,
                minefields=self.minefields,
                hidden_facts=self.hidden_facts,
            )


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
