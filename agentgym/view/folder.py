"""What lies in a run or evaluation folder, read so that a broken or missing file costs only itself."""

import json
import math
import re
import tomllib
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from agentgym.jsonl import open_bytes, parse_json
from agentgym.types import JSON

_UNSHOWN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Folder:
    """The files of a run (config.toml, metrics.jsonl) or of an evaluation (eval.json, result.json)."""

    name: str
    records: Path
    """trajectories.jsonl; may not exist."""
    settings: dict[str, JSON]
    """config.toml of a run, eval.json of an evaluation."""
    versions: dict[str, JSON]
    lines: tuple[dict[str, Any], ...]
    """metrics.jsonl, in order, one line per phase and step: of a repeated step the later one."""
    tokens: dict[str, str]
    """Text per token id."""
    result: dict[str, JSON]
    """result.json of a finished evaluation."""
    problems: tuple[str, ...]
    """What could not be read, in words."""


def read_folder(path: Path) -> Folder:
    """Read everything but the trajectories.

    Args:
        path: A run folder, an evaluation folder, or a trajectories.jsonl (then only its neighbour tokens.json counts).
    """
    problems: list[str] = []
    home, whole = (path, True) if path.is_dir() else (path.parent, False)

    def read(name: str, parse: Callable[[str], JSON]) -> dict[str, JSON]:
        file = home / name
        if not file.is_file():
            return {}
        try:
            body = parse(file.read_text(encoding="utf-8"))
        except (ValueError, OSError, RecursionError) as error:
            problems.append(f"{name} cannot be read: {error}")
            return {}
        if isinstance(body, dict):
            return body
        problems.append(f"{name} holds no object and is left out")
        return {}

    tokens = {k: v for k, v in read("tokens.json", json.loads).items() if isinstance(v, str)}
    return Folder(
        name=path.resolve().name if whole else path.name,
        records=home / "trajectories.jsonl" if whole else path,
        settings=read("config.toml", tomllib.loads) or read("eval.json", json.loads) if whole else {},
        versions=read("versions.json", json.loads) if whole else {},
        lines=tuple(_metric_lines(home / "metrics.jsonl", problems)) if whole else (),
        tokens=tokens,
        result=read("result.json", json.loads) if whole else {},
        problems=tuple(problems),
    )


def objects(path: Path, problems: list[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of the lines of a JSON-lines file that can be read; the rest goes to `problems`.

    A last line without its end is what a running or killed writer left: it is left out and named as such.
    """
    bad: list[tuple[int, str]] = []
    last = (0, b"\n")
    try:
        with open_bytes(path) as file:
            for last in enumerate(file, 1):
                where = f"{path.name}:{last[0]}"
                try:
                    text = last[1].decode("utf-8-sig").strip()
                    value = parse_json(text, where) if text else None
                except (DataError, ValueError) as error:
                    bad.append((last[0], str(error) if isinstance(error, DataError) else f"{where}: {error}"))
                    continue
                if isinstance(value, dict):
                    yield last[0], value
                elif text:
                    bad.append((last[0], f"{where}: no JSON object"))
    except DataError as error:
        problems.append(str(error))
    except (EOFError, zlib.error, OSError) as error:
        problems.append(f"{path.name}: cannot be read past line {last[0]}: {error}")
    if bad and bad[-1][0] == last[0] and not last[1].endswith(b"\n"):
        bad.pop()
        problems.append(
            f"{path.name}: the last line is incomplete and left out; the run is still writing, or was stopped"
        )
    if bad:
        more = f" (and {len(bad) - 1} more such lines)" if len(bad) > 1 else ""
        problems.append(f"left out: {bad[0][1]}{more}")


def _metric_lines(path: Path, problems: list[str]) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    kept: dict[tuple[str, int], dict[str, Any]] = {}
    for number, line in objects(path, problems):
        phase, step, metrics = line.get("phase"), line.get("step"), line.get("metrics")
        if isinstance(phase, str) and type(step) is int and 0 <= step < 2**53 and isinstance(metrics, dict):
            kept.pop((phase, step), None)
            kept[phase, step] = line
        else:
            problems.append(f"{path.name}:{number}: left out, a line needs phase, step and metrics")
    return list(kept.values())


def visible(text: str) -> str:
    """Return text with what would not show, or would change what is shown around it, written as its code point.

    Control characters (a terminal obeys them), marks that turn the direction of writing, lone surrogates.
    """
    return _UNSHOWN.sub(lambda m: f"⟨{ord(m.group()):04X}⟩", text) if _UNSHOWN.search(text) else text


def cut(text: str, limit: int) -> str:
    """Return `visible` text of about `limit` characters: three quarters from its head, the rest from its tail."""
    if len(text) <= limit:
        return visible(text)
    head = limit * 3 // 4
    return visible(f"{text[:head]}\n[… {len(text) - limit:,} characters left out …]\n{text[head - limit :]}")


def number(value: Any, digits: int = 4) -> JSON:
    """Return a number as JSON can hold it: rounded; NaN and infinities as words; None where there is no number."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    known = finite(value)
    if known is not None:
        return round(known, digits)
    return "NaN" if value != value else "∞" if value > 0 else "−∞"


def finite(value: Any) -> float | None:
    """Return a finite number as a float; None for anything else, whole numbers beyond the range of floats included."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
