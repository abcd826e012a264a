"""Containers of a Docker engine, one a worker. The engine does memory, processes and disk; the rest is as elsewhere.

Every container is created with fixed, narrow options (`container_options`); none of them can be widened from
outside. The image must be there already: it is never pulled. The host and the container share one Unix socket in
a folder that is mounted, so the engine must run on this machine.
"""

import contextlib
import itertools
import os
import secrets
import shutil
import socket
import threading
from pathlib import Path
from typing import Any

from agentgym.errors import MissingExtraError
from agentgym.sandbox import owners
from agentgym.sandbox.guest.bundle import boot
from agentgym.sandbox.interpreter import Interpreter
from agentgym.sandbox.pool import WarmSandbox, base_config, environment
from agentgym.sandbox.protocol import Limits, SandboxUnavailableError
from agentgym.sandbox.worker import START_S, Launched

IMAGE = "agentgym-sandbox"
BUILD = "docker build -f docker/sandbox.Dockerfile -t agentgym-sandbox docker"
LABEL = "agentgym.owner"
_USUAL = "unix:///var/run/docker.sock"
UID = 61005
_TMP_MB = 8
_HEADROOM = 4
_CONNECT = (
    "import socket,sys;s=socket.socket(socket.AF_UNIX);s.connect('/agentgym/socket');sys.argv=['',str(s.detach())]\n"
)
_numbers = itertools.count(1)
_swept: set[str] = set()


class DockerSandbox(WarmSandbox):
    """Sandboxes by a Docker engine."""

    name = "docker"
    remedy = f"Rebuild the image: {BUILD}"

    def __init__(
        self,
        limits: Limits | None = None,
        *,
        image: str = IMAGE,
        python: str = "/usr/local/bin/python3",
        base_url: str | None = None,
        runtime: str | None = None,
        cpus: float = 1.0,
        **pool: Any,
    ) -> None:
        """Prepare a pool; the engine is asked at the first use.

        Args:
            limits: what sessions and calls may use.
            image: name of the image; it must be on this machine.
            python: the interpreter inside the image.
            base_url: address of the engine, e.g. "unix:///run/docker.sock"; None = $DOCKER_HOST or the usual one.
            runtime: e.g. "runsc" for gVisor, where the engine has it.
            cpus: cores of one container.
            **pool: see `WarmSandbox`.

        Raises:
            MissingExtraError: the docker SDK is not installed.
        """
        try:
            import docker.errors  # noqa: F401 - an optional extra; "docker" alone may be a folder beside
        except ImportError as error:
            raise MissingExtraError("the sandbox 'docker'", "docker", "pip install 'agentic-gym[docker]'") from error
        super().__init__(limits, **pool)
        self.host_uid = UID if os.getuid() == 0 else None
        self._image, self._python, self._base_url, self._runtime, self._cpus = image, python, base_url, runtime, cpus
        self._engine: Any = None
        self._engine_lock = threading.Lock()

    def engine(self) -> Any:
        """Return the SDK's client, made on first use. Raises SandboxUnavailableError where no engine answers."""
        from docker.errors import DockerException

        import docker

        with self._engine_lock:
            if self._engine is None:
                try:
                    _knock(self._base_url or os.environ.get("DOCKER_HOST") or _USUAL)
                    made = docker.DockerClient(base_url=self._base_url) if self._base_url else docker.from_env()
                    made.ping()
                except (DockerException, OSError) as error:
                    raise SandboxUnavailableError(
                        f"no Docker engine answers ({str(error)[:200]}); start one, or name it with base_url= or DOCKER_HOST"
                    ) from error
                self._engine = made
                self._sweep(made)
            return self._engine

    def close(self) -> None:
        """Close every session and worker, and the line to the engine."""
        super().close()
        with self._engine_lock:
            if self._engine is not None:
                self._engine.close()
                self._engine = None

    def check(self) -> None:
        """Ask the engine for the image. Raises SandboxUnavailableError."""
        self._find_image()

    def key(self) -> tuple[Any, ...]:
        """Return the options that decide what a probe finds, the image's identity among them."""
        return (self.name, self._find_image(), self._python, self._base_url, self._runtime)

    def _find_image(self) -> str:
        from docker.errors import ImageNotFound

        try:
            return self.engine().images.get(self._image).id  # never pulled
        except ImageNotFound as error:
            raise SandboxUnavailableError(f"the image {self._image!r} is not on this machine; build it: {BUILD}") from error

    def launch(self, limits: Limits) -> Launched:
        """Create and start a container. Raises SandboxUnavailableError."""
        from docker.errors import DockerException

        image, engine = self._find_image(), self.engine()
        folder = owners.folder() / f"docker-{next(_numbers)}-{secrets.token_hex(8)}"
        folder.mkdir(mode=0o711)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(folder / "socket"))
        (folder / "socket").chmod(0o666)  # the program's user is not ours; the folder's name cannot be guessed
        listening.listen(1)
        listening.settimeout(START_S)
        container = None
        try:
            options = container_options(image, str(folder), limits, self._python, self._runtime, self._cpus)
            container = engine.containers.create(**options)
            container.start()
            control, _ = listening.accept()
            container.reload()
        except (DockerException, OSError) as error:
            said = _said(container) if container is not None else ""
            if container is not None:
                _remove(container)
            shutil.rmtree(folder, ignore_errors=True)
            raise SandboxUnavailableError(f"a container cannot be started ({str(error)[:300]}) {said}".rstrip()) from error
        finally:
            listening.close()

        def end() -> None:
            _remove(container)
            shutil.rmtree(folder, ignore_errors=True)

        config = base_config(limits, root="/work", tmp="/tmp", sized=True, read=["/"], metadata=False)
        return Launched(
            control, end, config,
            pid=container.attrs["State"]["Pid"],
            oom_kills=_oom_counter(container.id),
            errors=lambda: _said(container),
        )  # fmt: skip

    def _sweep(self, engine: Any) -> None:
        """Remove containers of host processes that are dead."""
        for left in engine.containers.list(all=True, filters={"label": LABEL}):
            if not owners.is_live(left.labels.get(LABEL, "")):
                _remove(left)
                self._count("orphans_removed")


def container_options(
    image: str, folder: str, limits: Limits, python: str, runtime: str | None = None, cpus: float = 1.0
) -> dict[str, Any]:
    """Return the keywords of the SDK's `containers.create`; nothing else decides what a container may do."""
    memory = (limits.memory_mb + limits.disk_mb + _TMP_MB + 48) << 20
    tmpfs = f"uid={UID},gid={UID},mode=0700,nosuid,nodev"
    return {
        "image": image,
        "command": [python, "-s", "-S", "-B", "-c", _CONNECT + boot()],
        "user": f"{UID}:{UID}",
        "working_dir": "/work",
        "environment": environment(Interpreter(python, str(Path(python).parent.parent))),
        "network_mode": "none",
        "ipc_mode": "none",
        "read_only": True,
        "privileged": False,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges"],
        "mem_limit": memory,
        "memswap_limit": memory,
        "pids_limit": limits.processes + _HEADROOM,
        "nano_cpus": int(cpus * 10**9),
        "tmpfs": {
            "/work": f"size={limits.disk_mb}m,nr_inodes={4 * limits.files},{tmpfs}",
            "/tmp": f"size={_TMP_MB}m,nr_inodes={4 * limits.files},{tmpfs}",
        },
        "volumes": {folder: {"bind": "/agentgym", "mode": "ro"}},
        "log_config": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        "labels": {LABEL: owners.identity()},
        "hostname": "sandbox",
        "init": False,
        "stdin_open": False,
        "tty": False,
        **({"runtime": runtime} if runtime else {}),
    }


def _remove(container: Any) -> None:
    """Kill and delete a container; one that is already gone is fine, and so is an engine that is."""
    from docker.errors import APIError, DockerException, NotFound

    for _ in range(3):
        try:
            container.remove(force=True, v=True)
            return
        except NotFound:
            return
        except APIError as error:
            if error.status_code != 409:  # 409: somebody else removes it now, or it has just ended
                return
        except (DockerException, OSError):  # a later process sweeps
            return


def _knock(address: str) -> None:
    """Connect once to a local engine; the SDK leaves a socket open where nobody listens. Raises OSError."""
    scheme, _, path = address.partition("://")
    if scheme == "unix":
        with socket.socket(socket.AF_UNIX) as trial:
            trial.settimeout(10.0)
            trial.connect(path)


def _said(container: Any) -> str:
    """Return the end of a container's log; "" where it is gone."""
    from docker.errors import DockerException

    try:
        return container.logs(tail=5).decode("utf-8", "replace")[-300:]
    except (DockerException, OSError):
        return ""


def _oom_counter(container: str) -> Any:
    places = [
        Path(f"/sys/fs/cgroup/memory/docker/{container}/memory.oom_control"),
        Path(f"/sys/fs/cgroup/system.slice/docker-{container}.scope/memory.events"),
        Path(f"/sys/fs/cgroup/docker/{container}/memory.events"),
    ]

    def count() -> int:
        for place in places:
            with contextlib.suppress(OSError, ValueError):
                for line in place.read_text().splitlines():
                    if line.startswith("oom_kill "):
                        return int(line.split()[1])
        return 0

    return count
