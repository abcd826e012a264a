"""One chunk of a build: raw units of a source become parts (one tile each) in a folder that appears whole."""

import json
import os
import pickle
import shutil
import sys
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from agentgym.errors import AgentGymError, DataError
from agentgym.retrieval.formats import FORMATS
from agentgym.retrieval.lexical.layout import TILE
from agentgym.retrieval.lexical.parts import write_part
from agentgym.retrieval.lexical.tokens import TermMemo
from agentgym.types import Passage

CHUNK_UNITS = TILE
CHUNK_BYTES = 48 << 20
"""Raw bytes of a chunk, about: what bounds the memory of a process beside single large passages."""
TILE_BYTES = 96 << 20
"""Characters of a part: a tile is closed early where passages are long."""
DONE = "chunk.json"


class ChunkWriter:
    """Turns chunks into parts; keeps what it learnt of words from one to the next."""

    def __init__(self, folder: Path) -> None:
        """Write below a folder."""
        self._folder, self._memo = folder, TermMemo()

    def write(self, number: int, files: dict[int, tuple[str, str]], payload: bytes) -> dict[str, Any]:
        """Write the parts of one chunk and return what its `chunk.json` says.

        Args:
            number: of the chunk.
            files: number of a source -> (format, path).
            payload: pickled list of (number of the source, place, unit).

        Raises:
            DataError: a unit that is no passage, with file and place.
        """
        out = self._folder / chunk_name(number)
        # A child whose parent was killed may still write: its folder has another name.
        work = out.with_name(f"{out.name}.{os.getpid()}.partial")
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir()
        places: list[tuple[int, int]] = []
        parts: list[dict[str, int]] = []
        passages: Counter[int] = Counter()
        stream = _passages(files, payload, places)
        while True:
            tile = list(_tile(stream))
            if not tile:
                break
            part = work / f"part-{len(parts):03}"
            part.mkdir()
            counts = write_part(tile, part, self._memo)
            np.save(part / "places.npy", np.array(places, np.int64))
            passages.update(owner for owner, _ in places)
            places.clear()
            parts.append(counts)
        record = {"checksum": checksum(files, payload), "parts": parts, "passages": sorted(passages.items())}
        (work / DONE).write_text(json.dumps(record), encoding="utf-8")
        shutil.rmtree(out, ignore_errors=True)
        try:
            work.rename(out)
        except OSError:
            if read_chunk(self._folder, number, files, payload) is None:
                raise
            shutil.rmtree(work, ignore_errors=True)  # such a child was faster, with the same bytes
        return record


def checksum(files: dict[int, tuple[str, str]], payload: bytes) -> str:
    """Return what tells whether a chunk is made of the same bytes in the same formats."""
    return f"{zlib.crc32(payload):08x}-{len(payload)}-{'-'.join(kind for kind, _ in files.values())}"


def chunk_name(number: int) -> str:
    """Return the folder name of a chunk."""
    return f"chunk-{number:06}"


def read_chunk(folder: Path, number: int, files: dict[int, tuple[str, str]], payload: bytes) -> dict[str, Any] | None:
    """Return the record of a chunk that an earlier build finished from the same bytes, or None."""
    try:
        record = json.loads((folder / chunk_name(number) / DONE).read_text(encoding="utf-8"))
        return record if record["checksum"] == checksum(files, payload) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _passages(files: dict[int, tuple[str, str]], payload: bytes, places: list[tuple[int, int]]) -> Iterator[Passage]:
    for owner, place, unit in pickle.loads(payload):
        kind, path = files[owner]
        for passage in FORMATS[kind].passages(unit, f"{path}:{place}"):
            try:
                f"{passage.id}{passage.title}{passage.text}".encode()
            except UnicodeEncodeError:
                raise DataError(f"{path}:{place}: passage {passage.id!a:.60} holds half of a surrogate pair") from None
            places.append((owner, place))
            yield passage


def _tile(stream: Iterator[Passage]) -> Iterator[Passage]:
    """Yield as many passages as one part takes."""
    size = 0
    for n, passage in enumerate(stream, start=1):
        yield passage
        size += len(passage.text)
        if n == TILE or size >= TILE_BYTES:
            return


def read_message(file: BinaryIO) -> Any:
    """Read one pickled message with its length before it; None at the end of the stream."""
    head = file.read(8)
    if len(head) < 8:
        return None
    body = file.read(int.from_bytes(head, "little"))
    return pickle.loads(body)


def write_message(file: BinaryIO, message: Any) -> None:
    """Write one message and flush."""
    body = pickle.dumps(message, 5)
    file.write(len(body).to_bytes(8, "little") + body)
    file.flush()


def serve(folder: Path, source: BinaryIO, sink: BinaryIO) -> None:
    """Write chunks for a parent process until it closes the stream."""
    writer = ChunkWriter(folder)
    while (task := read_message(source)) is not None:
        try:
            answer: Any = writer.write(*task)
        except (AgentGymError, OSError) as error:
            answer = error if isinstance(error, OSError) else DataError(str(error))
        try:
            write_message(sink, (task[0], answer))
        except BrokenPipeError:  # the parent is gone; the chunk is finished and waits for the next build
            return


if __name__ == "__main__":
    output = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not get between the messages
    serve(Path(sys.argv[1]), sys.stdin.buffer, output)
