"""One process at a time in an output folder."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from agentgym.atomic import clear_abandoned
from agentgym.errors import ConfigError

try:
    import fcntl
except ImportError:  # Windows: two processes in one folder are not told apart there
    fcntl = None


def lock_folder(path: Path, work: str) -> TextIO | None:
    """Return an open file that nobody else can lock while it is open; a killed process lets go by itself.

    Temporary files that killed writers left in the folder are taken away.

    Args:
        path: The folder; it must be there.
        work: What is done in it, e.g. "training", for the message.

    Raises:
        ConfigError: Another process is at work in the folder.
    """
    if fcntl is None:
        return None
    file = (path / ".lock").open("a")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise ConfigError(f"{path}: another process is {work} there; wait for it, or choose another --out") from None
    except OSError:  # a file system without locks
        return file
    clear_abandoned(path)
    return file


@contextmanager
def locked(path: Path, work: str) -> Iterator[None]:
    """Hold the lock of a folder for a block. Raises ConfigError where another process holds it."""
    file = lock_folder(path, work)
    try:
        yield
    finally:
        if file is not None:
            file.close()
