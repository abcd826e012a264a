"""`mcp_tools` with real servers: an honest one over stdio and HTTP, and some that die, lie, hang, babble or send far too much."""

import asyncio
import contextlib
import gc
import json
import socket
import subprocess
import sys
import threading
import time
import types
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("mcp")

from mcp.shared.exceptions import MCPError

from agentgym.dialects import ChatDialect, JsonDialect, TagsDialect
from agentgym.errors import ConfigError, ServiceError
from agentgym.tools import Toolbox, ToolContext
from agentgym.tools.mcp import mcp_tools, result_of, spec_of
from agentgym.tools.mcp_connection import McpConnection, _Life
from agentgym.tools.validate import ArgumentsError, validate
from agentgym.toolspec import about, example_arguments, signature
from agentgym.types import ToolCall

SERVERS = str(Path(__file__).parents[2] / "support" / "mcp_servers.py")


def tools(mode, **options):
    options.setdefault("timeout_s", 20)
    return mcp_tools([sys.executable, SERVERS, mode], **options)


def ask(box, name, ctx=None, **arguments):
    return asyncio.run(box.run(ToolCall(name, arguments, "c1"), ctx or ToolContext()))



@pytest.fixture(scope="module")
def good():
    return Toolbox(tools("good", prefix="s"))


@pytest.fixture(scope="module")
def over_http():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = subprocess.Popen([sys.executable, SERVERS, "good-http", str(port)], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            found = mcp_tools(url=f"http://127.0.0.1:{port}/mcp", timeout_s=20, prefix="s")
            break
        except ServiceError:
            time.sleep(0.1)
    yield Toolbox(found)
    server.kill()
    server.wait()


@pytest.mark.parametrize("transport", ["good", "over_http"])
def test_a_real_server(transport, request):
    box = request.getfixturevalue(transport)
    assert list(box.tools) == ["s__add", "s__echo_twice", "s__fail", "s__count", "s__wait", "s__leave", "s__secret"], "all pages"
    assert ask(box, "s__add", a=2, b=40).data == 42
    assert ask(box, "s__echo_twice", text="Ü").data == "Ü\nÜ\n[image]"
    failed = ask(box, "s__fail")
    assert (failed.code, failed.error) == ("E_TOOL", "no such thing")
    assert ask(box, "s__add", a="2", b=40).code == "E_ARGS"
    assert ask(box, "s__add", a=2, b=40, c=1).code == "E_ARGS", "schemas are closed"


def test_what_a_server_says_of_itself_is_untrusted(good):
    add, echo = good.tools["s__add"].spec, good.tools["s__echo_twice"].spec
    assert "<tool_response>" not in add.description
    assert len(echo.description) == 1_001


def test_calls_of_many_episodes_overlap(good):
    async def wave():
        return await asyncio.gather(*(good.run(ToolCall("s__wait", {}), ToolContext()) for _ in range(20)))

    results = asyncio.run(wave())
    assert [(r.ok, r.data) for r in results] == [(True, "20 at once")] * 20, "the server answers none before all are there"


def test_the_environment_of_this_process_stays_here(good, monkeypatch):
    monkeypatch.setenv("AGENTGYM_SECRET", "s3cret")
    assert ask(good, "s__secret").data == "nothing"


def test_a_server_per_episode_keeps_its_own_state():
    box = Toolbox(tools("good", session="episode", only=["count"]))
    one, two = ToolContext(), ToolContext()
    assert [ask(box, "count", one).data, ask(box, "count", one).data, ask(box, "count", two).data] == ["1", "2", "1"]
    for ctx in (one, two):
        ctx.services.close()


def test_a_call_without_answer_does_not_end_the_server_of_the_others():
    box = Toolbox(tools("picky", timeout_s=4, max_restarts=0))
    for _ in range(2):
        with pytest.raises(ServiceError, match="no answer within 4 s"):
            ask(box, "work", x="never")
        assert ask(box, "work", x="now").data == "fine"


def test_a_server_that_ends_is_started_again_a_few_times():
    box = Toolbox(tools("good", only=["leave", "count"], max_restarts=2))
    for _ in range(2):
        assert ask(box, "count").data == "1"
        with pytest.raises(ServiceError, match="exit code 5"):
            ask(box, "leave")
    assert ask(box, "count").data == "1"
    with pytest.raises(ServiceError, match="exit code 5"):
        ask(box, "leave")
    with pytest.raises(ServiceError, match="not started again"):
        ask(box, "count")


@pytest.mark.parametrize(
    ("mode", "says"),
    [
        ("dies", r"exit code 9.*out of coffee"),
        ("hangs", "no answer within 6 s"),
        ("shuts", "no answer within 6 s"),
        ("babbles", "lines that are no messages"),
        ("huge", "more than 4000000 bytes"),
        ("lies", "Invalid structured content"),
    ],
)
def test_a_hostile_server_is_a_fault_of_the_service(mode, says):
    box = Toolbox(tools(mode, timeout_s=6 if mode in ("hangs", "shuts") else 20))
    with pytest.raises(ServiceError, match=says):
        ask(box, "work", x="y")


def test_arguments_that_the_server_refuses_are_the_policys_fault():
    refused = ask(Toolbox(tools("refuses")), "work", x="y")
    assert (refused.code, refused.error) == ("E_TOOL", "x must be a city")


def test_a_server_that_cannot_be_used_is_refused_at_once():
    with pytest.raises(ServiceError, match="unknown type 'strnig'"):
        tools("bad-schema")
    with pytest.raises(ServiceError, match="no greeting within 1 s"):
        tools("mute", timeout_s=1)
    with pytest.raises(ServiceError, match="cannot be started"):
        mcp_tools(["/no/such/server"])
    with pytest.raises(ServiceError):
        mcp_tools(url="http://127.0.0.1:9/mcp", timeout_s=5)
    with pytest.raises(ConfigError, match="give command= as a list"):
        mcp_tools()
    with pytest.raises(ConfigError, match=r"has no tool 'ad'.*did you mean 'add'"):
        tools("good", only=["ad"])


def servers(mode):
    """The command lines of the servers of one kind that run below this process, whichever thread started them."""
    pids = " ".join(path.read_text() for path in Path("/proc/self/task").glob("*/children")).split()
    names = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in pids if Path(f"/proc/{pid}/cmdline").exists()]
    return [name for name in names if f"mcp_servers.py\0{mode}\0".encode() in name]


def test_no_server_stays():
    gc.collect()
    found = tools("good")
    assert servers("good")
    from agentgym.tools import mcp_connection

    for connection in list(mcp_connection._OPEN):
        connection.close()
    del found
    for mode in ("good", "hangs", "mute"):
        assert not servers(mode)


def test_a_server_that_does_not_greet_is_ended():
    with pytest.raises(ServiceError, match="no greeting within 1 s"):
        tools("mute", timeout_s=1)
    assert not servers("mute")


def test_a_call_that_is_given_up_leaves_the_starting_server_to_the_next():
    connection = McpConnection([sys.executable, SERVERS, "picky"], timeout_s=60, max_restarts=0)

    async def given_up_and_again():
        first = asyncio.ensure_future(connection.call("work", {"x": "now"}))
        while not connection.starts:
            await asyncio.sleep(0.001)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        return await connection.call("work", {"x": "now"})

    assert result_of(asyncio.run(given_up_and_again())) == "fine"
    assert len(servers("picky")) == connection.starts == 1
    connection.close()
    assert not servers("picky")


@pytest.mark.parametrize(("code", "lives"), [(-32601, True), (-32603, True), (-32000, False), (-32600, False)])
def test_a_server_that_knows_the_session_no_more_counts_as_gone(code, lives):
    class Client:
        async def list_tools(self):
            raise MCPError(code, "no")

    async def asked():
        life = _Life(McpConnection(["x"]))
        life.client = Client()
        return await life.answers()

    assert asyncio.run(asked()) is lives


class Forgetful(BaseHTTPRequestHandler):
    """A server with sessions, which forgets each at the second call of its tool."""

    protocol_version = "HTTP/1.1"
    sessions: dict = {}  # noqa: RUF012

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        session, method = self.headers.get("mcp-session-id", ""), asked.get("method")
        if method == "initialize":
            session = f"s{len(self.sessions)}"
            self.sessions[session] = 0
            result = {"protocolVersion": asked["params"]["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": {"name": "f", "version": "0"}}
        elif method == "tools/list":
            result = {"tools": [{"name": "work", "inputSchema": {"type": "object", "properties": {}}}]}
        else:
            result = {"content": [{"type": "text", "text": "fine"}]}
        if method == "tools/call":
            self.sessions[session] += 1
        body = {"jsonrpc": "2.0", "id": asked.get("id"), "result": result}
        if self.sessions.get(session, 2) > 1:
            body = {"jsonrpc": "2.0", "id": asked.get("id"), "error": {"code": -32600, "message": "Session not found"}}
        content = json.dumps(body).encode() if "id" in asked else b""
        self.send_response(404 if "error" in body else 200 if content else 202)
        self.send_header("content-type", "application/json")
        self.send_header("mcp-session-id", session)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        self.send_response(405)
        self.send_header("content-length", "0")
        self.end_headers()

    def do_DELETE(self):
        self.do_GET()

    def log_message(self, *args):
        """Stay silent."""


def test_a_session_that_the_server_forgot_is_opened_anew(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(Forgetful) as port:
        box = Toolbox(mcp_tools(url=f"http://127.0.0.1:{port}/mcp", timeout_s=20, protocol="legacy", max_restarts=1))
        assert ask(box, "work").data == "fine"
        with pytest.raises(ServiceError, match="Session not found"):
            ask(box, "work")
        assert ask(box, "work").data == "fine"


class Flood(BaseHTTPRequestHandler):
    """Answers every request with a hundred megabytes, as JSON or as one event."""

    protocol_version = "HTTP/1.1"

    def do_POST(self):
        self.rfile.read(int(self.headers.get("content-length", 0)))
        kind = "application/json" if self.path == "/json" else "text/event-stream"
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        start = b'{"x": "' if self.path == "/json" else b'data: {"x": "'
        for chunk in (start, *(b"y" * 65_536 for _ in range(1_600))):
            self.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")

    def log_message(self, *args):
        """Stay silent."""


class LoopbackServer(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *args):
        """A client that hangs up is what this is about."""


@contextlib.contextmanager
def serving(handler):
    with LoopbackServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("path", ["/json", "/events"])
def test_a_hundred_megabytes_over_http_are_not_taken(path, monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with serving(Flood) as port, pytest.raises(ServiceError):
        mcp_tools(url=f"http://127.0.0.1:{port}{path}", timeout_s=20, max_message_bytes=100_000)


# ---- schemas from outside

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 5), st.text(max_size=3), st.floats(allow_nan=False))
WORDS = st.sampled_from(
    ["type", "properties", "items", "enum", "required", "anyOf", "allOf", "$ref", "$defs", "minLength", "maximum", "additionalProperties",
     "prefixItems", "const", "default", "description", "uniqueItems", "a"]
)  # fmt: skip
KINDS = st.sampled_from(["string", "integer", "object", "array", "null", ["string", "null"], "strnig", "#/$defs/a", "#"])
SCHEMAS = st.recursive(
    st.one_of(SCALARS, KINDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(WORDS, inner, max_size=4)),
    max_leaves=12,
)


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(WORDS, SCHEMAS, max_size=5), st.dictionaries(st.sampled_from(["a", "x", "type"]), SCALARS, max_size=2))
def test_a_schema_that_passes_can_be_told_and_checked(schema, arguments):
    """Whatever a server calls a schema is refused with a reason, or works in prompts, examples and checks."""
    found = types.SimpleNamespace(name="t", description="d", title=None, input_schema={**schema, "type": "object"})
    try:
        spec = spec_of(found, "", "server")
    except ServiceError:
        return
    assert signature(spec)
    assert about(spec)
    example_arguments(spec)
    for dialect in (JsonDialect(), TagsDialect(), ChatDialect()):
        assert dialect.instructions([spec])
    with contextlib.suppress(ArgumentsError):
        validate(arguments, spec)


def test_tools_travel_to_other_processes(good):
    import cloudpickle

    again = cloudpickle.loads(cloudpickle.dumps(good.tools["s__add"]))
    assert ask(Toolbox([again]), "s__add", a=1, b=2).data == 3
