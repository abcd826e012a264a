"""`http_tool`: one request to a web service a call. Where it may go is fixed by its maker, not by the policy."""

import json
import os
import re
import threading
import time
import weakref
from collections.abc import Collection, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any
from urllib.parse import quote

import httpx

from agentgym.errors import ConfigError, ServiceError, ToolError
from agentgym.tools.tool import CONTEXT, Tool, ToolContext
from agentgym.toolspec import properties
from agentgym.types import JSON, ToolSpec

_SLOT = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")
_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
_RETRIED = frozenset({408, 425, 429})
_SAFE = frozenset({"GET", "PUT", "DELETE"})
"""Methods that may be sent again after a failure."""


def http_tool(
    spec: ToolSpec,
    url: str,
    *,
    method: str = "GET",
    allow: Collection[str] = (),
    headers: Mapping[str, str] | None = None,
    key_env: str = "",
    max_bytes: int = 200_000,
    timeout_s: float = 10.0,
    max_attempts: int = 3,
) -> Tool:
    """Return a tool that sends one request a call.

    Arguments named in the URL as `{name}` are put there, percent-encoded, so that they stay one piece of path or query.
    The others go into the query (GET, DELETE) or the JSON body. A refusal by the service (4xx) is the policy's to read;
    no answer, 408, 425, 429 or 5xx after all attempts is a ServiceError: the episode abstains.

    Args:
        spec: what the policy may know.
        url: the address with its slots; scheme and host must be plain text.
        method: GET, POST, PUT, PATCH or DELETE; POST and PATCH are never sent twice.
        allow: hosts that a redirect may lead to, besides the one of `url`; a redirect elsewhere is an error.
        headers: sent with every request.
        key_env: name of the environment variable whose value is sent as bearer token.
        max_bytes: longest answer, unpacked.
        timeout_s: longest one attempt may take, from connecting to the last byte.
        max_attempts: how often a request is tried.

    Raises:
        ConfigError: an address, method or slot that cannot be used, or a key variable that is not set.
    """
    slots = _SLOT.findall(url)
    host = _host(spec, url, slots)
    if method not in _METHODS:
        raise ConfigError(f"http tool {spec.name!r}: method={method!r}; allowed: {', '.join(_METHODS)}")
    sent = dict(headers or {})
    if key_env:
        if not os.environ.get(key_env):
            raise ConfigError(f"http tool {spec.name!r}: key_env names ${key_env}, which is not set; export it first")
        sent["authorization"] = f"Bearer {os.environ[key_env]}"
    service = _Service(frozenset({host, *allow}), sent, max_bytes, timeout_s)

    def request(_context: ToolContext, **arguments: JSON) -> JSON:
        left = dict(arguments)
        filled = _SLOT.sub(lambda m: quote(_text(left.pop(m[1], "")), safe=""), url)
        carried: dict[str, Any] = {}
        if left and method in ("GET", "DELETE"):
            carried["params"] = {key: _text(value) for key, value in left.items()}
        elif left:
            carried["json"] = left
        return service.ask(method, filled, carried, max_attempts if method in _SAFE else 1)

    return Tool(spec, request, context=(CONTEXT,), slow=True, live=spec.mutates)


class _Service:
    """A client that keeps its connections, and what it may do. Threads may share it."""

    def __init__(self, hosts: frozenset[str], headers: dict[str, str], max_bytes: int, timeout_s: float) -> None:
        self.hosts, self.headers, self.max_bytes, self.timeout_s = hosts, headers, max_bytes, timeout_s
        self._client: httpx.Client | None = None
        self._pid = 0
        self._lock = threading.Lock()

    def __reduce__(self) -> Any:
        """Another process opens connections of its own."""
        return _Service, (self.hosts, self.headers, self.max_bytes, self.timeout_s)

    def ask(self, method: str, url: str, carried: dict[str, Any], attempts: int) -> JSON:
        problem = ""
        for attempt in range(attempts):
            if attempt:
                time.sleep(min(2.0, 0.1 * 2**attempt))
            try:
                status, kind, body = self._once(method, url, carried)
            except (httpx.TransportError, httpx.DecodingError) as error:
                problem = f"{type(error).__name__}: {error}".rstrip(": ")
                continue
            if status in _RETRIED or status >= 500:
                problem = f"HTTP {status}"
                continue
            return _answer(status, kind, body)
        raise ServiceError(f"{_public(url)}: no usable answer in {attempts} attempts: {problem}")

    def _once(self, method: str, url: str, carried: dict[str, Any]) -> tuple[int, str, bytes]:
        end = time.monotonic() + self.timeout_s
        client, target = self._open(), url
        for _ in range(5):
            with client.stream(method, target, timeout=self.timeout_s, **carried) as response:
                following = response.next_request
                if following is not None:
                    if following.url.host not in self.hosts or following.method != method:
                        raise ToolError(f"the service sends elsewhere ({following.url.host}), which is not allowed")
                    target, carried = str(following.url), {key: v for key, v in carried.items() if key == "json"}
                    continue
                body = bytearray()
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > self.max_bytes:
                        raise ToolError(f"the answer is longer than {self.max_bytes} bytes; ask for less")
                    if time.monotonic() > end:
                        raise httpx.ReadTimeout(f"no complete answer within {self.timeout_s:g} s")
                return response.status_code, response.headers.get("content-type", ""), bytes(body)
        raise ToolError("the service redirects in circles")

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None or self._pid != os.getpid():  # a fork must not speak on its parent's connections
                self._pid = os.getpid()
                none = CookieJar(DefaultCookiePolicy(allowed_domains=()))  # a cookie would tie episodes to each other
                self._client = httpx.Client(headers=self.headers, cookies=none, follow_redirects=False)
                weakref.finalize(self, self._client.close)
            return self._client


def _host(spec: ToolSpec, url: str, slots: list[str]) -> str:
    """Return the host of an address. Raises ConfigError where a slot could change it, or has no parameter."""
    authority = re.match(r"https?://([^/?#]*)", url)
    if not authority or not authority[1] or "{" in authority[1] or "@" in authority[1]:
        raise ConfigError(f"http tool {spec.name!r}: url={url!r}; write http(s)://HOST/… with a plain host")
    for slot in slots:
        if slot not in properties(spec):
            raise ConfigError(f"http tool {spec.name!r}: the url has {{{slot}}}, which is no parameter; parameters: {', '.join(properties(spec))}")
    return httpx.URL(f"http://{authority[1]}").host


def _answer(status: int, kind: str, body: bytes) -> JSON:
    text = body.decode("utf-8", "replace")
    if not 200 <= status < 300:
        raise ToolError(f"the service says {status}: {' '.join(text[:300].split())}")
    if "json" not in kind:
        return text
    try:
        return json.loads(text) if text.strip() else None
    except (ValueError, RecursionError):
        raise ServiceError(f"an answer that calls itself JSON and is not: {text[:80]!r}") from None


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _public(url: str) -> str:
    return str(httpx.URL(url).copy_with(query=None))
