"""Moments that a solution passes through, in an order, and moments that it never passes through."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from agentgym import statement, typed
from agentgym.gold import Constraint, Milestone
from agentgym.rewards.changes import applied
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.events import succeeded
from agentgym.rewards.min_cut import source_side
from agentgym.task import Gold
from agentgym.types import JSON, Score, ToolCall

Moment = tuple[ToolCall | None, JSON]
"""A successful call (None: a turn without one), and the state as it was after the turn; MISSING between two calls of
one turn, whose states no record keeps."""


class Milestones(Component):
    """Mean similarity of the milestones × [no minefield].

    A moment is a successful call, with the state after its turn. A milestone's similarity at a moment is the
    geometric mean over its constraints: a call counts 0 or 1, a statement about the state 0 or 1 or, with the
    operator `rouge`, between. Milestones are mapped to moments so that each comes later than those it is `after` and
    the sum is largest (exact). A minefield forfeits everything if it is reached at any moment, after the milestones
    that it is `after`; harm that was undone stays harm.

    Source: ToolSandbox (milestones and minefields over snapshots). Deviations: statements about paths in the place of
    similarities of table rows; the best mapping by a minimum cut; a milestone that was missed does not block those
    after it.
    """

    name = "milestones"
    scope = "trajectory"
    range = (0.0, 1.0)
    supply = "terminal"
    needs = frozenset({"gold.milestones"})

    def score(self, view: EpisodeView, state: Any) -> Score:
        """Score the finished episode."""
        gold, moments = view.gold, episode_moments(view)
        if _asks_for_state(gold) and view.initial_state is None:
            return Score("trajectory", None, valid=False, reason="the record holds no state (ToolEnv.scored_state)")
        table = _table(gold.milestones, moments)
        if hit := _first_hit(gold, moments, table):
            return Score("trajectory", 0.0, reason=f"minefield {hit}", evidence=(hit,))
        chosen = best_mapping(table, gold.milestones)
        raw = sum(chosen) / len(chosen)
        missed = tuple(m.id for m, similarity in zip(gold.milestones, chosen, strict=True) if not similarity)
        parts = {m.id: similarity for m, similarity in zip(gold.milestones, chosen, strict=True)}
        reason = f"{len(chosen) - len(missed)} of {len(chosen)} reached"
        return Score("trajectory", raw, reason=reason, parts=parts, evidence=missed)


def minefield_hit(view: EpisodeView) -> str:
    """Return the id of a minefield that the episode reached; empty for none."""
    moments = episode_moments(view)
    return _first_hit(view.gold, moments, _table(view.gold.milestones, moments))


def _table(milestones_: Sequence[Milestone], moments: Sequence[Moment]) -> np.ndarray:
    table = [[milestone_similarity(milestone, moment) for moment in moments] for milestone in milestones_]
    return np.array(table).reshape(len(milestones_), len(moments))


def _first_hit(gold: Gold, moments: Sequence[Moment], table: np.ndarray) -> str:
    return next((m.id for m in gold.minefields if _hits(m, moments, gold.milestones, table)), "")


def _asks_for_state(gold: Gold) -> bool:
    return any(c.path for m in (*gold.milestones, *gold.minefields) for c in m.constraints)


def episode_moments(view: EpisodeView) -> list[Moment]:
    """Return the moments of an episode, in order."""
    moments: list[Moment] = []
    state = view.initial_state
    for turn in view.turns:
        state = applied(state, turn.changes)
        calls = [call for call, _ in succeeded(turn)] or [None]
        moments += [(call, statement.MISSING) for call in calls[:-1]]
        moments.append((calls[-1], state))
    return moments


def milestone_similarity(milestone: Milestone, moment: Moment) -> float:
    """Return the geometric mean of the similarities of a milestone's constraints at a moment."""
    return math.prod(_similarity(c, moment) for c in milestone.constraints) ** (1 / len(milestone.constraints))


def _similarity(constraint: Constraint, moment: Moment) -> float:
    call, state = moment
    if not constraint.call:
        known = state is not statement.MISSING
        return statement.similarity(state, constraint.path, constraint.op, constraint.value) if known else 0.0
    if call is None or call.name != constraint.call:
        return 0.0
    return float(
        all(
            name in call.arguments and typed.matches(call.arguments[name], value, constraint.compare.get(name, "exact"))
            for name, value in constraint.arguments.items()
        )
    )


def _hits(minefield: Milestone, moments: Sequence[Moment], milestones: Sequence[Milestone], table: np.ndarray) -> bool:
    """Whether a minefield was reached at a moment after those that it is after (all, for none)."""
    first = 0
    for row, milestone in zip(table, milestones, strict=True):
        if milestone.id in minefield.after:
            reached = np.flatnonzero(row > 0)
            first = max(first, int(reached[0]) + 1 if reached.size else len(moments))
    return any(milestone_similarity(minefield, moment) > 0 for moment in moments[first:])


def best_mapping(table: np.ndarray, milestones: Sequence[Milestone]) -> list[float]:
    """Return the similarity of each milestone under the best mapping to moments that respects their order.

    Args:
        table: [milestones, moments] float64 in [0, 1].
        milestones: for their ids and `after`, which has no cycle.
    """
    tops = table.max(axis=1, initial=0.0)
    places = {m.id: i for i, m in enumerate(milestones)}
    before = [[places[a] for a in m.after] for m in milestones]
    if not any(before) or not tops.any():
        return [float(top) for top in tops]
    table = table[:, table.max(axis=0) > 0]
    by_tree = all(len(earlier) <= 1 for earlier in before)
    return _all_tops(table, tops, before) or (_tree(table, before) if by_tree else _cut(table, before))


def _order(before: Sequence[Sequence[int]]) -> list[int]:
    order: list[int] = []
    while len(order) < len(before):
        order += [i for i in range(len(before)) if i not in order and all(b in order for b in before[i])]
    return order


def _all_tops(table: np.ndarray, tops: np.ndarray, before: Sequence[Sequence[int]]) -> list[float] | None:
    """Return every milestone's best similarity if the earliest moments that give it are in order."""
    at = [-1] * len(before)
    for i in _order(before):
        earliest = max((at[b] for b in before[i]), default=-1)
        if not tops[i]:
            at[i] = earliest  # a missed milestone takes no moment
            continue
        fits = np.flatnonzero(table[i, earliest + 1 :] >= tops[i])
        if not fits.size:
            return None
        at[i] = earliest + 1 + int(fits[0])
    return [float(top) for top in tops]


def _tree(table: np.ndarray, before: Sequence[Sequence[int]]) -> list[float]:
    """Return the best mapping where no milestone is after more than one: from the last milestones to the first.

    Labels as in `_cut`.
    """
    values = np.zeros((len(before), 2 * table.shape[1] + 1))
    values[:, 1::2] = table
    order, best = _order(before), values.copy()
    later = [np.arange(values.shape[1])] * len(before)
    for i in reversed(order):
        # top[l]: the best label from l on; what is after a moment (odd) starts one later
        top = np.arange(values.shape[1])
        for label in range(len(top) - 2, -1, -1):
            top[label] = label if best[i, label] >= best[i, top[label + 1]] else top[label + 1]
        later[i] = top[np.arange(len(top)) + np.arange(len(top)) % 2]
        for parent in before[i]:
            best[parent] += best[i, later[i]]
    label = [0] * len(before)
    for i in order:
        label[i] = int(later[i][label[before[i][0]]] if before[i] else best[i].argmax())
    return [float(values[i, label[i]]) for i in range(len(before))]


def _cut(table: np.ndarray, before: Sequence[Sequence[int]]) -> list[float]:
    """Return the best mapping by a minimum cut.

    Labels 0, 2, 4… lie between moments (a milestone that is missed), labels 1, 3, 5… are the moments in use. Node
    (i, l) says that milestone i stands at label l or later; cutting the edge (i, l) -> (i, l + 1) puts it at l. What
    is after a milestone at a moment stands at a later label; a missed one may share its label.
    """
    labels = 2 * table.shape[1] + 1
    edges: list[tuple[tuple[int, int], tuple[int, int], float]] = []
    source, sink = (-1, 0), (-1, 1)
    for i, row in enumerate(table):
        for label in range(labels):
            cost = 1.0 - (row[label // 2] if label % 2 else 0.0)
            edges.append(((i, label) if label else source, (i, label + 1) if label + 1 < labels else sink, cost + 1.0))
            if 0 < label < labels - 1:
                edges.append(((i, label + 1), (i, label), math.inf))  # once later, always later
        for j in before[i]:
            # j at `label` or later forces i there, or past a moment that j takes
            edges += [((j, label), (i, label + label % 2), math.inf) for label in range(1, labels)]
    side = source_side(edges, source, sink)
    chosen = []
    for i, row in enumerate(table):
        label = max((label for label in range(1, labels) if (i, label) in side), default=0)
        chosen.append(float(row[label // 2]) if label % 2 else 0.0)
    return chosen


milestones = Milestones()
