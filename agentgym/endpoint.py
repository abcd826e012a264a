"""The one asynchronous client of OpenAI-compatible endpoints: policies, judges and scorers share it.

A request is tried again, with exponential backoff and keyed jitter, after a timeout, a broken connection, HTTP 408,
425, 429 or 5xx, and after an answer that is not the JSON it should be. Whatever is left in the end is a ServiceError.
"""

import asyncio
import email.utils
import json
import os
import re
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import httpx

from agentgym.errors import ConfigError, ServiceError
from agentgym.seeding import stream
from agentgym.types import JSON

T = TypeVar("T")
_RETRIED = frozenset({408, 425, 429})
_REFUSED = frozenset({400, 413, 422})
_TOO_LONG = re.compile(r"context.?(length|size|window)|maximum model length|(prompt|input|request)s?\b.{0,30}too (long|large)|max_new_tokens", re.IGNORECASE)
"""How the usual services (OpenAI, vLLM, SGLang, llama.cpp, TGI) say that a request does not fit into the context."""


@dataclass(frozen=True, slots=True)
class EndpointConfig:
    """Where an endpoint is and how patient we are with it."""

    base_url: str
    """Up to and including the version, e.g. "http://127.0.0.1:8000/v1"."""
    model: str = ""
    api_key_env: str = ""
    """Name of the environment variable that holds the API key; empty: none is sent."""
    timeout_s: float = 120.0
    """Longest one attempt may take, from connecting to the last byte."""
    deadline_s: float = 600.0
    """Longest one request may take, all attempts and pauses together, counted from its first attempt."""
    max_attempts: int = 6
    backoff_s: float = 0.5
    """Pause before the second attempt; doubles with every further one."""
    max_backoff_s: float = 30.0
    max_concurrent: int = 16
    """Requests in flight at once."""
    extra_body: dict[str, JSON] = field(default_factory=dict)
    """Further fields of every request body, e.g. {"top_p": 0.95}."""

    def __post_init__(self) -> None:
        """Raise ConfigError for values that no request could be made with."""
        try:
            url = httpx.URL(self.base_url)
        except httpx.InvalidURL:
            url = httpx.URL("")
        if url.scheme not in ("http", "https") or not url.host:
            raise ConfigError(f"base_url is {self.base_url!r}; allowed: http://HOST[:PORT]/PATH or https://…")
        for name, low in (("max_attempts", 1), ("max_concurrent", 1), ("backoff_s", 0), ("max_backoff_s", 0)):
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: {low} or more")
        for name in ("timeout_s", "deadline_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: more than 0 seconds")


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """The first choice of a chat completion."""

    text: str
    finish_reason: str
    """As the service names it: stop, length, tool_calls, content_filter …"""
    stop_reason: str = ""
    """The stop string that ended it, where the service says so (it is not part of `text` then)."""
    tool_calls: tuple[tuple[str, str], ...] = ()
    """(name, arguments as JSON text) of native tool calls."""
    logprobs: tuple[float, ...] = ()
    """Natural log-probabilities of the sampled tokens, if asked for and given."""
    raw: JSON = None
    """The whole response body."""


@dataclass(slots=True)
class _Session:
    """What belongs to one event loop."""

    client: httpx.AsyncClient
    slots: asyncio.Semaphore
    keeper: AsyncGenerator[httpx.AsyncClient, None]


_KEEPERS: WeakKeyDictionary[asyncio.AbstractEventLoop, set[AsyncGenerator[httpx.AsyncClient, None]]] = (
    WeakKeyDictionary()
)
"""Keeps the generators alive until their loop ends, also when their Endpoint is dropped before: one that is collected
earlier is closed in a task that the end of the loop cancels, which leaves sockets open."""


class _RetryableError(Exception):
    """One failed attempt that may be repeated."""

    def __init__(self, message: str, wait_s: float = 0.0) -> None:
        super().__init__(message)
        self.wait_s = wait_s


class RefusedError(ServiceError):
    """Raised where the service refuses what this one request says (too long, filtered); it may well take another."""


class ContextError(RefusedError):
    """Raised where a request is longer than the model's context."""


class Endpoint:
    """A client of one endpoint; may be used from several event loops, one after the other."""

    def __init__(self, config: EndpointConfig) -> None:
        """Make a client; nothing is sent yet. Raises ConfigError if the variable of the API key is not set."""
        self.config = config
        self._headers = _headers(config)
        self._sessions: WeakKeyDictionary[asyncio.AbstractEventLoop, _Session] = WeakKeyDictionary()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Endpoint":
        """Return itself: connections are shared by all that use this endpoint."""
        return self

    async def chat(
        self,
        messages: Sequence[JSON],
        *,
        key: tuple[int | str, ...] = (),
        temperature: float | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        seed: int | None = None,
        **body: JSON,
    ) -> ChatAnswer:
        """Return the first choice for a conversation.

        Args:
            messages: as the wire has them: {"role": …, "content": …}.
            key: key of the jitter's random stream.
            temperature: 0 is greedy; None leaves it to the service.
            max_tokens: longest answer.
            stop: strings that end the answer.
            seed: the service's own seed, where it has one.
            **body: further fields of the request body, e.g. tools=…, logprobs=True.

        Raises:
            ServiceError: when no usable answer came, naming URL, attempts, and the last failure.
        """
        asked = {"temperature": temperature, "max_tokens": max_tokens, "stop": list(stop) or None, "seed": seed}
        request = {"model": self.config.model, "messages": list(messages), **self.config.extra_body}
        request |= {name: value for name, value in {**asked, **body}.items() if value is not None}
        return await self.post("/chat/completions", request, read_chat, key=key)

    async def post(self, path: str, body: JSON, read: Callable[[JSON], T], *, key: tuple[int | str, ...] = ()) -> T:
        """Post JSON and return what `read` makes of the answer.

        Args:
            path: appended to the base URL.
            body: the request body.
            read: turns the parsed answer into a value; raises ValueError for a shape it does not know, which
                counts as a failed attempt.
            key: key of the jitter's random stream.

        Raises:
            ServiceError: when no usable answer came, naming URL, attempts, and the last failure.
        """
        cfg, session = self.config, await self._session()
        url = cfg.base_url.rstrip("/") + path
        content = json.dumps(body).encode()
        started: float | None = None
        failures: list[str] = []
        for attempt in range(cfg.max_attempts):
            async with session.slots:
                started = time.monotonic() if started is None else started
                left = cfg.deadline_s - (time.monotonic() - started)
                if left <= 0:
                    break
                try:
                    return read(await self._attempt(session.client, url, content, min(cfg.timeout_s, left)))
                except _RetryableError as failure:
                    failures.append(str(failure))
                    wait_s = failure.wait_s
                except ValueError as unknown_shape:
                    failures.append(f"an answer of unknown shape: {unknown_shape}")
                    wait_s = 0.0
            if attempt + 1 == cfg.max_attempts:
                break
            wait_s = max(wait_s, self._backoff(attempt, key))
            left = cfg.deadline_s - (time.monotonic() - started)
            if wait_s >= left:
                failures.append(f"next attempt only after {wait_s:.3g} s, {max(left, 0):.3g} s before the deadline")
                break
            await asyncio.sleep(wait_s)
        raise ServiceError(_summary(url, failures, time.monotonic() - (started or time.monotonic()), cfg))

    def _backoff(self, attempt: int, key: tuple[int | str, ...]) -> float:
        """Return the pause after an attempt: between half of it and all of it, drawn from the keyed stream."""
        full = min(self.config.max_backoff_s, self.config.backoff_s * 2.0**attempt)
        return full * float(stream(*key, "backoff", attempt).uniform(0.5, 1.0))

    async def _attempt(self, client: httpx.AsyncClient, url: str, content: bytes, timeout_s: float) -> JSON:
        try:
            async with asyncio.timeout(timeout_s):
                response = await client.post(url, content=content)
        except TimeoutError:
            raise _RetryableError(f"no complete answer within {timeout_s:.3g} s") from None
        except httpx.TransportError as broken:
            raise _RetryableError(f"{type(broken).__name__}: {broken}".rstrip(": ")) from None
        except httpx.HTTPError as refused:  # redirects without end, an encoding that does not decode
            raise _RetryableError(f"{type(refused).__name__}: {refused}") from None
        status, head = response.status_code, self._head(response)
        if status in _RETRIED or status >= 500:
            raise _RetryableError(f"HTTP {status}: {head}", _retry_after(response.headers.get("retry-after", "")))
        if not 200 <= status < 300:
            kind = ServiceError if status not in _REFUSED else ContextError if _TOO_LONG.search(head) else RefusedError
            raise kind(f"{_public(url)}: HTTP {status}: {head}{self._advice(status)}")
        try:
            return response.json()
        except (ValueError, RecursionError):
            raise _RetryableError(f"an answer that is not JSON: {head[:120]!r}") from None

    def _head(self, response: httpx.Response) -> str:
        """Return the beginning of a body for messages; a service that repeats the API key must not get it logged."""
        text, key = (
            " ".join(response.text[:300].split()),
            self._headers.get("authorization", "").removeprefix("Bearer "),
        )
        return text.replace(key, "***") if key else text

    def _advice(self, status: int) -> str:
        variable = self.config.api_key_env
        if status in (401, 403):
            sent = f"the key in ${variable} was sent" if variable else "no API key was sent; set api_key_env"
            return f" ({sent})"
        if status == 404:
            return (
                f" (check base_url, which ends with the version, often /v1, and the model name {self.config.model!r})"
            )
        return ""

    async def _session(self) -> _Session:
        loop = asyncio.get_running_loop()
        session = self._sessions.get(loop)
        if session is None:
            for table in (self._sessions, _KEEPERS):  # what they hold, holds its loop: neither would ever be collected
                _drop_ended(table)
            # asyncio.run() closes the async generators of its loop at the end, and with it this client's connections.
            keeper = _keep_client(self._headers, self.config.max_concurrent)
            session = _Session(await anext(keeper), asyncio.Semaphore(self.config.max_concurrent), keeper)
            self._sessions[loop] = session
            _KEEPERS.setdefault(loop, set()).add(keeper)
        return session

    async def aclose(self) -> None:
        """Close the connections of the running loop (asyncio.run does so by itself at its end)."""
        loop = asyncio.get_running_loop()
        session = self._sessions.pop(loop, None)
        if session is not None:
            _KEEPERS[loop].discard(session.keeper)
            await session.keeper.aclose()


def read_chat(answer: JSON) -> ChatAnswer:
    """Read a chat completion. Raises ValueError, naming the missing part, for anything else."""
    choice = _part(answer, "choices", list)
    if not choice:
        raise ValueError("'choices' is empty")
    message = _part(choice[0], "message", dict)
    text, finish = message.get("content"), choice[0].get("finish_reason")
    if isinstance(text, list):  # content blocks
        text = "".join(str(_part(block, "text", str)) for block in text if _part(block, "type", str) == "text")
    calls = tuple(
        (_part(_part(c, "function", dict), "name", str), _part(_part(c, "function", dict), "arguments", str))
        for c in message.get("tool_calls") or ()
    )
    if text is None and calls:
        text = ""
    if not isinstance(text, str):
        raise ValueError(f"'message.content' is {type(text).__name__}, expected text")
    logprobs: list[float] = []
    with suppress(ValueError):  # optional: None, absent, or of another shape
        logprobs = [_part(t, "logprob", float) for t in _part(_part(choice[0], "logprobs", dict), "content", list)]
    stop = choice[0].get("stop_reason")
    return ChatAnswer(
        text=text,
        finish_reason=finish if isinstance(finish, str) else "stop",
        stop_reason=stop if isinstance(stop, str) else "",
        tool_calls=calls,
        logprobs=tuple(logprobs),
        raw=answer,
    )


def _part(value: JSON, name: str, kind: type) -> Any:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object with {name!r}, got {type(value).__name__}")
    part = value.get(name)
    if not isinstance(part, (int, float) if kind is float else kind):
        raise ValueError(f"{name!r} is {type(part).__name__}, expected {kind.__name__}")
    return part


async def _keep_client(headers: dict[str, str], n_connections: int) -> AsyncGenerator[httpx.AsyncClient, None]:
    limits = httpx.Limits(max_connections=n_connections, max_keepalive_connections=n_connections)
    async with httpx.AsyncClient(headers=headers, limits=limits, timeout=None) as client:
        yield client


def _drop_ended(table: WeakKeyDictionary[asyncio.AbstractEventLoop, Any]) -> None:
    for known in table.keyrefs():
        loop = known()
        if loop is not None and loop.is_closed():
            table.pop(loop, None)


def _headers(config: EndpointConfig) -> dict[str, str]:
    headers = {"content-type": "application/json"}
    if config.api_key_env:
        key = os.environ.get(config.api_key_env, "").strip()
        if not key:
            raise ConfigError(f"api_key_env names ${config.api_key_env}, which is not set; export it first")
        headers["authorization"] = f"Bearer {key}"
    return headers


def _retry_after(value: str) -> float:
    """Return the seconds that a Retry-After header asks for (a number, or a date); 0 for what cannot be read."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _public(url: str) -> str:
    """Return a URL without user name, password and query."""
    return str(httpx.URL(url).copy_with(userinfo=b"", query=None))


def _summary(url: str, failures: list[str], took_s: float, cfg: EndpointConfig) -> str:
    n = sum(not f.startswith("next attempt") for f in failures)
    counted = "; ".join(f"{i}. {text}" for i, text in enumerate(failures, 1)) or "the deadline passed"
    return (
        f"{_public(url)}: no usable answer after {n} of {cfg.max_attempts} attempts in {took_s:.1f} s"
        f" (deadline {cfg.deadline_s:.3g} s): {counted}"
    )
