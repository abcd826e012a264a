"""Demonstrations: episodes of the environment's own solution, in the tokens of the policy that will learn them."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Protocol

from agentgym.rollout.context import ChatRenderer, is_native
from agentgym.rollout.policy import Policy, Request, TokenRenderer
from agentgym.types import Completion


class TokenWriter(Protocol):
    """What a learner lends to a demonstrator: its renderer and its tokenizer."""

    renderer: TokenRenderer
    max_context: int

    def encode_action(self, text: str) -> list[int]:
        """Return the ids that a sampler would have produced for this action, stop tokens included."""
        ...


class Demonstrator:
    """Acts as `actor` and records every action in the tokens of `learner`."""

    served = False

    def __init__(self, actor: Policy, learner: TokenWriter) -> None:
        """Let `actor` act and `learner` write."""
        self._actor, self._learner = actor, learner
        self.privileged = actor.privileged
        self.renderer: Any = learner.renderer
        self.max_context = learner.max_context

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Return the actor's completions with token ids; log-probabilities are 0 (nobody sampled them)."""
        completions = await self._actor.act(requests)
        written = []
        for request, completion in zip(requests, completions, strict=True):
            ids, text = self._write(request, completion.text)
            zeros = (0.0,) * len(ids)
            written.append(replace(completion, text=text, token_ids=tuple(ids), logprobs=zeros, context_ids=request.token_ids))
        return written

    def _write(self, request: Request, action: str) -> tuple[list[int], str]:
        """Return ids and text of an action; with native tool calls in the form that the learner's template gives them."""
        if request.dialect is not None and is_native(request.dialect) and isinstance(self.renderer, ChatRenderer):
            return self.renderer.write_chat(request.messages, request.tools, request.dialect, action)
        return self._learner.encode_action(action), action

    def release(self, episodes: Iterable[str]) -> None:
        """Pass on to the actor."""
        self._actor.release(episodes)
