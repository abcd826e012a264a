"""Trajectories on disk: JSON lines that can be re-scored without the environment."""

import json
import os
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from agentgym import schema
from agentgym.atomic import replacing
from agentgym.errors import ConfigError, DataError
from agentgym.jsonl import parse_json, read_lines
from agentgym.types import JSON, Message, Trajectory

SCHEMA_VERSION = 1


class TrajectoryWriter:
    """Appends trajectories to a JSONL file, each line written at once; use it as a context manager."""

    def __init__(self, path: Path) -> None:
        """Open `path` for appending; a half-written last line (a killed run) is cut off first."""
        path.parent.mkdir(parents=True, exist_ok=True)
        cut_partial_line(path)
        self._path, self._file = path, path.open("ab", buffering=0)

    def __enter__(self) -> "TrajectoryWriter":
        """Return itself."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close the file."""
        self._file.close()

    def write(self, trajectory: Trajectory) -> None:
        """Append one trajectory. Raises OSError, with the file's name, where it cannot be written."""
        line = memoryview(f"{to_line(trajectory)}\n".encode())
        try:
            while line:
                line = line[self._file.write(line) :]
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error


def to_line(trajectory: Trajectory) -> str:
    """Return the one JSON line of a trajectory; equal trajectories give equal lines."""
    body = {"schema_version": SCHEMA_VERSION, **schema.to_json(trajectory)}
    return json.dumps(body, separators=(",", ":"), ensure_ascii=True)


def write_trajectories(path: Path, trajectories: Iterable[Trajectory]) -> None:
    """Write a whole file through a temporary name, so that a crash leaves the old one."""
    with replacing(path) as file:
        for trajectory in trajectories:
            file.write(to_line(trajectory) + "\n")


def read_trajectories(path: str | Path) -> Iterator[Trajectory]:
    """Yield the trajectories of a JSONL file (`.gz` too); none of an empty one, where `read_logs` raises.

    A last line without its line end is what a running or killed writer left half-written: it is left out, with a
    UserWarning that names it.

    Raises:
        DataError: A line is no trajectory of this schema version; names file and line.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; give a trajectories.jsonl of a run or evaluation")
    rows = read_lines(path)
    for whole, (number, line) in enumerate(rows):
        try:
            record = _parse(line, f"{path}:{number}")
        except DataError:
            if next(rows, None) is None and not _line_ends(path):
                told = f"{path}:{number}: the last line is cut (its writer was ended, or is still writing); it is left out"
                warnings.warn(f"{told}, {whole} whole trajectories stand before it", UserWarning, stacklevel=2)
                return
            raise
        yield record


def _line_ends(path: Path) -> bool:
    """Whether a file's last line is complete (a packed one always counts as such)."""
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return path.suffix == ".gz" or file.read(1) == b"\n"


def _parse(line: str, where: str) -> Trajectory:
    body = parse_json(line, where)
    version = body.pop("schema_version", None) if isinstance(body, dict) else None
    if version is None:
        raise DataError(
            f"{where}: no trajectory of ours (schema_version is missing); a log of another system is read with its format: "
            "atif, chat, search_r1, trl, verl, … (export --from, credit and audit --format)"
        )
    if version != SCHEMA_VERSION:
        raise DataError(f"{where}: schema_version is {version!r}; this version reads {SCHEMA_VERSION}")
    try:
        return schema.from_json(Trajectory, body, where)
    except (ConfigError, DataError) as error:
        raise DataError(str(error)) from error


def cut_partial_line(path: Path) -> None:
    """Cut a file after its last newline: what a killed writer left half-done."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        tail = min(size, 1 << 16)
        while tail:
            file.seek(size - tail)
            newline = file.read(tail).rfind(b"\n")
            if newline >= 0 or tail == size:
                file.truncate(size - tail + newline + 1)
                return
            tail = min(size, tail * 4)


def to_chat(trajectory: Trajectory) -> dict[str, JSON]:
    """Return a trajectory as chat messages for supervised fine-tuning; gold is left out.

    The last message is the last action, so that every assistant turn can be trained on.
    """
    talk: list[Message] = list(trajectory.prompt)
    for turn in trajectory.turns:
        talk.append(Message.of("assistant", turn.action))
        talk.extend(turn.messages)
    while talk and talk[-1].role != "assistant":
        talk.pop()
    messages = [
        {"role": m.role, "content": m.text} | ({"name": m.name, "tool_call_id": m.call_id} if m.call_id else {})
        for m in talk
    ]
    return {"id": trajectory.id, "messages": messages, "success": trajectory.success, "reward": trajectory.total}


def without_gold(trajectory: Trajectory) -> Trajectory:
    """Return a trajectory for sharing: no gold, no evidence text."""
    bare = {n: replace(s, evidence=()) for n, s in trajectory.scores.items()}
    turns = tuple(
        replace(t, scores={n: replace(s, evidence=()) for n, s in t.scores.items()}) for t in trajectory.turns
    )
    return replace(trajectory, gold=None, scores=bare, turns=turns)
