"""Scores records: again from their events, or after a service filled what the rollouts left open."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym import schema
from agentgym.errors import ConfigError, DataError
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView
from agentgym.rewards.scoring import Scoring
from agentgym.task import Gold
from agentgym.types import Score, Trajectory, Turn

_OUTSIDE_ENDS = frozenset(("max_tokens", "time_limit", "env_error", "service_error"))
"""Ends that come after the last turn was scored: that turn did not see them."""
_SUCCESS = 1.0 - 1e-9

Filled = dict[str, dict[int, Score]]
"""Scores of one trajectory by component name and turn index (trajectory scope: −1)."""


def is_success(score: Score) -> bool:
    """Whether an outcome's score is a success: valid, known and 1."""
    return score.valid and score.raw is not None and score.raw >= _SUCCESS


def rescore(scoring: Scoring, outcome: Component, trajectory: Trajectory) -> Trajectory:
    """Return the record scored again by replaying its events (see `Suite.rescore`)."""
    filled: Filled = {}
    for name, component in _deferred(scoring).items():
        stored = {i: s for i, s in _stored(trajectory, name).items() if not s.deferred}
        filled[name] = component.recompute(stored)
    view = EpisodeView(trajectory.question, _gold(trajectory), trajectory.prompt)
    state = scoring.start(view)
    program, turns = scoring.program, []
    for position, turn in enumerate(trajectory.turns):
        view.turns = trajectory.turns[: position + 1]
        if position == len(trajectory.turns) - 1:
            _end(view, trajectory, last_turn=True)
        own = [
            filled.get(c.name, {}).get(position) or c.score(view, state.own[i])
            for i, c in enumerate(program.turn.components)
        ]
        turns.append(_turn(turn, scoring.turn_contributions(own, state)))
    _end(view, trajectory, last_turn=False)
    offset = len(program.turn.components)
    own = [
        filled.get(c.name, {}).get(-1) or c.score(view, state.own[offset + i])
        for i, c in enumerate(program.trajectory.components)
    ]
    return _record(scoring, outcome, trajectory, turns, scoring.trajectory_contributions(own, state))


def complete(
    scoring: Scoring, outcome: Component, trajectories: Sequence[Trajectory], services: Mapping[str, Any]
) -> list[Trajectory]:
    """Return the records with their deferred scores filled (see `Suite.complete`)."""
    filled: list[Filled] = [{} for _ in trajectories]
    for name, component in _deferred(scoring).items():
        waiting = [i for i, t in enumerate(trajectories) if _waits(t, name)]
        if not waiting:
            continue
        kind = "judge" if "judge" in component.needs else "scorer"
        if services.get(kind) is None:
            raise ConfigError(f"{name} needs a {kind}: call complete(trajectories, {kind}=...)")
        answers = component.complete([trajectories[i] for i in waiting], services[kind])
        for i, scores in zip(waiting, answers, strict=True):
            filled[i][name] = scores
    return [_filled(scoring, outcome, t, f) if f else _masked(t) for t, f in zip(trajectories, filled, strict=True)]


def _filled(scoring: Scoring, outcome: Component, trajectory: Trajectory, filled: Filled) -> Trajectory:
    state, program, turns = scoring.blank(), scoring.program, []
    for position, turn in enumerate(trajectory.turns):
        own = [_known(trajectory, turn.scores, filled, c.name, position) for c in program.turn.components]
        turns.append(_turn(turn, scoring.turn_contributions(own, state)))
    own = [_known(trajectory, trajectory.scores, filled, c.name, -1) for c in program.trajectory.components]
    return _record(scoring, outcome, trajectory, turns, scoring.trajectory_contributions(own, state))


def _known(trajectory: Trajectory, scores: Mapping[str, Score], filled: Filled, name: str, turn: int) -> Score:
    score = filled.get(name, {}).get(turn) or scores.get(name)
    if score is None:
        where = "" if turn < 0 else f" in turn {turn}"
        raise ConfigError(
            f"trajectory {trajectory.id}{where} has no score of {name}: it was scored by {trajectory.reward_spec!r};"
            " rescore it with this suite first"
        )
    return score


def _turn(turn: Turn, scores: dict[str, Score]) -> Turn:
    return replace(turn, scores=scores, reward=sum(s.value for s in scores.values()))


def _record(
    scoring: Scoring, outcome: Component, trajectory: Trajectory, turns: list[Turn], scores: dict[str, Score]
) -> Trajectory:
    return _masked(
        trajectory.with_(
            turns=tuple(turns),
            scores=scores,
            reward=sum(s.value for s in scores.values()),
            success=is_success(scores[outcome.name]),
            reward_spec=getattr(scoring, "name", trajectory.reward_spec),
        )
    )


def _masked(trajectory: Trajectory) -> Trajectory:
    """Return the record outside loss and statistics if one of its scores is invalid."""
    every = [trajectory.scores, *(turn.scores for turn in trajectory.turns)]
    if all(score.valid for scores in every for score in scores.values()):
        return trajectory
    return trajectory.with_(in_loss=False, in_statistics=False)


def _deferred(scoring: Scoring) -> dict[str, DeferredComponent]:
    return {n: c for n, c in scoring.components.items() if isinstance(c, DeferredComponent)}


def _waits(trajectory: Trajectory, name: str) -> bool:
    in_use = trajectory.in_loss or trajectory.in_statistics
    return in_use and any(score.deferred for score in _stored(trajectory, name).values())


def _stored(trajectory: Trajectory, name: str) -> dict[int, Score]:
    stored = {i: turn.scores[name] for i, turn in enumerate(trajectory.turns) if name in turn.scores}
    return stored or ({-1: trajectory.scores[name]} if name in trajectory.scores else {})


def _gold(trajectory: Trajectory) -> Gold:
    if trajectory.gold is None:
        raise DataError(f"trajectory {trajectory.id} has no gold (it is stripped on export); score before exporting")
    return schema.from_json(Gold, trajectory.gold, f"trajectory {trajectory.id}: gold")


def _end(view: EpisodeView, trajectory: Trajectory, *, last_turn: bool) -> None:
    """Let the view show the end, as far as the last turn (or the trajectory scores) saw it when it was live."""
    view.answer, view.citations = trajectory.answer, trajectory.citations
    if not last_turn or trajectory.end_reason not in _OUTSIDE_ENDS:
        view.end_reason = trajectory.end_reason
