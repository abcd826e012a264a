"""Turn components over walks in a graph: are the triples of a gold path kept, and how far is it to them?

The events that they read (`ToolResult.events` of successful calls, see `agentgym.rewards.events`):

- triples: the list of [head, relation, tail] that the result showed, by entity id as in `Gold.path`;
- kept: the whole list of kept [head, relation, tail] after the call.

A triple that a policy writes is none: only results are read.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym.errors import ConfigError
from agentgym.rewards.component import Component, EpisodeView
from agentgym.task import Gold
from agentgym.types import Score, Turn

Triple = tuple[str, str, str]
_NOTHING = Score("turn", 0.0)
EXACT_TRIPLES = 12
"""Up to this many missing triples the shortest list of calls is found exactly, else greedily."""


def gold_paths(gold: Gold) -> list[frozenset[Triple]]:
    """Return the sets of triples of which one is wanted: each gold path; all of them joined where all answers count."""
    sets = [frozenset(path) for path in gold.paths or (gold.path,) if path]
    if len(sets) > 1 and gold.answer_mode != "any":
        return [frozenset().union(*sets)]
    return sets


def path_f(kept: frozenset[Triple], paths: Sequence[frozenset[Triple]], beta: float = 1.0) -> float:
    """Return F_β of the kept triples against the best of the paths: (1+β²)·tp / (β²·|path| + |kept|)."""
    b = beta * beta
    return max(((1.0 + b) * len(kept & path) / (b * len(path) + len(kept)) for path in paths), default=0.0)


def _recorded(turn: Turn, key: str) -> list[frozenset[Triple]]:
    """Return the triples that each successful result of a turn recorded under a key, in order."""
    lists = [result.events[key] for result in turn.results if result.ok and key in result.events]
    return [frozenset((str(h), str(r), str(t)) for h, r, t in triples) for triples in lists]


class PathPotential(Component):
    """ΔΦ, Φ = F_β of the kept triples against the best gold path, β = 1.

    Keeping everything has a small F (two gold among 500: .008), and keeping and dropping in a loop adds up to 0.

    Source: retrieval F1 of knowledge-graph agents (GRAIL, KG-R1), as a potential. Deviation: only triples that were
    kept by a call count, none that a text mentions.
    """

    name = "path_potential"
    scope = "turn"
    range = (-1.0, 1.0)
    supply = "potential"
    needs = frozenset({"gold.path|gold.paths", "events.kept"})

    def __init__(self, beta: float = 1.0) -> None:
        """Set β: above 1 recall counts more. Raises ConfigError unless it is positive."""
        if not beta > 0:
            raise ConfigError(f"{self.name}: beta={beta!r}; allowed: a positive number")
        self.beta = beta

    def start(self, view: EpisodeView) -> dict[str, Any]:
        """Return the gold paths and the last Φ."""
        return {"paths": gold_paths(view.gold), "phi": 0.0}

    def score(self, view: EpisodeView, state: dict[str, Any]) -> Score:
        """Score the last turn."""
        kept = _recorded(view.turns[-1], "kept")
        if not kept:
            return _NOTHING
        before, state["phi"] = state["phi"], path_f(kept[-1], state["paths"], self.beta)
        raw = state["phi"] - before
        return Score("turn", raw, reason=f"F {before:.3f} -> {state['phi']:.3f}", parts={"kept": float(len(kept[-1]))})


@dataclass(slots=True)
class WalkState:
    """What the walk has shown so far."""

    paths: list[frozenset[Triple]]
    start: frozenset[str]
    """Entities that the question names."""
    seen: set[Triple] = field(default_factory=set)
    """Gold triples that a result showed."""
    known: set[str] = field(default_factory=set)
    """Entities that a result showed."""
    kept: frozenset[Triple] = frozenset()
    first: int = 0
    """Calls needed from the start."""
    left: int = 0
    """Calls needed now."""


def calls_needed(missing: Iterable[Triple], known: Iterable[str]) -> int:
    """Return the length of the shortest list of calls that shows all missing triples.

    One call expands one known entity along one relation in one direction and shows all triples there; what it
    shows becomes known. Breadth-first search over the sets of missing triples that are shown; more than
    `EXACT_TRIPLES` of them are covered greedily, an upper bound. A triple that nothing known leads to costs one call
    on its own.
    """
    everything, base = sorted(set(missing)), frozenset(known)
    if len(everything) > EXACT_TRIPLES:
        return _greedy(everything, base)
    queue, visited = deque([(frozenset[Triple](), 0)]), {frozenset[Triple]()}
    while queue:
        shown, steps = queue.popleft()
        if len(shown) == len(everything):
            return steps
        for new in _expansions([t for t in everything if t not in shown], base, shown):
            after = shown | new
            if after not in visited:
                visited.add(after)
                queue.append((after, steps + 1))
    raise AssertionError("every step shows a triple, so the search ends")


def _expansions(missing: Sequence[Triple], base: frozenset[str], shown: frozenset[Triple]) -> list[frozenset[Triple]]:
    """Return what each useful call would show; if none leads on, the first missing triple alone."""
    known = base | {entity for h, _, t in shown for entity in (h, t)}
    calls: dict[tuple[str, str, str], set[Triple]] = {}
    for triple in missing:
        head, relation, tail = triple
        if head in known:
            calls.setdefault((head, relation, "out"), set()).add(triple)
        if tail in known:
            calls.setdefault((tail, relation, "in"), set()).add(triple)
    return list(dict.fromkeys(map(frozenset, calls.values()))) or [frozenset(missing[:1])]


def _greedy(missing: Sequence[Triple], base: frozenset[str]) -> int:
    shown, steps, left = frozenset[Triple](), 0, list(missing)
    while left:
        shown |= max(_expansions(left, base, shown), key=lambda new: (len(new), sorted(new)))
        left = [t for t in left if t not in shown]
        steps += 1
    return steps


class ActionReference(Component):
    """−Δ(calls still needed) / calls needed at the start, to see and keep the triples of a gold path.

    Calls needed from a state: the shortest list of expansions that shows the missing triples (`calls_needed`), plus
    one call to keep them unless all are kept. With several gold paths, the nearest. Going astray costs nothing
    here, dropping a gold triple takes back what keeping it paid, and a triple named in a thought is not seen.

    Source: GRAIL, whose steps are judged by equality with a refined reference. Deviation: the distance from the
    state that was really reached, so that any shortest way is right and no step label can be noisy.
    """

    name = "action_reference"
    scope = "turn"
    range = (-1.0, 1.0)
    supply = "potential"
    needs = frozenset({"gold.path|gold.paths", "events.triples", "events.kept"})

    def __init__(self, keep: bool = True) -> None:
        """Say whether the triples must be kept, or only seen (environments without a kept set)."""
        self.keep = keep
        if not keep:
            self.needs = self.needs - {"events.kept"}

    def start(self, view: EpisodeView) -> WalkState:
        """Return the state before the first turn."""
        paths = gold_paths(view.gold)
        named = frozenset(entity.id for entity in view.gold.entities if entity.hop == 0)
        state = WalkState(paths, named or frozenset(path[0][0] for path in (view.gold.path, *view.gold.paths) if path))
        state.first = state.left = self._distance(state)
        return state

    def score(self, view: EpisodeView, state: WalkState) -> Score:
        """Score the last turn."""
        gold = frozenset().union(*state.paths)
        for triples in _recorded(view.turns[-1], "triples"):
            state.seen |= triples & gold
            state.known |= {entity for h, _, t in triples for entity in (h, t)}
        if kept := _recorded(view.turns[-1], "kept"):
            state.kept = kept[-1]
        before, state.left = state.left, self._distance(state)
        if before == state.left or not state.first:
            return _NOTHING
        # The difference of two shares, so that the increments add up without drift of their own.
        raw = before / state.first - state.left / state.first
        return Score("turn", raw, reason=f"{state.left} calls left of {state.first}", parts={"left": float(state.left)})

    def _distance(self, state: WalkState) -> int:
        known = state.start | state.known
        return min(
            (
                calls_needed(path - state.seen - state.kept, known) + int(self.keep and not path <= state.kept)
                for path in state.paths
            ),
            default=0,
        )


path_potential = PathPotential()
action_reference = ActionReference()
