"""JSON lines from outside: plain or gzip, one object a line, every complaint with file and line."""

import contextlib
import gzip
import io
import json
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from agentgym.errors import DataError
from agentgym.types import JSON


class _Counted(io.RawIOBase):
    """A file that shows every byte it gives to a digest."""

    def __init__(self, file: BinaryIO, digest: Any) -> None:
        self._file, self._digest = file, digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._digest.update(data)
        return len(data)


@contextlib.contextmanager
def open_bytes(path: Path, *, digest: Any = None) -> Iterator[BinaryIO]:
    """Open a file for reading; a name that ends in .gz is unpacked.

    Args:
        path: the file.
        digest: an object whose `update` is given the bytes of the file as they are stored.

    Raises:
        DataError: the file is missing or cannot be opened.
    """
    with contextlib.ExitStack() as stack:
        try:
            file: Any = stack.enter_context(path.open("rb"))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
        if digest is not None:
            file = stack.enter_context(io.BufferedReader(_Counted(file, digest), 1 << 20))
        if path.suffix == ".gz":
            file = stack.enter_context(gzip.GzipFile(fileobj=file))
        yield file


def read_lines(path: Path, *, digest: Any = None) -> Iterator[tuple[int, str]]:
    """Yield (line number from 1, text) of every line that is not blank.

    Raises:
        DataError: unreadable file, broken gzip, bytes that are not UTF-8.
    """
    line = 0
    with open_bytes(path, digest=digest) as file:
        try:
            for line, raw in enumerate(file, start=1):
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
                if text:
                    yield line, text
        except UnicodeDecodeError as error:
            raise DataError(f"{path}:{line}: not UTF-8 ({error.reason} at byte {error.start} of the line)") from error
        except (EOFError, zlib.error, OSError) as error:
            raise DataError(f"{path}: cannot be read past line {line}: {error}") from error


def read_objects(path: Path, *, digest: Any = None) -> Iterator[tuple[int, dict[str, JSON]]]:
    """Yield (line number from 1, object) of every line that is not blank.

    Raises:
        DataError: as `read_lines`; a line that is not JSON, or JSON but no object.
    """
    for line, text in read_lines(path, digest=digest):
        value = parse_json(text, f"{path}:{line}")
        if not isinstance(value, dict):
            raise DataError(f"{path}:{line}: a JSON object is needed, found {json_type(value)}")
        yield line, value


def parse_json(text: str, where: str) -> JSON:
    """Parse one JSON text; `where` starts the message.

    Raises:
        DataError: not JSON, nested too deeply, or with a whole number that is too long.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        near = text[max(error.pos - 20, 0) : error.pos + 20]
        raise DataError(f"{where}: not valid JSON: {error.msg.removesuffix(' at')} at character {error.pos + 1}, near {near!r}") from error
    except RecursionError as error:
        raise DataError(f"{where}: JSON is nested too deeply") from error
    except ValueError as error:  # Python reads no longer whole numbers, since that takes quadratic time
        digits = sys.get_int_max_str_digits()
        raise DataError(f"{where}: holds a whole number of more than {digits} digits; write it as text") from error


def id_text(value: JSON) -> JSON:
    """Return an id as text: files number their rows and passages too, and 7 and "7" are the same there."""
    return str(value) if type(value) is int else value


def json_type(value: JSON) -> str:
    """Return what a JSON value is, in the words of an error message."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")
