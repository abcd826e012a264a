"""`http_tool` against a server on the loopback that misbehaves."""

import asyncio
import json
import os
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from agentgym.errors import ConfigError, ServiceError
from agentgym.tools import Toolbox, ToolContext
from agentgym.tools.http_api import http_tool
from agentgym.types import ToolCall, ToolSpec

SPEC = ToolSpec(
    "city",
    "Facts of a city.",
    {"type": "object", "properties": {"name": {"type": "string"}, "n": {"type": "integer"}}, "required": ["name"]},
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.server.seen.append((self.command, self.path, self.headers.get("authorization"), self._body()))
        kind = self.path.split("?")[0].split("/")[1]
        if kind == "fine":
            self.reply(200, json.dumps({"path": self.path}).encode())
        elif kind == "cookie":
            self.reply(200, json.dumps(self.headers.get("cookie")).encode(), **{"set-cookie": "user=ada"})
        elif kind == "port":
            self.reply(200, str(self.client_address[1]).encode())
        elif kind == "text":
            self.reply(200, b"plain", "text/plain")
        elif kind == "missing":
            self.reply(404, b'{"detail": "no such city"}')
        elif kind == "flaky":
            self.reply(200 if len(self.server.seen) > 2 else 503, b"[1]")
        elif kind == "down":
            self.reply(500, b"")
        elif kind == "broken":
            self.reply(200, b'{"half": ')
        elif kind == "huge":
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for _ in range(2_000):
                self.wfile.write(b"10000\r\n" + b"x" * 65_536 + b"\r\n")
        elif kind == "slow":
            self.send_response(200)
            self.send_header("content-length", "100")
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.02)
        elif kind == "away":
            self.reply(302, b"", location="http://198.51.100.1/secret")
        elif kind == "near":
            self.reply(302, b"", location="/fine/near")
        else:
            self.reply(302, b"", location=self.path)

    do_POST = do_GET  # noqa: N815 (its name is given)

    def _body(self):
        return self.rfile.read(int(self.headers.get("content-length", 0))).decode()

    def reply(self, status, body, kind="application/json", **headers):
        self.send_response(status)
        for key, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        """Stay silent."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *args):
        """A client that hangs up is what some tests are about."""


@pytest.fixture
def server(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.seen = []
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server, path, spec=SPEC, arguments=None, **options):
    item = http_tool(spec, f"http://127.0.0.1:{server.server_port}{path}", **options)
    return asyncio.run(Toolbox([item]).run(ToolCall("city", arguments or {"name": "Oslo"}, "c1"), ToolContext()))


def test_arguments_stay_what_they_are(server, monkeypatch):
    monkeypatch.setenv("CITY_KEY", "k1")
    for name, path in (
        ("Oslo", "/fine/Oslo?n=3"),
        ("../../admin", "/fine/..%2F..%2Fadmin?n=3"),
        ("a?b=c#d&e", "/fine/a%3Fb%3Dc%23d%26e?n=3"),
        ("São\r\nX: y", "/fine/S%C3%A3o%0D%0AX%3A%20y?n=3"),
    ):
        assert ask(server, "/fine/{name}", arguments={"name": name, "n": 3}, key_env="CITY_KEY").data == {"path": path}
    assert server.seen[0][2] == "Bearer k1"
    posted = ask(server, "/fine/{name}", arguments={"name": "Oslo", "n": 3}, method="POST")
    assert (posted.ok, json.loads(server.seen[-1][3])) == (True, {"n": 3})
    assert ask(server, "/text").data == "plain"


def test_a_refusal_is_the_policys_and_a_failure_the_services(server):
    refused = ask(server, "/missing")
    assert (refused.code, "404" in refused.error, "no such city" in refused.error) == ("E_TOOL", True, True)
    server.seen.clear()
    assert ask(server, "/flaky").data == [1]
    for path in ("/down", "/broken"):
        with pytest.raises(ServiceError):
            ask(server, path)
    server.seen.clear()
    with pytest.raises(ServiceError, match="1 attempts"):
        ask(server, "/down", method="POST")
    assert len(server.seen) == 1, "a POST is never sent twice"


def test_long_and_slow_answers_end(server):
    assert "longer than 1000 bytes" in ask(server, "/huge", max_bytes=1_000).error
    with pytest.raises(ServiceError, match="ReadTimeout"):
        ask(server, "/slow", timeout_s=0.1, max_attempts=1)


def test_redirects_stay_with_allowed_hosts(server):
    assert ask(server, "/near").data == {"path": "/fine/near"}
    away = ask(server, "/away")
    assert (away.code, "198.51.100.1" in away.error) == ("E_TOOL", True)
    assert "in circles" in ask(server, "/round").error


def tool_at(server, path):
    box = Toolbox([http_tool(SPEC, f"http://127.0.0.1:{server.server_port}{path}")])
    return lambda: asyncio.run(box.run(ToolCall("city", {"name": "Oslo"}, "c1"), ToolContext())).data


def test_a_cookie_of_one_episode_does_not_reach_the_next(server):
    asked = tool_at(server, "/cookie")
    assert [asked(), asked()] == [None, None]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where there are threads
def test_a_fork_of_the_process_has_connections_of_its_own(server):
    port = tool_at(server, "/port")
    first = port()
    assert port() == first, "the connection is kept"
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.write(writing, str(port()).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    theirs = os.read(reading, 10)
    os.close(reading)
    os.close(writing)
    assert theirs not in (b"", str(first).encode())
    assert port() == first


def test_an_unreachable_service_abstains():
    item = http_tool(SPEC, "http://127.0.0.1:9/{name}", max_attempts=1, timeout_s=1)
    with pytest.raises(ServiceError, match="no usable answer"):
        asyncio.run(Toolbox([item]).run(ToolCall("city", {"name": "x"}), ToolContext()))


@pytest.mark.parametrize(
    "url", ["http://{name}/", "http://a{name}.example/", "ftp://a.example/", "//a.example", "http://u:p@a.example/", "http://a.example/{nam}"]
)
def test_an_address_that_arguments_could_bend_is_refused(url):
    with pytest.raises(ConfigError, match="http tool 'city'"):
        http_tool(SPEC, url)
