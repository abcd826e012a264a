"""A policy with characters as tokens, so that the ledger can be checked without a model."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from agentgym.rollout import EnvPool, Request
from agentgym.seeding import stream
from agentgym.types import Completion, Message


class CharRenderer:
    """Tokens are code points; roles are single control characters."""

    def start(self, messages: Sequence[Message], tools: object) -> list[int]:
        return [ord(c) for m in messages for c in f"\x01{m.text}"] + [2]

    def extend(self, messages: Sequence[Message], sampled: Sequence[int]) -> list[int]:
        return [ord(c) for m in messages for c in f"\x01{m.text}"] + [2]


class CharPolicy:
    """Plays the oracle, sometimes something random; remembers with whom it was batched."""

    privileged = True
    served = False
    max_context = 100_000

    def __init__(self) -> None:
        self.renderer = CharRenderer()
        self.batches: list[int] = []
        self.released: list[str] = []
        self.break_context = False
        self.fail_member: int | None = None
        self.error_member: int | None = None

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        self.batches.append(len(requests))
        return [self._one(r) for r in requests]

    def _one(self, request: Request) -> Completion:
        member = request.key[-2]
        if member == self.error_member:
            return Completion(text="", finish_reason="error", error="the service is down")
        text = request.oracle or ""
        if stream(*request.key, "noise").random() < 0.3:
            text = "<search>x</search>"
        ids = tuple(ord(c) for c in text)
        context = request.token_ids[1:] if self.break_context else request.token_ids
        return Completion(text, ids, tuple(-0.5 for _ in ids), context_ids=context)

    def release(self, episodes: Sequence[str]) -> None:
        self.released.extend(episodes)


@pytest.fixture
def policy() -> CharPolicy:
    return CharPolicy()


@pytest.fixture(scope="session")
def pool() -> EnvPool:
    return EnvPool("SearchQA-v0", world="synthetic:closed?worlds=4", observation="compact", k=2)


__all__ = ["CharPolicy", "replace"]
