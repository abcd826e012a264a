"""The running episode of a `ToolEnv`: its state, its limits, its record, its snapshot."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np

from agentgym import schema
from agentgym.errors import ConfigError, DataError, EnvError, suggestion
from agentgym.rewards import EpisodeView, Suite
from agentgym.rewards.changes import applied, diff
from agentgym.rewards.replay import PROGRESS, masked
from agentgym.seeding import stream
from agentgym.task import Limits, Task
from agentgym.tools.services import EpisodeServices
from agentgym.tools.tool import EPOCH, ToolContext
from agentgym.tools.toolbox import copy_state
from agentgym.types import JSON, Change, DocRef, Message, Score, ToolCall, ToolResult, Trajectory, Turn

BAD_CALL = frozenset({"E_ARGS", "E_UNKNOWN_TOOL", "E_FORBIDDEN"})
"""Codes of calls that count towards `Limits.max_invalid`, beside every bad action."""
SNAPSHOT_FORMAT = 2


@dataclass(slots=True)
class Episode:
    """Everything that changes between reset and the end; `to_bytes` stores it, `from_bytes` restores it."""

    task: Task
    key: tuple[int | str, ...]
    limits: Limits
    prompt: tuple[Message, ...]
    state: dict[str, JSON]
    turns: list[Turn] = field(default_factory=list)
    used: dict[str, int] = field(default_factory=dict)
    """Calls made per tool."""
    seen: set[str] = field(default_factory=set)
    """Ids of documents that a result showed."""
    invalid_streak: int = 0
    repeat_streak: int = 0
    last_event: str = ""
    end_reason: str = ""
    terminated: bool = False
    error: str = ""
    answer: str | None = None
    citations: tuple[str, ...] = ()
    scores: dict[str, Score] = field(default_factory=dict)
    """Trajectory-scope scores, once ended."""
    state_hash: str = ""
    scored_key: str | None = None
    """Which part of the state rewards read (`ToolEnv.scored_state`)."""
    initial: JSON = None
    """That part before the first turn."""
    scored: JSON = None
    """That part after the last turn."""
    progress: float | None = None
    """Progress of training, where the collector gave it."""
    scoring: Any = None
    """The suite's private state: rebuilt by replay, never stored."""
    clock: datetime = EPOCH
    """When the episode begins, for tools: `Task.meta["now"]`, or a fixed Monday."""

    @property
    def ended(self) -> bool:
        """Whether the episode is over."""
        return bool(self.end_reason)

    @property
    def view(self) -> EpisodeView:
        """What reward components may read."""
        return EpisodeView(
            question=self.task.question,
            gold=self.task.gold,
            prompt=self.prompt,
            turns=self.turns,
            answer=self.answer,
            citations=self.citations,
            end_reason=self.end_reason,
            initial_state=self.initial,
            state=self.scored,
            progress=self.progress,
        )

    def open_state(self, key: str | None) -> None:
        """Begin to keep the part of the state that rewards read; a restored episode knows how it began."""
        self.scored_key, self.clock = key, clock_of(self.task)
        if key is None:
            return
        if self.initial is None:
            self.initial = copy_state(self._scored_part())
        self.scored = self.initial

    def context(self, call: int, services: EpisodeServices) -> ToolContext:
        """Return what the tool of the `call`-th call of this turn may see: state, random stream, clock, services."""
        key, turn = self.key, len(self.turns)  # not self: gold must not be reachable
        return ToolContext(
            state=self.state,
            rng=lambda: stream(*key, "tool", turn, call),
            services=services,
            task_id=self.task.id,
            turn=turn,
            now=self.clock + timedelta(minutes=turn, seconds=call),
        )

    def settle(self, results: Sequence[ToolResult]) -> tuple[str, tuple[Change, ...]]:
        """Note what a turn did to the state; return the hash before it, and the changes that rewards may read."""
        before = self.state_hash
        if not any(r.ok for r in results):  # nothing else changes the state
            return before, ()
        self.state_hash = digest(self.state)
        if self.scored_key is None or self.state_hash == before:
            return before, ()
        now = copy_state(self._scored_part())
        changes = diff(self.scored, now)
        self.scored = now
        return before, changes

    def replay(self, turn: Turn) -> None:
        """Append a stored turn."""
        self.turns.append(turn)
        self.scored = applied(self.scored, turn.changes)

    def _scored_part(self) -> JSON:
        if self.scored_key == "*":
            return {key: value for key, value in self.state.items() if not key.startswith("_")}
        return self.state.get(self.scored_key or "")

    def close(self, reason: str, *, terminated: bool) -> None:
        """End the episode for a reason of the glossary."""
        self.end_reason, self.terminated = reason, terminated

    def use(self, result: ToolResult) -> None:
        """Count a call against its tool's budget, if it ran."""
        if result.code not in ("E_UNKNOWN_TOOL", "E_ARGS", "E_BUDGET"):
            self.used[result.name] = self.used.get(result.name, 0) + 1

    def mark_seen(self, documents: Sequence[DocRef]) -> tuple[DocRef, ...]:
        """Return the documents with those marked that an earlier result showed."""
        seen = self.seen
        marked = tuple(
            [d if d.seen_before == (d.id in seen) else DocRef(d.id, d.title, d.text, d.rank, d.score, d.id in seen) for d in documents]
        )
        seen.update([d.id for d in documents])
        return marked

    def apply_limits(self, error_code: str, calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> None:
        """Count bad actions and repeats; close the episode where a limit is reached."""
        bad = bool(error_code) or any(r.code in BAD_CALL for r in results)
        self.invalid_streak = self.invalid_streak + 1 if bad else 0
        event = "" if error_code else _event(calls, results)
        self.repeat_streak = self.repeat_streak + 1 if event and event == self.last_event else 1
        self.last_event = event
        if self.ended:
            return
        if self.invalid_streak >= self.limits.max_invalid:
            self.close("too_many_invalid", terminated=True)
        elif event and self.repeat_streak >= self.limits.max_repeats:
            self.close("loop", terminated=True)
        elif len(self.turns) + 1 >= self.limits.max_turns:
            self.close("max_turns", terminated=False)

    def messages(self) -> tuple[Message, ...]:
        """Return the conversation so far, the policy's completions included."""
        talk = list(self.prompt)
        for turn in self.turns:
            talk.append(Message.of("assistant", turn.action))
            talk.extend(turn.messages)
        return tuple(talk)

    def trajectory(self, env_id: str, suite: Suite) -> Trajectory:
        """Return the record of the episode (tokens are added by the driver); one with an invalid score is in no mask."""
        task, fault = self.task, self.end_reason in ("env_error", "service_error")
        record = Trajectory(
            id="/".join(str(p) for p in (task.id, *self.key)),
            env_id=env_id,
            task_id=task.id,
            prompt=self.prompt,
            turns=tuple(self.turns),
            question=task.question,
            answer=self.answer,
            citations=self.citations,
            end_reason=self.end_reason,
            terminated=self.terminated,
            truncated=self.ended and not self.terminated,
            success=self.ended and suite.success(self.view),
            scores=self.scores,
            reward=sum((s.value for s in self.scores.values()), 0.0),
            seed=tuple(p for p in self.key if isinstance(p, int)),
            in_statistics=not fault,
            in_loss=not fault,
            error=self.error,
            gold=schema.to_json(task.gold),
            initial_state=self.initial,
            reward_spec=suite.name,
            info={"kind": task.kind, "hops": task.hops, "split": task.split, "world": task.world}
            | ({PROGRESS: self.progress} if suite.is_scheduled else {}),
        )
        return masked(record)

    def to_bytes(self, env_id: str) -> bytes:
        """Return canonical JSON bytes of every stateful part."""
        body = {
            "format": SNAPSHOT_FORMAT,
            "env": env_id,
            "task": schema.to_json(self.task),
            "key": list(self.key),
            "state": self.state,
            "used": self.used,
            "streaks": [self.invalid_streak, self.repeat_streak, self.last_event],
            "turns": [schema.to_json(t) for t in self.turns],
            "initial": self.initial,
            "end": [self.end_reason, self.terminated, self.error, self.answer, list(self.citations)],
        }
        return canonical(body if self.progress is None else {**body, PROGRESS: self.progress}).encode()

    @staticmethod
    def from_bytes(data: bytes, env_id: str) -> "Episode":
        """Return the stored episode without prompt and scoring state, which the environment rebuilds.

        Raises:
            EnvError: The bytes are no snapshot of this environment id and format.
        """
        try:
            body = json.loads(data)
            if (body["format"], body["env"]) != (SNAPSHOT_FORMAT, env_id):
                raise ValueError(f"a snapshot of {body['env']}, format {body['format']}")
            task = schema.from_json(Task, body["task"])
            episode = Episode(task, tuple(body["key"]), Limits(), (), body["state"], used=body["used"])
            episode.invalid_streak, episode.repeat_streak, episode.last_event = body["streaks"]
            episode.turns = [schema.from_json(Turn, t) for t in body["turns"]]
            episode.initial, episode.progress = body["initial"], body.get(PROGRESS)
            episode.end_reason, episode.terminated, episode.error, episode.answer, citations = body["end"]
        except (ValueError, KeyError, TypeError, DataError) as error:
            raise EnvError(
                f"{env_id}.restore: need bytes from {env_id}.snapshot() of format {SNAPSHOT_FORMAT}; got {error}"
            ) from error
        episode.citations = tuple(citations)
        episode.seen = {d.id for t in episode.turns for r in t.results for d in r.documents}
        episode.state_hash = digest(episode.state)
        return episode


def limits_of(given: Limits | Mapping[str, Any] | None, default: Limits, tools: Sequence[str], env_id: str) -> Limits:
    """Return the limits of an environment: its own, others, or its own with the settings of a table changed.

    Raises:
        ConfigError: An unknown setting or tool, or a limit below 1 (a budget below 0).
    """
    where = f"{env_id}: limits"
    if given is None:
        return default
    if isinstance(given, Mapping):
        given = schema.from_json(Limits, {**schema.to_json(default), **given}, where, error=ConfigError)
    if not isinstance(given, Limits):
        raise ConfigError(f"{where}={given!r:.80}: give agentgym.Limits or a table of its settings")
    for name, value in schema.to_json(given, keep_defaults=True).items():
        if isinstance(value, int) and value < 1:
            raise ConfigError(f"{where}: {name} is {value}; allowed: 1 or more")
    for tool, budget in given.tool_budgets.items():
        if tool not in tools:
            raise ConfigError(f"{where}: there is no tool {tool!r}{suggestion(tool, tools)}; tools: {', '.join(tools)}")
        if budget < 0:
            raise ConfigError(f"{where}: the budget of {tool} is {budget}; allowed: 0 or more")
    return given


def key_of(key: Any, env_id: str) -> tuple[int | str, ...]:
    """Return the key of an episode's random streams. Raises ConfigError for anything but whole numbers and strings."""
    parts = tuple(key) if isinstance(key, list | tuple) else (key,)
    if not all(isinstance(part, int | str | np.integer) for part in parts):
        raise ConfigError(f"{env_id}.reset: options['key'] must be whole numbers and strings, not {key!r:.80}")
    return tuple(part if isinstance(part, str) else int(part) for part in parts)


def clock_of(task: Task) -> datetime:
    """Return when a task's episode begins: `meta["now"]`, an ISO date and time (UTC unless it says so), or EPOCH.

    Raises:
        ConfigError: It is written otherwise.
    """
    given = task.meta.get("now")
    if given is None:
        return EPOCH
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise ConfigError(f"task {task.id!r}: meta['now'] is {given!r:.80}; write e.g. '2026-01-05T09:00:00+00:00'") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def canonical(value: JSON) -> str:
    """Return the one JSON text of a value: sorted keys, no spaces, ASCII."""
    return _CANONICAL.encode(value)


def digest(value: JSON) -> str:
    """Return 16 hex characters that identify a JSON value."""
    return hashlib.blake2b(canonical(value).encode(), digest_size=8).hexdigest()


def _event(calls: Sequence[ToolCall], results: Sequence[ToolResult]) -> str:
    return digest([[c.name, c.arguments, r.data, r.code] for c, r in zip(calls, results, strict=False)])
