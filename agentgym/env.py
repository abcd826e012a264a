"""`ToolEnv`: a Gymnasium environment made of tasks, tools over some state, and a reward suite."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, SupportsFloat

import gymnasium as gym
import numpy as np

from agentgym import hooks, schema
from agentgym.dialects import Dialect, Parsed
from agentgym.episode import Episode, digest, key_of, limits_of
from agentgym.errors import ConfigError, EnvError, ResetNeededError, suggestion
from agentgym.rewards import LATE_ENDS, Suite, as_info, build_suite
from agentgym.sanitize import clip_action
from agentgym.spaces import UnicodeText
from agentgym.task import Limits, Task, TaskSource
from agentgym.tools import Tool, Toolbox
from agentgym.tools.services import EpisodeServices
from agentgym.tools.toolbox import copy_state, only_tools
from agentgym.tools.waiting import run_at_once, run_waiting
from agentgym.types import JSON, DocRef, Message, ToolCall, ToolResult, Trajectory, Turn

OBSERVATIONS = ("full", "compact")
OUTSIDE_ENDS = ("max_tokens", "time_limit", "env_error", "service_error")
"""Reasons with which `ToolEnv.end` may be called; the last two leave loss and statistics."""


class ToolEnv(gym.Env[str, str]):
    """One episode = one task; one `step` = one turn: a completion and what the environment answers.

    A family subclasses it and says what the policy reads (`prompt`, `render_result`), what state there
    is (`initial_state`, `absorb`) and how the task is solved (`oracle_call`). Parsing, limits, tools,
    scoring, records and snapshots are here and the same for every family.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012 (gymnasium declares it so)
    can_snapshot: bool = True
    """False where a tool keeps something outside of the state: a process, a server."""
    example_actions: ClassVar[tuple[str, ...]] = ("",)
    """Valid actions in the tags dialect; the action space samples from them."""
    default_limits: ClassVar[Limits] = Limits()
    scored_state: ClassVar[str | None] = None
    """Key of the state that rewards read and records keep; "*": all keys without a leading underscore; None: none."""
    events: ClassVar[frozenset[str]] = frozenset()
    """Kinds of events that the family records (`agentgym.rewards.events`); rewards that read others are refused."""

    def __init__(
        self,
        *,
        env_id: str,
        source: TaskSource,
        tools: Sequence[Tool],
        reward: Any,
        dialect: str | Dialect = "tags",
        observation: str = "full",
        limits: Limits | Mapping[str, Any] | None = None,
        split: str | None = None,
        render_mode: str | None = None,
    ) -> None:
        """Wire tasks, tools and suite. Raises ConfigError for an unknown option."""
        if observation not in OBSERVATIONS:
            raise ConfigError(
                f"{env_id}: observation={observation!r} is not known; allowed: {', '.join(OBSERVATIONS)}"
                + suggestion(observation, OBSERVATIONS)
            )
        self.env_id, tools = env_id, only_tools(tools, env_id)
        self.source = source
        self.split = split or source.default_split
        self.observation = observation
        self.render_mode = render_mode
        self.dialect: Dialect = hooks.DIALECTS.resolve(dialect)() if isinstance(dialect, str) else dialect
        if not isinstance(self.dialect, Dialect):
            raise ConfigError(f"{env_id}: dialect={dialect!r:.80} is neither the name of a dialect nor a Dialect")
        self.suite: Suite = build_suite(reward)
        self.limits = limits_of(limits, self.default_limits, [t.name for t in tools], env_id)
        self.toolbox = Toolbox(tools, self.limits)
        self.specs = tuple(t.spec for t in tools)
        self._waits = any(t.waits for t in tools)
        self.can_snapshot = type(self).can_snapshot and not any(t.live for t in tools)
        self.action_space = UnicodeText(max_length=1 << 17, examples=self.example_actions)
        self.observation_space = UnicodeText(max_length=1 << 17)
        self._episode: Episode | None = None
        self._services = EpisodeServices()

    # ---- what a family says -----------------------------------------------------------------------

    def prompt(self, task: Task) -> tuple[Message, ...]:
        """Return the messages that open the episode."""
        raise NotImplementedError

    def services(self, task: Task) -> Mapping[str, Any]:
        """Return what tools may use (a retriever, a sandbox); never gold."""
        return {}

    def initial_state(self, task: Task) -> dict[str, JSON]:
        """Return the JSON state of a fresh episode."""
        return {}

    def absorb(self, state: dict[str, JSON], call: ToolCall, result: ToolResult) -> None:
        """Update the state by a successful call of a tool that does not mutate it itself."""

    def show(self, documents: tuple[DocRef, ...], max_chars: int) -> tuple[DocRef, ...]:
        """Return documents as the policy will read them, cut and escaped: rewards see only what was shown."""
        return documents

    def render_result(self, call: ToolCall, result: ToolResult) -> str:
        """Return what the policy reads for one result."""
        raise NotImplementedError

    def render_error(self, code: str, message: str) -> str:
        """Return what the policy reads for a bad action or call."""
        if self.observation == "compact":
            return f"{code} {message}"
        return json.dumps({"error": {"code": code, "message": message}}, ensure_ascii=False)

    def status(self, episode: Episode) -> str:
        """Return the closing line of an observation (budgets); empty for none."""
        return ""

    def oracle_call(self, episode: Episode, rng: np.random.Generator, noise: float) -> ToolCall:
        """Return the next call of a solution; with probability `noise` a bad one. Reads gold."""
        raise NotImplementedError

    # ---- Gymnasium --------------------------------------------------------------------------------

    def tasks(self, split: str | None = None) -> Sequence[Task]:
        """Return the tasks of a split in a fixed order."""
        return self.source.split(split or self.split)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Start an episode.

        Args:
            seed: Seeds the choice of the task and the tools' random streams.
            options: "task" (a Task, a task id or None), "split", "key" (the key of the random streams), "progress" (of
                training, 0 to 1, for suites with a schedule).

        Returns:
            The observation that the policy reads, and info: task id, tools, limits.

        Raises:
            ConfigError: For an unknown option or task id, or a task whose gold the suite cannot score.
        """
        super().reset(seed=seed)
        options = dict(options or {})
        task, key = options.pop("task", None), options.pop("key", None)
        split, progress = options.pop("split", self.split), options.pop("progress", None)
        if options:
            unknown, allowed = next(iter(options)), ("task", "split", "key", "progress")
            hint = f"unknown option {unknown!r}; allowed: {', '.join(allowed)}{suggestion(unknown, allowed)}"
            raise ConfigError(f"{self.env_id}.reset: {hint}")
        if task is None:
            task = self.source.sample(split, self.np_random)
        elif isinstance(task, str):
            task = self.source.by_id(task)
        if not isinstance(task, Task):
            raise ConfigError(f"{self.env_id}.reset: options['task'] must be a Task or a task id, not {task!r:.80}")
        self.check_task(task)
        key = key_of(key, self.env_id) if key is not None else (int(self.np_random.integers(2**31)),)
        episode = Episode(task, key, task.limits or self.limits, (), self.initial_state(task), progress=progress)
        episode.state_hash = digest(episode.state)
        self._begin(episode)
        limits = copy_state(schema.to_json(episode.limits))  # infos must not share objects
        info = {"task_id": task.id, "tools": tuple([s.name for s in self.specs]), "limits": limits}
        return "\n\n".join(m.text for m in episode.prompt), info

    def check_task(self, task: Task) -> None:
        """Raise ConfigError for a task that the suite cannot score here."""
        events = self.events | {"state"} if self.scored_state else self.events
        self.suite.check(task, events, self.toolbox.tools)

    def _begin(self, episode: Episode) -> None:
        episode.limits = episode.task.limits or self.limits
        episode.prompt = self.prompt(episode.task)
        episode.open_state(self.scored_state)
        episode.scoring = self.suite.start(episode.view)
        self._services.close()
        self._services = EpisodeServices(self.services(episode.task))
        self._episode = episode

    def step(self, action: str) -> tuple[str, SupportsFloat, bool, bool, dict[str, Any]]:
        """Run one turn; never raises on what a policy wrote, only on misuse and on faults of services.

        Raises:
            EnvError: The action is not a string.
            ResetNeededError: There is no running episode.
            ServiceError: A service behind a tool failed. The turn did not happen: step again, or call
                `end("service_error", why)`.
        """
        turn = self.astep(action)
        return run_waiting(turn) if self._waits else run_at_once(turn)

    async def astep(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Run one turn: parse, call, answer, score. The core of `step`; raises as it does."""
        if not isinstance(action, str):
            raise EnvError(f"{self.env_id}.step: the action must be a string, not {type(action).__name__}")
        episode = self._running("step")
        parsed = self.dialect.parse(action, self.specs, episode.limits)
        results = () if parsed.error_code else await self._call(episode, parsed.calls)
        before, changes = episode.settle(results)
        episode.apply_limits(parsed.error_code, parsed.calls, results)
        episode.turns.append(
            Turn(
                index=len(episode.turns),
                action=clip_action(action, episode.limits.max_action_chars),
                calls=tuple(parsed.calls),
                results=results,
                error_code=parsed.error_code,
                error=parsed.error,
                messages=self._reply(episode, parsed, results),
                dropped_chars=parsed.dropped_chars,
                state_hash_before=before,
                state_hash_after=episode.state_hash,
                changes=changes,
                thought=parsed.thought,
            )
        )
        return self._score(episode)

    async def _call(self, episode: Episode, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        if len(calls) == 1:
            return await self._call_each(episode, calls)
        kept = copy_state(episode.state), dict(episode.used), set(episode.seen)
        try:
            return await self._call_each(episode, calls)
        except BaseException:  # a fault, or nobody waits any more: the turn did not happen, neither did its first calls
            episode.state, episode.used, episode.seen = kept
            raise

    async def _call_each(self, episode: Episode, calls: Sequence[ToolCall]) -> tuple[ToolResult, ...]:
        results = []
        for n, call in enumerate(calls):
            context = episode.context(n, self._services)
            result = await self.toolbox.run(call, context, episode.used, episode.limits)
            episode.state = context.state
            episode.use(result)
            if result.ok:
                if result.documents:
                    shown = episode.mark_seen(self.show(result.documents, episode.limits.max_result_chars))
                    result = result if shown == result.documents else result.showing(shown)
                self.absorb(episode.state, call, result)
            results.append(result)
            if result.ok and self.toolbox.is_final(call.name):
                given = result.data if isinstance(result.data, dict) else {"answer": result.data}
                episode.answer = str(given.get("answer", ""))
                episode.citations = tuple(map(str, given.get("citations", ())))
                episode.close("answered", terminated=True)
                break
        return tuple(results)

    def _reply(self, episode: Episode, parsed: Parsed, results: Sequence[ToolResult]) -> tuple[Message, ...]:
        if episode.end_reason == "answered":
            return ()
        parts: list[tuple[ToolCall | None, str]] = []
        if parsed.error_code:
            parts.append((None, self.render_error(parsed.error_code, parsed.error)))
        for call, result in zip(parsed.calls, results, strict=False):
            text = self.render_result(call, result) if result.ok else self.render_error(result.code, result.error)
            parts.append((call, text))
        status = self.status(episode)
        if status and parts:
            parts[-1] = (parts[-1][0], f"{parts[-1][1]}\n{status}")
        return self.dialect.observation(parts, compact=self.observation == "compact")

    def _score(self, episode: Episode) -> tuple[str, float, bool, bool, dict[str, Any]]:
        view = episode.view
        scores = self.suite.score_turn(view, episode.scoring)
        gained = sum([s.value for s in scores.values()], 0.0)
        turn = episode.turns[-1] = episode.turns[-1].scored(scores, gained)
        shown = dict(scores)
        if not episode.ended and (reason := self.suite.stop(view, episode.scoring)):
            episode.close(reason, terminated=True)
        if episode.ended:
            episode.scores = self.suite.score_trajectory(episode.view, episode.scoring)
            shown.update(episode.scores)
            self._services.close()
        info = {
            "action": {
                "kind": "invalid" if turn.error_code else (turn.calls[0].name if turn.calls else "none"),
                "error_code": turn.error_code or next((r.code for r in turn.results if r.code), ""),
            },
            "docs_new": sum([not d.seen_before for r in turn.results for d in r.documents]),
            "budget_left": {n: b - episode.used.get(n, 0) for n, b in episode.limits.tool_budgets.items()},
            "rewards": as_info(shown),
            "deferred": tuple([n for n, s in shown.items() if s.deferred]),
            "state_hash": turn.state_hash_after,
            "end_reason": episode.end_reason,
        }
        observation = "\n".join([m.text for m in turn.messages])
        total, truncated = sum([s.value for s in shown.values()], 0.0), episode.ended and not episode.terminated
        return observation, total, episode.terminated, truncated, info

    def end(self, reason: str, error: str = "") -> None:
        """Close the running episode from outside (the driver's limits and faults) and score it.

        Raises:
            ConfigError: The reason is none of max_tokens, time_limit, env_error, service_error.
            ResetNeededError: There is no running episode.
        """
        if reason not in OUTSIDE_ENDS:
            raise ConfigError(f"{self.env_id}.end: reason {reason!r} is not one of {', '.join(OUTSIDE_ENDS)}")
        episode = self._running("end")
        episode.close(reason, terminated=False)
        episode.error = error
        self._services.close()
        episode.scores = self.suite.score_trajectory(episode.view, episode.scoring)

    # ---- records ----------------------------------------------------------------------------------

    @property
    def messages(self) -> tuple[Message, ...]:
        """The conversation so far, the policy's completions included."""
        return self._begun("messages").messages()

    @property
    def task(self) -> Task:
        """The current task, gold included: for checks and learners, never for tools or renderers."""
        return self._begun("task").task

    @property
    def state_hash(self) -> str:
        """Digest of the state that tools may change."""
        return self._begun("state_hash").state_hash

    @property
    def n_turns(self) -> int:
        """Turns taken so far."""
        return len(self._begun("n_turns").turns)

    @property
    def last_messages(self) -> tuple[Message, ...]:
        """What the environment answered last."""
        turns = self._begun("last_messages").turns
        return turns[-1].messages if turns else ()

    @property
    def stop_strings(self) -> tuple[str, ...]:
        """Strings after which a sampler should stop."""
        limits = self._episode.limits if self._episode else self.limits
        return self.dialect.stop(self.specs, limits.max_calls_per_turn)

    @property
    def ended(self) -> bool:
        """Whether there is no running episode."""
        return self._episode is None or self._episode.ended

    @property
    def trajectory(self) -> Trajectory:
        """The record of the current episode (tokens are added by the driver)."""
        return self._begun("trajectory").trajectory(self.env_id, self.suite)

    def oracle_action(self, rng: np.random.Generator, noise: float = 0.0) -> str:
        """Return the next action of a solution as policy text; for privileged policies and checks only."""
        return self.dialect.render([self.oracle_call(self._running("oracle_action"), rng, noise)], self.specs)

    def snapshot(self) -> bytes:
        """Return the whole episode as canonical JSON bytes; `restore` continues from it.

        Raises:
            EnvError: Before the first reset, or where the environment holds a live process.
        """
        episode = self._begun("snapshot")
        if not self.can_snapshot:
            raise EnvError(f"{self.env_id}.snapshot: this environment holds a live process (can_snapshot is False)")
        return episode.to_bytes(self.env_id)

    def restore(self, state: bytes) -> None:
        """Continue from a snapshot of the same environment id. Raises EnvError for anything else."""
        episode = Episode.from_bytes(state, self.env_id)
        turns, end = episode.turns, (episode.end_reason, episode.answer, episode.citations)
        episode.turns, episode.end_reason, episode.answer, episode.citations = [], "", None, ()
        self._begin(episode)
        for n, turn in enumerate(turns, 1):
            episode.replay(turn)
            if n == len(turns) and end[0] not in LATE_ENDS:  # else the end came after the last turn was scored
                episode.end_reason, episode.answer, episode.citations = end
            self.suite.score_turn(episode.view, episode.scoring)
        episode.end_reason, episode.answer, episode.citations = end
        if episode.ended:
            episode.scores = self.suite.score_trajectory(episode.view, episode.scoring)

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the conversation as text in render mode "ansi"."""
        return "\n\n".join(f"[{m.role}] {m.text}" for m in self.messages) if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Close what tools opened in the current episode."""
        self._services.close()

    def _begun(self, what: str) -> Episode:
        if self._episode is None:
            raise ResetNeededError(f"{self.env_id}.{what}: call reset() first")
        return self._episode

    def _running(self, what: str) -> Episode:
        episode = self._begun(what)
        if episode.ended:
            raise ResetNeededError(f"{self.env_id}.{what}: the episode is over ({episode.end_reason}); call reset()")
        return episode
