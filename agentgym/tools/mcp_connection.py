"""A connection to an MCP server that may die, hang, babble or send far too much: each of these is a ServiceError.

All connections of a process live in one thread with an event loop; tools of any other loop or thread wait for it.
"""

import asyncio
import atexit
import contextlib
import functools
import os
import signal
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import Future
from typing import Any
from weakref import WeakSet

from agentgym.errors import MissingExtraError, ServiceError, ToolError

try:
    import anyio
    import httpx2
    import mcp_types
    from mcp import Client
    from mcp.client.streamable_http import streamable_http_client
    from mcp.shared.exceptions import MCPError
    from mcp.shared.message import SessionMessage
except ImportError as missing:
    raise MissingExtraError("tools of an MCP server", "mcp", "pip install 'agentic-gym[mcp]'") from missing

_KEPT_ENV = ("HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "USER", "VIRTUAL_ENV")
MAX_NOISE = 1_000
"""Lines that are no message, before a server's output counts as babble."""
_GONE = frozenset({mcp_types.CONNECTION_CLOSED, mcp_types.INVALID_REQUEST})
"""Codes with which a list of tools is answered where there is no session (any more)."""
_CLOSE_S = 2.0
_SIGN_OF_LIFE_S = 2.0
_OPEN: "WeakSet[McpConnection]" = WeakSet()


class _Loop:
    """The event loop of this process for MCP, in a thread of its own; a forked child makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid, self._loop = 0, None

    def submit(self, work: Coroutine[Any, Any, Any]) -> "Future[Any]":
        with self._lock:
            if self._loop is None or self._pid != os.getpid():
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, name="mcp", daemon=True).start()
            return asyncio.run_coroutine_threadsafe(work, self._loop)


LOOP = _Loop()


class McpConnection:
    """One client session with one server, opened at its first use and again after a death, a few times."""

    def __init__(
        self,
        command: Sequence[str] = (),
        url: str = "",
        *,
        env: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 30.0,
        max_message_bytes: int = 4_000_000,
        max_restarts: int = 3,
        protocol: str = "auto",
    ) -> None:
        """Remember how to reach the server; nothing is started yet. See `agentgym.tools.mcp.mcp_tools`."""
        self.command, self.url = tuple(command), url
        self.env, self.headers = dict(env or {}), dict(headers or {})
        self.timeout_s, self.max_message_bytes = timeout_s, max_message_bytes
        self.max_restarts, self.protocol = max_restarts, protocol
        self.starts = 0
        """How often the server was started or dialled."""
        self._life: _Life | None = None
        self._opening: asyncio.Lock | None = None
        self._pid = 0
        _OPEN.add(self)

    def __deepcopy__(self, memo: dict[int, Any]) -> "McpConnection":
        """Return itself: a connection is shared."""
        return self

    def __reduce__(self) -> Any:
        """Another process opens a connection of its own."""
        names = ("env", "headers", "timeout_s", "max_message_bytes", "max_restarts", "protocol")
        options = {name: getattr(self, name) for name in names}
        return functools.partial(McpConnection, self.command, self.url, **options), ()

    @property
    def name(self) -> str:
        """The command line or address, for messages."""
        return self.url or " ".join(self.command)

    def list_tools(self) -> list[Any]:
        """Return the server's tools, all pages. Raises ServiceError."""
        return LOOP.submit(self._guarded(self._list)).result()

    async def call(self, name: str, arguments: Mapping[str, Any]) -> Any:
        """Return a CallToolResult.

        Raises:
            ToolError: the server refuses the arguments.
            ServiceError: it is dead, silent for `timeout_s`, answers what its own schema forbids, or too much.
        """
        work = LOOP.submit(self._guarded(lambda client: client.call_tool(name, dict(arguments))))
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        """End the session and the server's process; the next use starts anew."""
        if (life := self._life) is not None and self._pid == os.getpid():
            with contextlib.suppress(Exception):
                LOOP.submit(self._end(life)).result(_CLOSE_S * 3)

    async def _list(self, client: Client) -> list[Any]:
        found: list[Any] = []
        cursor = None
        for _ in range(100):
            page = await client.list_tools(cursor=cursor)
            found += page.tools
            cursor = page.next_cursor
            if not cursor:
                return found
        raise ServiceError(f"MCP server {self.name}: its list of tools has no end")

    async def _guarded(self, ask: Callable[[Client], Coroutine[Any, Any, Any]]) -> Any:
        life = await self._alive()
        try:
            async with asyncio.timeout(self.timeout_s):
                return await ask(life.client)
        except MCPError as error:
            if error.code == mcp_types.INVALID_PARAMS:
                raise ToolError(str(error.message)[:300]) from None
            problem = f"{error.message} (code {error.code})"
        except TimeoutError:
            problem = f"no answer within {self.timeout_s:g} s"
        except ServiceError:
            raise
        except Exception as error:  # noqa: BLE001 (a client library raises what it likes)
            problem = f"{type(error).__name__}: {error}"
        if not life.over.is_set() and not await life.answers():
            life.said.append(problem)  # before it is ended for that: the end is no reason
            life.spoilt = True
        if life.spoilt or life.over.is_set():
            await self._end(life)
        raise ServiceError(f"MCP server {self.name}: {life.reason() or problem:.500}")

    async def _alive(self) -> "_Life":
        if self._pid != os.getpid():
            self._life, self._opening, self._pid = None, asyncio.Lock(), os.getpid()
        assert self._opening is not None
        async with self._opening:
            life = self._life
            if life is None or life.over.is_set():
                if self.starts > self.max_restarts:
                    raise ServiceError(f"MCP server {self.name}: ended {self.starts} times; it is not started again")
                self.starts += 1
                life = self._life = _Life(self)  # known from the start: a call that is given up leaves it to the next
                life.task = asyncio.get_running_loop().create_task(life.run())
            try:
                async with asyncio.timeout(self.timeout_s):
                    await life.ready.wait()
            except TimeoutError:
                await self._end(life)
                raise ServiceError(f"MCP server {self.name}: no greeting within {self.timeout_s:g} s") from None
            if life.over.is_set():
                raise ServiceError(f"MCP server {self.name}: {life.reason() or 'it cannot be reached'}")
            return life

    async def _end(self, life: "_Life") -> None:
        """End one life; a later one, opened by another call meanwhile, goes on."""
        if self._life is life:
            self._life = None
        life.stop.set()
        if life.task is not None:
            if not life.ready.is_set():  # it waits for a greeting
                life.task.cancel()
            await asyncio.wait({life.task}, timeout=_CLOSE_S * 2)


class _Life:
    """One run of the server, from greeting to death."""

    client: Client

    def __init__(self, connection: McpConnection) -> None:
        self.connection = connection
        self.ready, self.over, self.stop = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.spoilt = False
        self.said: list[str] = []
        self.stderr: deque[str] = deque(maxlen=5)

    def reason(self) -> str:
        """Return why it ended, with the last words of the server."""
        words = " | ".join(line.strip() for line in self.stderr if line.strip())
        return f"{self.said[0]}{f'; its stderr: {words}' if words else ''}" if self.said else ""

    async def answers(self) -> bool:
        """Return whether the server still speaks: one slow tool is no reason to end it for all episodes."""
        try:
            async with asyncio.timeout(_SIGN_OF_LIFE_S):
                await self.client.list_tools()
        except MCPError as error:
            return not self.over.is_set() and error.code not in _GONE
        except Exception:  # noqa: BLE001 (a client library raises what it likes)
            return False
        return True

    async def run(self) -> None:
        cfg = self.connection
        try:
            async with contextlib.AsyncExitStack() as stack:
                transport = _http(cfg, stack) if cfg.url else _stdio(self)
                client = Client(await _aslot(transport), mode=cfg.protocol, cache=None)
                self.client = await stack.enter_async_context(client)
                self.ready.set()
                await self.stop.wait()
        except Exception as error:  # noqa: BLE001 (reported to whoever waits)
            self.said.append(_words(error))
        finally:
            self.over.set()
            self.ready.set()


async def _aslot(transport: Any) -> Any:
    return await transport if asyncio.iscoroutine(transport) else transport


async def _http(cfg: McpConnection, stack: contextlib.AsyncExitStack) -> Any:
    inner = httpx2.AsyncHTTPTransport()
    limit = httpx2.Timeout(cfg.timeout_s)
    client = httpx2.AsyncClient(transport=_Capped(inner, cfg.max_message_bytes), headers=cfg.headers, timeout=limit)
    await stack.enter_async_context(client)
    return streamable_http_client(cfg.url, http_client=client, max_sse_event_size=cfg.max_message_bytes)


class _Capped(httpx2.AsyncBaseTransport):
    """Cuts the connection when a response that is no event stream grows too long."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, most: int) -> None:
        self.inner, self.most = inner, most

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self.inner.handle_async_request(request)
        if "event-stream" not in response.headers.get("content-type", ""):
            response.stream = _CappedStream(response.stream, self.most)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


class _CappedStream(httpx2.AsyncByteStream):
    def __init__(self, inner: Any, most: int) -> None:
        self.inner, self.most = inner, most

    async def __aiter__(self) -> AsyncIterator[bytes]:
        seen = 0
        async for chunk in self.inner:
            seen += len(chunk)
            if seen > self.most:
                raise httpx2.ReadError(f"a message of more than {self.most} bytes")
            yield chunk

    async def aclose(self) -> None:
        await self.inner.aclose()


@contextlib.asynccontextmanager
async def _stdio(life: _Life) -> AsyncIterator[Any]:
    """Run the server as a child; one message a line, none longer than the limit."""
    cfg = life.connection
    env = {name: os.environ[name] for name in _KEPT_ENV if name in os.environ} | cfg.env
    pipe = asyncio.subprocess.PIPE
    try:
        child = await asyncio.create_subprocess_exec(
            *cfg.command, stdin=pipe, stdout=pipe, stderr=pipe, env=env, limit=cfg.max_message_bytes, start_new_session=True
        )
    except OSError as error:
        raise ServiceError(f"it cannot be started: {error.strerror or error}") from None
    to_us, incoming = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    outgoing, from_us = anyio.create_memory_object_stream[SessionMessage](0)
    tasks = [asyncio.ensure_future(work) for work in (_read(life, child, to_us), _write(child, from_us), _listen(life, child))]
    try:
        yield incoming, outgoing
    finally:
        await _kill(child)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for stream in (to_us, incoming, outgoing, from_us):
            await stream.aclose()


async def _read(life: _Life, child: Any, to_us: Any) -> None:
    noise = 0
    async with to_us:
        while True:
            try:
                line = await child.stdout.readline()
            except ValueError:
                life.said.append(f"it sent a message of more than {life.connection.max_message_bytes} bytes")
                break
            if not line:
                code = await child.wait()
                life.said.append(f"it ended (exit code {code})" if code >= 0 else f"it ended (signal {-code})")
                break
            try:
                message = mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False)
            except ValueError:
                noise += 1
                if noise > MAX_NOISE:
                    life.said.append(f"it wrote more than {MAX_NOISE} lines that are no messages")
                    break
                continue
            await to_us.send(SessionMessage(message))
    life.spoilt = True
    life.over.set()
    life.stop.set()


async def _write(child: Any, from_us: Any) -> None:
    async with from_us:
        async for message in from_us:
            text = message.message.model_dump_json(by_alias=True, exclude_unset=True)
            child.stdin.write(text.encode() + b"\n")
            await child.stdin.drain()


async def _listen(life: _Life, child: Any) -> None:
    while chunk := await child.stderr.read(4_096):
        life.stderr.extend(chunk.decode("utf-8", "replace")[-1_000:].splitlines()[-5:])


async def _kill(child: Any) -> None:
    """Ask the server to end by closing its stdin, then end it and all that it started."""
    with contextlib.suppress(OSError, RuntimeError):
        child.stdin.close()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(0.5 if child.returncode is None else 0.01):
            await child.wait()
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_S):
            await child.wait()
    child._transport.close()  # a pipe that nobody reads to its end stays open otherwise; there is no public way


def _words(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error) if isinstance(error, ServiceError) else f"{type(error).__name__}: {error}".rstrip(": ")


@atexit.register
def _close_all() -> None:
    for connection in list(_OPEN):
        connection.close()
