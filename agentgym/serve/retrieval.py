"""A retriever as a service: one /retrieve for three dialects, /documents, /info, /health, /ready, /metrics."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

from agentgym.errors import AgentGymError, ConfigError, MissingExtraError
from agentgym.retrieval import Retriever
from agentgym.retrieval.wire import JSON_TYPE, MSGPACK_TYPE, WireError, dump, read_request, write_answer
from agentgym.serve.batching import MicroBatcher, OverloadedError
from agentgym.serve.metrics import Metrics
from agentgym.types import JSON

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
except ImportError as error:
    raise MissingExtraError("agentgym serve", error.name or "starlette", 'pip install "agentic-gym[serve]"') from None

LOG = logging.getLogger("agentgym.serve")


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """How a retrieval server behaves under load."""

    topk: int = 3
    """Passages a query where the client does not say."""
    threads: int = 1
    """Searches at once; kernels that release the GIL make use of more."""
    max_batch: int = 64
    """Queries of one search."""
    max_queue: int = 2_048
    """Queries that may wait; a request that finds more is answered 503 with Retry-After."""
    deadline_s: float = 10.0
    """A request that waited longer is answered 503."""
    max_body_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        """Raise ConfigError for values out of range."""
        for name, low in (("topk", 1), ("threads", 1), ("max_batch", 1), ("max_queue", 1), ("max_body_bytes", 1_024)):
            if getattr(self, name) < low:
                raise ConfigError(f"serve.{name} is {getattr(self, name)}; allowed: {low} or more")
        if not self.deadline_s > 0:
            raise ConfigError(f"serve.deadline_s is {self.deadline_s}; allowed: more than 0 seconds")


class RetrievalServer:
    """The ASGI application (`app`) over a retriever that loads after the port has opened."""

    def __init__(self, load: Callable[[], Retriever], config: ServeConfig | None = None, *, name: str = "") -> None:
        """Take what opens the retriever, now and at each reload; `name` stands in /info."""
        self._load, self.config, self.name = load, config or ServeConfig(), name
        self.on_failed_start: Callable[[], None] = lambda: None
        """Called where the very first load fails."""
        self.metrics = Metrics()
        cfg = self.config
        self.batcher = MicroBatcher(
            self.metrics, threads=cfg.threads, max_batch=cfg.max_batch, max_queue=cfg.max_queue, deadline_s=cfg.deadline_s
        )
        self.metrics.gauge("waiting_queries", lambda: self.batcher.waiting)
        self.metrics.gauge("passages", lambda: self._size)
        self._size, self._loads, self._reloading = 0, 0, asyncio.Lock()
        self.problem = ""
        """Why the last load failed; empty where it did not."""
        self.app = Starlette(
            routes=[
                Route("/retrieve", _Retrieve(self)),
                Route("/documents/{doc_id:path}", self._document),
                Route("/info", self._info),
                Route("/health", self._health),
                Route("/ready", self._ready),
                Route("/metrics", self._metrics),
            ],
            lifespan=self._lifespan,
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, app: Any) -> AsyncIterator[None]:
        loop = asyncio.get_running_loop()
        loading = loop.create_task(self.reload())
        tasks = {loading}
        if hasattr(signal, "SIGHUP"):
            with contextlib.suppress(ValueError, RuntimeError, NotImplementedError):  # not the main thread
                loop.add_signal_handler(signal.SIGHUP, lambda: tasks.add(loop.create_task(self.reload())))
        yield
        for task in tasks:
            task.cancel()
        await self.batcher.close()

    @property
    def never_loaded(self) -> bool:
        """Whether no load has succeeded."""
        return not self._loads

    async def reload(self) -> bool:
        """Open the index anew and put it in the place of the old one, which answers until then and if that fails."""
        async with self._reloading:
            started = time.monotonic()
            try:
                fresh, size = await asyncio.to_thread(self._opened)
            except Exception as error:  # noqa: BLE001 (a server lives on; it says what is wrong)
                self.problem = f"{type(error).__name__}: {error}"
                self.metrics.count("reloads_total", 'outcome="failed"')
                kept = "; the index loaded before goes on answering" if self.batcher.retriever is not None else ""
                LOG.error("the index cannot be opened%s: %s", kept, self.problem)
                if not self._loads:
                    self.on_failed_start()
                return False
            self.batcher.retriever, self._size, self.problem = fresh, size, ""
            self._loads += 1
            self.metrics.count("reloads_total", 'outcome="done"')
            LOG.info("%s passages ready in %.1f s", f"{size:,}", time.monotonic() - started)
            return True

    def _opened(self) -> tuple[Retriever, int]:
        fresh = self._load()
        fresh.search("warm up", 1)  # kernels compile and pages load before the first client waits for them
        return fresh, len(fresh)

    async def retrieve(self, body: bytes) -> tuple[int, bytes, str, dict[str, str]]:
        """Answer one request: (status, body, content type, further headers)."""
        started, dialect, extra = time.monotonic(), "unknown", {}
        kind = JSON_TYPE
        try:
            request = read_request(body, self.config.topk)
            dialect = request.dialect
            self._check_ready()
            results = await self.batcher.search(request.queries, request.k)
            status, content = 200, write_answer(request, results)
            kind = MSGPACK_TYPE if request.packed else JSON_TYPE
            self.metrics.count("queries_total", by=len(request.queries))
        except WireError as error:
            status, content = error.status, dump({"detail": str(error)})
        except OverloadedError as error:
            self.metrics.count("rejected_total")
            extra = {"retry-after": str(error.retry_after_s)}
            status, content = 503, dump({"detail": str(error)})
        except AgentGymError as error:
            status, content = 502, dump({"detail": str(error)})
        except Exception as error:
            LOG.exception("a search failed")
            status, content = 500, dump({"detail": f"{type(error).__name__}: {error}"})
        self.metrics.observe("request_seconds", time.monotonic() - started)
        self.metrics.count("requests_total", f'dialect="{dialect}",status="{status}"')
        return status, content, kind, extra

    def _check_ready(self) -> None:
        if self.batcher.retriever is None:
            raise OverloadedError(f"the index cannot be opened: {self.problem}" if self.problem else "the index is still loading", 2)

    async def _document(self, request: Request) -> Response:
        retriever = self.batcher.retriever
        if retriever is None:
            return _json(503, {"detail": "the index is not loaded"}, {"retry-after": "2"})
        found = await asyncio.to_thread(retriever.passage, request.path_params["doc_id"])
        if found is None:
            return _json(404, {"detail": f"no passage has the id {request.path_params['doc_id'][:200]!r}"})
        return _json(200, {"id": found.id, "title": found.title, "text": found.text})

    async def _info(self, request: Request) -> Response:
        described: dict[str, JSON] = {"index": self.name, "passages": self._size, "loads": self._loads}
        described |= {"topk": self.config.topk, "dialects": ["search-r1", "skyrl", "gem"]}
        if self.problem:
            described["problem"] = self.problem
        return _json(200, described)

    async def _health(self, request: Request) -> Response:
        return _json(200, {"status": "ok"})

    async def _ready(self, request: Request) -> Response:
        if self.batcher.retriever is not None:
            return _json(200, {"status": "ready", "passages": self._size})
        return _json(503, {"status": "failed" if self.problem else "loading", "problem": self.problem}, {"retry-after": "2"})

    async def _metrics(self, request: Request) -> Response:
        return Response(self.metrics.text(), media_type="text/plain; version=0.0.4")


class _Retrieve:
    """The busy address as a bare ASGI application: no request object, no middleware."""

    def __init__(self, server: RetrievalServer) -> None:
        self._server = server

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "POST":
            answer = 405, dump({"detail": "send a POST"}), JSON_TYPE, {"allow": "POST"}
        else:
            body = await _body(receive, self._server.config.max_body_bytes)
            if body is None:
                answer = 413, dump({"detail": f"the body is longer than {self._server.config.max_body_bytes:,} bytes"}), JSON_TYPE, {"connection": "close"}
            else:
                answer = await self._server.retrieve(body)
        status, content, kind, extra = answer
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(content)).encode())]
        headers += [(name.encode(), value.encode()) for name, value in extra.items()]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


async def _body(receive: Any, limit: int) -> bytes | None:
    """Return the request's body; None where it is longer than `limit` bytes or its client went away."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            return None
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def _json(status: int, value: JSON, headers: dict[str, str] | None = None) -> Response:
    return Response(dump(value), status, headers, JSON_TYPE)
