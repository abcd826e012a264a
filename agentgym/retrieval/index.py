"""BM25 indexes on disk: build, open memory-mapped, describe, verify."""

import functools
from array import array
from bisect import bisect_right
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from agentgym.errors import ConfigError
from agentgym.retrieval.analyzer import terms
from agentgym.retrieval.bm25 import BM25Retriever
from agentgym.retrieval.lexical.retriever import LexicalRetriever, open_lexical
from agentgym.retrieval.manifest import LUCENE, NAME, SMALL_FILE, SourceFile, check_files, read_manifest, write_manifest
from agentgym.retrieval.passages import (
    KeyTable,
    PassageStore,
    TextWriter,
    no_passages,
    read_passages,
    read_rows,
    refuse_repeated_ids,
    sorted_keys,
    string_key,
)
from agentgym.retrieval.postings import Postings, PostingsBuilder
from agentgym.retrieval.protocol import Retriever
from agentgym.retrieval.pyserini_backend import PyseriniRetriever, is_lucene_index
from agentgym.retrieval.workspace import check_target, publish, workspace
from agentgym.types import JSON

Progress = Callable[[str, int, int], None]
"""(stage, done, in all): stage "read" counts bytes of the source files, "score" blocks of postings."""

_REPORT_EVERY = 2_000
"""Passages between two reports of progress."""
_CACHED_TERMS = 1 << 16


def build_index(
    passages_paths: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, JSON]:
    """Build an index of JSON-lines passages (see `read_passages`) with bm25s and return its manifest.

    The engine lucene (`agentgym.retrieval.build_index`) is exact, smaller and faster on large corpora.

    The folder appears complete or not at all. Memory grows with the number of passages (about 60 bytes each) and
    of distinct terms, not with the text; equal sources give equal files.

    Args:
        passages_paths: one file or several, `.gz` included; their order is the order of ties.
        out_dir: folder to make; it must not exist, or be empty, or hold an index and `overwrite` be set.
        overwrite: replace an existing index.
        progress: called with (stage, done, in all).

    Raises:
        ConfigError: `out_dir` is in use.
        DataError: a broken line, an id used twice, no passages.
    """
    paths = [Path(p) for p in ([passages_paths] if isinstance(passages_paths, str | Path) else passages_paths)]
    out = Path(out_dir).resolve()
    check_target(out, overwrite)
    with workspace(out) as folder:
        counts, sources = _write_files(paths, folder, progress or (lambda stage, done, total: None))
        manifest = write_manifest(folder, counts, sources)
        publish(folder, out)
    return manifest


def open_index(
    path: str | Path, *, verify: bool = False, k1: float | None = None, b: float | None = None
) -> BM25Retriever | LexicalRetriever:
    """Open an index; its large files are memory-mapped, so processes on one machine share them.

    Args:
        path: the folder that `agentgym index build` or `build_index` wrote, of any engine.
        verify: compare the checksums of all files, however large.
        k1: another value than the index was built for (engine lucene only).
        b: likewise.

    Raises:
        ConfigError: parameters for an index of bm25s, whose scores are fixed.
        DataError: another format version, a file that is missing or damaged; says what to do.
    """
    folder = Path(path).resolve()
    manifest = read_manifest(folder)
    if manifest["format"] == LUCENE:
        return open_lexical(folder, k1, b, verify=verify)
    if k1 is not None or b is not None:
        raise ConfigError(f"{folder}: k1 and b are fixed in an index of the engine bm25s; build one with the engine lucene")
    check_files(folder, manifest, verify=verify)
    return _open_bm25s(folder)


def _open_bm25s(folder: Path) -> BM25Retriever:
    array_of = functools.partial(_load, folder)
    store = PassageStore(
        array_of("passages.utf8"), array_of("passage_bounds.npy"), array_of("id_keys.npy"), array_of("id_numbers.npy")
    )
    term_text, term_bounds = array_of("terms.utf8").data, array_of("term_bounds.npy")

    def term_at(number: int) -> str:
        start, end = term_bounds[number : number + 2].tolist()
        return str(term_text[start:end], "utf-8")

    table = KeyTable(array_of("term_keys.npy"), array_of("term_numbers.npy"), term_at)
    postings = Postings(array_of("scores.npy"), array_of("docs.npy"), array_of("starts.npy"), len(store))
    # Policies ask the same words again and again: a dictionary hit instead of a binary search in mapped files.
    find = functools.lru_cache(maxsize=_CACHED_TERMS)(table.find)
    return BM25Retriever(store, postings, find, (open_index, (str(folder),)))


def index_info(path: str | Path) -> dict[str, JSON]:
    """Return the manifest of an index (counts, parameters, sources, files) with its total size as "bytes".

    Raises:
        DataError: no readable index there.
    """
    manifest = read_manifest(Path(path))
    return {**manifest, "bytes": sum(entry["bytes"] for entry in manifest["files"].values())}


def verify(path: str | Path) -> dict[str, JSON]:
    """Compare every file of an index with the manifest, and return `index_info`.

    Raises:
        DataError: names the file that is missing or damaged.
    """
    info = index_info(path)
    check_files(Path(path), info, verify=True)
    return info


def open_retriever(index: str | Path | Retriever, *, verify: bool = False) -> Retriever:
    """Return a retriever for what a user may give: a retriever, an index folder, or a file of passages.

    Equal paths give one shared retriever per process until the files change. A file of passages
    (`.jsonl`, `.jsonl.gz`) is indexed in memory, which suits some tens of thousands of passages.

    Raises:
        ConfigError: neither a path nor a retriever.
        DataError: the index or file cannot be used.
    """
    if isinstance(index, str | Path):
        path = Path(index).expanduser().resolve()
        stamp = path if path.is_file() else path / NAME
        changed = (stamp.stat().st_mtime_ns, stamp.stat().st_size) if stamp.exists() else None
        return _shared(path, changed, verify)
    if isinstance(index, Retriever):
        return index
    raise ConfigError(
        f"index={index!r:.80}: give the folder of an index (`agentgym index build`), a .jsonl file of passages, "
        "or an object with search, search_many, passage and __len__"
    )


@functools.lru_cache(maxsize=8)
def _shared(path: Path, changed: tuple[int, int] | None, verify: bool) -> Retriever:
    if path.is_file():
        return BM25Retriever.from_passages(read_passages(path))
    if is_lucene_index(path) and not (path / NAME).exists():
        return PyseriniRetriever(path)
    return open_index(path, verify=verify)


def _write_files(
    paths: Sequence[Path], folder: Path, progress: Progress
) -> tuple[dict[str, int], list[dict[str, JSON]]]:
    sources = [SourceFile(path, "rows") for path in paths]
    spill = folder / "blocks"
    spill.mkdir()
    builder = PostingsBuilder(spill)
    _write_passages(sources, folder, builder, progress)

    def allocate(name: str, length: int, dtype: str) -> np.ndarray:
        # A file of length 0 cannot be mapped.
        path = folder / f"{name}.npy"
        if length:
            return np.lib.format.open_memmap(path, "w+", dtype=dtype, shape=(length,))
        np.save(path, np.empty(0, dtype))
        return np.empty(0, dtype)

    postings = builder.finish(allocate, lambda done, total: progress("score", done, total))
    for mapped in (postings.scores, postings.docs, postings.starts):
        if isinstance(mapped, np.memmap):
            mapped.flush()
    _write_terms(builder.vocabulary, folder)
    for block in spill.iterdir():
        block.unlink()
    spill.rmdir()
    counts = {
        "passages": postings.n_docs,
        "terms": len(builder.vocabulary),
        "postings": len(postings.docs),
        "tokens": sum(builder.lengths),
    }
    return counts, [source.entry() for source in sources]


def _write_passages(sources: Sequence[SourceFile], folder: Path, builder: PostingsBuilder, progress: Progress) -> None:
    total = sum(s.path.stat().st_size for s in sources if s.path.exists())
    lines, keys = array("q"), array("Q")
    with (folder / "passages.utf8").open("wb") as file:
        writer = TextWriter(file)
        for source in sources:
            for line, passage in read_rows(source.path, digest=source):
                for text in (passage.id, passage.title, passage.text):
                    writer.write(text)
                lines.append(line)
                keys.append(string_key(passage.id))
                builder.add(terms(f"{passage.title} {passage.text}"))
                source.passages += 1
                if len(lines) % _REPORT_EVERY == 0:
                    progress("read", sum(s.bytes for s in sources), total)
    if not lines:
        raise no_passages([s.path for s in sources])
    progress("read", total, total)
    np.save(folder / "passage_bounds.npy", np.frombuffer(writer.bounds, np.int64))
    ordered, numbers = sorted_keys(keys)
    np.save(folder / "id_keys.npy", ordered)
    np.save(folder / "id_numbers.npy", numbers)
    store = PassageStore(_load(folder, "passages.utf8"), np.frombuffer(writer.bounds, np.int64), ordered, numbers)
    ends = np.cumsum([s.passages for s in sources]).tolist()
    refuse_repeated_ids(ordered, numbers, lambda i: store[i].id, lambda i: f"{sources[bisect_right(ends, i)].path}:{lines[i]}")


def _write_terms(vocabulary: dict[str, int], folder: Path) -> None:
    keys = array("Q")
    with (folder / "terms.utf8").open("wb") as file:
        writer = TextWriter(file)
        for term in vocabulary:
            writer.write(term)
            keys.append(string_key(term))
    ordered, numbers = sorted_keys(keys)
    np.save(folder / "term_bounds.npy", np.frombuffer(writer.bounds, np.int64))
    np.save(folder / "term_keys.npy", ordered)
    np.save(folder / "term_numbers.npy", numbers)


def _load(folder: Path, name: str) -> np.ndarray:
    """Map a file of an index, or read it where it is small."""
    path = folder / name
    mapped = path.stat().st_size > SMALL_FILE
    if path.suffix == ".npy":
        return np.asarray(np.load(path, mmap_mode="r" if mapped else None))
    return np.asarray(np.memmap(path, np.uint8, "r")) if mapped else np.fromfile(path, np.uint8)
