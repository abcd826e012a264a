"""Compiles an expression into two flat programs, one per scope, that turn raw scores into contributions.

A leaf is one occurrence of a component in the tree. A program keeps its leaves in the order of the tree,
so that everything below a node is one slice. Running it is: weigh the leaves, then apply the nodes
from the inside out, each on its slice (see `steps`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component
from agentgym.rewards.expression import Cap, Expression, Gate, Number, Sum, Weight
from agentgym.rewards.nodes import Clip, MaxNorm, Mean, Min, Once, OnlyIf, Product, Shaped
from agentgym.rewards.steps import Kind, Step, apply_turn, cap_turn, clip, factor_of, join, scale, splits
from agentgym.types import Score

CONSTANT, RETRO, SETTLE = -1, -2, -3
"""Sources of a trajectory leaf other than a component: the constant 1, an earlier turn leaf, a shaping to settle."""
PSEUDO = {"constant": "a number of the expression", "settlement": "the potential of a cut episode, taken back"}
"""Names that no component may have where the expression holds such a term, and what is booked to them."""


@dataclass(slots=True)
class Leaf:
    """One occurrence of a component."""

    owner: str
    """Name of the component that the contribution is booked to."""
    source: int
    """Index of the component whose raw value is read; CONSTANT, RETRO or SETTLE."""
    weight: float
    turn_leaf: int = -1
    """For RETRO: index of the turn leaf whose sum is read. For SETTLE: index of the turn step."""
    retrospective: bool = False
    """Turn leaves inside a gate: summed up during the episode, paid by the trajectory program."""
    normed: bool = False
    """The raw value is divided by its maximum over the group."""


@dataclass(slots=True)
class Scope:
    """The program of one scope: its components, their leaves and the steps over them."""

    components: list[Component] = field(default_factory=list)
    leaves: list[Leaf] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)

    def index(self, component: Component) -> int:
        """Return the index of a component, adding it when it is new."""
        for i, known in enumerate(self.components):
            if known.name == component.name:
                if known is not component:
                    raise ConfigError(f"two components of one suite are called {component.name!r}; rename one of them")
                return i
        self.components.append(component)
        return len(self.components) - 1

    def owned(self) -> dict[str, tuple[int, ...]]:
        """Return the indices of the paying leaves by component name."""
        table: dict[str, list[int]] = {}
        for i, leaf in enumerate(self.leaves):
            if not leaf.retrospective:
                table.setdefault(leaf.owner, []).append(i)
        return {name: tuple(indices) for name, indices in table.items()}


@dataclass(slots=True)
class Running:
    """What the programs remember during one episode."""

    memory: list[Any]
    """[number of turn steps] what each turn step remembers."""
    retro: list[float]
    """[number of turn leaves] sums of the retrospective leaves."""
    given: dict[int, list[float]]
    """[turns] what each retrospective turn leaf gave, by its index."""
    n_turns: int = 0


class Program:
    """The compiled form of an expression."""

    def __init__(self, expression: Expression) -> None:
        """Compile. Raises ConfigError for two components of one name or a turn score paid at both scopes."""
        self.turn = Scope()
        self.trajectory = Scope()
        self._compile(expression, 1.0)
        self.turn_owned = self.turn.owned()
        self.trajectory_owned = self.trajectory.owned()
        self.weights = self._own_weights()
        """What a component's raw value is multiplied with, gates and caps left out, by name."""
        self.retrospective = {leaf.owner for leaf in self.turn.leaves if leaf.retrospective}
        self._late = [i for i, leaf in enumerate(self.turn.leaves) if leaf.retrospective]
        self.normed = tuple(dict.fromkeys(leaf.owner for leaf in self.trajectory.leaves if leaf.normed))
        """Components that are divided by their maximum over the group."""
        self.pseudo = tuple(name for name in PSEUDO if name in self.trajectory_owned)
        """Names of contributions that no component gave."""
        self.memo: dict[tuple[str, float | None, float, str], Score] = {}
        twice = sorted(self.retrospective & set(self.turn_owned))
        if twice:
            raise ConfigError(f"{twice[0]} is paid per turn and again inside a gate; a score enters one level only")
        for component in (*self.turn.components, *self.trajectory.components):
            if component.name in self.pseudo:
                raise ConfigError(f"a component is called {component.name!r}, as is {PSEUDO[component.name]}; rename it")

    def start(self) -> Running:
        """Return the memory of a fresh episode."""
        memory = [step.memory() for step in self.turn.steps]
        return Running(memory, [0.0] * len(self.turn.leaves), {i: [] for i in self._late})

    def run_turn(self, raws: Sequence[float], running: Running, last: bool) -> list[float]:
        """Return the contribution of each turn leaf.

        Args:
            raws: raw value of each turn component, 0 where it has none.
            running: changed in place.
            last: the episode ended with this turn.
        """
        leaves = self.turn.leaves
        values = [leaf.weight * raws[leaf.source] for leaf in leaves]
        running.n_turns += 1
        for i, step in enumerate(self.turn.steps):
            if step.kind == "cap":
                running.memory[i] = cap_turn(values, step, running.memory[i])
            else:
                running.memory[i] = apply_turn(values, step, running.memory[i], last)
            if step.weight != 1.0:
                scale(values, step.start, step.end, step.weight)
        for i in self._late:
            running.retro[i] += values[i]
            running.given[i].append(values[i])
        return values

    def run_trajectory(
        self, raws: Sequence[float | None], running: Running, normed: Mapping[int, float]
    ) -> list[float]:
        """Return the contribution of each trajectory leaf.

        Args:
            raws: raw value of each trajectory component, None where it has none.
            running: what the turns left.
            normed: raw values over their maximum in the group, by index of the component; those that are missing wait.
        """
        values = [self._end_value(leaf, raws, running, normed) for leaf in self.trajectory.leaves]
        for step in self.trajectory.steps:
            if step.kind in ("cap", "clip"):
                clip(values, step)
            elif step.kind in ("product", "min"):
                join(values, step, step.memory())
            else:
                raw = raws[step.by] if step.by >= 0 else None
                scale(values, step.start, step.end, factor_of(step, raw, running.n_turns))
            if step.weight != 1.0:
                scale(values, step.start, step.end, step.weight)
        return values

    def split(self, values: Sequence[float], running: Running, name: str) -> list[float]:
        """Return the share of each turn in what a retrospective component was paid at the end: [K]."""
        shares = [0.0] * running.n_turns
        for i, leaf in enumerate(self.trajectory.leaves):
            if leaf.source == RETRO and leaf.owner == name:
                for turn, part in enumerate(splits(values[i], running.given[leaf.turn_leaf])):
                    shares[turn] += part
        return shares

    def _end_value(
        self, leaf: Leaf, raws: Sequence[float | None], running: Running, normed: Mapping[int, float]
    ) -> float:
        if leaf.normed:
            return leaf.weight * normed.get(leaf.source, 0.0)
        if leaf.source >= 0:
            return leaf.weight * (raws[leaf.source] or 0.0)
        if leaf.source == CONSTANT:
            return leaf.weight
        if leaf.source == RETRO:
            return running.retro[leaf.turn_leaf]
        return leaf.weight * sum(running.memory[leaf.turn_leaf])

    # ---- compilation

    def _compile(self, node: Expression, weight: float) -> None:
        if isinstance(node, Weight):
            self._compile(node.node, weight * node.weight)
        elif isinstance(node, Sum):
            for term in node.terms:
                self._compile(term, weight)
        elif isinstance(node, (Cap, Clip, Once)):
            self._compile_running(node, weight)
        elif isinstance(node, Shaped):
            self._compile_shaped(node, weight)
        elif isinstance(node, (Product, Min)):
            self._compile_joint(node, weight)
        elif isinstance(node, (Gate, OnlyIf, Mean)):
            self._compile_late(node, weight)
        elif isinstance(node, Number):
            self.trajectory.leaves.append(Leaf("constant", CONSTANT, weight * node.value))
        elif isinstance(node, MaxNorm):
            component: Component = node.component  # pyright: ignore[reportAssignmentType]
            index = self.trajectory.index(component)
            self.trajectory.leaves.append(Leaf(component.name, index, weight, normed=True))
        else:
            component = node  # pyright: ignore[reportAssignmentType]
            scope = self.turn if component.scope == "turn" else self.trajectory
            scope.leaves.append(Leaf(component.name, scope.index(component), weight))

    def _compile_running(self, node: Cap | Clip | Once, weight: float) -> None:
        """Compile a node that works turn by turn, or on the one value at the end."""
        marks = len(self.turn.leaves), len(self.trajectory.leaves)
        self._compile(node.node, 1.0)
        lo, hi = (0.0, 0.0) if isinstance(node, Once) else (node.lo, node.hi)
        kind: Kind = "cap" if isinstance(node, Cap) else "clip" if isinstance(node, Clip) else "once"
        for scope, start in zip((self.turn, self.trajectory), marks, strict=True):
            if any(not leaf.retrospective for leaf in scope.leaves[start:]):
                scope.steps.append(Step(kind, start, len(scope.leaves), weight, lo, hi))

    def _compile_shaped(self, node: Shaped, weight: float) -> None:
        start = len(self.turn.leaves)
        self._compile(node.node, 1.0)
        self.turn.steps.append(Step("shaped", start, len(self.turn.leaves), weight, gamma=node.gamma))
        step = len(self.turn.steps) - 1
        self.trajectory.leaves.append(Leaf("settlement", SETTLE, -node.gamma * weight, turn_leaf=step))

    def _compile_joint(self, node: Product | Min, weight: float) -> None:
        per_turn = node.scopes == {"turn"}
        scope = self.turn if per_turn else self.trajectory
        start, factors = len(scope.leaves), []
        for factor in node.factors:
            begin, turn_begin = len(scope.leaves), len(self.turn.leaves)
            self._compile(factor, 1.0)
            if not per_turn:
                self._pay_late(turn_begin)
            factors.append((begin, len(scope.leaves)))
        kind: Kind = "product" if isinstance(node, Product) else "min"
        scope.steps.append(Step(kind, start, len(scope.leaves), weight, factors=tuple(factors)))

    def _compile_late(self, node: Gate | OnlyIf | Mean, weight: float) -> None:
        """Compile a node that is known at the end only: its turn leaves are paid there."""
        by = -1 if isinstance(node, Mean) else self.trajectory.index(node.by)  # pyright: ignore[reportArgumentType]
        turn_start, start = len(self.turn.leaves), len(self.trajectory.leaves)
        if isinstance(node, Gate) and node.base:
            self.trajectory.leaves.append(Leaf(node.by.name, CONSTANT, node.base))
        self._compile(node.children[0], 1.0)
        self._pay_late(turn_start)
        kind: Kind = "gate" if isinstance(node, Gate) else "only_if" if isinstance(node, OnlyIf) else "mean"
        outcome = node.outcome if isinstance(node, OnlyIf) else 1
        self.trajectory.steps.append(Step(kind, start, len(self.trajectory.leaves), weight, by=by, outcome=outcome))

    def _pay_late(self, turn_start: int) -> None:
        """Make the turn leaves from `turn_start` retrospective."""
        for i in range(turn_start, len(self.turn.leaves)):
            leaf = self.turn.leaves[i]
            if not leaf.retrospective:
                leaf.retrospective = True
                self.trajectory.leaves.append(Leaf(leaf.owner, RETRO, 1.0, turn_leaf=i))

    def _own_weights(self) -> dict[str, float]:
        turn, trajectory = _outer_weights(self.turn), _outer_weights(self.trajectory)
        table: dict[str, float] = {}
        for leaf, weight in zip(self.turn.leaves, turn, strict=True):
            if not leaf.retrospective:
                table[leaf.owner] = table.get(leaf.owner, 0.0) + weight
        for leaf, weight in zip(self.trajectory.leaves, trajectory, strict=True):
            own = weight * turn[leaf.turn_leaf] if leaf.source == RETRO else weight
            table[leaf.owner] = table.get(leaf.owner, 0.0) + own
        return table


def _outer_weights(scope: Scope) -> list[float]:
    """Return each leaf's weight times the weights outside its nodes."""
    weights = [leaf.weight for leaf in scope.leaves]
    for step in scope.steps:
        for i in range(step.start, step.end):
            weights[i] *= step.weight
    return weights
