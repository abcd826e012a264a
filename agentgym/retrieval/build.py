"""One call to build an index, whatever the engine."""

from collections.abc import Sequence
from pathlib import Path

from agentgym.errors import ConfigError, suggestion
from agentgym.retrieval.lexical.build import PARAMETERS, Progress, build_lexical
from agentgym.types import JSON

ENGINES = ("lucene", "bm25s")


def build_index(
    passages_paths: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    *,
    engine: str = "lucene",
    overwrite: bool = False,
    progress: Progress | None = None,
    processes: int = 1,
    format: str | None = None,
    k1: float = PARAMETERS["k1"],
    b: float = PARAMETERS["b"],
) -> dict[str, JSON]:
    """Build an index of passages and return its manifest; the folder appears complete or not at all.

    Args:
        passages_paths: files or folders of a known format (see `agentgym.retrieval.formats.FORMATS`); their order is
            the order of ties.
        out_dir: folder to make; it must not exist, or be empty, or hold an index and `overwrite` be set.
        engine: "lucene" (exact Lucene BM25, any size) or "bm25s" (that library's scores, words without stemming).
        overwrite: replace an existing index.
        progress: called with (stage, done, in all).
        processes: how many processes read passages (lucene only).
        format: name of the format, where the names of the files do not tell it (lucene only).
        k1: saturation of the term frequency (lucene only).
        b: weight of the passage length (lucene only).

    Raises:
        ConfigError: `out_dir` is in use or being built, an unknown engine or format.
        DataError: a broken line, an id used twice, no passages.
        MissingExtraError: a format needs a package that is not installed.
        ServiceError: the disk is full, or a process died; the same call goes on where it stopped.
    """
    paths = [Path(p) for p in ([passages_paths] if isinstance(passages_paths, str | Path) else passages_paths)]
    if engine not in ENGINES:
        raise ConfigError(f"engine {engine!r} is not known{suggestion(engine, ENGINES)}; engines: {', '.join(ENGINES)}")
    if engine == "bm25s":
        from agentgym.retrieval.index import build_index as build_bm25s

        return build_bm25s(paths, out_dir, overwrite=overwrite, progress=progress)
    return build_lexical(
        paths, Path(out_dir).resolve(), overwrite=overwrite, progress=progress, processes=processes, format=format, k1=k1, b=b
    )


def merge_indexes(
    folders: Sequence[str | Path],
    out_dir: str | Path,
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
    k1: float | None = None,
    b: float | None = None,
) -> dict[str, JSON]:
    """Join finished indexes of the engine lucene and return the manifest: see `lexical.build.merge_indexes`."""
    from agentgym.retrieval.lexical import build

    places = [Path(folder).resolve() for folder in folders]
    return build.merge_indexes(places, Path(out_dir).resolve(), overwrite=overwrite, progress=progress, k1=k1, b=b)
