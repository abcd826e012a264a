"""`mcp_tools`: the tools of an MCP server, over stdio or streamable HTTP, as tools of an environment.

What a server says of itself is untrusted: descriptions are escaped and cut, schemas are checked and closed. A call that
the server refuses or that fails in the tool (`isError`) is the policy's to read (E_TOOL). A server that is dead, silent,
lies in its schemas or sends too much is a ServiceError: the episode abstains, the next one starts the server anew.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from agentgym.errors import ConfigError, ServiceError, ToolError, suggestion
from agentgym.sanitize import escape_reserved, sanitize
from agentgym.tools.mcp_connection import McpConnection
from agentgym.tools.schema_check import schema_problem
from agentgym.tools.tool import CONTEXT, Tool, ToolContext
from agentgym.types import JSON, ToolSpec

MAX_DESCRIPTION = 1_000
_NOT_NAME = re.compile(r"[^A-Za-z0-9_-]")


def mcp_tools(
    command: Sequence[str] = (),
    *,
    url: str = "",
    prefix: str = "",
    only: Collection[str] = (),
    session: Literal["shared", "episode"] = "shared",
    env: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 30.0,
    max_message_bytes: int = 4_000_000,
    max_restarts: int = 3,
    protocol: str = "auto",
) -> tuple[Tool, ...]:
    """Return the tools that an MCP server offers.

    Args:
        command: what starts the server, which then speaks over stdin and stdout; or give `url`.
        url: its address, e.g. "http://127.0.0.1:9000/mcp".
        prefix: put before each name with two underscores, so that two servers may share an environment.
        only: names to take; all without it.
        session: "shared": all episodes of this process talk to one server; "episode": each episode starts its own,
            for servers that keep state.
        env: environment variables of the server's process, beside a few harmless ones of this one.
        headers: sent with every request to `url`.
        timeout_s: longest wait for the greeting, or for one answer.
        max_message_bytes: longest message that is taken from the server.
        max_restarts: how often a server that ended is started again, per connection.
        protocol: "auto", "legacy" (initialize handshake) or a protocol version.

    Raises:
        ConfigError: neither or both of `command` and `url`, or a name in `only` that the server does not have.
        MissingExtraError: the package `mcp` is not installed.
        ServiceError: the server cannot be reached, or describes a tool in a way that cannot be used.
    """
    if bool(command) == bool(url) or isinstance(command, str):
        raise ConfigError(f"mcp_tools: give command= as a list of words, or url=; got command={command!r:.80}, url={url!r:.80}")
    if session not in ("shared", "episode"):
        raise ConfigError(f"mcp_tools: session={session!r}; allowed: shared, episode{suggestion(session, ('shared', 'episode'))}")
    options: dict[str, Any] = {"env": env, "headers": headers, "timeout_s": timeout_s, "protocol": protocol}
    options |= {"max_message_bytes": max_message_bytes, "max_restarts": max_restarts}

    def connect() -> McpConnection:
        return McpConnection(command, url, **options)

    first = connect()
    try:
        listed = {found.name: found for found in first.list_tools()}
    except BaseException:
        first.close()
        raise
    if session == "episode":
        first.close()
    for name in only:
        if name not in listed:
            raise ConfigError(f"mcp_tools: {first.name} has no tool {name!r}{suggestion(name, listed)}; it has: {', '.join(listed)}")
    chosen = [found for name, found in listed.items() if not only or name in only]
    key = f"mcp:{first.name}"
    made = tuple(_tool(found, prefix, first, None if session == "shared" else connect, key) for found in chosen)
    names = [item.name for item in made]
    if twice := next((name for name in names if names.count(name) > 1), ""):
        raise ServiceError(f"MCP server {first.name}: two of its tools would be called {twice!r}")
    return made


def _tool(found: Any, prefix: str, shared: McpConnection, connect: Any, key: str) -> Tool:
    spec = spec_of(found, prefix, shared.name)

    async def remote(_context: ToolContext, **arguments: JSON) -> JSON:
        connection = shared if connect is None else _context.opened(key, connect)
        return result_of(await connection.call(found.name, arguments))

    return Tool(spec, remote, context=(CONTEXT,), live=True)


def spec_of(found: Any, prefix: str, server: str) -> ToolSpec:
    """Return a server's tool as a ToolSpec: named plainly, its description escaped and cut, its schema closed.

    Raises:
        ServiceError: the schema cannot be used.
    """
    name = _NOT_NAME.sub("_", f"{prefix}__{found.name}" if prefix else found.name)[:64]
    schema = dict(found.input_schema)
    schema.setdefault("type", "object")
    schema.setdefault("properties", {})
    if problem := schema_problem(schema):
        raise ServiceError(f"MCP server {server}: the tool {found.name[:80]!r} has a schema that cannot be used: {problem}")
    known = {key: item if isinstance(item, dict) else {} for key, item in schema["properties"].items()}
    schema["properties"] = known | {key: {} for key in schema.get("required", ()) if key not in known}
    if not any(word in schema for word in ("additionalProperties", "anyOf", "oneOf", "allOf", "$ref", "patternProperties")):
        schema["additionalProperties"] = False
    text = " ".join(sanitize(found.description or found.title or "").split())
    text = text if len(text) <= MAX_DESCRIPTION else f"{text[:MAX_DESCRIPTION]}…"
    return ToolSpec(name, escape_reserved(text), _described(schema))


def result_of(result: Any) -> JSON:
    """Return the data of a CallToolResult: structured content, or its texts joined.

    Raises:
        ToolError: the result is marked as an error.
    """
    text = "\n".join(_block(block) for block in result.content)
    if result.is_error:
        raise ToolError(text[:500] or "the tool failed")
    if result.structured_content is not None:
        data = result.structured_content
        return data["result"] if isinstance(data, dict) and list(data) == ["result"] else data
    return text


def _block(block: Any) -> str:
    if block.type == "text":
        return block.text
    if block.type == "resource" and getattr(block.resource, "text", None) is not None:
        return block.resource.text
    return f"[{block.type}]"


def _described(value: JSON) -> JSON:
    """Return a schema with its descriptions escaped and cut."""
    if isinstance(value, list):
        return [_described(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: escape_reserved(sanitize(item)[:MAX_DESCRIPTION]) if key in ("description", "title") and isinstance(item, str) else _described(item)
        for key, item in value.items()
    }
