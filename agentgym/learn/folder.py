"""The files of one training run: opened by one process at a time, trimmed to a checkpoint, never half-written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentgym import schema
from agentgym.atomic import replacing, write_text
from agentgym.errors import ConfigError, DataError
from agentgym.rollout.lock import lock_folder
from agentgym.rollout.record import cut_partial_line
from agentgym.types import JSON

RECIPE, METRICS, TRAJECTORIES = "config.toml", "metrics.jsonl", "trajectories.jsonl"


class RunFolder:
    """The folder of one run."""

    def __init__(self, path: Path, recipe: str) -> None:
        """Make the folder, or open the one that this recipe's run was stopped in.

        Args:
            path: The folder.
            recipe: The resolved recipe as text; kept as config.toml.

        Raises:
            ConfigError: The folder holds a run of another recipe, or records that are no run's, or another process
                is at work in it.
        """
        self.path = path
        existing = _read_recipe(path)
        if existing is not None and existing != recipe:
            raise ConfigError(
                f"{path} holds a run of another recipe ({_difference(existing, recipe)}); choose another --out, or the "
                f"recipe {path / RECIPE} to resume it"
            )
        if existing is None:
            foreign = [n for n in (METRICS, TRAJECTORIES, "checkpoints", "eval.json") if (path / n).exists()]
            if foreign:
                raise ConfigError(f"{path} holds {' and '.join(foreign)} but no {RECIPE}: no run to resume; choose another --out")
        path.mkdir(parents=True, exist_ok=True)
        self._lock = lock_folder(path, "training")
        for left in path.glob(".*.partial"):  # by a kill while the model was written
            shutil.rmtree(left, ignore_errors=True)
        write_text(path / RECIPE, recipe)

    def close(self) -> None:
        """Let other processes open the folder."""
        if self._lock is not None:
            self._lock.close()

    def append(self, line: dict[str, JSON]) -> None:
        """Append one line to metrics.jsonl. Raises OSError, with the file's name, where it cannot be written."""
        path = self.path / METRICS
        try:
            with path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(schema.to_json(line)) + "\n")
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error

    def trim(self, phase: str, step: int) -> None:
        """Cut the records back to a checkpoint (phase "" for none), so that the repeated steps stand in them once.

        Raises:
            DataError: A line cannot be read; nothing is changed then.
        """

        def before(line: dict[str, Any]) -> bool:
            if line["phase"] == "forecast":  # of the first step
                return phase == "train" and line["step"] < step
            if line["phase"] == "evaluation":
                return phase == "train" and line["step"] <= step
            return (line["phase"] == "warmstart" and phase == "train") or (line["phase"] == phase and line["step"] < step)

        _filter_lines(self.path / METRICS, before)
        _filter_lines(self.path / TRAJECTORIES, lambda t: phase == "train" and t["seed"][1] < step)


def evaluations(path: Path) -> list[dict[str, JSON]]:
    """Return step and metrics of every evaluation in a run folder, in order."""
    if not (path / METRICS).exists():
        return []
    lines = map(json.loads, (path / METRICS).read_text(encoding="utf-8").splitlines())
    return [{"step": line["step"], **line["metrics"]} for line in lines if line["phase"] == "evaluation"]


def _read_recipe(path: Path) -> str | None:
    try:
        return (path / RECIPE).read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise ConfigError(f"--out {path}: is or lies below a file; choose a folder") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path / RECIPE}: not UTF-8 ({error}); choose another --out") from None


def _difference(old: str, new: str) -> str:
    """Return the first setting in which two dumped recipes differ, e.g. "train.lr = 0.001 there, 0.002 here"."""
    there, here = _settings(old), _settings(new)
    for key in dict.fromkeys([*here, *there]):
        if there.get(key) != here.get(key):
            return f"{key} = {there.get(key, 'not set')} there, {here.get(key, 'not set')} here"
    return f"{RECIPE} differs"


def _settings(text: str) -> dict[str, str]:
    found, table = {}, ""
    for line in text.splitlines():
        key, equals, value = line.partition(" = ")
        if equals:
            found[f"{table}{key}"] = value
        elif line.startswith("["):
            table = line.strip("[]") + "."
    return found


def _filter_lines(path: Path, keep: Callable[[dict[str, Any]], bool]) -> None:
    if not path.exists():
        return
    cut_partial_line(path)
    with replacing(path) as new, path.open(encoding="utf-8") as old:
        for number, line in enumerate(old, 1):
            try:
                kept = keep(json.loads(line))
            except (ValueError, KeyError, TypeError, IndexError) as error:
                raise DataError(
                    f"{path}:{number}: no record of a run ({type(error).__name__}: {error}); repair or delete the file, "
                    "or choose another --out"
                ) from None
            if kept:
                new.write(line)
