"""Turn components that compare the calls of an episode with the calls of a solution."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from agentgym.errors import ConfigError
from agentgym.rewards.assignment import greedy, optimal, transport
from agentgym.rewards.calls import Wanted, call_similarity, nothing_to_match, wanted_calls
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.costs import SERVICE_CODES
from agentgym.rewards.events import TALK
from agentgym.task import Gold
from agentgym.types import Score, ToolCall, Turn

Assign = Literal["optimal", "greedy", "transport"]
MAX_GOLD_CALLS = 64
"""(matchtir) Longest trace: each of its calls can pay 1."""


@dataclass(slots=True)
class TraceState:
    """The calls so far, as rows of similarities with the gold calls."""

    wanted: list[Wanted]
    rows: list[list[float]] = field(default_factory=list)
    """One per call that resembles a gold call."""
    others: int = 0
    """Calls that resemble none."""
    begun: set[str] = field(default_factory=set)
    """Ids of gold calls that some call has resembled: what comes after them may be matched."""
    claimed: set[int] = field(default_factory=set)
    """(matchtir) Gold calls that an earlier turn was paid for."""
    phi: float = 0.0

    def see(self, turn: Turn) -> list[list[float]]:
        """Take in the calls of a turn; return their rows."""
        talk = TALK - {wanted.name for wanted in self.wanted}
        rows = []
        for call, result in zip(turn.calls, turn.results, strict=False):
            if call.name in talk or result.code in SERVICE_CODES:
                continue
            row = self._row(call) if result.ok else [0.0] * len(self.wanted)
            rows.append(row)
            if any(row):
                self.rows.append(row)
            else:
                self.others += 1
        return rows

    def _row(self, call: ToolCall) -> list[float]:
        row = [call_similarity(call, wanted) for wanted in self.wanted]
        kept = [
            similarity if all(before in self.begun for before in wanted.after) else 0.0
            for similarity, wanted in zip(row, self.wanted, strict=True)
        ]
        self.begun.update(wanted.id for similarity, wanted in zip(kept, self.wanted, strict=True) if similarity)
        return kept


class TraceMatch(Component):
    """ΔΦ, Φ = max(floor, (Σ similarity of the assigned calls − u·unmatched calls) / gold calls), u = .25.

    All calls so far are assigned to gold calls one to one, so that a repeated call is matched once and then costs. A
    call that failed matches nothing; talking to the user and closing the episode are no calls of a trace unless gold
    lists them. A gold call that comes `after` others matches only once those were resembled. An optional gold call
    takes a call without reward or cost. Partial similarity pays: a wrong first try takes part of what the right call
    then earns (min_sim=1 turns that off).

    Options: assign "optimal" (exact), "greedy" (by score) or "transport" (entropic optimal transport; Φ is its
    Σ plan·similarity, and repeated calls share one match instead of costing u).

    Source: MatchTIR's similarity and one-to-one matching. Deviations: an exact assignment (the released one is
    greedy); unmatched calls cost; a potential over the whole episode in the place of means over turns (those are
    `matchtir`); typed values.
    """

    name = "trace_match"
    scope = "turn"
    supply = "potential"
    needs = frozenset({"gold.trace"})

    def __init__(
        self, assign: Assign = "optimal", unmatched: float = 0.25, min_sim: float = 0.0, floor: float = -0.5
    ) -> None:
        """Set how calls are assigned, the cost of an unmatched one, the least similarity that counts, and the floor."""
        if assign not in ("optimal", "greedy", "transport"):
            raise ConfigError(f"trace_match: assign={assign!r}; allowed: optimal, greedy, transport")
        if not (unmatched >= 0 and floor <= 0):
            raise ConfigError(f"trace_match: unmatched={unmatched!r} must be at least 0 and floor={floor!r} at most 0")
        self.assign, self.unmatched, self.min_sim = assign, unmatched, min_sim
        self.range = (floor, 1.0)

    def complaint(self, gold: Gold) -> str:
        """Refuse a trace without a call that must be made."""
        return nothing_to_match(gold)

    def start(self, view: EpisodeView) -> TraceState:
        """Return the gold calls."""
        return TraceState(wanted_calls(view.gold))

    def score(self, view: EpisodeView, state: TraceState) -> Score:
        """Score the last turn; `parts` hold Φ after it and the number of matched calls."""
        if not state.see(view.turns[-1]):
            return Score("turn", 0.0)
        before, (state.phi, matched) = state.phi, self._potential(state)
        calls = len(state.rows) + state.others
        reason = f"{matched} of {calls} calls matched"
        return Score("turn", state.phi - before, reason=reason, parts={"phi": state.phi, "matched": float(matched)})

    def _potential(self, state: TraceState) -> tuple[float, int]:
        similarity = np.array(state.rows).reshape(len(state.rows), len(state.wanted))
        similarity = np.where(similarity >= self.min_sim, similarity, 0.0)
        required = [not wanted.optional for wanted in state.wanted]
        if self.assign == "transport":
            columns = np.vstack([similarity, np.zeros((state.others, len(required)))])[:, required]
            return float((transport(columns) * columns).sum()), int((columns.max(axis=1) > 0).sum())
        # An optional call is worth what its call would cost unmatched.
        gain = similarity * np.where(required, 1.0, self.unmatched)
        pairs = (optimal if self.assign == "optimal" else greedy)(gain)
        earned = sum(similarity[p, g] for p, g in pairs if required[g])
        spared = sum(similarity[p, g] for p, g in pairs if not required[g]) - sum(not required[g] for _, g in pairs)
        idle = len(state.rows) + state.others - len(pairs) - spared
        phi = (earned - self.unmatched * idle) / sum(required)
        return max(self.range[0], float(phi)), len(pairs)


class MatchTIR(Component):
    """Mean similarity of a turn's calls with the gold calls that they are assigned to: the published turn reward.

    For comparison with the paper only: a mean over calls makes few calls a turn the best ones. Here a gold call pays
    in one turn only, so the supply is finite: at most 1 for each gold call, of which a task has at most 64.

    Source: MatchTIR, turn-level reward with the KM matching (its answer F1 on the last turn is a component of its
    own). Deviations: turns are matched one after the other, as they happen, and not all at the end; values are
    typed; the assignment is exact unless assign="greedy".
    """

    name = "matchtir"
    scope = "turn"
    range = (0.0, float(MAX_GOLD_CALLS))
    supply = "once"
    needs = frozenset({"gold.trace"})

    def __init__(self, assign: Assign = "optimal") -> None:
        """Set how calls are assigned."""
        if assign not in ("optimal", "greedy", "transport"):
            raise ConfigError(f"matchtir: assign={assign!r}; allowed: optimal, greedy, transport")
        self.assign: Assign = assign

    def complaint(self, gold: Gold) -> str:
        """Refuse a trace without a call that must be made, and one too long for the range."""
        if len(gold.trace) > MAX_GOLD_CALLS:
            return f"its trace has {len(gold.trace)} calls; allowed: {MAX_GOLD_CALLS}"
        return nothing_to_match(gold)

    def start(self, view: EpisodeView) -> TraceState:
        """Return the gold calls."""
        return TraceState(wanted_calls(view.gold))

    def score(self, view: EpisodeView, state: TraceState) -> Score:
        """Score the last turn."""
        rows = state.see(view.turns[-1])
        if not rows:
            return Score("turn", 0.0)
        similarity = np.array(rows)
        similarity[:, sorted(state.claimed)] = 0.0
        rewards, taken = turn_rewards(similarity, self.assign)
        state.claimed.update(taken)
        return Score("turn", sum(rewards) / len(rewards), reason=f"{len(taken)} of {len(rows)} calls matched")


def turn_rewards(similarity: np.ndarray, assign: Assign = "optimal") -> tuple[list[float], list[int]]:
    """Return the reward of each call of a turn, and the gold calls that were taken.

    Args:
        similarity: [calls, gold calls] float64 in [0, 1].
        assign: optimal, greedy or transport.
    """
    if assign == "transport":
        rewards = (transport(similarity) * similarity).sum(axis=1)
        return [float(r) for r in rewards], [int(g) for g in np.flatnonzero(similarity.max(axis=0) > 0)]
    pairs: Sequence[tuple[int, int]] = (optimal if assign == "optimal" else greedy)(similarity)
    rewards = [0.0] * len(similarity)
    for p, g in pairs:
        rewards[p] = float(similarity[p, g])
    return rewards, [g for _, g in pairs]


trace_match = TraceMatch()
