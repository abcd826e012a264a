"""The seam between the driver and whatever acts: `Policy`, `LearnablePolicy`, `TokenRenderer`."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from agentgym.dialects import Dialect
from agentgym.types import Completion, Message, TokenRows, ToolSpec


@dataclass(frozen=True, slots=True)
class Request:
    """One call for a completion. A chat policy reads the messages, a sampler the ids."""

    episode: str
    """Stable id of the live episode: samplers key their caches with it."""
    messages: tuple[Message, ...]
    """The whole conversation so far (assistant turns included)."""
    tools: tuple[ToolSpec, ...]
    stop: tuple[str, ...]
    """Stop strings of the dialect; a completion keeps the stop string at its end."""
    key: tuple[int | str, ...]
    """Key of the random stream of this one completion (see seeding.stream)."""
    token_ids: tuple[int, ...] = ()
    """The ledger's ids: all of the context, in the policy's own tokens; empty for chat policies."""
    max_tokens: int = 256
    temperature: float = 1.0
    oracle: str | None = None
    """For privileged policies only: the environment's own next action."""
    dialect: Dialect | None = None
    """How a call is written; for policies that make calls rather than text."""


@runtime_checkable
class Policy(Protocol):
    """Something that acts."""

    privileged: bool
    """True only for policies that may see `Request.oracle`."""
    served: bool
    """True for policies behind a service: called one request at a time, many at once; False: in batches."""

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion per request, in order; never raises for one bad row.

        A row whose service failed has finish_reason "error", one for which the context has no room left "context".
        """
        ...

    def release(self, episodes: Iterable[str]) -> None:
        """Forget what is cached for these episodes."""
        ...


class TokenRenderer(Protocol):
    """Turns messages into a policy's tokens. Implemented by policies, since tokenizers are theirs."""

    def start(self, messages: Sequence[Message], tools: Sequence[ToolSpec]) -> list[int]:
        """Return the ids of the opening context, up to where the first completion begins."""
        ...

    def extend(self, messages: Sequence[Message], sampled: Sequence[int]) -> list[int]:
        """Return the ids to append after a completion that sampled `sampled`, up to the next completion.

        Closes the assistant turn (if the sampled ids did not), adds `messages`, opens the next turn.
        """
        ...


@runtime_checkable
class LearnablePolicy(Policy, Protocol):
    """A policy with weights that a learner may change."""

    renderer: TokenRenderer
    version: int
    max_context: int
    """Longest context in tokens, completion included."""

    def logprobs(self, rows: TokenRows) -> Any:
        """Return a float32 tensor [B, T] of natural log-probabilities, 0 where mask is 0, with gradient."""
        ...

    def parameters(self) -> Iterable[Any]:
        """Return the tensors to optimise."""
        ...

    def sync(self, version: int) -> None:
        """Make the sampler use the current weights. Raises LedgerError if it demonstrably does not."""
        ...
