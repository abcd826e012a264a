"""A model behind an OpenAI-compatible chat endpoint as a policy."""

import asyncio
import base64
import json
import mimetypes
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from agentgym.dialects import ChatDialect
from agentgym.dialects.chat import declared
from agentgym.endpoint import ChatAnswer, ContextError, Endpoint, EndpointConfig
from agentgym.errors import AgentGymError
from agentgym.rollout.policy import Request
from agentgym.seeding import key_int
from agentgym.types import JSON, Block, Completion, Message


class HttpChatPolicy:
    """Sends the conversation as chat messages; the completion is the text of the answer.

    Calls are written as text, in the environment's dialect, so any chat model will do. Tool results go as user
    messages, since services refuse a "tool" message that answers no native call. With the dialect "chat" the tools are
    sent along and calls come back as objects; past calls and results go in the service's own form then.
    """

    privileged = False
    served = True

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str = "",
        send_seed: bool = True,
        max_stop: int = 4,
        **settings: Any,
    ) -> None:
        """Make the policy; nothing is sent yet.

        Args:
            base_url: up to and including the version, e.g. "http://127.0.0.1:8000/v1".
            model: the model's name at the service.
            api_key_env: name of the environment variable that holds the API key.
            send_seed: send a seed drawn from the request's key; off for services that refuse the field.
            max_stop: how many stop strings are sent at most (several services refuse more than four); the answer
                is cut at the first of all of them here.
            **settings: further fields of `EndpointConfig`: timeout_s, deadline_s, max_attempts, max_concurrent …

        Raises:
            ConfigError: for settings that no request could be made with, or an API key variable that is not set.
        """
        self.endpoint = Endpoint(EndpointConfig(base_url, model, api_key_env=api_key_env, **settings))
        self.send_seed = send_seed
        self.max_stop = max_stop

    async def act(self, requests: Sequence[Request]) -> list[Completion]:
        """Return one completion per request, in order; a row whose service failed has finish_reason "error".

        A conversation that has grown too long for the model has "context": it ends the episode as a limit does.
        """
        return list(await asyncio.gather(*(self._complete(request) for request in requests)))

    def release(self, episodes: Iterable[str]) -> None:
        """Keep nothing: the service has its own cache."""

    async def _complete(self, request: Request) -> Completion:
        native = request.dialect if isinstance(request.dialect, ChatDialect) else None
        tools = {"tools": declared(request.tools)} if native and request.tools else {}
        try:
            answer = await self.endpoint.chat(
                native_wire(request, native) if native else to_wire(request.messages),
                key=request.key,
                temperature=request.temperature,
                max_tokens=request.max_tokens,
                stop=request.stop[: self.max_stop],
                seed=key_int(*request.key, "seed", bits=31) if self.send_seed else None,
                **tools,
            )
        except ContextError as failure:
            grown = any(message.role == "assistant" for message in request.messages)  # else not by the policy's making
            return Completion("", finish_reason="context" if grown else "error", error=str(failure))
        except (AgentGymError, OSError) as failure:
            return Completion("", finish_reason="error", error=str(failure))
        if answer.finish_reason == "content_filter":
            return Completion("", finish_reason="error", error="the service withheld its answer (content_filter)")
        text = end_at_stop(answer, request.stop)
        if native:
            text = native.from_answer(text, _reasoning(answer), answer.tool_calls)
        cut = answer.finish_reason == "length" and not text.endswith(request.stop or ("\0",))
        return Completion(text, finish_reason="length" if cut else "stop")


def native_wire(request: Request, dialect: ChatDialect) -> list[JSON]:
    """Return a conversation with calls as objects and results by call id; thoughts stay behind, as services want it."""
    wire: list[JSON] = []
    for message in dialect.wire(request.messages, request.tools):
        message.pop("reasoning_content", None)
        for call in message.get("tool_calls", ()):
            call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        if message["role"] == "tool":
            message.pop("name")
        wire.append(message)
    return wire


def _reasoning(answer: ChatAnswer) -> str:
    """Return the thought that a service gives beside its answer, under either of its usual names."""
    message = answer.raw["choices"][0]["message"]
    found = message.get("reasoning_content") or message.get("reasoning")
    return found if isinstance(found, str) else ""


def end_at_stop(answer: ChatAnswer, stop: Sequence[str]) -> str:
    """Return the text up to and including its first stop string.

    Services strip the stop string from what they return. It comes back if the service names it, or if the text
    opened the tag that the stop string closes: "<search>capital of Chad" becomes "<search>capital of Chad</search>".
    """
    text = answer.text
    ends = [text.index(s) + len(s) for s in stop if s in text]
    if ends:
        return text[: min(ends)]
    if answer.stop_reason in stop:
        return text + answer.stop_reason
    if answer.finish_reason != "stop":
        return text
    closing = [s for s in stop if re.fullmatch(r"</[^<>\s]+>", s)]
    opened = {s: _last_opened(text, s[2:-1]) for s in closing}
    last = max(opened, key=lambda s: opened[s], default="")
    return text + last if last and opened[last] >= 0 else text


def _last_opened(text: str, tag: str) -> int:
    """Return where the last complete opening tag of that name begins, or -1."""
    matches = list(re.finditer(rf"<{re.escape(tag)}(?:\s[^<>]*)?>", text))
    return matches[-1].start() if matches and not matches[-1].group().endswith("/>") else -1


def to_wire(messages: Sequence[Message]) -> list[JSON]:
    """Return messages as the chat endpoint reads them: tool results as user messages, neighbours of a role joined."""
    wire: list[dict[str, Any]] = []
    for message in messages:
        role = "user" if message.role == "tool" else message.role
        content = _content(message.content)
        if wire and wire[-1]["role"] == role:
            wire[-1]["content"] = _joined(wire[-1]["content"], content)
        else:
            wire.append({"role": role, "content": content})
    return wire


def _content(blocks: Sequence[Block]) -> str | list[JSON]:
    if all(block.type == "text" for block in blocks):
        return "".join(block.text for block in blocks)
    return [
        {"type": "text", "text": b.text} if b.type == "text" else {"type": "image_url", "image_url": {"url": _url(b)}}
        for b in blocks
    ]


def _joined(first: str | list[JSON], second: str | list[JSON]) -> str | list[JSON]:
    if isinstance(first, str) and isinstance(second, str):
        return f"{first}\n\n{second}"
    blocks = [[{"type": "text", "text": part}] if isinstance(part, str) else part for part in (first, second)]
    return [*blocks[0], *blocks[1]]


def _url(block: Block) -> str:
    """Return an image's URL; a file travels as a data URI."""
    if block.source.startswith(("data:", "http://", "https://")):
        return block.source
    kind = mimetypes.guess_type(block.source)[0] or "image/png"
    return f"data:{kind};base64,{base64.b64encode(Path(block.source).read_bytes()).decode()}"
