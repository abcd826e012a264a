"""Logs of any registered format: read them, join them with gold, score them again, count what cannot be scored.

    suite = build_suite("answer_em")
    scored = score_logs(read_logs("run.jsonl", "search_r1"), suite)
    print(scored.to_json())

A record that lacks what the reward needs is never scored 0: it abstains, with a reason, and is counted.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from math import fsum
from pathlib import Path
from typing import Any

from agentgym import hooks, schema
from agentgym.errors import ConfigError, DataError
from agentgym.rewards import Suite
from agentgym.rewards.component import Scorer
from agentgym.rewards.declared import offered
from agentgym.task import Gold, Task
from agentgym.types import JSON, Trajectory

OWN = "agentgym"
"""Format of our own records."""
EVENTS = "events"
"""Key of `Trajectory.info`: the kinds of events that a log of others can hold; absent: all that a reward needs."""


@dataclass(frozen=True, slots=True)
class Abstention:
    """A record without a score."""

    id: str
    reason: str
    """What was missing, in words that records with the same lack share."""


@dataclass(frozen=True, slots=True)
class LogScores:
    """Records scored again, and those that could not be."""

    reward: str
    records: tuple[Trajectory, ...]
    """In the order of the log, without those that abstained."""
    abstained: tuple[Abstention, ...]

    @property
    def reasons(self) -> dict[str, int]:
        """Why records abstained, and how many did."""
        return dict(Counter(a.reason for a in self.abstained).most_common())

    def means(self) -> dict[str, float]:
        """Return the means over the scored records: success, total, and every component's raw value.

        A turn component counts with its sum over the turns of an episode.
        """
        rows: dict[str, list[float]] = {}
        for record in self.records:
            row = {"success": float(record.success), "total": record.total}
            for turn in record.turns:
                for name, score in turn.scores.items():
                    row[name] = row.get(name, 0.0) + (score.raw or 0.0)
            # What was paid at the end for turns has their sum there.
            row |= {name: score.raw or 0.0 for name, score in record.scores.items()}
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
        return {name: fsum(values) / len(self.records) for name, values in rows.items()}

    def to_json(self) -> dict[str, JSON]:
        """Return counts, reasons and means as plain JSON."""
        return {
            "reward": self.reward,
            "records": len(self.records) + len(self.abstained),
            "scored": len(self.records),
            "abstained": len(self.abstained),
            "reasons": self.reasons,
            "means": self.means(),
        }


def read_logs(path: str | Path, format: str = "agentgym", **options: Any) -> Iterator[Trajectory]:
    """Yield the trajectories of a log: the one reader of all commands.

    Args:
        path: the file, or the folder where a format allows one; of our own records also the run folder.
        format: a name of `hooks.TRAJECTORY_FORMATS`: agentgym, atif, chat, cm2, search_r1, or one of a plugin.
        options: further arguments of that reader.

    Raises:
        NotRegisteredError: unknown format; names the nearest.
        DataError: there is no trajectory, or a line that is not of the format; names file, line and key.
    """
    reader = hooks.TRAJECTORY_FORMATS.resolve(format)
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; give a log of format {format!r}")
    if format == OWN and path.is_dir():
        path /= "trajectories.jsonl"
    try:
        return _one_or_more(iter(reader(path, **options)), path, format)
    except TypeError as error:
        raise ConfigError(f"format {format!r}: {error}") from error


def _one_or_more(records: Iterator[Trajectory], path: Path, format: str) -> Iterator[Trajectory]:
    n = 0
    for n, record in enumerate(records, start=1):  # noqa: B007 (counted for what comes after)
        yield record
    if not n:
        raise DataError(f"{path}: holds no trajectory" + ("" if format == OWN else f" of format {format!r}"))


def with_gold(trajectories: Iterable[Trajectory], tasks: Iterable[Task]) -> Iterator[Trajectory]:
    """Yield the records with the gold of their task: the one of the same id, else of the same question.

    Records that have gold keep it; records without a task stay without, and abstain when they are scored.

    Raises:
        DataError: two tasks ask the same question with different gold, and a record names neither by its id.
    """
    by_id: dict[str, Task] = {}
    by_question: dict[str, list[Task]] = {}
    for task in tasks:
        by_id[task.id] = task
        by_question.setdefault(_key(task.question), []).append(task)
    for record in trajectories:
        if record.gold is not None:
            yield record
            continue
        task = by_id.get(record.task_id)
        asked = by_question.get(_key(record.question), [])
        if task is None and asked:
            task = asked[0]
            if any(other.gold != task.gold for other in asked):
                ids = ", ".join(t.id for t in asked[:4])
                raise DataError(
                    f"trajectory {record.id}: the tasks {ids} ask its question with different gold; give the log the id"
                    " of the task (task_id)"
                )
        yield record if task is None else record.with_(gold=schema.to_json(task.gold))


def _key(question: str) -> str:
    return " ".join(question.split()).rstrip("?").casefold()


def score_logs(
    trajectories: Iterable[Trajectory],
    suite: Suite,
    *,
    scorer: Scorer | None = None,
    judge: Any = None,
    reference: Scorer | None = None,
) -> LogScores:
    """Score records again with a suite, from their events and gold alone.

    A suite with a schedule counts as at the end of training. A record abstains if it was marked as faulty (a missing
    turn, a fault of a service), has no gold or not the gold or events that a component needs, or waits for a service
    that is not given.

    Args:
        trajectories: records, e.g. from `read_logs`.
        suite: the reward, e.g. from `agentgym.rewards.build_suite`.
        scorer: gives log-probabilities; for components that need "scorer".
        judge: decides criteria; for components that need "judge".
        reference: a second scorer; for components that need "reference".

    Raises:
        ConfigError: some service that the suite needs is given, but not all.
    """
    suite = suite.at(1.0) if suite.is_scheduled else suite
    services = {"scorer": scorer, "judge": judge, "reference": reference}
    scored: list[Trajectory] = []
    abstained: list[Abstention] = []
    for record in trajectories:
        reason = _lack(suite, record)
        if not reason:
            try:
                scored.append(suite.rescore(record))
                continue
            except DataError as error:
                reason = str(error).replace(f"trajectory {record.id}", "record")
        abstained.append(Abstention(record.id, reason))
    if suite.deferred and any(services.values()):
        scored = suite.complete(scored, scorer, judge, reference)
    elif suite.group_transforms:
        scored = suite.transform_groups(scored)
    done = []
    for record in scored:
        if reason := _unfilled(record):
            abstained.append(Abstention(record.id, reason))
        else:
            done.append(record)
    return LogScores(suite.name, tuple(done), tuple(abstained))


def _lack(suite: Suite, record: Trajectory) -> str:
    """Return what keeps a record from being scored; empty for nothing."""
    if not (record.in_statistics or record.in_loss):
        return record.error or record.end_reason or "the record is in no statistics"
    if record.gold is None:
        return "no gold; give the tasks of the log"
    try:
        gold = schema.from_json(Gold, record.gold, "gold")
    except DataError as error:
        return str(error)
    held = record.info.get(EVENTS)
    for component in suite.components.values():
        for need in sorted(component.needs):
            if not offered(gold, need, component.name, held if isinstance(held, list) else None):
                return f"{component.name} needs {need.replace('|', ' or ')}, which the log does not have"
        if complaint := component.complaint(gold):
            return f"{component.name}: {complaint}"
    return ""


def _unfilled(record: Trajectory) -> str:
    """Return why a scored record has a score that says nothing; empty if all say something."""
    for scores in (record.scores, *(turn.scores for turn in record.turns)):
        for name, score in scores.items():
            if score.deferred and score.raw is None:
                return f"{name} waits for a service (a scorer or a judge)"
            if not score.valid:
                return f"{name} is invalid: {score.reason}"
    return ""
