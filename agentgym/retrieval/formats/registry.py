"""The formats by name, and which of them a file is in.

A format works in two steps, so that a build can share the work among processes: `units` reads a file quickly and in
order, `passages` makes passages of one unit and may be slow.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgym.errors import ConfigError, DataError, suggestion
from agentgym.retrieval.formats import dpr, dump, hotpot, rows, zim
from agentgym.types import Passage


@dataclass(frozen=True)
class CorpusFormat:
    """How files of one format are read."""

    name: str
    about: str
    """One line for people: what the files look like."""
    endings: tuple[str, ...]
    """Endings of the files that are looked for in a folder."""
    units: Callable[[Path, Any], Iterator[tuple[int, Any]]]
    """(file, digest) -> (place, unit): the place is a line or number for messages, the unit can be pickled."""
    passages: Callable[[Any, str], Iterable[Passage]]
    """(unit, "file:place") -> passages."""


FORMATS: dict[str, CorpusFormat] = {
    f.name: f
    for f in (
        CorpusFormat(
            "rows", 'JSON lines or arrays of {"id", "title", "text"}, {"id", "contents"} (Search-R1, Pyserini) or {"_id", "title", "text"} (BEIR)',
            (".jsonl", ".jsonl.gz", ".json", ".json.gz"), rows.units, rows.passages,
        ),
        CorpusFormat("parquet", "rows as above in parquet (needs pyarrow)", (".parquet",), rows.parquet_units, rows.parquet_passages),
        CorpusFormat("dpr", "DPR's psgs_w100.tsv: id, text, title", (".tsv", ".tsv.gz"), dpr.units, dpr.passages),
        CorpusFormat("hotpotqa", "HotpotQA's Wikipedia: .bz2 files of JSON lines, or the .tar.bz2 of them", (".bz2",), hotpot.units, hotpot.passages),
        CorpusFormat("zim", "a Kiwix archive, cut into passages of 100 words (needs libzim)", (".zim",), zim.units, zim.passages),
        CorpusFormat(
            "wikipedia-xml", "a Wikipedia XML dump, cut into passages of 100 words (needs mwxml and mwparserfromhell)",
            (".xml", ".xml.bz2", ".xml.gz"), dump.units, dump.passages,
        ),
    )
}  # fmt: skip


def format_of(path: Path, name: str | None = None) -> CorpusFormat:
    """Return the format that was named, or the one that a file's name tells.

    Raises:
        ConfigError: no such format, or none fits the name.
    """
    if name is not None:
        if name not in FORMATS:
            raise ConfigError(f"format {name!r} is not known{suggestion(name, FORMATS)}; formats: {', '.join(FORMATS)}")
        return FORMATS[name]
    lower = path.name.lower()
    fitting = [(len(ending), f) for f in FORMATS.values() for ending in f.endings if lower.endswith(ending)]
    if not fitting:
        raise ConfigError(f"{path}: its name does not tell its format; give --format {' | '.join(FORMATS)}")
    return max(fitting, key=lambda pair: pair[0])[1]


def source_files(paths: Sequence[Path], name: str | None = None) -> list[tuple[Path, CorpusFormat]]:
    """Return files with their formats; a folder stands for its files of one format, in the order of their names.

    Raises:
        ConfigError: a format that is not known, or a folder with files of several formats.
        DataError: nothing there.
    """
    found: list[tuple[Path, CorpusFormat]] = []
    for path in paths:
        if not path.is_dir():
            if not path.exists():
                raise DataError(f"{path}: no such file or folder")
            found.append((path, _of_file(path, name)))
            continue
        corpus = path / "corpus.jsonl"  # BEIR: queries lie beside it
        inside = [corpus] if name is None and corpus.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        endings = tuple(e for f in ([FORMATS[name]] if name in FORMATS else FORMATS.values()) for e in f.endings)
        files = [(p, format_of(p, name)) for p in inside if p.name.lower().endswith(endings)]
        kinds = {f.name for _, f in files}
        if not files:
            raise DataError(f"{path}: no file of passages in this folder (endings: {' '.join(endings)})")
        if len(kinds) > 1:
            raise ConfigError(f"{path}: holds files of several formats ({', '.join(sorted(kinds))}); give --format, or the files")
        found += files
    return found


def _of_file(path: Path, name: str | None) -> CorpusFormat:
    if name is None and not any(path.name.lower().endswith(e) for f in FORMATS.values() for e in f.endings):
        return FORMATS["rows"]  # JSON lines go by many names
    return format_of(path, name)


def read_corpus(*paths: str | Path, format: str | None = None) -> Iterator[Passage]:
    """Read passages of any known format, one at a time; ids are not compared.

    Raises:
        ConfigError: no format fits.
        DataError: a broken file, with file and line.
        MissingExtraError: the format needs a package that is not installed.
    """
    for path, kind in source_files([Path(p) for p in paths], format):
        for place, unit in kind.units(path, None):
            yield from kind.passages(unit, f"{path}:{place}")
