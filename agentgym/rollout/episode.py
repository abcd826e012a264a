"""Runs one episode: policy and environment take turns, the ledger records every token."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from agentgym.env import ToolEnv
from agentgym.errors import AgentGymError, ConfigError, ServiceError
from agentgym.rollout.batcher import Batcher
from agentgym.rollout.context import go_on, opening
from agentgym.rollout.ledger import TokenLedger
from agentgym.rollout.policy import Request
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.types import Trajectory


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How completions are sampled."""

    temperature: float = 1.0
    """0 is greedy."""
    max_tokens: int = 256
    """Longest completion of one turn."""
    max_context: int = 0
    """Longest context in tokens, completion included; 0, or more than the policy's own, takes the policy's own."""
    oracle_noise: float = 0.0
    """For privileged policies: chance of a bad action per turn."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        for name, value, low in (
            ("temperature", self.temperature, 0.0),
            ("max_tokens", self.max_tokens, 1),
            ("max_context", self.max_context, 0),
            ("oracle_noise", self.oracle_noise, 0.0),
        ):
            if not value >= low:
                raise ConfigError(f"sampling.{name} is {value}; allowed: {low} or more")
        if self.oracle_noise > 1:
            raise ConfigError(f"sampling.oracle_noise is {self.oracle_noise}; allowed: 0 to 1")


@dataclass(frozen=True, slots=True)
class Start:
    """Where a branch begins: in the middle of another episode."""

    snapshot: bytes
    """Of the environment, with the branch's own key of random streams (`agentgym.rollout.branch.rekeyed`)."""
    ids: tuple[int, ...]
    """The ledger's ids up to where the branch's first completion begins; empty for policies without tokens."""
    parent: tuple[str, int]
    """(trajectory id, turn): the first turn of the branch's own."""


Keep = Callable[[int, bytes], None]
"""Takes (n, snapshot) after the first n turns of an episode that goes on."""


async def run_episode(
    env: ToolEnv,
    batcher: Batcher,
    task: Task,
    key: tuple[int, ...],
    sampling: SamplingConfig,
    group_id: str = "",
    progress: float | None = None,
    *,
    start: Start | None = None,
    keep: Keep | None = None,
) -> Trajectory:
    """Run one episode to its end and return its record; never raises for what happens inside it.

    Args:
        env: An environment that no other episode uses.
        batcher: The policy, shared by all live episodes.
        task: The task to run.
        key: (run, step, group, member): the key of all randomness of this episode.
        sampling: Temperature and token limits.
        group_id: Recorded on the trajectory.
        progress: Of training, 0 to 1, for suites with a schedule.
        start: For a branch: go on from a snapshot. The turns before it are in the record, but not in its spans: their
            tokens are context.
        keep: Is handed a snapshot after every turn of its own that the episode outlives.
    """
    policy, member = batcher.policy, key[-1] if key else 0
    episode = "/".join(f"{part:06d}" for part in key)
    ledger: TokenLedger | None = None
    version = 0
    entropies: list[tuple[float, ...]] = [()] * (start.parent[1] if start else 0)
    try:
        renderer = getattr(policy, "renderer", None)
        if start is not None:
            env.restore(start.snapshot)
        else:
            scheduled = {"progress": progress} if env.suite.is_scheduled else {}
            env.reset(options={"task": task, "key": key, **scheduled})
        if renderer is not None:
            ledger = TokenLedger(start.ids if start else opening(renderer, env))
        while not env.ended:
            if keep is not None and env.n_turns > (start.parent[1] if start else 0):
                keep(env.n_turns, env.snapshot())
            request = _request(env, policy, ledger, episode, key, sampling)
            if request is None:
                env.end("max_tokens")
                break
            completion = await batcher.act(request)
            version = completion.policy_version
            if completion.finish_reason == "context":
                env.end("max_tokens")
                break
            if completion.finish_reason == "error":
                env.end("service_error", completion.error)
                break
            if ledger is not None:
                ledger.sampled(env.n_turns, completion)
            entropies.append(completion.entropies)
            await env.astep(completion.text)
            if ledger is not None and renderer is not None and not env.ended:
                go_on(ledger, renderer, env, completion.token_ids)
    except Exception as error:  # noqa: BLE001 (one sibling's failure never stops a group)
        record = _failed(env, task, key, group_id, error)
        return replace(record, parent=start.parent) if start else record
    finally:
        policy.release([episode])
    segments = ledger.segments() if ledger is not None else ()
    record = env.trajectory
    turns = tuple(replace(t, entropies=e) if e else t for t, e in zip(record.turns, entropies, strict=True))
    record = replace(record, turns=turns)
    parent = start.parent if start else None
    return replace(
        record, segments=segments, group_id=group_id, member=member, policy_version=version, seed=key, parent=parent
    )


def _request(
    env: ToolEnv, policy: Any, ledger: TokenLedger | None, episode: str, key: tuple[int, ...], sampling: SamplingConfig
) -> Request | None:
    """Return the next request, or None where the context leaves no room for a completion."""
    room = sampling.max_tokens
    if ledger is not None:
        limit = min(sampling.max_context or policy.max_context, policy.max_context)
        room = min(room, limit - len(ledger.ids))
        if room < 1:
            return None
    turn_key = (*key, env.n_turns)
    oracle = env.oracle_action(stream(*turn_key, "oracle"), sampling.oracle_noise) if policy.privileged else None
    return Request(
        episode=episode,
        messages=env.messages,
        tools=env.specs,
        stop=env.stop_strings,
        key=turn_key,
        token_ids=tuple(ledger.ids) if ledger is not None else (),
        max_tokens=room,
        temperature=sampling.temperature,
        oracle=oracle,
        dialect=env.dialect,
    )


def _failed(env: ToolEnv, task: Task, key: tuple[int, ...], group_id: str, error: Exception) -> Trajectory:
    """Return the record of an episode that an error ended; it is in neither statistics nor loss."""
    kind = "" if isinstance(error, AgentGymError) else f"{type(error).__name__}: "
    text = "; ".join([f"{kind}{error}", *getattr(error, "__notes__", ())])
    reason = "service_error" if isinstance(error, ServiceError) else "env_error"
    try:
        if not env.ended:
            env.end(reason, text)
        record = env.trajectory
        if record.task_id != task.id or record.seed != key:
            raise LookupError(task.id)
    except Exception:  # noqa: BLE001 (the environment cannot even describe itself)
        record = Trajectory(id="/".join(map(str, (task.id, *key))), env_id="", task_id=task.id, prompt=(), turns=())
    return replace(
        record,
        end_reason=reason,
        terminated=False,
        truncated=True,
        success=False,
        in_statistics=False,
        in_loss=False,
        error=text,
        group_id=group_id,
        member=key[-1] if key else 0,
        seed=key,
    )
