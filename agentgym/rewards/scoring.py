"""Runs a compiled expression over the turns of one episode: raw scores in, contributions out."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from agentgym.errors import AgentGymError
from agentgym.rewards.component import Component, EpisodeView
from agentgym.rewards.program import PSEUDO, Program, Running, Scope
from agentgym.types import Score, Trajectory

SHARE = "turn "
"""Parts of a score that was paid at the end: "turn 3" is the share that turn 3 earned."""
MAXIMUM = "group maximum"
"""Part of a score: the largest raw value among the siblings."""
PAID_LATE = "paid at the end: inside a gate"
WAITS_FOR_GROUP = "waits for its group"
_MEMO_SIZE = 4096


@dataclass(slots=True)
class SuiteState:
    """What a suite remembers of one running episode; rebuilt by replay, never stored."""

    own: list[Any]
    """Private state of each turn component, then of each trajectory component."""
    program: Program
    """The compiled expression; with a schedule the one of the episode's progress."""
    running: Running
    sums: list[float]
    """[turn components] sums of the raw values, for the ranges that bound a sum."""
    raw_sums: dict[str, float]
    """Sums of the raw values of retrospective components."""


class Scoring:
    """The part of a suite that scores: components and program, without state of its own."""

    def __init__(self, program: Program) -> None:
        """Score with this program."""
        self.program = program
        """Components, leaves and nodes; where the expression has a schedule, with the weights of its beginning."""
        self.components: dict[str, Component] = {
            c.name: c for c in (*program.turn.components, *program.trajectory.components)
        }
        every = (*program.turn.components, *program.trajectory.components)
        self._stoppers = [i for i, c in enumerate(every) if type(c).stop is not Component.stop]

    def start(self, view: EpisodeView) -> SuiteState:
        """Return the state of a fresh episode."""
        turn, trajectory = self.program.turn.components, self.program.trajectory.components
        state = self.blank(view.progress)
        state.own = [component.start(view) for component in (*turn, *trajectory)]
        return state

    def program_at(self, progress: float | None) -> Program:
        """Return the program of an episode at some progress of training."""
        return self.program

    def blank(self, progress: float | None = None) -> SuiteState:
        """Return a state that adds up stored scores: the components' own states are missing."""
        program = self.program_at(progress)
        retrospective = dict.fromkeys(sorted(program.retrospective), 0.0)
        return SuiteState([], program, program.start(), [0.0] * len(program.turn.components), retrospective)

    def score_turn(self, view: EpisodeView, state: SuiteState) -> dict[str, Score]:
        """Score the last turn of the view: every turn component's contribution, by name.

        Call it once per turn, in order. Values of components under one cap share the capped increment in
        proportion; deferred, invalid and retrospective ones have value 0.
        """
        own = state.own
        scores = _scored(self.program.turn.components, view, own)
        return self.turn_contributions(scores, state, last=bool(view.end_reason))

    def stop(self, view: EpisodeView, state: SuiteState) -> str:
        """Return the end_reason with which a component wants the episode to end now; empty: it goes on.

        Call it once after each `score_turn` of a live episode.
        """
        if not self._stoppers:
            return ""
        turn = self.program.turn.components
        every = (*turn, *self.program.trajectory.components)
        return next((reason for i in self._stoppers if (reason := every[i].stop(view, state.own[i]))), "")

    def score_trajectory(self, view: EpisodeView, state: SuiteState) -> dict[str, Score]:
        """Score the finished episode: every trajectory component's contribution, by name."""
        own, offset = state.own, len(self.program.turn.components)
        scores = _scored(self.program.trajectory.components, view, own[offset:])
        return self.trajectory_contributions(scores, state)

    def turn_contributions(self, scores: Sequence[Score], state: SuiteState, last: bool = False) -> dict[str, Score]:
        """Return raw turn scores (in the order of the components) with weight and value.

        Args:
            scores: one per turn component.
            state: changed in place.
            last: the turn saw the end of the episode.
        """
        turn = self.program.turn
        scores = [self._bounded(turn.components[i], s, state, i) for i, s in enumerate(scores)]
        raws = [s.raw or 0.0 for s in scores]
        for name in state.raw_sums:
            state.raw_sums[name] += raws[turn.index(self.components[name])]
        values = state.program.run_turn(raws, state.running, last)
        return self._contributions(state.program, turn, self.program.turn_owned, scores, values)

    def trajectory_contributions(self, scores: Sequence[Score], state: SuiteState) -> dict[str, Score]:
        """Return raw trajectory scores (in the order of the components) with weight and value.

        Turn components inside a gate are paid here, under their own name; their `parts` hold the share of each
        turn. What no component gave (`program.PSEUDO`) is booked under a name of its own. A component that is
        divided by its group's maximum waits until `parts` holds that.
        """
        program, trajectory, owned = state.program, self.program.trajectory, self.program.trajectory_owned
        scores = [self._bounded(trajectory.components[i], s, state, -1) for i, s in enumerate(scores)]
        normed: dict[int, float] = {}
        for name in program.normed:
            index = trajectory.index(self.components[name])
            scores[index], normed[index] = _over_maximum(scores[index])
        values = program.run_trajectory([s.raw for s in scores], state.running, normed)
        result = self._contributions(program, trajectory, owned, scores, values)
        for name, raw in state.raw_sums.items():
            value = sum(values[i] for i in owned[name])
            shares = program.split(values, state.running, name)
            parts = {f"{SHARE}{turn}": share for turn, share in enumerate(shares) if share}
            result[name] = Score("trajectory", raw, program.weights[name], value, reason=PAID_LATE, parts=parts)
        for name in program.pseudo:
            value = sum(values[i] for i in owned[name])
            if value or name == "constant":
                result[name] = Score("trajectory", value, 1.0, value, reason=PSEUDO[name])
        return result

    def _contributions(
        self,
        program: Program,
        scope: Scope,
        owned: Mapping[str, tuple[int, ...]],
        scores: Sequence[Score],
        values: Sequence[float],
    ) -> dict[str, Score]:
        result, weights, memo = {}, program.weights, program.memo
        for component, score in zip(scope.components, scores, strict=True):
            name, leaves = component.name, owned.get(component.name, ())
            value = values[leaves[0]] if len(leaves) == 1 else sum((values[i] for i in leaves), 0.0)
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
        if not isinstance(raw, (int, float)):  # numbers of numpy: float32 would spread to all sums, and JSON has none
            raw = float(raw)
            score = replace(score, raw=raw)
        if not math.isfinite(raw):
            return _rated(score, None, f"{component.name} gave {raw!r}, which is no finite number", valid=False)
        lo, hi = component.range
        if index < 0 or component.supply in ("cost", "unbounded"):
            kept = min(max(raw, lo), hi)
        else:
            before = state.sums[index]
            state.sums[index] = after = before + raw
            if lo <= after <= hi and lo <= before <= hi:
                return score
            kept = min(max(after, lo), hi) - min(max(before, lo), hi)
        if abs(kept - raw) <= 1e-9:  # rounding of a sum is no fault
            return score if kept == raw else _rated(score, kept, score.reason)
        note = f"clipped from {raw:g} to the declared range {lo:g} .. {hi:g}"
        return _rated(score, kept, f"{score.reason}; {note}" if score.reason else note)


def _scored(components: Sequence[Component], view: EpisodeView, own: Sequence[Any]) -> list[Score]:
    """Return the raw scores; an error that a component did not mean to raise says which one and when."""
    scores: list[Score] = []
    try:
        for component, state in zip(components, own, strict=False):
            scores.append(component.score(view, state))
    except AgentGymError:
        raise
    except Exception as error:
        component, turn = components[len(scores)], len(view.turns) - 1
        error.add_note(f"raised by the reward component {component.name!r} ({component.scope} scope) at turn {turn}")
        raise
    return scores


def _contribution(score: Score, weight: float, value: float) -> Score:
    return Score(
        score.scope, score.raw, weight, value, score.valid, score.deferred, score.reason, score.parts, score.evidence
    )


def _rated(score: Score, raw: float | None, reason: str, *, valid: bool = True) -> Score:
    return Score(
        score.scope, raw, valid=valid and score.valid, reason=reason, parts=score.parts, evidence=score.evidence
    )


def attributed(trajectory: Trajectory) -> dict[str, list[float]]:
    """Return the share of every turn in what was paid at the end for turn scores, by component: [K] each.

    For display and for learners that want a retrospective score back in its turns; the shares add up to the value
    of the trajectory score.
    """
    table: dict[str, list[float]] = {}
    for name, score in trajectory.scores.items():
        if score.reason == PAID_LATE:
            table[name] = [score.parts.get(f"{SHARE}{turn}", 0.0) for turn in range(len(trajectory.turns))]
    return table


def _over_maximum(score: Score) -> tuple[Score, float]:
    """Return a score with its raw value over the group's maximum; one whose group is not known waits, and counts 0."""
    maximum = score.parts.get(MAXIMUM)
    if score.raw is None or not score.valid:
        return score, 0.0
    if maximum is None:
        known = score.reason.endswith(WAITS_FOR_GROUP)
        reason = score.reason if known else "; ".join(text for text in (score.reason, WAITS_FOR_GROUP) if text)
        return replace(score, deferred=True, reason=reason), 0.0
    reason = score.reason.removesuffix(WAITS_FOR_GROUP).removesuffix("; ")
    return replace(score, deferred=False, reason=reason), score.raw / maximum if maximum > 0 else 0.0
