"""Corpora of any size into a lexical index: chunks in several processes, then one merge; a killed build goes on."""

import errno
import os
import pickle
import shutil
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentgym.errors import ConfigError, ServiceError
from agentgym.retrieval.formats import FORMATS, source_files
from agentgym.retrieval.lexical.chunks import CHUNK_BYTES, CHUNK_UNITS, chunk_name, read_chunk
from agentgym.retrieval.lexical.layout import FILES, load_all
from agentgym.retrieval.lexical.merge import inverse_norms, merge
from agentgym.retrieval.lexical.retriever import check_parameters
from agentgym.retrieval.lexical.store import BlockStore
from agentgym.retrieval.lexical.workers import Task, Workers
from agentgym.retrieval.manifest import LUCENE, SourceFile, check_files, read_manifest, write_manifest
from agentgym.retrieval.passages import no_passages, refuse_repeated_ids
from agentgym.retrieval.workspace import building, check_target, publish
from agentgym.types import JSON

Progress = Callable[[str, int, int], None]
"""(stage, done, in all): "read" counts bytes of the sources, "merge" postings."""
PARAMETERS: dict[str, float] = {"k1": 0.9, "b": 0.4}
"""Anserini's defaults."""
RESERVE = 64 << 20
"""Bytes of the disk that a build leaves free."""


def build_lexical(
    paths: Sequence[Path],
    out: Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    processes: int = 1,
    format: str | None = None,
    k1: float = PARAMETERS["k1"],
    b: float = PARAMETERS["b"],
) -> dict[str, JSON]:
    """Build a lexical index and return its manifest.

    The folder appears complete or not at all, and an index that is there stays usable until then. Finished chunks of
    a build that was killed or failed are kept beside `out` (`.NAME.building`) and used again where the same bytes
    come in. Memory is bounded by chunks (about 48 MB of raw text, some 400 MB a process) and, at the end, by the
    distinct terms (about 100 bytes each) and ids (24 bytes each). Equal sources give equal files, whatever the number
    of processes.

    Raises:
        ConfigError: `out` is in use, or another process builds it.
        DataError: a broken line, an id used twice, no passages.
        ServiceError: a process died, or the disk is full; run it again to go on.
    """
    check_parameters(k1, b)
    check_target(out, overwrite)
    sources = [SourceFile(path, kind.name) for path, kind in source_files(paths, format)]
    try:
        with building(out) as work:
            for stale in work.glob("*.partial"):
                shutil.rmtree(stale, ignore_errors=True)
            chunks = _write_chunks(sources, work, max(1, processes), progress or _silent)
            parts = [work / chunk_name(i) / f"part-{j:03}" for i, c in enumerate(chunks) for j in range(len(c["parts"]))]
            if not parts:
                raise no_passages([s.path for s in sources])
            for owner, n in (pair for chunk in chunks for pair in chunk["passages"]):
                sources[owner].passages += n
            sums = {name: sum(p[name] for c in chunks for p in c["parts"]) for name in ("tokens", "filled")}
            entries = [s.entry() for s in sources]
            return _finish(parts, out, work, sums, entries, {"k1": k1, "b": b}, progress or _silent, lambda i: _where(parts, chunks, sources, i))
    except OSError as error:
        raise _full(error, out) from error


def merge_indexes(
    folders: Sequence[Path], out: Path, *, overwrite: bool = False, progress: Progress | None = None,
    k1: float | None = None, b: float | None = None,
) -> dict[str, JSON]:  # fmt: skip
    """Join finished lexical indexes, passages in the order of the folders; scores are those of one index built of all.

    Raises:
        ConfigError: fewer than two folders, `out` is in use, or the indexes have different parameters and none are given.
        DataError: an index that cannot be read, or an id that two of them have.
    """
    if len(folders) < 2:
        raise ConfigError(f"{len(folders)} index to merge: give two or more")
    check_target(out, overwrite)
    manifests = [read_manifest(folder) for folder in folders]
    for folder, manifest in zip(folders, manifests, strict=True):
        if manifest["format"] != LUCENE:
            raise ConfigError(f"{folder}: an index of format {manifest['format']!r}; only those of {LUCENE!r} can be merged")
        check_files(folder, manifest, verify=True)
    own = [{name: m["parameters"][name] for name in PARAMETERS} for m in manifests]
    parameters = {"k1": own[0]["k1"] if k1 is None else k1, "b": own[0]["b"] if b is None else b}
    check_parameters(**parameters)
    if any(p != own[0] for p in own) and (k1 is None or b is None):
        raise ConfigError(f"the indexes have different parameters ({', '.join(map(str, own))}); give --k1 and --b")
    sums = {name: sum(m["counts"][name] for m in manifests) for name in ("tokens", "filled")}
    entries = [entry for m in manifests for entry in m["sources"]]
    ends = np.cumsum([m["counts"]["passages"] for m in manifests]).tolist()

    def where(position: int) -> str:
        i = bisect_right(ends, position)
        return f"{folders[i]} (passage {position - (ends[i - 1] if i else 0):,})"

    try:
        with building(out) as work:
            return _finish(list(folders), out, work, sums, entries, parameters, progress or _silent, where)
    except OSError as error:
        raise _full(error, out) from error


def _silent(stage: str, done: int, total: int) -> None:
    """Report nothing."""


def _write_chunks(sources: list[SourceFile], work: Path, processes: int, progress: Progress) -> list[dict[str, Any]]:
    """Read all sources; return the records of their chunks in order."""
    total = sum(s.path.stat().st_size for s in sources)
    records: dict[int, dict[str, Any]] = {}
    workers = Workers(work, processes)

    def take(found: list[tuple[int, Any]]) -> None:
        records.update(found)
        progress("read", min(sum(s.bytes for s in sources), total), total)

    try:
        pending: Task | None = None
        for number, (files, payload) in enumerate(_payloads(sources)):
            done = read_chunk(work, number, files, payload)
            if done is not None:
                take([(number, done)])
                continue
            if pending:
                take(workers.submit(pending, last=False))
            pending = number, files, payload
        if pending:
            take(workers.submit(pending, last=True))
        take(workers.finish())
    finally:
        workers.close()
    progress("read", total, total)
    return [records[i] for i in sorted(records)]


def _payloads(sources: list[SourceFile]) -> Iterator[tuple[dict[int, tuple[str, str]], bytes]]:
    """Yield (files, pickled units) of chunk after chunk: see `ChunkWriter.write`."""
    units: list[tuple[int, int, Any]] = []
    files: dict[int, tuple[str, str]] = {}
    size = 0
    for owner, source in enumerate(sources):
        for place, unit in FORMATS[source.format].units(source.path, source):
            files[owner] = source.format, str(source.path)
            units.append((owner, place, unit))
            size += len(unit) if isinstance(unit, bytes) else sum(len(x) for x in unit if isinstance(x, str | bytes))
            if len(units) >= CHUNK_UNITS or size >= CHUNK_BYTES:
                yield files, pickle.dumps(units, 5)
                units, files, size = [], {}, 0
    if units:
        yield files, pickle.dumps(units, 5)


def _finish(
    parts: list[Path], out: Path, work: Path, sums: dict[str, int], entries: list[dict[str, JSON]],
    parameters: dict[str, float], progress: Progress, where: Callable[[int], str],
) -> dict[str, JSON]:  # fmt: skip
    """Merge, refuse repeated ids, describe, publish."""
    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    _check_room(parts, work)
    whole.mkdir()
    norms = inverse_norms(parameters["k1"], parameters["b"], sums["tokens"], sums["filled"])
    found = merge(parts, whole, norms, lambda done, total: progress("merge", done, total))
    arrays = load_all(whole)
    refuse_repeated_ids(arrays["id_keys"], arrays["id_numbers"], BlockStore(whole, arrays).id_at, where)
    manifest = write_manifest(whole, {**found, **sums}, entries, LUCENE, {**parameters, "method": "lucene"})
    publish(whole, out)
    return manifest


def _where(parts: list[Path], chunks: list[dict[str, Any]], sources: list[SourceFile], position: int) -> str:
    """Return "file:line" of a passage."""
    sizes = [p["passages"] for c in chunks for p in c["parts"]]
    ends = np.cumsum(sizes).tolist()
    i = bisect_right(ends, position)
    owner, place = np.load(parts[i] / "places.npy")[position - (ends[i] - sizes[i])].tolist()
    return f"{sources[owner].path}:{place}"


def _check_room(parts: list[Path], work: Path) -> None:
    """Stop before the merge where the disk cannot hold its result."""
    need = sum((part / name).stat().st_size for part in parts for name in FILES.values())
    free = shutil.disk_usage(work).free
    if free < need + RESERVE:
        raise OSError(errno.ENOSPC, f"the merge needs {need + RESERVE:,} bytes, {free:,} are free", str(work))


def _full(error: OSError, out: Path) -> Exception:
    """Return a message for a full disk; other errors as they are."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return error
    reason = error.strerror if error.strerror and "merge" in error.strerror else os.strerror(errno.ENOSPC)
    return ServiceError(
        f"{out}: the disk is full ({reason}). Finished chunks are kept in {out.parent / f'.{out.name}.building'}: make "
        "room and run the same command again, or delete that folder"
    )


class Meter:
    """Rate and time left of a stage, from what was done since it was first seen."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing seen."""
        self._clock, self._stage, self._first, self._since = clock, "", 0, 0.0

    def update(self, stage: str, done: int, total: int) -> tuple[float, float | None]:
        """Return (units a second, seconds left or None while unknown)."""
        now = self._clock()
        if stage != self._stage:
            self._stage, self._first, self._since = stage, done, now
        rate = (done - self._first) / max(now - self._since, 1e-9)
        return (rate, (total - done) / rate) if rate > 0 and now > self._since else (0.0, None)
