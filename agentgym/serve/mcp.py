"""`agentgym serve mcp`: an environment's tools as an MCP server, over stdio or streamable HTTP.

A client finds the tools of the environment and, before them, `start_episode`, which returns what a policy would read.
Every call is one turn of the running episode: it is checked, limited, scored and recorded as in any rollout, and its
scores go into the record, never to the client. Over HTTP the address names the episode: clients of `/mcp?episode=a` and
`/mcp?episode=b` do not meet.
"""

import asyncio
import contextlib
import os
import re
import warnings
from collections import OrderedDict
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import gymnasium as gym

from agentgym.dialects import JsonDialect
from agentgym.env import ToolEnv
from agentgym.errors import AgentGymError, ConfigError, MissingExtraError, ServiceError
from agentgym.rollout.groups import check_arguments
from agentgym.rollout.record import to_line
from agentgym.types import JSON, ToolCall, Trajectory

try:
    import mcp_types as types
    from mcp.server.lowlevel import Server
    from mcp.server.stdio import stdio_server
except ImportError as missing:
    raise MissingExtraError("agentgym serve mcp", "mcp", "pip install 'agentic-gym[mcp]'") from missing

START = "start_episode"
_EPISODE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class EpisodeServer:
    """Episodes of one environment, driven by MCP clients."""

    def __init__(
        self,
        env_id: str,
        kwargs: dict[str, Any] | None = None,
        *,
        seed: int = 0,
        out: Path | None = None,
        max_episodes: int = 64,
    ) -> None:
        """Make the first environment, so that bad arguments raise here.

        Args:
            env_id: an environment whose base is a ToolEnv.
            kwargs: arguments of `gym.make`; the dialect is set here.
            seed: the n-th episode of a client is drawn with seed + n, unless it names a task.
            out: file to which every ended episode is appended as a JSON line.
            max_episodes: episodes that are kept at once over HTTP; of those without a call under way the one that was used
                longest ago goes first.

        Raises:
            ConfigError: it is no ToolEnv.
            OSError: `out` cannot be written.
        """
        self.env_id, self.kwargs, self.seed, self.out, self.max_episodes = env_id, dict(kwargs or {}), seed, out, max_episodes
        if out is not None:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.open("a").close()  # said now, not when the first episode is over
        self.kwargs["dialect"] = JsonDialect()
        self.played: list[Trajectory] = []
        """Records of ended episodes, where there is no file for them."""
        self._unwritten: list[str] = []
        self._spare: ToolEnv | None = self._make()
        self.specs = self._spare.specs
        self._episodes: OrderedDict[str, _Episode] = OrderedDict()

    def _make(self) -> ToolEnv:
        check_arguments(self.env_id, self.kwargs)
        env = gym.make(self.env_id, disable_env_checker=True, **self.kwargs).unwrapped
        if not isinstance(env, ToolEnv):
            raise ConfigError(f"{self.env_id} is no agentgym.ToolEnv; it has no tools to serve")
        if any(spec.name == START for spec in env.specs):
            raise ConfigError(f"{self.env_id}: a tool is called {START}, which the server needs for itself")
        return env

    def episode(self, name: str) -> "_Episode":
        """Return a client's episode, made at its first use.

        Raises:
            ConfigError: a name that cannot be used.
            ServiceError: all episodes that are kept are in the middle of a call.
        """
        if name and not _EPISODE.fullmatch(name):
            raise ConfigError(f"episode={name[:80]!r}: at most 64 letters, digits, dots and dashes")
        if name not in self._episodes:
            while len(self._episodes) >= self.max_episodes:
                idle = next((old for old, episode in self._episodes.items() if not episode.lock.locked()), None)
                if idle is None:
                    raise ServiceError(f"{self.max_episodes} episodes are in the middle of a call; try again in a moment")
                self._episodes.pop(idle).close()
            env, self._spare = self._spare or self._make(), None
            self._episodes[name] = _Episode(env, self.seed, self._keep)
        self._episodes.move_to_end(name)
        return self._episodes[name]

    def _keep(self, record: Trajectory) -> None:
        if self.out is None:
            self.played.append(record)
            return
        self._unwritten.append(to_line(record) + "\n")
        whole = self.out.stat().st_size if self.out.exists() else 0
        try:
            with self.out.open("a", encoding="utf-8") as file:
                file.write("".join(self._unwritten))
        except OSError as error:  # no fault of the client's: the records wait
            with contextlib.suppress(OSError):
                os.truncate(self.out, whole)
            n = len(self._unwritten)
            warnings.warn(f"{self.out}: {error.strerror}; {n} episodes wait, and are written with the next that ends", stacklevel=2)
        else:
            self._unwritten.clear()

    def close(self) -> None:
        """Close every episode."""
        while self._episodes:
            self._episodes.popitem()[1].close()

    def server(self) -> "Server[Any]":
        """Return the MCP server."""

        async def list_tools(ctx: Any, params: Any) -> types.ListToolsResult:
            start = types.Tool(name=START, description="Begin an episode: returns the task.", input_schema=_START_SCHEMA)
            theirs = [
                types.Tool(name=spec.name, description=spec.description, input_schema=spec.parameters) for spec in self.specs
            ]
            return types.ListToolsResult(tools=[start, *theirs])

        async def call_tool(ctx: Any, params: Any) -> types.CallToolResult:
            try:
                name = ctx.request.query_params.get("episode", "") if ctx.request is not None else ""
                episode = self.episode(name)
                async with episode.lock:
                    text, fine = await episode.call(params.name, dict(params.arguments or {}))
            except AgentGymError as error:
                text, fine = str(error), False
            return types.CallToolResult(content=[types.TextContent(type="text", text=text)], is_error=not fine)

        return Server("agentgym", version=_version(), instructions=f"Tools of {self.env_id}. Call {START} first.", on_list_tools=list_tools, on_call_tool=call_tool)


_START_SCHEMA: dict[str, JSON] = {
    "type": "object",
    "properties": {"task": {"type": "string", "description": "Id of a task; without it the next one is drawn."}},
    "additionalProperties": False,
}


def _version() -> str:
    try:
        return version("agentic-gym")
    except PackageNotFoundError:
        return "0+unknown"


class _Episode:
    """What one client plays."""

    def __init__(self, env: ToolEnv, seed: int, keep: Callable[[Trajectory], None]) -> None:
        self.env, self.seed, self.keep = env, seed, keep
        self.lock = asyncio.Lock()
        self.n_started = 0

    async def call(self, name: str, arguments: dict[str, JSON]) -> tuple[str, bool]:
        """Run one call; returns what the client reads, and whether it went well."""
        env = self.env
        if name == START:
            self._abandon()
            observation, _ = env.reset(seed=self.seed + self.n_started, options={"task": arguments.get("task")})
            self.n_started += 1
            return observation, True
        if env.ended:
            return f"there is no running episode; call {START}", False
        action = env.dialect.render([ToolCall(name, arguments)])
        try:
            observation, _, terminated, truncated, _ = await env.astep(action)
        except ServiceError as error:
            env.end("service_error", str(error))
            self.keep(env.trajectory)
            return f"the episode is over: {error}", False
        turn = env.trajectory.turns[-1]
        if terminated or truncated:
            self.keep(env.trajectory)
            observation = f"{observation}\nthe episode is over ({env.trajectory.end_reason})".strip()
        return observation, not turn.error_code and all(result.ok for result in turn.results)

    def _abandon(self) -> None:
        """Record an episode that its client leaves unfinished."""
        if self.n_started and not self.env.ended:
            self.env.end("time_limit", "the client began another episode")
            self.keep(self.env.trajectory)

    def close(self) -> None:
        with contextlib.suppress(AgentGymError):
            self._abandon()
        self.env.close()


async def serve_stdio(episodes: EpisodeServer) -> None:
    """Serve one client over stdin and stdout, until it closes them."""
    server = episodes.server()
    try:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())
    finally:
        episodes.close()


def http_app(episodes: EpisodeServer, host: str = "127.0.0.1") -> Any:
    """Return an ASGI application that serves at /mcp. Beyond this machine, put it behind something that asks who is there."""
    return episodes.server().streamable_http_app(host=host)
