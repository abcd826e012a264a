"""`Stage`: what attacks are aimed at on the host, and the look at it afterwards."""

import contextlib
import hashlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from agentgym.errors import ServiceError
from agentgym.sandbox.attacks import Attack
from agentgym.sandbox.protocol import ExecResult, Limits


class Stage:
    """Files, sockets and a process of the host that a program must not reach. Use as a context manager."""

    def __init__(self, uid: int | None = None) -> None:
        """Prepare nothing yet. `uid`: whom programs run as on the host, so that the targets are theirs; None = us."""
        self.uid = uid
        self.canary = f"canary{secrets.token_hex(8)}"
        self.mark = f"7{secrets.randbelow(10**6):06d}"
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "Stage":
        """Set everything up before the sandbox starts, so that it could be inherited."""
        self.folder = Path(tempfile.mkdtemp(prefix="agentgym-stage-", dir="/var/tmp" if Path("/var/tmp").is_dir() else None))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)
        self.folder.chmod(0o755)
        self.secret, self.owned, self.outside = (self.folder / name for name in ("secret", "owned", "outside"))
        self.secret.write_text(self.canary)
        self.secret.chmod(0o644)
        self.owned.write_text(self.canary)
        self.owned.chmod(0o600)
        self.outside.mkdir()
        self.outside.chmod(0o777)
        if self.uid is not None and os.getuid() == 0:
            os.chown(self.owned, self.uid, self.uid)
        self._owned_before = self._owned_state()
        self._open_sockets()
        descriptor = os.open(self.secret, os.O_RDONLY)
        os.set_inheritable(descriptor, True)
        self._stack.callback(os.close, descriptor)
        os.environ["AGENTGYM_STAGE_CANARY"] = self.canary
        self._stack.callback(os.environ.pop, "AGENTGYM_STAGE_CANARY", None)
        identity: dict[str, Any] = {"user": self.uid, "group": self.uid, "extra_groups": []} if self.uid is not None and os.getuid() == 0 else {}
        self.victim_mark = f"8{self.mark}"
        self.victim = subprocess.Popen(["/bin/sleep", self.victim_mark], cwd="/", **identity)
        self._stack.callback(self._end_victim)
        self._priority = os.getpriority(os.PRIO_PROCESS, self.victim.pid)
        return self

    def __exit__(self, *exc: object) -> None:
        """Take everything down."""
        self._stack.close()

    def fill(self, program: str, limits: Limits) -> str:
        """Return a program with the names of this stage filled in."""
        names = {
            "secret": self.secret, "owned": self.owned, "outside": self.outside, "port": self.port,
            "abstract": self.abstract, "socket": self.path_socket, "canary": self.canary, "yranac": self.canary[::-1],
            "victim": self.victim.pid, "victim_mark": self.victim_mark, "marker": self.mark, "tag": self.mark,
            "processes": limits.processes, "file_bytes": limits.file_mb << 20, "disk_bytes": limits.disk_mb << 20,
        }  # fmt: skip
        for name, value in names.items():
            program = program.replace(f"{{{name}}}", str(value))
        return program

    def run(self, sandbox: Any, attack: Attack) -> str:
        """Attack; return "" where it was held, else what got through."""
        program = self.fill(attack.program, sandbox.limits)
        try:
            if attack.before:
                sandbox.run(self.fill(attack.before, sandbox.limits), wall_s=attack.wall_s)
            result = sandbox.run(program, wall_s=attack.wall_s)
            after = sandbox.run("6 * 7")
        except ServiceError as error:
            return f"the sandbox was lost: {error}"
        if after.value != "42":
            return f"the sandbox does not work afterwards: {after}"
        return self._judge(attack, result, sandbox.limits) or self._host()

    # ---- within

    def _judge(self, attack: Attack, result: ExecResult, limits: Limits) -> str:
        if "ESCAPED" in result.stdout:
            return result.stdout[-200:].strip()
        if len(result.stdout) > limits.output_bytes:
            return f"{len(result.stdout)} characters of output"
        if attack.ends and result.killed_by not in attack.ends:
            return f"not ended: exit code {result.exit_code}, killed by {result.killed_by!r}: {result.stderr[-100:]}"
        own = hashlib.sha256(Path("/etc/passwd").read_bytes()).hexdigest()
        return "read the host's password file" if f"HASH {own}" in result.stdout else ""

    def _host(self) -> str:
        """Look at the host: whatever changed got through."""
        if self.victim.poll() is not None:
            return "killed a process of the host"
        stopped = Path(f"/proc/{self.victim.pid}/stat").read_text().rpartition(")")[2].split()[0]
        if stopped in "Tt":
            self.victim.send_signal(signal.SIGCONT)
            return "stopped a process of the host"
        if os.getpriority(os.PRIO_PROCESS, self.victim.pid) != self._priority:
            os.setpriority(os.PRIO_PROCESS, self.victim.pid, self._priority)
            return "changed a priority on the host"
        if "Max open files            9 " in Path(f"/proc/{self.victim.pid}/limits").read_text():
            return "changed a limit of a process of the host"
        if self._owned_state() != self._owned_before:
            self._owned_before = self._owned_state()
            return "changed a file of the host"
        if any(self.outside.iterdir()):
            for left in self.outside.iterdir():
                left.unlink()
            return "wrote to the host"
        for listening in (self._tcp, self._unix, self._abstract, self._udp):
            with contextlib.suppress(BlockingIOError):
                if listening is self._udp:
                    listening.recvfrom(16)
                else:
                    listening.accept()[0].close()
                return "reached a socket of the host"
        return self._survivors()

    def _survivors(self) -> str:
        """Look for processes that a program left."""
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    if (entry / "cmdline").read_bytes().split(b"\0")[1:2] == [self.mark.encode()]:
                        os.kill(int(entry.name), signal.SIGKILL)
                        return "left a process on the host"
        return ""

    def _owned_state(self) -> tuple[int, int, int]:
        status = self.owned.stat()
        return (status.st_mode, status.st_mtime_ns, status.st_size)

    def _open_sockets(self) -> None:
        self._tcp, self._udp = socket.socket(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._tcp.bind(("127.0.0.1", 0))
        self.port = self._tcp.getsockname()[1]
        self._udp.bind(("127.0.0.1", self.port))
        self._unix, self._abstract = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
        self.path_socket = self.folder / "socket"
        self._unix.bind(str(self.path_socket))
        self.path_socket.chmod(0o777)
        self.abstract = f"agentgym-{self.canary}"
        self._abstract.bind(f"\0{self.abstract}")
        for listening in (self._tcp, self._unix, self._abstract):
            listening.listen(8)
        for item in (self._tcp, self._udp, self._unix, self._abstract):
            item.setblocking(False)
            self._stack.callback(item.close)

    def _end_victim(self) -> None:
        self.victim.kill()
        self.victim.wait()
