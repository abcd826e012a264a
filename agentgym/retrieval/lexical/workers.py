"""Processes that write chunks: plain child processes, so that a script without a main guard may build as well."""

import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, BinaryIO, cast

from agentgym.errors import ServiceError
from agentgym.retrieval.lexical.chunks import ChunkWriter, read_message, write_message

Task = tuple[int, dict[int, tuple[str, str]], bytes]
"""(number, files, payload) of a chunk: see `ChunkWriter.write`."""


class Workers:
    """Writes chunks in this process, or in several children; results come back in any order."""

    def __init__(self, folder: Path, processes: int) -> None:
        """Start nothing yet: small corpora never need a child."""
        self._folder, self._processes = folder, processes
        self._own: ChunkWriter | None = None
        self._threads: list[threading.Thread] = []
        self._children: list[subprocess.Popen[bytes]] = []
        self._tasks: queue.Queue[Task | None] = queue.Queue(1)
        self._results: queue.Queue[tuple[int, Any]] = queue.Queue()
        self._waiting = 0

    def submit(self, task: Task, *, last: bool) -> list[tuple[int, Any]]:
        """Hand over a chunk and return the records that are ready; blocks while every process is busy.

        Raises:
            DataError: a chunk could not be written.
            ServiceError: a process died.
            OSError: the disk is full, or the like.
        """
        if self._processes < 2 or (last and not self._threads):
            self._own = self._own or ChunkWriter(self._folder)
            return [(task[0], self._own.write(*task))]
        if len(self._threads) < self._processes:
            self._start()
        while True:
            try:
                self._tasks.put(task, timeout=0.2)
                break
            except queue.Full:
                self._raise_early()
        self._waiting += 1
        return self._ready(block=False)

    def finish(self) -> list[tuple[int, Any]]:
        """Wait for all chunks and return their records."""
        found = []
        while self._waiting:
            found += self._ready(block=True)
        return found

    def close(self) -> None:
        """End the children; what they have not finished is not there."""
        for child in self._children:
            if child.poll() is None:
                child.kill()
        for _ in self._threads:
            try:
                self._tasks.put_nowait(None)
            except queue.Full:
                break
        for child in self._children:
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    try:
                        pipe.close()
                    except OSError:
                        continue

    def _start(self) -> None:
        child = subprocess.Popen(
            [sys.executable, "-m", "agentgym.retrieval.lexical.chunks", str(self._folder)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self._children.append(child)
        thread = threading.Thread(target=self._feed, args=(child,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _feed(self, child: "subprocess.Popen[bytes]") -> None:
        """Give one child its chunks, one at a time."""
        source, sink = cast(BinaryIO, child.stdout), cast(BinaryIO, child.stdin)
        while (task := self._tasks.get()) is not None:
            try:
                write_message(sink, task)
                answer = read_message(source)
            except (OSError, EOFError, ValueError):
                answer = None
            if answer is None:
                code = child.poll()
                answer = task[0], ServiceError(
                    f"a process of the build died{'' if code is None else f' (exit code {code})'}, perhaps for want of memory; "
                    "finished chunks are kept: run the same command again, with fewer --processes"
                )
                self._results.put(answer)
                return
            self._results.put(answer)

    def _raise_early(self) -> None:
        for _, answer in list(self._results.queue):
            if isinstance(answer, Exception):
                raise answer

    def _ready(self, *, block: bool) -> list[tuple[int, Any]]:
        found = []
        while self._waiting and (block or not self._results.empty()):
            number, answer = self._results.get()
            self._waiting -= 1
            if isinstance(answer, Exception):
                raise answer
            found.append((number, answer))
            block = False
        return found
