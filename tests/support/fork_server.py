"""The command line in processes that need not import torch first: a server that has done so forks for every command.

As a program this is the server. One JSON request a line on stdin: {"argv": [...], "out": path, "err": path,
"max_file_bytes": n or null}; the answer is the process id on stdout. {"wait": pid} is answered with the exit code,
negative for a signal. The child runs what the console script runs.
"""

import json
import os
import resource
import signal
import subprocess
import sys
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass
class Command:
    """One command that runs, or ran."""

    server: "ForkServer"
    pid: int
    out: Path
    err: Path
    code: int | None = None

    def running(self) -> bool:
        """Whether it has not ended; a process that nobody waited for yet still counts as running."""
        return self.code is None and Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"

    def signal(self, number: signal.Signals) -> int:
        """Send a signal and return the exit code."""
        os.kill(self.pid, number)
        return self.wait()

    def wait(self) -> int:
        """Return the exit code, as subprocess has it."""
        if self.code is None:
            self.code = self.server.ask({"wait": self.pid})
        return self.code

    @property
    def stdout(self) -> str:
        return self.out.read_text(encoding="utf-8")

    @property
    def stderr(self) -> str:
        return self.err.read_text(encoding="utf-8")


class ForkServer:
    """Starts commands in forks of one process that has imported what training needs."""

    def __init__(self, folder: Path) -> None:
        """Start the server; the commands' outputs are kept in `folder`."""
        self.folder, self._n = folder, 0
        env = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        command = [sys.executable, str(Path(__file__))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)

    def start(self, *argv: str | Path, max_file_bytes: int | None = None) -> Command:
        """Start `agentgym ARGV`; with `max_file_bytes`, longer files cannot be written, as on a full disk."""
        self._n += 1
        out, err = self.folder / f"{self._n}.out", self.folder / f"{self._n}.err"
        for path in (out, err):
            path.touch()
        request = {"argv": list(map(str, argv)), "out": str(out), "err": str(err), "max_file_bytes": max_file_bytes}
        return Command(self, self.ask(request), out, err)

    def run(self, *argv: str | Path, **options: Any) -> Command:
        """Run `agentgym ARGV` to its end."""
        command = self.start(*argv, **options)
        command.wait()
        return command

    def ask(self, request: dict[str, Any]) -> int:
        """Return the server's answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the server is gone"
        return int(answer)

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)
        self._process.stdout.close()


def wait_until(condition: Any, command: Command) -> bool:
    """Poll a condition as fast as possible while a command runs; return whether it held before the end."""
    while not condition():
        if not command.running():
            return False
        time.sleep(0.0005)
    return True


def _serve() -> None:
    import agentgym.learn.run
    import agentgym.policies.hf.tiny
    import agentgym.view
    from agentgym.cli.main import main

    assert agentgym.learn.run
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            code = os.waitstatus_to_exitcode(os.waitpid(request["wait"], 0)[1])
            sys.stdout.write(f"{code}\n")
        else:
            pid = os.fork()
            if not pid:
                _become(request, main)
            sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


def _become(request: dict[str, Any], main: Any) -> None:
    """Run one command in this process and leave."""
    code = 70
    try:
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        if request["max_file_bytes"]:
            resource.setrlimit(resource.RLIMIT_FSIZE, (request["max_file_bytes"],) * 2)
        code = main(request["argv"])
    except SystemExit as left:
        code = left.code
    except BaseException:  # noqa: BLE001 (the process must not go on as a second server)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)


if __name__ == "__main__":
    _serve()
