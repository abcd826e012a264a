"""What TRL's and verl's trainers log of their rollouts, as trajectories: for `agentgym credit FILE` and reports.

TRL (`log_completions=True`): output_dir/completions/completions_00010.parquet, one row a completion, with step, prompt,
completion (texts or messages), one column per reward function, and advantage. verl (`trainer.rollout_data_dir`):
FOLDER/10.jsonl with input, output, gts, score, step and whatever the reward function returned beside its score.

Rows of one step with the same prompt are a group. A list column `turn_scores`, one number a turn, gives turn scores;
neither trainer has them on its own. Rewards enter with the weight that is asked for (1 otherwise): weights are not logged.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from agentgym.errors import DataError, MissingExtraError
from agentgym.interop.chat_jsonl import conversation
from agentgym.interop.search_r1 import RECORDED, pieces
from agentgym.jsonl import json_type, read_objects
from agentgym.types import JSON, Score, Trajectory

TURN_SCORES = "turn_scores"
"""Column of the scores of a row's turns, in order."""
Rows = Iterable[tuple[str, dict[str, Any]]]
"""(place, row)"""
_TRL = ("step", "prompt", "completion", "advantage", "image", "images", TURN_SCORES)
_VERL = ("input", "output", "gts", "score", "step", "uid", "request_id", TURN_SCORES)
_TOOL_TEXT = re.compile(
    r"(?:<\|im_end\|>)?\s*(?:<\|im_start\|>)?(?:user|tool)\n\s*(<tool_response>.*?</tool_response>)\s*(?:<\|im_end\|>)?\s*"
    r"(?:<\|im_start\|>)?assistant\n",
    re.DOTALL,
)
"""A tool's answer between two turns of a decoded chat, special tokens kept or skipped."""


def read_trl(path: str | Path, *, weights: Mapping[str, float] | None = None) -> Iterator[Trajectory]:
    """Yield the completions that TRL's GRPOTrainer logged.

    Args:
        path: a completions_*.parquet, a folder of them, or the same rows as JSON lines.
        weights: weight per reward function; every other numeric column then has weight 0. None: each has weight 1.

    Raises:
        DataError: a row is not of this form; names file, row and column.
        MissingExtraError: pyarrow is not installed.
    """
    counts: dict[str, int] = {}
    for where, row in _rows(Path(path), "completions_*.parquet", _parquet):
        prompt, completion = _field(row, "prompt", where), _field(row, "completion", where)
        rewards = _rewards(row, _TRL, weights, where)
        messages = [*_messages(prompt, "user", where), *_messages(completion, "assistant", where)]
        yield _trajectory("trl", messages, _key(row, prompt), rewards, row, _TRL, where, counts)


def read_verl(path: str | Path) -> Iterator[Trajectory]:
    """Yield the rollouts that verl's trainer dumped.

    `score` is the sum that verl logs: where `turn_scores` are there it holds them as well, and they are taken out of
    the outcome. Other numbers of the reward function are recorded with weight 0.

    Args:
        path: a STEP.jsonl, or the folder of them.

    Raises:
        DataError: a line is not of this form; names file, line and field.
    """
    counts: dict[str, int] = {}
    for where, row in _rows(Path(path), "*.jsonl", None):
        prompt, output = _field(row, "input", where), _field(row, "output", where)
        score = row.get("score")
        if not isinstance(score, int | float) or isinstance(score, bool):
            raise DataError(f"{where}: score must be a number, found {json_type(score)}")
        outcome = float(score) - sum(_turn_scores(row, where) or ())
        rewards = {"score": _score(outcome, 1.0), **_rewards(row, _VERL, {}, where)}
        messages = [*_messages(prompt, "user", where), *_messages(output, "assistant", where)]
        yield _trajectory("verl", messages, _key(row, row.get("uid", prompt)), rewards, row, _VERL, where, counts)


def _rows(path: Path, pattern: str, reader: Any) -> Rows:
    files = sorted(path.glob(pattern), key=_by_number) if path.is_dir() else [path]
    if not files:
        raise DataError(f"{path}: holds no {pattern}")
    for file in files:
        if reader is not None and file.suffix == ".parquet":
            yield from reader(file)
        else:
            yield from ((f"{file}:{line}", row) for line, row in read_objects(file))


def _by_number(path: Path) -> tuple[int, str]:
    found = re.findall(r"\d+", path.stem)
    return int(found[-1]) if found else -1, path.name


def _parquet(path: Path) -> Rows:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("reading parquet", "pyarrow", 'pip install "agentic-gym[parquet]"') from None
    try:
        with pq.ParquetFile(path) as file:
            number = 0
            for batch in file.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"{path}:{number}", row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from error


def _field(row: dict[str, Any], name: str, where: str) -> Any:
    if row.get(name) is None:
        raise DataError(f"{where}: field {name!r} is missing; found {', '.join(row) or 'none'}")
    return row[name]


def _key(row: dict[str, Any], prompt: Any) -> str:
    return f"{row.get('step', 0)}/{prompt!r}"


def _rewards(
    row: dict[str, Any], known: tuple[str, ...], weights: Mapping[str, float] | None, where: str
) -> dict[str, Score]:
    """Return the numeric columns that are no place of the format as scores; a missing one is left out."""
    found: dict[str, Score] = {}
    for name, value in row.items():
        if name in known or isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
            continue
        if not math.isfinite(value):
            raise DataError(f"{where}: {name} is {value!r}, which is no finite number")
        found[name] = _score(float(value), 1.0 if weights is None else weights.get(name, 0.0))
    return found


def _score(value: float, weight: float) -> Score:
    return Score("trajectory", value, weight=weight, value=weight * value, reason="logged")


def _turn_scores(row: dict[str, Any], where: str) -> list[float] | None:
    given = row.get(TURN_SCORES)
    if given is None:
        return None
    if not isinstance(given, list) or any(isinstance(x, bool) or not isinstance(x, int | float) for x in given):
        raise DataError(f"{where}: {TURN_SCORES} must be a list of numbers, one per turn, found {given!r:.80}")
    return [float(x) for x in given]


def _messages(given: Any, role: str, where: str) -> list[dict[str, JSON]]:
    """Return texts and messages as messages; a text of several turns is taken apart where tools wrote into it."""
    if isinstance(given, list):
        # Parquet fills the fields that some message has with None in all others.
        return [{k: v for k, v in m.items() if v is not None} if isinstance(m, dict) else m for m in given]
    if not isinstance(given, str):
        raise DataError(f"{where}: prompt and completion must be texts or lists of messages, found {json_type(given)}")
    if role == "user":
        return [{"role": "user", "content": given}]
    if "<information>" in given:
        parts = [(p.action, None if p.answered is None else f"<information>{p.answered}</information>") for p in pieces(given)]
    else:
        texts = _TOOL_TEXT.split(given)
        parts = list(zip(texts[::2], [*texts[1::2], None], strict=True))
    found: list[dict[str, JSON]] = []
    for action, answered in parts:
        found.append({"role": "assistant", "content": action.removesuffix("<|im_end|>")})
        found += [{"role": "user", "content": answered}] if answered is not None else []
    return found


def _trajectory(
    env_id: str, messages: list[dict[str, JSON]], key: str, rewards: dict[str, Score], row: dict[str, Any],
    known: tuple[str, ...], where: str, counts: dict[str, int],
) -> Trajectory:  # fmt: skip
    number = counts.setdefault(f"group {key}", len([k for k in counts if k.startswith("group ")]))
    member = counts[f"n {key}"] = counts.get(f"n {key}", -1) + 1
    step = int(row.get("step") or 0)
    record = conversation({"messages": messages, "task_id": f"{env_id}-{number}"}, where, Path(where).name, "auto")
    scores = _turn_scores(row, where)
    turns = record.turns
    if scores is not None:
        if len(scores) != len(turns):
            raise DataError(f"{where}: {len(scores)} {TURN_SCORES} for {len(turns)} turns; give one per turn")
        pairs = zip(turns, scores, strict=True)
        turns = tuple(
            replace(t, scores={TURN_SCORES: Score("turn", x, value=x, reason="logged")}, reward=x) for t, x in pairs
        )
    # The trainer scored what it logged: a result that the text does not hold takes nothing out. Without any score
    # (TRL: no reward function gave one) a row is in neither mask.
    scored = bool(rewards)
    extra = {k: v for k, v in row.items() if k not in (*known, *rewards)}
    return replace(
        record,
        id=f"{env_id}-{number}/{member}",
        turns=turns,
        scores=rewards,
        reward=sum(s.value for s in rewards.values()),
        success=any(rewards[name].raw == 1.0 for name in ("acc", "accuracy", "correct") if name in rewards),
        group_id=f"{env_id}-{number}",
        member=member,
        seed=(0, step, number, member),
        in_statistics=scored,
        in_loss=scored,
        error="" if scored else "no reward was logged",
        gold=None,
        info={**record.info, RECORDED: {"advantage": row.get("advantage"), "step": step, "gts": row.get("gts")}, "extra": extra},
    )
