"""A Docker engine for tests: one that answers, or Debian's started here, on a socket and folders of its own.

Starting one needs root and `dockerd` with `containerd` and `runc` on the path, or in the folder that
$AGENTGYM_ENGINE_BIN names (`dpkg -x docker.io_*.deb`, `containerd_*.deb`, `runc_*.deb` are enough; nothing is installed).
Without a registry the base image is made of this machine's own Python.
"""

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BASE = "agentgym-local-base:test"
_FLAGS = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=overlay2")


@contextlib.contextmanager
def engine() -> Iterator[str]:
    """Yield the address of an engine. Raises LookupError with the reason where there is none."""
    address = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    absent = _absent(address)
    if not absent:
        yield address
        return
    folders = os.pathsep.join(filter(None, (os.environ.get("AGENTGYM_ENGINE_BIN"), os.environ.get("PATH"))))
    binary = shutil.which("dockerd", path=folders)
    if binary is None or os.getuid() != 0:
        raise LookupError(f"no Docker engine answers and none can be started here ({absent[:80]})")
    home = Path(tempfile.mkdtemp(prefix="agentgym-engine-"))
    address = f"unix://{home}/docker.sock"
    command = [binary, *_FLAGS, f"--data-root={home}/data", f"--exec-root={home}/exec", f"--pidfile={home}/pid", "-H", address]
    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "PATH": folders}, start_new_session=True)
    try:
        _wait(address, process, home / "log")
        yield address
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        shutil.rmtree(home, ignore_errors=True)


def _absent(address: str) -> str:
    """Return why no engine answers there, "" if one does."""
    import docker

    try:
        with socket.socket(socket.AF_UNIX) as trial:
            trial.connect(address.partition("://")[2])
        client = docker.DockerClient(base_url=address)
    except (docker.errors.DockerException, OSError) as error:
        return str(error) or type(error).__name__
    client.close()
    return ""


def _wait(address: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        if not _absent(address):
            return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise LookupError(f"the engine did not start: {log.read_text()[-300:]}")


def base_image(client: Any, wanted: str) -> str:
    """Return `wanted` where the engine has it, else the name of a base made here."""
    import docker

    try:
        client.images.get(wanted)
        return wanted
    except docker.errors.ImageNotFound:
        client.images.client.api.import_image_from_data(_own_root(), *BASE.split(":"))
        return BASE


def _own_root() -> bytes:
    """A tar of this machine's Python, shell and the libraries they load: enough of a system for a sandbox."""
    python = Path("/usr/bin/python3").resolve()
    library = next(path for path in Path("/usr/lib").glob("python3.*") if python.name in path.name)
    programs = [python, *(Path(shutil.which(name) or "/bin/sh").resolve() for name in ("sh", "sleep", "cat", "ls"))]
    shared: set[Path] = set()
    for binary in (*programs, *library.glob("lib-dynload/*.so")):
        listed = subprocess.run(["ldd", str(binary)], capture_output=True, text=True, check=False).stdout
        shared |= {Path(found) for found in re.findall(r"(/\S+)", listed)}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in ("tmp", "proc", "sys", "dev", "etc", "work"):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(folder)
        for path in sorted(shared):
            tar.add(path.resolve(), arcname=str(path).lstrip("/"))
        for program in programs:
            tar.add(program, arcname=f"usr/bin/{program.name}")
        tar.add(library, arcname=str(library).lstrip("/"), filter=lambda item: None if "__pycache__" in item.name else item)
        links = {"usr/local/bin/python3": f"/usr/bin/{python.name}", "bin/sh": f"/usr/bin/{programs[1].name}"}
        links |= {f"bin/{name}": f"/usr/bin/{name}" for name in ("sleep", "cat", "ls")}
        for name, target in links.items():
            link = tarfile.TarInfo(name)
            link.type, link.linkname = tarfile.SYMTYPE, target
            tar.addfile(link)
    return out.getvalue()
