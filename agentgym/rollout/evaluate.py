"""Evaluation: k samples of every task, written as they end, resumed where they stopped, with intervals."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from agentgym.atomic import write_text
from agentgym.env import ToolEnv
from agentgym.errors import ConfigError, DataError
from agentgym.jsonl import parse_json
from agentgym.retrieval import Retriever
from agentgym.rewards import answer_scores
from agentgym.rollout.episode import SamplingConfig
from agentgym.rollout.groups import EnvPool, run_groups, transform_groups
from agentgym.rollout.lock import locked
from agentgym.rollout.policy import Policy
from agentgym.rollout.record import TrajectoryWriter, read_trajectories, write_trajectories
from agentgym.rollout.services import Services, abstained
from agentgym.rollout.statistics import bootstrap_interval, paired_difference, pass_at_k
from agentgym.task import Task
from agentgym.types import JSON, Group, Trajectory

HEADLINE = ("success", "em", "f1", "cover", "squad_em", "squad_f1", "recall", "turns", "calls", "invalid", "answered")
"""Measures in table order."""

OPTIONS = {
    "oracle_noise": "--noise",
    "temperature": "--temperature",
    "max_tokens": "--max-tokens",
    "samples": "--samples",
    "seed": "--seed",
    "policy": "--policy",
    "policy_args": "--policy-arg",
    "judge": "--judge",
    **{name: f"--{name}" for name in ("world", "tasks", "index", "reward", "dialect", "observation", "split")},
}
"""What the command line calls a setting."""


@dataclass(frozen=True, slots=True)
class EvalConfig:
    """How to evaluate."""

    samples: int = 1
    """Episodes per task."""
    seed: int = 0
    concurrency: int = 32
    """Episodes at once; results do not depend on it."""
    sampling: SamplingConfig = field(default_factory=SamplingConfig)


@dataclass(frozen=True, slots=True)
class Measure:
    """A mean over tasks with its 95 % bootstrap interval."""

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class EvalResult:
    """What an evaluation found."""

    n_tasks: int
    n_episodes: int
    n_faults: int
    """Episodes that a fault of environment or service ended, or left without a valid score: in no mean."""
    measures: dict[str, Measure]
    pass_at: dict[int, Measure]
    by_kind: dict[str, dict[str, float]]
    """Success, recall, turns and number of tasks per kind; "none" for tasks without one, "all" if none has."""
    per_task: dict[str, dict[str, float]]
    """Each task's means, for paired comparison."""
    faults: dict[str, int]
    """How often each fault message occurred."""
    n_abstained: int = 0
    """Those of the faults where a judge (or another service) gave no answer about an episode that ended well."""
    services: dict[str, float] = field(default_factory=dict)
    """Counts of the judge: judge/requests, judge/abstained, …; empty where none was asked."""

    def to_json(self) -> dict[str, JSON]:
        """Return everything as plain JSON."""
        body = asdict(self)
        body["pass_at"] = {str(k): v for k, v in body["pass_at"].items()}
        return json.loads(json.dumps(body, default=str), parse_constant=lambda name: None)


def evaluate(
    pool: EnvPool,
    policy: Policy,
    tasks: Sequence[Task],
    config: EvalConfig | None = None,
    *,
    out: Path | None = None,
    settings: Mapping[str, JSON] | None = None,
    progress: Callable[[Trajectory], None] | None = None,
    kept: Callable[[Sequence[Trajectory]], None] | None = None,
    services: Services | None = None,
) -> tuple[EvalResult, list[Group]]:
    """Run `config.samples` episodes of every task.

    Args:
        pool: Where environments come from.
        policy: Who acts.
        tasks: What to run, in order.
        config: Samples, seed, concurrency, sampling.
        out: Folder for `trajectories.jsonl` and `eval.json`; an evaluation that stopped is resumed there.
        settings: What identifies the evaluation beside `config` (policy, files); kept in eval.json.
        progress: Called with every new record.
        kept: Called once, before the first new record, with the records that a resumed evaluation keeps, if any.
        services: Fill deferred scores (judge, scorer) once all episodes have ended; without them such scores stay
            open. An episode about which a judge abstained is in no mean, and runs again on resume.

    Raises:
        ConfigError: No tasks, or `out` holds an evaluation with other settings or of more tasks, or another process is
            at work in it.
    """
    config = config or EvalConfig()
    if not tasks:
        raise ConfigError("evaluate: there are no tasks; check --tasks, --split and --limit")
    if config.samples < 1:
        raise ConfigError(f"evaluate: samples is {config.samples}; allowed: 1 or more")
    options: dict[str, Any] = {
        "group_size": config.samples,
        "key": (config.seed, 0),
        "sampling": config.sampling,
        "concurrency": config.concurrency,
        "progress": 1.0,  # rewards with a schedule count as at the end of training
    }
    if out is None:
        groups = _finished(pool, run_groups(pool, policy, tasks, on_trajectory=progress, **options), services)
        return summarize(groups, config.samples, services), groups
    try:
        out.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise ConfigError(f"--out {out}: is or lies below a file; choose a folder") from None
    with locked(out, "evaluating"):
        done = _resume(out, tasks, {**asdict(config), **dict(settings or {})})
        if kept is not None and done:
            kept(list(done.values()))
        with TrajectoryWriter(out / "trajectories.jsonl") as writer:

            def keep(record: Trajectory) -> None:
                writer.write(record)
                if progress is not None:
                    progress(record)

            groups = run_groups(pool, policy, tasks, on_trajectory=keep, done=done, **options)
        ran, groups = groups, _finished(pool, groups, services)
        if groups != ran:
            write_trajectories(out / "trajectories.jsonl", [t for g in groups for t in g.trajectories])
        result = summarize(groups, config.samples, services)
        _write(out / "result.json", result.to_json())
    return result, groups


def _finished(pool: EnvPool, groups: Sequence[Group], services: Services | None) -> list[Group]:
    """Return the groups with their open scores filled and group transforms applied."""
    if services is not None and services.needed:
        groups = services.complete_groups(groups)
    return transform_groups(pool.first.suite, groups)


def _resume(out: Path, tasks: Sequence[Task], settings: dict[str, JSON]) -> dict[tuple[int, int], Trajectory]:
    """Return the records that an earlier run of the same evaluation left in `out`."""
    settings = json.loads(json.dumps(settings, default=str))
    settings.pop("concurrency", None)
    path, records = out / "eval.json", out / "trajectories.jsonl"
    if path.exists():
        _check_same(out, _read(path), settings)
    elif records.exists():
        raise ConfigError(f"{out} holds trajectories but no evaluation (no eval.json); choose another --out")
    else:
        _write(path, settings)
    done: dict[tuple[int, int], Trajectory] = {}
    if records.exists():
        with TrajectoryWriter(records):
            pass  # cuts what a killed run left half-written
        for record in read_trajectories(records):
            group, member = record.seed[-2], record.member
            if group >= len(tasks):
                raise ConfigError(
                    f"{out} holds episodes of more than {len(tasks)} tasks (one is of task {group + 1}); choose a larger "
                    "--limit to go on there, or another --out"
                )
            if group < len(tasks) and tasks[group].id == record.task_id and record.in_statistics:
                done[group, member] = record
    return done


def _check_same(out: Path, before: Mapping[str, JSON], now: Mapping[str, JSON]) -> None:
    """Raise ConfigError, naming the option, where two evaluations' settings differ."""
    first, second = _flat(before), _flat(now)
    for place in sorted(set(first) | set(second)):
        if first.get(place) != second.get(place):
            room, name = place
            if room == "sha256":
                option = OPTIONS.get(name, f"--env-arg {name}")
                raise ConfigError(f"{out} holds an evaluation with other contents of {option} (another sha256); choose another --out")
            if room in ("policy_args", "judge"):
                option = f"{OPTIONS[room]} {name}".rstrip()
            else:
                option = OPTIONS.get(name or room, f"--env-arg {name}" if room == "env_kwargs" else name or room)
            raise ConfigError(
                f"{out} holds an evaluation with {option} {_said(first.get(place))}, this one has {_said(second.get(place))}; "
                "choose another --out, or the same settings to resume"
            )


def _flat(settings: Mapping[str, JSON]) -> dict[tuple[str, str], JSON]:
    """Return settings by (name, "") or, where they are tables, by (table, name); what is None counts as absent."""
    rows = ((n, value if isinstance(value, dict) else {"": value}) for n, value in settings.items())
    return {(n, key): value for n, table in rows for key, value in table.items() if value is not None}


def _said(value: JSON) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def refuse_unscorable(env: ToolEnv, tasks: Sequence[Task]) -> None:
    """Refuse a reward that can score none of the tasks, before an episode is run for nothing.

    Raises:
        ConfigError: What the first task complains of, where every other one complains too.
    """
    first: ConfigError | None = None
    for task in tasks:
        try:
            return env.check_task(task)
        except ConfigError as error:
            first = first or error
    if first is not None:
        raise first


def unknown_gold(env: ToolEnv, tasks: Sequence[Task]) -> list[str]:
    """Return the ids of the tasks whose gold passages are not all in the corpus that they search.

    Recall of such a task cannot reach 1: questions and index do not belong together, or name passages differently.
    """
    unknown = []
    for task in tasks:
        corpus = env.services(task).get("corpus") if task.gold.doc_ids else None
        if isinstance(corpus, Retriever) and any(corpus.passage(d) is None for d in task.gold.doc_ids):
            unknown.append(task.id)
    return unknown


def earlier_result(path: Path) -> dict[str, dict[str, float]]:
    """Return the per-task means of an earlier evaluation, for `compare`.

    Args:
        path: Its folder, or its result.json.

    Raises:
        DataError: There is no such result.
    """
    path = path / "result.json" if path.is_dir() else path
    if not path.exists():
        raise DataError(f"{path}: no such file; give the --out folder of an evaluation that has finished")
    return _read(path).get("per_task", {})


def _read(path: Path) -> dict[str, JSON]:
    body = parse_json(path.read_text(encoding="utf-8"), str(path))
    if not isinstance(body, dict):
        raise DataError(f"{path}: a JSON object is needed; is this the file of an evaluation?")
    return body


def _write(path: Path, body: JSON) -> None:
    write_text(path, json.dumps(body, indent=1, sort_keys=True) + "\n")


def measures_of(trajectory: Trajectory) -> dict[str, float]:
    """Return the plain measures of one finished episode; those that its gold does not allow are left out."""
    gold = trajectory.gold or {}
    shown = {d.id for t in trajectory.turns for r in t.results for d in r.documents}
    n_turns = max(1, len(trajectory.turns))
    found = {
        "success": float(trajectory.success),
        "reward": trajectory.total,
        "turns": float(len(trajectory.turns)),
        "calls": float(sum(len(t.results) for t in trajectory.turns)),
        "invalid": sum(bool(t.error_code or any(r.code for r in t.results)) for t in trajectory.turns) / n_turns,
        "answered": float(trajectory.end_reason == "answered"),
    }
    if gold.get("answers") and not gold.get("communicate"):  # a reply in sentences is no answer
        found |= answer_scores(trajectory.answer, gold["answers"])
    if gold.get("doc_ids"):
        found["recall"] = len(shown & set(gold["doc_ids"])) / len(set(gold["doc_ids"]))
    return found


def summarize(groups: Sequence[Group], samples: int, services: Services | None = None) -> EvalResult:
    """Return the measures of finished groups: means over tasks of the means over their samples.

    Args:
        groups: one per task.
        samples: episodes per task, for pass@k.
        services: what filled scores, for its counts.
    """
    per_task: dict[str, dict[str, float]] = {}
    kinds: dict[str, list[str]] = {}
    solved: dict[str, tuple[int, int]] = {}
    faults: dict[str, int] = {}
    for group in groups:
        good = [t for t in group.trajectories if t.in_statistics]
        for bad in (t for t in group.trajectories if not t.in_statistics):
            message = f"{bad.end_reason}: {bad.error}"
            faults[message] = faults.get(message, 0) + 1
        if not good:
            continue
        rows = [measures_of(t) for t in good]
        per_task[group.task_id] = {n: math.fsum(r[n] for r in rows) / len(rows) for n in rows[0]}
        kinds.setdefault(str(good[0].info.get("kind") or ""), []).append(group.task_id)
        solved[group.task_id] = (len(good), sum(t.success for t in good))
    names = sorted({n for row in per_task.values() for n in row})
    return EvalResult(
        n_tasks=len(groups),
        n_episodes=sum(len(g.trajectories) for g in groups),
        n_faults=sum(faults.values()),
        measures={n: _measure([row[n] for row in per_task.values() if n in row]) for n in names},
        pass_at={
            k: _measure([pass_at_k(n, c, k) for n, c in solved.values() if n >= k])
            for k in sorted({samples, *(2**i for i in range(samples.bit_length()))})
            if any(n >= k for n, _ in solved.values())
        },
        by_kind={
            kind or ("all" if len(kinds) == 1 else "none"): {"tasks": float(len(ids))}
            | {n: _measure([per_task[i][n] for i in ids if n in per_task[i]]).mean for n in ("success", "recall", "turns")}
            for kind, ids in sorted(kinds.items())
        },
        per_task=per_task,
        faults=faults,
        n_abstained=sum(not t.in_statistics and abstained(t) for g in groups for t in g.trajectories),
        services=services.totals() if services is not None else {},
    )


def _measure(values: Sequence[float]) -> Measure:
    if not values:
        return Measure(math.nan, math.nan, math.nan, 0)
    low, high = bootstrap_interval(values)
    return Measure(math.fsum(values) / len(values), low, high, len(values))


def compare(first: Mapping[str, Mapping[str, float]], second: Mapping[str, Mapping[str, float]]) -> dict[str, JSON]:
    """Compare the per-task means of two evaluations on their common tasks.

    Returns:
        Per measure: both means, the mean difference (second − first), its 95 % interval and the two-sided
        p-value of a sign-flip permutation test.

    Raises:
        ConfigError: The two have no task in common.
    """
    common = sorted(set(first) & set(second))
    if not common:
        raise ConfigError("the two evaluations have no task in common; compare runs over the same --tasks")
    table: dict[str, JSON] = {}
    for name in HEADLINE:
        pairs = [(first[t][name], second[t][name]) for t in common if name in first[t] and name in second[t]]
        if pairs:
            a, b = [p[0] for p in pairs], [p[1] for p in pairs]
            diff, low, high, p_value = paired_difference(a, b)
            table[name] = {
                "first": math.fsum(a) / len(a),
                "second": math.fsum(b) / len(b),
                "difference": diff,
                "low": low,
                "high": high,
                "p": p_value,
                "n": len(pairs),
            }
    return table
