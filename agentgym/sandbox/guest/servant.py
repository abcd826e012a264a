"""Processes of the zygote's that touch a workspace: one serves the other side's file orders, one deletes.

They are forks, so that no name of a file ever comes into the zygote's memory, which later programs inherit. They run
only while the session's programs are dead or stopped, and end before the next one starts.
"""

import os
import socket
from typing import Any

from agentgym.sandbox.guest import frames, workspace


def serve(control: socket.socket, root: str, max_entries: int) -> None:
    """Answer file orders until the other side hangs up. Descriptors go over the line, contents do not."""
    while True:
        message, _ = frames.receive(control)
        if message is None:
            return
        reply: dict[str, Any] = {}
        passed: tuple[int, ...] = ()
        try:
            outcome = _ORDERS[message["do"]](message, root, max_entries)
            if isinstance(outcome, int):
                passed = (outcome,)
            elif outcome is not None:
                reply = outcome
        except workspace.PathError as error:
            reply = {"path_error": str(error)}
        except OSError as error:
            reply = {"path_error": error.strerror or str(error)}
        frames.send(control, reply, passed)
        for fd in passed:
            os.close(fd)


def _open(message: dict[str, Any], root: str, max_entries: int) -> int:
    return workspace.open_file(message["folder"], message["path"], write=message["write"])


def _list(message: dict[str, Any], root: str, max_entries: int) -> dict[str, Any]:
    return {"files": workspace.listing(message["folder"], max_entries)}


def _remove(message: dict[str, Any], root: str, max_entries: int) -> None:
    *above, name = workspace.parts(message["path"])
    where = workspace.folder(message["folder"], above)
    try:
        try:
            os.unlink(name, dir_fd=where)
        except (IsADirectoryError, PermissionError):
            workspace.clear("/".join((message["folder"], *above, name)))
            os.rmdir(name, dir_fd=where)
    finally:
        os.close(where)


def _copy(message: dict[str, Any], root: str, max_entries: int) -> dict[str, Any]:
    """Copy a workspace for a fork of its session."""
    target = f"{root}/{os.urandom(8).hex()}"
    os.mkdir(target, 0o700)
    try:
        workspace.copy(message["folder"], target, max_entries)
    except OSError:
        workspace.clear(target)
        os.rmdir(target)
        raise
    return {"folder": target}


_ORDERS = {"open": _open, "list": _list, "remove": _remove, "copy": _copy}


def clean(folders: list[str]) -> int:
    """Empty folders; return what could not be deleted."""
    return sum(workspace.clear(folder) for folder in folders)
