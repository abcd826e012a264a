"""Files that are whole or not there: written under a temporary name beside their place, then renamed."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


@contextmanager
def replacing(path: Path) -> Iterator[TextIO]:
    """Give a text file that takes the place of `path` at the end of the block, unless the block fails.

    Folders on the way are made. A kill leaves the old file or the new one, and perhaps a temporary one beside it, which
    `clear_abandoned` takes away.

    Raises:
        OSError: The file cannot be written; names `path`.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            yield file
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OSError(error.errno, error.strerror, str(path)) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_text(path: Path, text: str) -> None:
    """Write a whole text file; raises OSError, with the file's name, where it cannot be written."""
    with replacing(path) as file:
        file.write(text)


def clear_abandoned(folder: Path) -> None:
    """Take away the temporary files in a folder whose writers are gone: a kill left them."""
    for left in folder.glob(".*.tmp"):
        writer = _TEMPORARY.fullmatch(left.name)
        if writer and not _runs(int(writer[1])):
            left.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
