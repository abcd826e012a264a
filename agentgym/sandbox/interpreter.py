"""Which Python the programs get: one that the sandbox's user can read, with the standard library only."""

import stat
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from agentgym.sandbox.protocol import SandboxUnavailableError

_CANDIDATES = ("/usr/bin/python3", "/usr/local/bin/python3")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python for programs."""

    path: str
    """The executable, links resolved."""
    prefix: str
    """The folder that holds it and its library."""


@cache
def find(given: str | None = None, *, everybody: bool = False) -> Interpreter:
    """Return the first Python (3.9 or newer) that can be used.

    Args:
        given: the only one to try.
        everybody: it must be readable for other users, since programs run as one.

    Raises:
        SandboxUnavailableError: there is none.
    """
    own = str(Path(sys.base_prefix) / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}")
    tried = []
    for candidate in (given,) if given else (*_CANDIDATES, own):
        path = Path(candidate).resolve()
        if not path.is_file():
            tried.append(f"{candidate}: missing")
            continue
        if everybody and not _open_to_all(path):
            tried.append(f"{candidate}: not readable for the sandbox's user")
            continue
        try:
            probe = "import sys;print(sys.version_info>=(3,9),sys.base_prefix)"
            done = subprocess.run([path, "-I", "-S", "-c", probe], capture_output=True, text=True, timeout=20, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            tried.append(f"{candidate}: {error}")
            continue
        fits, _, prefix = done.stdout.strip().partition(" ")
        if fits == "True":
            return Interpreter(str(path), prefix)
        tried.append(f"{candidate}: {done.stderr.strip()[-200:] or 'older than 3.9'}")
    raise SandboxUnavailableError(
        f"no Python for programs ({'; '.join(tried)}); install one with `apt install python3`, or name one with python="
    )


def _open_to_all(path: Path) -> bool:
    """Say whether every user may reach and run a file."""
    for place in (path, *path.parents):
        if not place.stat().st_mode & stat.S_IXOTH:
            return False
    return bool(path.stat().st_mode & stat.S_IROTH)
