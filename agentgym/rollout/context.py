"""What a policy reads next, in its own tokens: appended to the ledger, or written anew where a chat template does so."""

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from agentgym.dialects import Dialect
from agentgym.env import ToolEnv
from agentgym.errors import ConfigError
from agentgym.rollout.ledger import TokenLedger
from agentgym.rollout.policy import TokenRenderer
from agentgym.types import Message, ToolSpec


@runtime_checkable
class ChatRenderer(TokenRenderer, Protocol):
    """A renderer that declares tools natively and knows what its template does to the history."""

    def open_chat(self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: Any) -> list[int]:
        """Return the ids of a conversation with its tools, up to where the next completion begins."""
        ...

    def follow_chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: Any, sampled: Sequence[int]
    ) -> tuple[list[int], bool]:
        """Go on after a completion.

        Args:
            messages: the whole conversation; what follows its last assistant message is new.
            tools: the tools of the environment.
            dialect: reads calls out of completions.
            sampled: the ids of the completion.

        Returns:
            The ids to append, and False; or the ids of the whole context, and True, where the template no longer
            writes what came before as it did.
        """
        ...


    def write_chat(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], dialect: Any, action: str
    ) -> tuple[list[int], str]:
        """Return the ids and the text of an action as the model itself would have written it."""
        ...


def is_native(dialect: Dialect) -> bool:
    """Say whether tools are declared outside of the prompt and calls are the model's own."""
    return bool(getattr(dialect, "native", False))


def opening(renderer: TokenRenderer, env: ToolEnv) -> list[int]:
    """Return the ids of the opening context.

    Raises:
        ConfigError: the dialect is native and the policy has no chat template to write it with.
    """
    if not is_native(env.dialect):
        return renderer.start(env.messages, env.specs)
    if not isinstance(renderer, ChatRenderer):
        raise ConfigError(f"the dialect {env.dialect.name!r} needs a policy with a chat template or behind an endpoint; use tags or json")
    return renderer.open_chat(env.messages, env.specs, env.dialect)


def go_on(ledger: TokenLedger, renderer: TokenRenderer, env: ToolEnv, sampled: Sequence[int]) -> None:
    """Bring what the environment answered into the ledger."""
    if not is_native(env.dialect) or not isinstance(renderer, ChatRenderer):
        ledger.appended(renderer.extend(env.last_messages, sampled))
        return
    ids, anew = renderer.follow_chat(env.messages, env.specs, env.dialect, sampled)
    if anew:
        ledger.rewritten(ids)
    else:
        ledger.appended(ids)
