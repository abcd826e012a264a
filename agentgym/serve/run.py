"""Runs an ASGI application in uvicorn on an address that is taken before anything is loaded."""

import socket
from collections.abc import Callable
from typing import Any

from agentgym.errors import ConfigError, MissingExtraError


def listen(host: str, port: int) -> socket.socket:
    """Return a socket bound to an address; port 0 takes a free one.

    Raises:
        ConfigError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except (OSError, OverflowError) as error:
        bound.close()
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot listen on {host} port {port}: {reason}; choose another with --host, --port (0: any free one)") from None
    return bound


def address(bound: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(app: Any, bound: socket.socket, *, grace_s: int = 10, ready: Callable[[Callable[[], None]], None] | None = None) -> None:
    """Serve until SIGINT or SIGTERM; requests under way are answered for up to `grace_s` seconds.

    `ready` is called before the first request with a function that ends the server.

    Raises:
        MissingExtraError: uvicorn is not installed.
    """
    try:
        import uvicorn
    except ImportError:
        raise MissingExtraError("agentgym serve", "uvicorn", 'pip install "agentic-gym[serve]"') from None
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        backlog=2_048,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=grace_s,
        server_header=False,
        date_header=False,
        lifespan="on",
    )
    server = uvicorn.Server(config)
    if ready is not None:
        ready(lambda: setattr(server, "should_exit", True))
    server.run(sockets=[bound])
