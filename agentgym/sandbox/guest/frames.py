"""Messages over a Unix socket: four bytes of length, JSON, and file descriptors beside it. Both sides use this."""

import array
import json
import socket
import struct
from typing import Any

MAX_FRAME = 16 << 20
_HEAD = struct.Struct("!I")


class FrameError(Exception):
    """What came over the socket is no message."""


def send(sock: socket.socket, message: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
    """Send one message, with copies of `fds`. Raises OSError, FrameError for one that is too long."""
    body = json.dumps(message).encode("ascii")
    if len(body) > MAX_FRAME:
        raise FrameError(f"a message of {len(body)} bytes is longer than {MAX_FRAME}")
    data = _HEAD.pack(len(body)) + body
    rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
    sent = sock.sendmsg([data], rights)
    if sent < len(data):
        sock.sendall(data[sent:])


def receive(sock: socket.socket, max_fds: int = 0, max_bytes: int = MAX_FRAME) -> tuple[dict[str, Any] | None, list[int]]:
    """Receive one message and its descriptors (close-on-exec); None at the end of the stream.

    Descriptors beyond `max_fds` are dropped by the kernel.

    Raises:
        FrameError: too long, cut off, or not a JSON object.
        OSError: of the socket, a time-out included.
    """
    fds: list[int] = []
    head = b""
    while len(head) < _HEAD.size:
        part, got = _part(sock, _HEAD.size - len(head), max_fds)
        fds += got
        if not part:
            if head:
                raise FrameError("the stream ended inside a message")
            return None, fds
        head += part
    size = _HEAD.unpack(head)[0]
    if size > max_bytes:
        raise FrameError(f"a message of {size} bytes is longer than {max_bytes}")
    body = bytearray()
    while len(body) < size:
        part = sock.recv(min(size - len(body), 1 << 18))
        if not part:
            raise FrameError("the stream ended inside a message")
        body += part
    try:
        message = json.loads(bytes(body))
    except (ValueError, RecursionError) as error:
        raise FrameError(f"a message is not JSON: {type(error).__name__}") from error
    if not isinstance(message, dict):
        raise FrameError("a message is not a JSON object")
    return message, fds


def _part(sock: socket.socket, size: int, max_fds: int) -> tuple[bytes, list[int]]:
    if not max_fds:
        return sock.recv(size), []
    space = socket.CMSG_SPACE(max_fds * 4)
    part, extra, _, _ = sock.recvmsg(size, space, socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, payload in extra:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return part, list(fds)
