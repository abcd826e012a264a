"""Compiles an expression into two flat programs, one per scope, that turn raw scores into contributions.

A leaf is one occurrence of a component in the tree. A program keeps its leaves in the order of the tree,
so that everything below a cap or a gate is one slice. Running it is: weigh the leaves, then apply the caps
and gates from the inside out, each on its slice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component
from agentgym.rewards.expression import Cap, Expression, Gate, Sum, Weight

CONSTANT, RETRO = -1, -2
"""Sources of a trajectory leaf other than a component: the constant 1 (a gate's base), an earlier turn leaf."""


@dataclass(slots=True)
class Leaf:
    """One occurrence of a component."""

    owner: str
    """Name of the component that the contribution is booked to."""
    source: int
    """Index of the component whose raw value is read; CONSTANT or RETRO."""
    weight: float
    turn_leaf: int = -1
    """For RETRO: index of the turn leaf whose sum is read."""
    retrospective: bool = False
    """Turn leaves inside a gate: summed up during the episode, paid by the trajectory program."""


@dataclass(slots=True)
class Step:
    """A cap (gate < 0) or a gate on the leaves [start, end), followed by an outer weight."""

    start: int
    end: int
    lo: float
    hi: float
    weight: float
    gate: int = -1
    """Index of the trajectory component that gates."""


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

    cums: list[float]
    """[number of turn caps] running sums before clipping."""
    retro: list[float]
    """[number of turn leaves] sums of the retrospective leaves."""


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
        twice = sorted(self.retrospective & set(self.turn_owned))
        if twice:
            raise ConfigError(f"{twice[0]} is paid per turn and again inside a gate; a score enters one level only")

    def start(self) -> Running:
        """Return the memory of a fresh episode."""
        return Running([0.0] * len(self.turn.steps), [0.0] * len(self.turn.leaves))

    def run_turn(self, raws: Sequence[float], running: Running) -> list[float]:
        """Return the contribution of each turn leaf.

        Args:
            raws: raw value of each turn component, 0 where it has none.
            running: changed in place.
        """
        leaves = self.turn.leaves
        values = [leaf.weight * raws[leaf.source] for leaf in leaves]
        for i, step in enumerate(self.turn.steps):
            total = 0.0
            for value in values[step.start : step.end]:
                total += value
            if total:
                before = running.cums[i]
                running.cums[i] = after = before + total
                lo, hi = step.lo, step.hi
                if after < lo or after > hi or before < lo or before > hi:
                    _share(values, step, total, min(max(after, lo), hi) - min(max(before, lo), hi))
            if step.weight != 1.0:
                _scale(values, step, step.weight)
        if self.retrospective:
            for i, leaf in enumerate(leaves):
                if leaf.retrospective:
                    running.retro[i] += values[i]
        return values

    def run_trajectory(self, raws: Sequence[float], running: Running) -> list[float]:
        """Return the contribution of each trajectory leaf (arguments as in `run_turn`)."""
        values: list[float] = []
        for leaf in self.trajectory.leaves:
            if leaf.source >= 0:
                values.append(leaf.weight * raws[leaf.source])
            else:
                values.append(leaf.weight if leaf.source == CONSTANT else running.retro[leaf.turn_leaf])
        for step in self.trajectory.steps:
            if step.gate >= 0:
                _scale(values, step, raws[step.gate])
            else:
                total = sum(values[step.start : step.end])
                if total < step.lo or total > step.hi:
                    _share(values, step, total, min(max(total, step.lo), step.hi))
            if step.weight != 1.0:
                _scale(values, step, step.weight)
        return values

    # ---- compilation

    def _compile(self, node: Expression, weight: float) -> None:
        if isinstance(node, Weight):
            self._compile(node.node, weight * node.weight)
        elif isinstance(node, Sum):
            for term in node.terms:
                self._compile(term, weight)
        elif isinstance(node, Cap):
            marks = len(self.turn.leaves), len(self.trajectory.leaves)
            self._compile(node.node, 1.0)
            for scope, start in zip((self.turn, self.trajectory), marks, strict=True):
                if any(not leaf.retrospective for leaf in scope.leaves[start:]):
                    scope.steps.append(Step(start, len(scope.leaves), node.lo, node.hi, weight))
        elif isinstance(node, Gate):
            self._compile_gate(node, weight)
        else:
            component: Component = node  # pyright: ignore[reportAssignmentType]
            scope = self.turn if component.scope == "turn" else self.trajectory
            scope.leaves.append(Leaf(component.name, scope.index(component), weight))

    def _compile_gate(self, gate: Gate, weight: float) -> None:
        by = self.trajectory.index(gate.by)  # pyright: ignore[reportArgumentType]
        turn_start, start = len(self.turn.leaves), len(self.trajectory.leaves)
        if gate.base:
            self.trajectory.leaves.append(Leaf(gate.by.name, CONSTANT, gate.base))
        self._compile(gate.what, 1.0)
        for i in range(turn_start, len(self.turn.leaves)):
            leaf = self.turn.leaves[i]
            if not leaf.retrospective:
                leaf.retrospective = True
                self.trajectory.leaves.append(Leaf(leaf.owner, RETRO, 1.0, turn_leaf=i))
        self.trajectory.steps.append(Step(start, len(self.trajectory.leaves), 0.0, 0.0, weight, gate=by))

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
    """Return each leaf's weight times the weights outside its caps and gates."""
    weights = [leaf.weight for leaf in scope.leaves]
    for step in scope.steps:
        for i in range(step.start, step.end):
            weights[i] *= step.weight
    return weights


def _scale(values: list[float], step: Step, factor: float) -> None:
    for i in range(step.start, step.end):
        values[i] *= factor


def _share(values: list[float], step: Step, total: float, capped: float) -> None:
    """Scale a slice that sums to `total` to sum to `capped`; its last non-zero member takes the remainder."""
    factor, left, last = capped / total, capped, -1
    for i in range(step.start, step.end):
        if values[i]:
            last = i
    for i in range(step.start, last):
        values[i] *= factor
        left -= values[i]
    values[last] = left
