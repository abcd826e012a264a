"""Runs a compiled expression over the turns of one episode: raw scores in, contributions out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.program import Program, Running, Scope
from agentgym.types import Score

_MEMO_SIZE = 4096


@dataclass(slots=True)
class SuiteState:
    """What a suite remembers of one running episode; rebuilt by replay, never stored."""

    own: list[Any]
    """Private state of each turn component, then of each trajectory component."""
    running: Running
    sums: list[float]
    """[turn components] sums of the raw values, for the ranges that bound a sum."""
    raw_sums: dict[str, float]
    """Sums of the raw values of retrospective components."""
    clipped: dict[str, int] = field(default_factory=dict)
    """How often a raw value left its component's declared range, by component."""


class Scoring:
    """The part of a suite that scores: components and program, without state of its own."""

    def __init__(self, program: Program) -> None:
        """Score with this program."""
        self.program = program
        self.components: dict[str, Component] = {
            c.name: c for c in (*program.turn.components, *program.trajectory.components)
        }
        self._memo: dict[tuple[str, float | None, float, str], Score] = {}

    def start(self, view: EpisodeView) -> SuiteState:
        """Return the state of a fresh episode."""
        turn, trajectory = self.program.turn.components, self.program.trajectory.components
        state = self.blank()
        state.own = [component.start(view) for component in (*turn, *trajectory)]
        return state

    def blank(self) -> SuiteState:
        """Return a state that adds up stored scores: the components' own states are missing."""
        retrospective = dict.fromkeys(sorted(self.program.retrospective), 0.0)
        return SuiteState([], self.program.start(), [0.0] * len(self.program.turn.components), retrospective)

    def score_turn(self, view: EpisodeView, state: SuiteState) -> dict[str, Score]:
        """Score the last turn of the view: every turn component's contribution, by name.

        Call it once per turn, in order. Values of components under one cap share the capped increment in
        proportion; deferred, invalid and retrospective ones have value 0.
        """
        own = state.own
        scores = [c.score(view, own[i]) for i, c in enumerate(self.program.turn.components)]
        return self.turn_contributions(scores, state)

    def score_trajectory(self, view: EpisodeView, state: SuiteState) -> dict[str, Score]:
        """Score the finished episode: every trajectory component's contribution, by name."""
        own, offset = state.own, len(self.program.turn.components)
        scores = [c.score(view, own[offset + i]) for i, c in enumerate(self.program.trajectory.components)]
        return self.trajectory_contributions(scores, state)

    def turn_contributions(self, scores: Sequence[Score], state: SuiteState) -> dict[str, Score]:
        """Return raw turn scores (in the order of the components) with weight and value."""
        turn = self.program.turn
        scores = [self._bounded(turn.components[i], s, state, i) for i, s in enumerate(scores)]
        raws = [s.raw or 0.0 for s in scores]
        for name in state.raw_sums:
            state.raw_sums[name] += raws[turn.index(self.components[name])]
        values = self.program.run_turn(raws, state.running)
        return self._contributions(turn, self.program.turn_owned, scores, values)

    def trajectory_contributions(self, scores: Sequence[Score], state: SuiteState) -> dict[str, Score]:
        """Return raw trajectory scores (in the order of the components) with weight and value.

        Turn components inside a gate are paid here, under their own name.
        """
        trajectory, owned = self.program.trajectory, self.program.trajectory_owned
        scores = [self._bounded(trajectory.components[i], s, state, -1) for i, s in enumerate(scores)]
        values = self.program.run_trajectory([s.raw or 0.0 for s in scores], state.running)
        result = self._contributions(trajectory, owned, scores, values)
        for name, raw in state.raw_sums.items():
            value = sum(values[i] for i in owned[name])
            weight = self.program.weights[name]
            result[name] = Score("trajectory", raw, weight, value, reason="paid at the end: inside a gate")
        return result

    def _contributions(
        self, scope: Scope, owned: Mapping[str, tuple[int, ...]], scores: Sequence[Score], values: Sequence[float]
    ) -> dict[str, Score]:
        result, weights, memo = {}, self.program.weights, self._memo
        for component, score in zip(scope.components, scores, strict=True):
            name, leaves = component.name, owned.get(component.name, ())
            value = values[leaves[0]] if len(leaves) == 1 else sum(values[i] for i in leaves)
            if score.parts or score.evidence or not score.valid or score.deferred:
                result[name] = _contribution(score, weights.get(name, 0.0), value)
                continue
            # Most turns repeat a few scores (−1 for a step, 0 for no error): one frozen object serves them all.
            key = (name, score.raw, value, score.reason)
            known = memo.get(key)
            if known is None:
                known = _contribution(score, weights.get(name, 0.0), value)
                if len(memo) < _MEMO_SIZE:
                    memo[key] = known
            result[name] = known
        return result

    def _bounded(self, component: Component, score: Score, state: SuiteState, index: int) -> Score:
        """Return the score with its raw value inside the declared range; `index` < 0 at trajectory scope."""
        raw = score.raw
        if raw is None:
            return score
        if not math.isfinite(raw):
            return _rated(score, None, f"{component.name} gave {raw!r}, which is no finite number", valid=False)
        lo, hi = component.range
        if index < 0 or component.supply == "cost":
            kept = min(max(raw, lo), hi)
        else:
            before = state.sums[index]
            state.sums[index] = after = before + raw
            if lo <= after <= hi and lo <= before <= hi:
                return score
            kept = min(max(after, lo), hi) - min(max(before, lo), hi)
        if abs(kept - raw) <= 1e-9:  # rounding of a sum is no fault
            return score if kept == raw else _rated(score, kept, score.reason)
        state.clipped[component.name] = state.clipped.get(component.name, 0) + 1
        note = f"clipped from {raw:g} to the declared range {lo:g} .. {hi:g}"
        return _rated(score, kept, f"{score.reason}; {note}" if score.reason else note)


def _contribution(score: Score, weight: float, value: float) -> Score:
    return Score(
        score.scope, score.raw, weight, value, score.valid, score.deferred, score.reason, score.parts, score.evidence
    )


def _rated(score: Score, raw: float | None, reason: str, *, valid: bool = True) -> Score:
    return Score(
        score.scope, raw, valid=valid and score.valid, reason=reason, parts=score.parts, evidence=score.evidence
    )
