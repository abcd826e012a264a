"""Question files -> tasks: public multi-hop and open-domain data sets, and a user's own questions.

The smallest row of an own file is {"question": "…", "answer": "…"} or {"question": "…", "answers": ["…", "…"]};
"id", "aliases", "gold_passages", "hops" and "type" may follow. See `FORMATS` for the public layouts.
"""

import json
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentgym.errors import ConfigError, DataError, suggestion
from agentgym.jsonl import json_type, open_bytes, read_lines, read_objects
from agentgym.task import Task, TaskSource
from agentgym.types import Passage
from agentgym.worlds.question_parquet import parquet_rows
from agentgym.worlds.question_rows import ANSWER_FIELDS, Row, misspelt, row_passages, row_task

FORMATS: dict[str, tuple[tuple[str, ...], ...]] = {
    "auto": (),
    "qa": (("question",), ANSWER_FIELDS),
    "flashrag": (("question",), ("golden_answers",)),
    "hotpotqa": (("question",), ("answer",), ("type",)),
    "2wiki": (("question",), ("answer",), ("evidences",)),
    "musique": (("question",), ("answer",), ("decomposition", "question_decomposition")),
}
"""Format -> groups of fields; a row needs one field of each group. "auto" goes by what each row has."""

SPLIT = "all"


class FileTasks:
    """The tasks of a question file, in the order of the file: a TaskSource with the one split "all".

    It never changes, so all episodes of a process share it; a deep copy is the object itself.
    """

    default_split = "all"

    def __init__(self, tasks: Sequence[Task], name: str) -> None:
        """Take tasks with distinct ids; `name` stands in error messages."""
        self.name = name
        self._tasks = tuple(tasks)
        self._by_id = {task.id: task for task in self._tasks}

    def split(self, name: str = SPLIT) -> Sequence[Task]:
        """Return all tasks. Raises ConfigError for a split other than "all"."""
        if name != SPLIT:
            raise ConfigError(f"split {name!r}: question file {self.name} has no splits; the only name is {SPLIT!r}")
        return self._tasks

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task, uniformly."""
        tasks = self.split(name)
        return tasks[int(rng.integers(len(tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task by id. Raises ConfigError for an unknown id."""
        task = self._by_id.get(task_id)
        if task is None:
            raise ConfigError(
                f"task {task_id!r} is not in question file {self.name} ({len(self)} tasks, the first is "
                f"{self._tasks[0].id!r}){suggestion(task_id, self._by_id)}"
            )
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    def __iter__(self) -> Iterator[Task]:
        return iter(self._tasks)

    def __deepcopy__(self, memo: dict[int, Any]) -> "FileTasks":
        return self


def read_tasks(path: str | Path, format: str = "auto") -> FileTasks:
    """Read a question file: JSON lines or one JSON list, `.gz` included, or parquet (FlashRAG's, Search-R1's).

    Args:
        path: the file.
        format: a key of `FORMATS`; all but "auto" say which fields every row must have.

    Raises:
        ConfigError: unknown format.
        DataError: unreadable file, bad JSON, missing or ill-typed field, an id used twice, no question; each with
            file and line.
    """
    if format not in FORMATS:
        raise ConfigError(f"format {format!r}: use one of {', '.join(FORMATS)}{suggestion(format, FORMATS)}")
    path = Path(path)
    tasks: list[Task] = []
    lines: dict[str, int] = {}
    unread: dict[str, str] = {}
    for line, row in _rows(path):
        where = f"{path}:{line}"
        for name, near in misspelt(row).items():
            unread.setdefault(name, f"{where}: field {name!r} is not read; did you mean {near!r}?")
        for group in FORMATS[format]:
            if not any(name in row for name in group):
                raise DataError(
                    f"{where}: format {format!r} needs the field {' or '.join(map(repr, group))}"
                    f"{suggestion(group[0], row)}; found {', '.join(row) or 'none'}"
                )
        task = row_task(row, where, path.name)
        if task.id in lines:
            raise DataError(
                f"{where}: id {task.id!r} is used already at {path}:{lines[task.id]}; give each question its own id "
                "(a row without one gets a hash of its content, so equal rows collide)"
            )
        lines[task.id] = line
        tasks.append(task)
    if not tasks:
        raise DataError(f'{path}: no questions found; write one JSON object a line: {{"question": "…", "answer": "…"}}')
    for told in unread.values():
        warnings.warn(told, UserWarning)
    return FileTasks(tasks, str(path))


def read_context(path: str | Path) -> list[Passage]:
    """Return the passages that the questions of a file bring along, each once, in the order of the file.

    The original HotpotQA, 2Wiki and MuSiQue files hold such contexts. Passage ids are those of `gold.doc_ids`:
    titles, for MuSiQue title and a hash of the text. Of two texts under one title the first is kept.

    Raises:
        DataError: as `read_tasks`; the file holds no contexts.
    """
    path = Path(path)
    passages: dict[str, Passage] = {}
    for line, row in _rows(path):
        for passage in row_passages(row, f"{path}:{line}"):
            passages.setdefault(passage.id, passage)
    if not passages:
        raise DataError(f"{path}: no contexts found (fields 'context' or 'paragraphs'); give a corpus file instead")
    return list(passages.values())


def _rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (line, row) of JSON lines, of the items of one JSON list, or of a parquet file."""
    if path.suffix == ".parquet":
        return parquet_rows(path)
    with open_bytes(path) as file:
        try:
            head = file.read(256).lstrip(b"\xef\xbb\xbf \t\r\n")
        except (EOFError, OSError):
            head = b""  # reading the lines reports it with its place
    return _list_items(path) if head.startswith(b"[") else read_objects(path)


def _list_items(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield the objects of a JSON list with the line on which each starts."""
    text, starts = _text_and_lines(path)
    decoder, at, line = json.JSONDecoder(), 1, 0
    while True:
        at = _skip_space(text, at)
        while line + 1 < len(starts) and starts[line + 1][0] <= at:
            line += 1
        where = f"{path}:{starts[line][1]}"
        if text[at : at + 1] == "]":
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            raise DataError(f"{where}: not valid JSON in the item that starts here: {error}") from error
        if not isinstance(value, dict):
            raise DataError(f"{where}: a list of JSON objects is needed, found {json_type(value)}")
        yield starts[line][1], value
        at = _skip_space(text, at)
        if text[at : at + 1] == ",":
            at += 1
        elif text[at : at + 1] != "]":
            raise DataError(f"{where}: ',' or ']' is needed after the item that starts here; the file may be cut off")


def _skip_space(text: str, at: int) -> int:
    while text[at : at + 1] in (" ", "\n", "\t", "\r"):
        at += 1
    return at


def _text_and_lines(path: Path) -> tuple[str, list[tuple[int, int]]]:
    """Return the text of a file without blank lines, and (offset, line number) of each line that is left."""
    parts, starts, offset = [], [], 0
    for line, part in read_lines(path):
        parts.append(part)
        starts.append((offset, line))
        offset += len(part) + 1
    return "\n".join(parts), starts


def open_tasks(tasks: Any) -> TaskSource:
    """Return the tasks that a caller names with `tasks=`: a file of them, a list of Task, or a source as it is.

    Raises:
        ConfigError: For anything else, or an empty list.
        DataError: The file cannot be read.
    """
    if isinstance(tasks, str | Path):
        return read_tasks(tasks)
    if isinstance(tasks, TaskSource):
        return tasks
    if isinstance(tasks, Sequence) and all(isinstance(task, Task) for task in tasks):
        return TaskList(tasks)
    raise ConfigError(f"tasks={tasks!r:.80}: give a file of tasks, a list of Task, or a TaskSource")


class TaskList(TaskSource):
    """Tasks that the caller made; every split name gives all of them."""

    default_split = "all"

    def __init__(self, tasks: Sequence[Task]) -> None:
        """Keep the tasks. Raises ConfigError for an empty list or duplicate ids."""
        self._tasks = {t.id: t for t in tasks}
        if not tasks or len(self._tasks) != len(tasks):
            problem = "the list is empty" if not tasks else "two tasks have the same id"
            raise ConfigError(f"tasks=: {problem}; give at least one Task, each with an id of its own")

    def __deepcopy__(self, memo: object) -> "TaskList":
        """Return itself: gymnasium copies keyword arguments."""
        return self

    def split(self, name: str) -> Sequence[Task]:
        """Return all tasks."""
        return tuple(self._tasks.values())

    def sample(self, name: str, rng: np.random.Generator) -> Task:
        """Draw one task."""
        return self.split(name)[int(rng.integers(len(self._tasks)))]

    def by_id(self, task_id: str) -> Task:
        """Return a task by id."""
        if task_id not in self._tasks:
            raise ConfigError(f"no task has the id {task_id!r}; the list holds {len(self._tasks)}")
        return self._tasks[task_id]
