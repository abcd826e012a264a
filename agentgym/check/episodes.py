"""Episodes for the checks of rewards: played by an oracle with growing carelessness, and small changes of them."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym

from agentgym.env import ToolEnv
from agentgym.errors import AgentGymError, ConfigError, DataError
from agentgym.judges import JudgeRequest, Verdict
from agentgym.rewards import Component, EpisodeView, build_suite
from agentgym.rewards.changes import applied
from agentgym.rewards.component import DeferredComponent
from agentgym.rewards.replay import LATE_ENDS
from agentgym.seeding import stream
from agentgym.task import Gold
from agentgym.types import Message, Score, Trajectory, Turn

NOISES = (0.0, 0.3, 0.6, 0.9)
EPISODES = 3
"""Episodes per noise."""
PROGRESS = 0.5
"""Progress of training that views show."""
Raws = dict[int, Score]
"""Scores of one component on one episode by turn index; trajectory scope: −1."""


def play(env: ToolEnv) -> list[Trajectory]:
    """Return records of episodes from right to hopeless."""
    records = []
    for level, noise in enumerate(NOISES):
        for seed in range(EPISODES):
            env.reset(seed=100 * level + seed, options={"progress": PROGRESS})
            rng = stream(seed, "check", level)
            if seed == EPISODES - 1:
                env.step("")  # a bad action
            while not env.ended:
                env.step(env.oracle_action(rng, noise))
            records.append(env.trajectory)
    return records


def environment(env_id: str, **kwargs: Any) -> ToolEnv:
    """Make an environment. Raises ConfigError for one that is no ToolEnv."""
    env = gym.make(env_id, disable_env_checker=True, **kwargs).unwrapped
    if not isinstance(env, ToolEnv):
        raise ConfigError(f"{env_id} is no agentgym.ToolEnv; rewards read its records")
    return env


def fits(reward: Any, env_id: str, **kwargs: Any) -> bool:
    """Whether the tasks of an environment can be scored with a reward."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            env, suite = environment(env_id, **kwargs), build_suite(reward)
            env.reset(seed=0)
            suite.check(env.task, env.events | {"state"} if env.scored_state else env.events)
    except (AgentGymError, TypeError):
        return False
    return True


def views(record: Trajectory, gold: Gold) -> Iterator[tuple[int, EpisodeView]]:
    """Yield what a component reads, turn by turn, then (−1, the finished episode)."""
    view = EpisodeView(record.question, gold, record.prompt, progress=PROGRESS)
    view.initial_state = view.state = record.initial_state
    yield -2, view
    for index, turn in enumerate(record.turns):
        view = replace(view, turns=record.turns[: index + 1], state=applied(view.state, turn.changes))
        if index == len(record.turns) - 1:
            view.answer, view.citations = record.answer, record.citations
            view.end_reason = "" if record.end_reason in LATE_ENDS else record.end_reason
        yield index, view
    view = replace(view, answer=record.answer, citations=record.citations, end_reason=record.end_reason)
    yield -1, view


def scores(component: Component, record: Trajectory, gold: Gold) -> Raws:
    """Return what a component gives on a record, as it gives it; deferred ones are answered by stand-in services."""
    if isinstance(component, DeferredComponent) and component.defers:
        return component.complete([record], service_for(component))[0]
    found: Raws = {}
    state: Any = None
    for index, view in views(record, gold):
        if index == -2:
            state = component.start(view)
        elif (index == -1) == (component.scope == "trajectory"):
            found[index] = component.score(view, state)
    return found


def repeated(record: Trajectory, turn: int, times: int) -> Trajectory | None:
    """Return the record with a turn done again right after itself; None where its state cannot follow."""
    turns: list[Turn] = [*record.turns[: turn + 1], *[record.turns[turn]] * times, *record.turns[turn + 1 :]]
    changed = record.with_(turns=tuple(replace(t, index=i) for i, t in enumerate(turns)))
    try:
        for _ in views(changed, Gold()):
            pass
    except DataError:
        return None
    return changed


def with_other_words(record: Trajectory) -> Trajectory:
    """Return the record with other words beside the calls."""
    turns = (replace(t, thought=f"Let me see. {t.thought} Sure!", action=f"Well: {t.action}") for t in record.turns)
    return record.with_(turns=tuple(turns))


class StandIn:
    """A scorer and a judge that are plain functions of what they read."""

    def __init__(self, scale: float = 1.0, down: bool = False) -> None:
        """`down`: the judge abstains about everything."""
        self.scale, self.down = scale, down

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        """Return two log-probabilities per target."""
        lengths = [sum(len(m.text) for m in c) + len(t) for c, t in zip(contexts, targets, strict=True)]
        return [[-self.scale / (1 + n % 13), -0.5] for n in lengths]

    def judge(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Pass texts of even length."""
        return [Verdict(False, code="service", reasons="down", abstained=True) if self.down else _verdict(r) for r in requests]


def _verdict(request: JudgeRequest) -> Verdict:
    place = len(request.text) % (len(request.labels) or 2)
    if request.labels:
        top = len(request.labels) - 1
        return Verdict(place == top, place / top, quote=request.text[:8], label=request.labels[place])
    return Verdict(bool(place), float(place), quote=request.text[:8])


def service_for(component: Component, *, down: bool = False) -> Any:
    """Return the stand-in that a deferred component asks: one service, or a table where it needs several."""
    kinds = [kind for kind in ("scorer", "reference", "judge") if kind in component.needs]
    made = {kind: StandIn(2.0 if kind == "reference" else 1.0, down) for kind in kinds}
    return made if len(made) > 1 else next(iter(made.values()), StandIn(down=down))
