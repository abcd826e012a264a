"""Scores records: again from their events, or after a service filled what the rollouts left open."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from agentgym import schema
from agentgym.errors import ConfigError, DataError
from agentgym.judges.service import AskedOnce
from agentgym.rewards.changes import applied
from agentgym.rewards.component import Component, DeferredComponent, EpisodeView
from agentgym.rewards.scoring import MAXIMUM, Scoring
from agentgym.rewards.steps import is_one
from agentgym.task import Gold
from agentgym.types import Score, Trajectory, Turn

LATE_ENDS = frozenset(("max_tokens", "time_limit", "env_error", "service_error", "critical_unmet"))
"""Ends that come after the last turn was scored: that turn did not see them."""
PROGRESS = "progress"
"""Key of `Trajectory.info`: progress of training, for suites with a schedule."""
Filled = dict[str, dict[int, Score]]
"""Scores of one trajectory by component name and turn index (trajectory scope: −1)."""


def is_success(score: Score) -> bool:
    """Whether an outcome's score is a success: valid, known and 1."""
    return score.valid and score.raw is not None and is_one(score.raw)


def rescore(scoring: Scoring, outcome: Component, trajectory: Trajectory) -> Trajectory:
    """Return the record scored again by replaying its events (see `Suite.rescore`)."""
    filled: Filled = {}
    for name, component in _deferred(scoring).items():
        stored = {i: s for i, s in _stored(trajectory, name).items() if not _open(s)}
        filled[name] = component.recompute(stored)
    view = EpisodeView(trajectory.question, _gold(trajectory), trajectory.prompt, progress=_progress(trajectory))
    view.initial_state = view.state = trajectory.initial_state
    state = scoring.start(view)
    program, turns = scoring.program, []
    for position, turn in enumerate(trajectory.turns):
        view.turns = trajectory.turns[: position + 1]
        view.state = applied(view.state, turn.changes)
        last = position == len(trajectory.turns) - 1
        if last:
            _end(view, trajectory, last_turn=True)
        own = [
            filled.get(c.name, {}).get(position) or c.score(view, state.own[i])
            for i, c in enumerate(program.turn.components)
        ]
        turns.append(_turn(turn, scoring.turn_contributions(own, state, last and bool(view.end_reason))))
    _end(view, trajectory, last_turn=False)
    offset = len(program.turn.components)
    own = [
        filled.get(c.name, {}).get(-1) or c.score(view, state.own[offset + i])
        for i, c in enumerate(program.trajectory.components)
    ]
    for i, c in enumerate(program.trajectory.components):
        stored_score = trajectory.scores.get(c.name)
        if c.name in program.normed and stored_score is not None and MAXIMUM in stored_score.parts:
            own[i] = replace(own[i], parts={**own[i].parts, MAXIMUM: stored_score.parts[MAXIMUM]})
    return _record(scoring, outcome, trajectory, turns, scoring.trajectory_contributions(own, state))


def complete(
    scoring: Scoring, outcome: Component, trajectories: Sequence[Trajectory], services: Mapping[str, Any]
) -> list[Trajectory]:
    """Return the records with their deferred scores filled (see `Suite.complete`)."""
    filled: list[Filled] = [{} for _ in trajectories]
    if services.get("judge") is not None:  # a reward and its outcome have the same questions
        services = {**services, "judge": AskedOnce(services["judge"])}
    for name, component in _deferred(scoring).items():
        waiting = [i for i, t in enumerate(trajectories) if _waits(t, name)]
        if not waiting:
            continue
        kinds = [kind for kind in services if kind in component.needs] or ["scorer"]
        for kind in kinds:
            if services.get(kind) is None:
                raise ConfigError(f"{name} needs a {kind}: call complete(trajectories, {kind}=...)")
        service = services[kinds[0]] if len(kinds) == 1 else {kind: services[kind] for kind in kinds}
        answers = component.complete([trajectories[i] for i in waiting], service)
        for i, scores in zip(waiting, answers, strict=True):
            filled[i][name] = scores
    done = [_filled(scoring, outcome, t, f) if f else masked(t) for t, f in zip(trajectories, filled, strict=True)]
    return transform_groups(scoring, outcome, done, waiting_only=True)


def transform_groups(
    scoring: Scoring, outcome: Component, trajectories: Sequence[Trajectory], *, waiting_only: bool = False
) -> list[Trajectory]:
    """Return the records with the components of group transforms divided by their group's maximum."""
    done, groups = list(trajectories), {}
    for i, trajectory in enumerate(done):
        if trajectory.in_loss or trajectory.in_statistics:
            groups.setdefault(trajectory.group_id or i, []).append(i)
    for members in groups.values() if scoring.program.normed else ():
        scores = {
            name: [_known(done[i], done[i].scores, {}, name, -1) for i in members] for name in scoring.program.normed
        }
        if waiting_only and not any(s.deferred for every in scores.values() for s in every):
            continue
        largest = {n: max((s.raw for s in every if s.valid and s.raw is not None), default=0.0) for n, every in scores.items()}
        for place, i in enumerate(members):
            own = {n: replace(every[place], parts={**every[place].parts, MAXIMUM: largest[n]}) for n, every in scores.items()}
            done[i] = _filled(scoring, outcome, done[i], {name: {-1: score} for name, score in own.items()})
    return done


def _filled(scoring: Scoring, outcome: Component, trajectory: Trajectory, filled: Filled) -> Trajectory:
    state, program, turns = scoring.blank(_progress(trajectory)), scoring.program, []
    ended = bool(trajectory.end_reason) and trajectory.end_reason not in LATE_ENDS
    for position, turn in enumerate(trajectory.turns):
        own = [_known(trajectory, turn.scores, filled, c.name, position) for c in program.turn.components]
        last = ended and position == len(trajectory.turns) - 1
        turns.append(_turn(turn, scoring.turn_contributions(own, state, last)))
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
    return replace(turn, scores=scores, reward=sum((s.value for s in scores.values()), 0.0))


def _record(
    scoring: Scoring, outcome: Component, trajectory: Trajectory, turns: list[Turn], scores: dict[str, Score]
) -> Trajectory:
    return masked(
        trajectory.with_(
            turns=tuple(turns),
            scores=scores,
            reward=sum((s.value for s in scores.values()), 0.0),
            success=is_success(scores[outcome.name]),
            reward_spec=getattr(scoring, "name", trajectory.reward_spec),
        )
    )


def masked(trajectory: Trajectory) -> Trajectory:
    """Return the record outside loss and statistics if one of its scores is invalid; `error` says why."""
    every = [*(turn.scores for turn in trajectory.turns), trajectory.scores]
    invalid = next(((name, s) for scores in every for name, s in scores.items() if not s.valid), None)
    if invalid is None:
        return trajectory
    error = trajectory.error or f"{invalid[0]}: {invalid[1].reason or 'invalid'}"
    return trajectory.with_(in_loss=False, in_statistics=False, error=error)


def _deferred(scoring: Scoring) -> dict[str, DeferredComponent]:
    return {n: c for n, c in scoring.components.items() if isinstance(c, DeferredComponent)}


def _waits(trajectory: Trajectory, name: str) -> bool:
    in_use = trajectory.in_loss or trajectory.in_statistics
    return in_use and any(_open(score) for score in _stored(trajectory, name).values())


def _open(score: Score) -> bool:
    """Whether a score waits for its service; one that has a value waits for its group at most."""
    return score.deferred and score.raw is None


def _progress(trajectory: Trajectory) -> float | None:
    return trajectory.info.get(PROGRESS)


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
    if not last_turn or trajectory.end_reason not in LATE_ENDS:
        view.end_reason = trajectory.end_reason
