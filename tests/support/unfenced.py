"""A program without any sandbox: the control that shows which attacks are real. Runs only those that do no harm."""

import os
import subprocess
import sys
import tempfile
from typing import Any

from agentgym.sandbox.interpreter import find
from agentgym.sandbox.protocol import ExecResult, Limits

HARMLESS = (
    "planted secret", "stat of host files", "links to a secret", "password file", "inherited descriptor", "environment",
    "chmod and utime", "TCP to the host", "UDP to the host", "abstract socket", "socket by path", "renice", "prlimit",
    "list processes", "new namespaces", "daemon", "memfd", "one large file", "privileges",
)  # fmt: skip
"""Attacks that end by themselves and change nothing but the stage."""


class Unfenced:
    """Looks like a sandbox to `Stage`; is a plain subprocess with the host's environment and descriptors."""

    limits = Limits(wall_s=10.0, file_mb=8, disk_mb=16, processes=16)

    def __init__(self, uid: int | None, folder: str) -> None:
        """`uid`: whom to run as, on a root host; `folder`: the working folder."""
        self._uid, self._folder = uid, folder

    def run(self, code: str, **_: Any) -> ExecResult:
        """Run a program."""
        if code == "6 * 7":
            return ExecResult("", "", 0, value="42")
        identity: dict[str, Any] = {"user": self._uid, "group": self._uid, "extra_groups": []} if self._uid else {}
        python = find(everybody=bool(self._uid)).path if self._uid else sys.executable
        with tempfile.TemporaryFile("w+", errors="replace") as out:  # no pipe: a daemon would hold it open
            done = subprocess.run(
                [python, "-I", "-S", "-c", code], stdin=subprocess.DEVNULL, stdout=out, stderr=out, timeout=30, check=False,
                close_fds=False, cwd=self._folder, env={**os.environ, "TMPDIR": self._folder}, **identity,
            )  # fmt: skip
            out.seek(0)
            return ExecResult(out.read(self.limits.output_bytes), "", done.returncode)
