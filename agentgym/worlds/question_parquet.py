"""Question files in parquet: FlashRAG's columns, and the training files of Search-R1 (also veRL's shape of them)."""

from collections.abc import Iterator
from pathlib import Path

from agentgym.errors import DataError, MissingExtraError
from agentgym.types import JSON
from agentgym.worlds.question_rows import Row

_BATCH = 256


def parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yield (row number from 1, row) with the fields of our question files.

    Search-R1 mixes data sets whose ids repeat, so an id becomes "DATA_SOURCE:ID"; where a file has no columns question
    and golden_answers, they are taken from `prompt` (behind "Question:") and `reward_model.ground_truth.target`.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataError: no parquet file.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtraError("reading parquet", "pyarrow", 'pip install "agentic-gym[parquet]"') from None
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _plain(row, number)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: cannot be read past row {number}: {error}") from error


def _plain(row: Row, number: int) -> Row:
    """Return a row without empty columns, its question, answers and id where our readers look for them."""
    found = {name: _without_none(value) for name, value in row.items() if value is not None}
    reward, extra = found.pop("reward_model", None), found.get("extra_info")
    prompt = found.pop("prompt", None)
    if "golden_answers" not in found and isinstance(reward, dict) and isinstance(reward.get("ground_truth"), dict):
        target = reward["ground_truth"].get("target")
        found["golden_answers"] = target if isinstance(target, list) else [target]
    if "question" not in found and isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
        found["question"] = str(prompt[-1].get("content", "")).rpartition("Question:")[2].strip()
    if "data_source" in found:
        place = extra.get("index", number - 1) if isinstance(extra, dict) else number - 1
        split = extra.get("split", "row") if isinstance(extra, dict) else "row"
        found["id"] = f"{found['data_source']}:{found.get('id', f'{split}_{place}')}"
    return found


def _without_none(value: JSON) -> JSON:
    """Drop the fields that a column gives to rows which have none."""
    if isinstance(value, dict):
        return {name: _without_none(item) for name, item in value.items() if item is not None}
    return [_without_none(item) for item in value] if isinstance(value, list) else value
