"""A tiny policy and a two-turn bandit, small enough to check by hand."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from agentgym.errors import ConfigError
from agentgym.seeding import key_int, stream
from agentgym.task import Task
from agentgym.types import Completion, Group, Score, Segment, Span, TokenRows, ToolResult, Trajectory, Turn

N_TOKENS = 12
START, RIGHT, WRONG = 1, 6, 7
GOOD_FIRST, GOOD_SECOND = 3, 9


class TinyPolicy:
    """Embedding and linear layer: the next token depends on the last one only."""

    privileged = False
    renderer = None

    def __init__(self, seed: int = 0, dtype: torch.dtype = torch.float32) -> None:
        rng = stream(seed, "weights")
        self.embedding = torch.tensor(rng.normal(size=(N_TOKENS, 16)), dtype=dtype, requires_grad=True)
        self.linear = torch.tensor(rng.normal(size=(16, N_TOKENS)) * 0.05, dtype=dtype, requires_grad=True)
        self.version = 0

    def parameters(self):
        return [self.embedding, self.linear]

    def all_logprobs(self, ids: torch.Tensor) -> torch.Tensor:
        return torch.log_softmax(self.embedding[ids] @ self.linear, dim=-1)

    def logprobs(self, rows: TokenRows) -> torch.Tensor:
        width = max(map(len, rows.ids))
        ids = torch.tensor([[*r, *[0] * (width - len(r))] for r in rows.ids])
        mask = torch.tensor([[*r, *[0] * (width - len(r))] for r in rows.mask], dtype=torch.bool)
        scored = self.all_logprobs(ids[:, :-1]).gather(2, ids[:, 1:, None])[..., 0]
        padded = torch.cat([torch.zeros_like(scored[:, :1]), scored], dim=1)
        return torch.where(mask, padded, torch.zeros_like(padded))

    async def act(self, requests):
        rows = []
        for request in requests:
            token, logprob = self.sample(request.token_ids[-1], request.key)
            rows.append(Completion(str(token), (token,), (logprob,)))
        return rows

    def release(self, episodes) -> None:
        pass

    def sample(self, last: int, key) -> tuple[int, float]:
        with torch.no_grad():
            logprobs = self.all_logprobs(torch.tensor([last]))[0]
        weights = logprobs.double().exp().numpy()
        token = int(np.searchsorted(np.cumsum(weights / weights.sum()), stream(*key).random()))
        return token, float(logprobs[token])

    def sync(self, version: int) -> None:
        self.version = version

    def save(self, directory: Path) -> None:
        torch.save({"embedding": self.embedding.detach(), "linear": self.linear.detach()}, directory / "weights.pt")

    def load(self, directory: Path) -> None:
        weights = torch.load(directory / "weights.pt", weights_only=True)
        with torch.no_grad():
            for name, value in weights.items():
                getattr(self, name).copy_(value)


def turn_score(value: float) -> dict[str, Score]:
    return {"gain": Score("turn", raw=value, value=value)}


def play(policy: TinyPolicy, task: Task, group: str, member: int, key) -> Trajectory:
    """One episode: a good first action pays 0.5, a good second one after it succeeds."""
    first, first_logprob = policy.sample(START, (*key, 0))
    seen = RIGHT if first == GOOD_FIRST else WRONG
    second, second_logprob = policy.sample(seen, (*key, 1))
    gain, success = 0.5 * (seen == RIGHT), seen == RIGHT and second == GOOD_SECOND
    result = ToolResult("c", "pull", ok=seen == RIGHT, code="" if seen == RIGHT else "E_ARM")
    turns = (
        Turn(0, str(first), results=(result,), scores=turn_score(gain), reward=gain),
        Turn(1, str(second), scores=turn_score(0.0)),
    )
    segment = Segment(
        (START, first, seen, second),
        (0, 1, 0, 1),
        (0.0, first_logprob, 0.0, second_logprob),
        (Span(0, 1, 2), Span(1, 3, 4)),
    )
    return Trajectory(
        f"{group}/{member}",
        "Bandit-v0",
        task.id,
        (),
        turns,
        end_reason="answered",
        terminated=True,
        success=success,
        scores={"outcome": Score("trajectory", raw=float(success), value=float(success))},
        reward=float(success),
        segments=(segment,),
        group_id=group,
        member=member,
        policy_version=policy.version,
    )


def rollout(policy: TinyPolicy, tasks, *, group_size: int, key) -> list[Group]:
    groups = []
    for g, task in enumerate(tasks):
        name = f"{key[0]}/{key[1]}/{g}"
        members = tuple(play(policy, task, name, m, (*key, g, m)) for m in range(group_size))
        groups.append(Group(name, task.id, members))
    return groups


async def rollout_async(policy: TinyPolicy, tasks, *, group_size: int, key) -> list[Group]:
    return rollout(policy, tasks, group_size=group_size, key=key)


class Tasks:
    def split(self, name: str):
        if name != "train":
            raise ConfigError(f"no split {name}")
        return [Task(f"t{i}", "which arm?") for i in range(7)]

    def sample(self, name, rng):
        return self.split(name)[int(rng.integers(7))]

    def by_id(self, task_id):
        return next(t for t in self.split("train") if t.id == task_id)


def random_trajectory(name: str, n_turns: int = 3, n_segments: int = 1, seed: int = 0, **changes) -> Trajectory:
    """An episode of random tokens: turns of 1 to 4 tokens, observations of 1 to 3 between them."""
    rng = stream("trajectory", name, seed)
    segments, turn = [], 0
    for s in range(n_segments):
        ids, mask, logprobs, spans = [START], [0], [0.0], []
        last = n_turns if s == n_segments - 1 else turn + max(1, n_turns // n_segments)
        while turn < last:
            n, n_after = int(rng.integers(1, 5)), int(rng.integers(1, 4))
            spans.append(Span(turn, len(ids), len(ids) + n))
            ids += rng.integers(N_TOKENS, size=n + n_after).tolist()
            mask += [1] * n + [0] * n_after
            logprobs += (-3.0 * rng.random(n)).tolist() + [0.0] * n_after
            turn += 1
        segments.append(Segment(tuple(ids), tuple(mask), tuple(logprobs), tuple(spans)))
    turns = tuple(Turn(k, "a") for k in range(n_turns))
    key = key_int(name, bits=20)
    return Trajectory(name, "Fake-v0", f"task-{key}", (), turns, segments=tuple(segments), **changes)


@pytest.fixture
def fake():
    """The names above: test folders are no packages, so they cannot import them."""
    return SimpleNamespace(**{k: v for k, v in globals().items() if not k.startswith("_")})
