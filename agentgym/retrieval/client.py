"""A retriever at the other end of a network: pooled connections, retries, a circuit breaker."""

import functools
import os
import threading
import time
import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

import httpx

from agentgym.errors import ConfigError, ServiceError
from agentgym.retrieval.protocol import Hit
from agentgym.retrieval.wire import JSON_TYPE, MAX_K, MAX_QUERY_CHARS, read_answer, write_request
from agentgym.seeding import stream
from agentgym.types import Passage

_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_CHUNK = 256
"""Queries of one request."""
_REMEMBERED = 8_192
"""Passages that were shown and are kept, for `passage` where the server cannot look one up."""
_MAX_ID_CHARS = 4_000
"""Longest id that is looked up, percent-encoded; no server would read a longer address."""


@dataclass(frozen=True, slots=True)
class ClientConfig:
    """How patient a client is."""

    timeout_s: float = 10.0
    """Longest one attempt may take."""
    deadline_s: float = 30.0
    """Longest one search may take, all attempts and pauses together."""
    max_attempts: int = 6
    backoff_s: float = 0.2
    """Pause before the second attempt; doubles with every further one."""
    max_backoff_s: float = 5.0
    max_connections: int = 32
    breaker_after: int = 3
    """Searches that fail one after the other, each with all its attempts, until the circuit opens."""
    cooldown_s: float = 2.0
    """Seconds for which an open circuit fails searches at once; doubles each time the probe after it fails."""
    max_cooldown_s: float = 60.0

    def __post_init__(self) -> None:
        """Raise ConfigError for values that no request could be made with."""
        for name in ("max_attempts", "max_connections", "breaker_after"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: 1 or more")
        for name in ("timeout_s", "deadline_s", "cooldown_s"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; allowed: more than 0 seconds")


class Breaker:
    """Fails fast while a service is down: closed, open for a while, then one probe decides. Thread-safe."""

    def __init__(self, after: int, cooldown_s: float, max_cooldown_s: float) -> None:
        """Open after `after` failures in a row."""
        self._after, self._first, self._longest = after, cooldown_s, max_cooldown_s
        self._lock = threading.Lock()
        self._failures, self._cooldown_s = 0, cooldown_s
        self._open_until: float | None = None
        self._probing = False
        self.opened = 0
        """How often it opened."""
        self._last = ""

    def enter(self) -> int | None:
        """Admit a search: None for all its attempts, 1 for the single one of a probe. Raises ServiceError while open."""
        with self._lock:
            if self._open_until is None:
                return None
            left = self._open_until - time.monotonic()
            if left > 0 or self._probing:
                raise ServiceError(
                    f"the circuit is open after {self._failures} failed searches, the next try in {max(left, 0):.1f} s; "
                    f"last failure: {self._last}"
                )
            self._probing = True
            return 1

    def success(self) -> None:
        """Close the circuit."""
        with self._lock:
            self._failures, self._open_until, self._probing, self._cooldown_s = 0, None, False, self._first

    def failure(self, what: str, *, probe: bool = False) -> None:
        """Count a failed search; open where there were enough, or where it was the probe.

        One that was admitted before the circuit opened, and fails after, says nothing new.
        """
        with self._lock:
            self._failures, self._last = self._failures + 1, what
            if probe:
                self._cooldown_s, self._probing = min(self._longest, 2 * self._cooldown_s), False
            if probe or (self._open_until is None and self._failures >= self._after):
                self._open_until = time.monotonic() + self._cooldown_s
                self.opened += 1


class RemoteRetriever:
    """Searches through a server that speaks Search-R1's batch JSON, such as `agentgym serve retrieval`.

    A search that no attempt could answer is a ServiceError: the episode is marked and stays out of loss and statistics.
    Threads may share it; copies are the object itself; a pickle opens the same address.
    """

    blocks = True
    """Searches wait on a network: waves of searches run in a thread."""

    def __init__(self, url: str, config: ClientConfig | None = None) -> None:
        """Make a client; nothing is sent yet.

        Args:
            url: "http://HOST:PORT" or the whole address of the search, ".../retrieve".
            config: patience and pooling.

        Raises:
            ConfigError: the URL is none.
        """
        self.url, self._root = _addresses(url)
        self.config = config or ClientConfig()
        self._pid, self._http = os.getpid(), self._connected()
        self.breaker = Breaker(self.config.breaker_after, self.config.cooldown_s, self.config.max_cooldown_s)
        self._seen: OrderedDict[str, Passage] = OrderedDict()
        self._seen_lock = threading.Lock()
        self._searches = 0

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits, best first. Raises ServiceError when no attempt brought a usable answer."""
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch in one request (of 256 queries at most). Raises ServiceError as `search` does."""
        found: list[list[Hit]] = [[] for _ in queries]
        asked = [i for i, query in enumerate(queries) if query.strip()] if k > 0 else []
        for start in range(0, len(asked), _CHUNK):
            part = asked[start : start + _CHUNK]
            body = write_request([queries[i][:MAX_QUERY_CHARS] for i in part], min(k, MAX_K))
            for i, hits in zip(part, self._answered(body, len(part)), strict=True):
                found[i] = hits
        self._remember(found)
        return found

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id: one that was shown, else what the server's /documents says; None where it has none."""
        seen = self._seen.get(doc_id)
        if seen is not None:
            return seen
        if len(_quoted(doc_id)) > _MAX_ID_CHARS:
            return None
        response = self._request("GET", f"{self._root}/documents/{_quoted(doc_id)}", None)
        if response.status_code != 200:
            return None
        try:
            body = response.json()
            return Passage(str(body["id"]), str(body["title"]), str(body["text"]))
        except (ValueError, KeyError, TypeError):
            return None

    def __len__(self) -> int:
        """Return the number of passages as the server's /info says; 0 where it does not."""
        response = self._request("GET", f"{self._root}/info", None)
        try:
            return int(response.json()["passages"])
        except (ValueError, KeyError, TypeError):
            return 0

    def __bool__(self) -> bool:
        """A retriever is true, whatever its server holds."""
        return True

    def close(self) -> None:
        """Close the connections; the next search opens new ones only in a new client."""
        self._http.close()

    def __copy__(self) -> "RemoteRetriever":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "RemoteRetriever":
        return self

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return remote_retriever, (self.url, self.config)

    def _connected(self) -> httpx.Client:
        limits = httpx.Limits(
            max_connections=self.config.max_connections, max_keepalive_connections=self.config.max_connections
        )
        client = httpx.Client(limits=limits, timeout=self.config.timeout_s, headers={"content-type": JSON_TYPE})
        weakref.finalize(self, client.close)  # a client that is dropped leaves no sockets open
        return client

    def _answered(self, body: bytes, n: int) -> list[list[Hit]]:
        response = self._request("POST", self.url, body)
        if response.status_code != 200:
            raise ServiceError(f"{self.url}: HTTP {response.status_code}: {_head(response)}")
        try:
            return read_answer(response.content, n)
        except (ValueError, RecursionError) as error:
            raise ServiceError(f"{self.url}: an answer of unknown shape: {error}") from None

    def _request(self, method: str, url: str, body: bytes | None) -> httpx.Response:
        """Return the first answer that is not worth another try. Raises ServiceError when there was none."""
        if self._pid != os.getpid():  # a fork: on its parent's connections it would take the parent's answers
            self._pid, self._http = os.getpid(), self._connected()
        try:
            probe = self.breaker.enter()
        except ServiceError as error:
            raise ServiceError(f"{self.url}: {error}") from None
        try:
            response = self._attempts(method, url, body, probe or self.config.max_attempts)
        except BaseException as error:
            self.breaker.failure(str(error), probe=probe is not None)
            raise
        self.breaker.success()
        return response

    def _attempts(self, method: str, url: str, body: bytes | None, attempts: int) -> httpx.Response:
        started, failures, cfg = time.monotonic(), [], self.config
        self._searches += 1
        key = ("retrieval-client", self._searches)
        for attempt in range(attempts):
            left = started + cfg.deadline_s - time.monotonic()
            wait_s = min(cfg.max_backoff_s, cfg.backoff_s * 2.0**attempt)
            try:
                response = self._http.request(method, url, content=body, timeout=min(cfg.timeout_s, left))
                if response.status_code not in _RETRIED:
                    return response
                failures.append(f"HTTP {response.status_code}: {_head(response)}")
                wait_s = max(wait_s, _seconds(response.headers.get("retry-after", "")))
            except httpx.HTTPError as error:
                failures.append(f"{type(error).__name__}: {error}".rstrip(": "))
            wait_s *= float(stream(*key, attempt).uniform(0.75, 1.25))
            if attempt + 1 == attempts or time.monotonic() + wait_s - started >= cfg.deadline_s:
                break
            time.sleep(wait_s)
        raise ServiceError(
            f"{url}: no usable answer after {len(failures)} attempts in {time.monotonic() - started:.1f} s: "
            + "; ".join(dict.fromkeys(failures))
        )

    def _remember(self, found: Sequence[Sequence[Hit]]) -> None:
        with self._seen_lock:
            for hits in found:
                for hit in hits:
                    self._seen[hit.passage.id] = hit.passage
                    self._seen.move_to_end(hit.passage.id)
            while len(self._seen) > _REMEMBERED:
                self._seen.popitem(last=False)


def remote_retriever(url: str, config: ClientConfig | None = None) -> RemoteRetriever:
    """Return the client of an address, one per process: environments share its connections and its breaker."""
    return _shared(_addresses(url)[0], config or ClientConfig())


@functools.lru_cache(maxsize=32)
def _shared(url: str, config: ClientConfig) -> RemoteRetriever:
    return RemoteRetriever(url, config)


def is_address(name: object) -> bool:
    """Whether a retriever's name is the address of a server."""
    return isinstance(name, str) and name.startswith(("http://", "https://"))


def _addresses(url: str) -> tuple[str, str]:
    """Return the address of the search, and what /documents and /info are appended to."""
    try:
        urlsplit(url)  # knows a broken IPv6 address, which the next line lets pass
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, TypeError, ValueError):
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(f"retriever={url!r:.80}: allowed: http://HOST:PORT, or the whole address up to /retrieve")
    if parsed.path in ("", "/"):
        parsed = parsed.copy_with(path="/retrieve")
    return str(parsed), str(parsed.copy_with(path=parsed.path.rsplit("/", 1)[0] or "/", query=None)).rstrip("/")


def _quoted(doc_id: str) -> str:
    return quote(doc_id, safe="")


def _head(response: httpx.Response) -> str:
    return " ".join(response.text[:200].split())


def _seconds(value: str) -> float:
    try:
        return max(0.0, float(value))
    except ValueError:
        return 0.0
