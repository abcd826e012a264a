"""Dense retrieval: passages by the inner product of encoded texts. Built beside the passages of an index."""

import functools
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from agentgym.errors import ConfigError, DataError
from agentgym.retrieval.bm25 import BM25Retriever, Passages
from agentgym.retrieval.encoder_specs import open_encoder
from agentgym.retrieval.encoders import Encoder
from agentgym.retrieval.index import open_index
from agentgym.retrieval.protocol import Hit
from agentgym.retrieval.vectors import ExactVectors, FaissVectors, Vectors, build_vectors, plan_vectors
from agentgym.retrieval.workspace import building, publish, restore, workspace
from agentgym.types import JSON, Passage

FORMAT, VERSION = "agentgym-dense", 1
FOLDER = "dense"
"""Where the dense part of an index lies, inside its folder."""
SHARD = 4_096
"""Passages of one file of vectors: what a killed build repeats at most."""
DEFAULT_ENCODER = "minilm"
_TOLD = 512
"""Passages encoded between two reports of progress."""
_SAMPLE = 256
"""Passages whose first words are the queries by which recall is measured, where no queries are given."""

Progress = Callable[[str, int, int], None]


class DenseRetriever:
    """Searches by vectors. It never changes after construction; copies are the object itself."""

    def __init__(
        self,
        passages: Passages,
        encoder: Encoder,
        vectors: Vectors,
        origin: tuple[Callable[..., Any], tuple[Any, ...]],
    ) -> None:
        """Join the parts; use `from_passages` or `open_dense`. `origin` is what pickle calls to make it again."""
        self.passages, self.encoder, self._vectors, self._origin = passages, encoder, vectors, origin

    @classmethod
    def from_passages(cls, passages: Iterable[Passage], encoder: str | Encoder = DEFAULT_ENCODER) -> "DenseRetriever":
        """Encode passages and search them exactly, in memory. Raises DataError for no passages, or ids used twice."""
        kept = list(passages)
        store = passages_of(BM25Retriever.from_passages(kept))  # checks the ids
        opened = open_encoder(encoder) if isinstance(encoder, str) else encoder
        return cls(store, opened, ExactVectors(opened.encode_passages(kept)), (cls.from_passages, (kept, encoder)))

    def rank(self, queries: Sequence[str], k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return for each query positions [n] int64 and scores [n] float32 > 0, best first, n at most k."""
        asked = [i for i, query in enumerate(queries) if query.strip()]
        found = [(np.zeros(0, np.int64), np.zeros(0, np.float32)) for _ in queries]
        if k < 1 or not asked:
            return found
        scores, places = self._vectors.search(self.encoder.encode_queries([queries[i] for i in asked]), min(k, len(self)))
        for i, row, at in zip(asked, scores, places, strict=True):
            kept = (at >= 0) & (row > 0)
            found[i] = at[kept], row[kept]
        return found

    def search(self, query: str, k: int) -> list[Hit]:
        """Return at most k hits with positive score, best first; ties by corpus order."""
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Search a batch, encoded together."""
        passages = self.passages
        return [
            [Hit(passages[p], s) for p, s in zip(places.tolist(), scores.tolist(), strict=True)]
            for places, scores in self.rank(queries, k)
        ]

    def passage(self, doc_id: str) -> Passage | None:
        """Return a passage by id, or None."""
        position = self.passages.position(doc_id)
        return None if position is None else self.passages[position]

    def __len__(self) -> int:
        return len(self.passages)

    def __copy__(self) -> "DenseRetriever":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "DenseRetriever":
        return self

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self._origin


def build_dense(
    index: str | Path,
    encoder: str | Encoder = DEFAULT_ENCODER,
    *,
    kind: str = "auto",
    queries: Sequence[str] = (),
    target_recall: float = 0.95,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> dict[str, JSON]:
    """Encode the passages of an index and build its dense part; return the dense part's manifest.

    Vectors are written in shards as they are made: a build that was killed goes on after its last whole shard. They
    stay beside the index (16 bits a number), so that another kind is built without encoding again.

    Args:
        index: folder made by `agentgym index build`.
        encoder: a spec (`open_encoder`) or an Encoder.
        kind: "auto" (by size), "flat", "hnsw" or "ivfpq".
        queries: what users will ask, for measuring recall; without them the first words of some passages.
        target_recall: see `build_vectors`.
        overwrite: replace a dense part that is there already.
        progress: called with (stage, done, in all); stages "encode" and "vectors".

    Raises:
        ConfigError: there is a dense part already, another process makes it, or the kind does not suit.
        DataError: the index cannot be used.
    """
    folder, tell = Path(index).expanduser().resolve(), progress or (lambda stage, done, total: None)
    passages, out = passages_of(open_index(folder)), folder / FOLDER
    restore(out)
    if out.exists() and not overwrite:
        raise ConfigError(f"{out} is there already; replace it with --overwrite, overwrite=True")
    opened = open_encoder(encoder) if isinstance(encoder, str) else encoder
    plan = plan_vectors(len(passages), opened.dim, kind)
    made = {"index": index_mark(folder), "encoder": opened.describe(), "passages": len(passages)}
    with building(out) as kept:
        _keep_or_clear(kept, out, made)
        shards = _encoded(passages, opened, kept, tell)
        asked = opened.encode_queries(list(queries) or _sample(passages))
        with workspace(out) as work:
            rows = _joined(shards, work / "vectors.npy", (len(passages), opened.dim))
            found = build_vectors(rows, asked, work / "vectors.faiss", plan, target_recall=target_recall, progress=tell)
            (work / "made.json").write_text(json.dumps(made), encoding="utf-8")
            files = {p.name: {"bytes": p.stat().st_size, "sha256": _sha256(p)} for p in sorted(work.iterdir())}
            spec = opened.name if isinstance(encoder, str) else ""
            manifest = {"format": FORMAT, "version": VERSION, **made, "spec": spec, "vectors": found, "files": files}
            (work / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            publish(work, out)
    return manifest


def open_dense(index: str | Path, encoder: str | Encoder | None = None, *, verify: bool = False) -> DenseRetriever:
    """Open the dense part of an index.

    Args:
        index: folder of the index.
        encoder: instead of the one that the manifest names; it must make the same vectors.
        verify: compare the checksums of all files, however large.

    Raises:
        ConfigError: another encoder than the one the index was built with.
        DataError: no dense part, one of an older index, or damaged files.
    """
    folder = Path(index).expanduser().resolve()
    manifest = check_dense(folder, verify=verify)
    spec = encoder if encoder is not None else manifest["spec"]
    if not spec:
        raise ConfigError(f"{folder / FOLDER}: built with an encoder object; give the encoder to search with")
    opened = open_encoder(spec) if isinstance(spec, str) else spec
    if opened.describe() != manifest["encoder"]:
        raise ConfigError(
            f"{folder / FOLDER}: built with {manifest['encoder']}, the encoder {opened.name!r} is {opened.describe()}; "
            "search with the encoder that the passages were encoded with"
        )
    vectors = FaissVectors(folder / FOLDER / "vectors.faiss", manifest["vectors"])
    return DenseRetriever(passages_of(open_index(folder)), opened, vectors, (open_dense, (str(folder), encoder)))


def check_dense(folder: Path, *, verify: bool = True) -> dict[str, JSON]:
    """Compare the dense part of an index with its manifest (sizes; checksums with `verify`), and return the manifest.

    Raises:
        DataError: no dense part, one of another state of the index, or damaged files.
    """
    manifest = dense_manifest(folder)
    if manifest["index"] != index_mark(folder):
        raise DataError(f"{folder / FOLDER}: made for another state of the index in {folder}; {_again(folder)}")
    for name, entry in manifest["files"].items():
        path = folder / FOLDER / name
        if not path.is_file() or path.stat().st_size != entry["bytes"] or (verify and _sha256(path) != entry["sha256"]):
            raise DataError(f"{path}: missing or damaged; {_again(folder)}")
    return manifest


def dense_manifest(folder: Path) -> dict[str, JSON]:
    """Return the manifest of an index's dense part. Raises DataError where there is none that can be read."""
    path = folder / FOLDER / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise DataError(f"{folder}: this index has no dense part; {_again(folder)}") from None
    except ValueError as error:
        raise DataError(f"{path}: damaged: {error}; {_again(folder)}") from None
    if not isinstance(manifest, dict) or (manifest.get("format"), manifest.get("version")) != (FORMAT, VERSION):
        raise DataError(f"{path}: not a manifest of {FORMAT} {VERSION}; {_again(folder)}")
    return manifest


class _ByPosition:
    """The passages of a retriever that gives them one by one."""

    def __init__(self, retriever: Any) -> None:
        self._retriever = retriever

    def __len__(self) -> int:
        return len(self._retriever)

    def __getitem__(self, position: int) -> Passage:
        return self._retriever.passage_at(position)

    def position(self, doc_id: str) -> int | None:
        return self._retriever.position(doc_id)


def passages_of(retriever: Any) -> Passages:
    """Return the passages behind a retriever of this package, by position and by id.

    Raises:
        ConfigError: a retriever of others, which names passages by id alone.
    """
    if hasattr(retriever, "passage_at") and hasattr(retriever, "position"):
        return _ByPosition(retriever)
    found = getattr(retriever, "passages", None) or getattr(retriever, "_passages", None)
    if found is None:
        raise ConfigError(f"{type(retriever).__name__} cannot list its passages; give the folder of an index or a file of passages")
    return found


def index_mark(folder: Path) -> str:
    """Return what tells one state of an index from another. Raises DataError for a folder without a manifest."""
    try:
        return hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()[:16]
    except OSError:
        raise DataError(f"{folder}: no index of `agentgym index build`, so it can have no dense part") from None


def _again(folder: Path) -> str:
    return f"make it with `agentgym index dense {folder}`"


def _keep_or_clear(kept: Path, out: Path, made: dict[str, JSON]) -> None:
    """Drop shards of another build than this one.

    The vectors of an existing dense part count as shards already made: another kind needs no encoding.
    """
    mark, now, old = kept / "made.json", json.dumps(made), out / "made.json"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != now:
        for shard in kept.glob("chunk-*"):
            shard.unlink()
        mark.write_text(now, encoding="utf-8")
    if old.is_file() and old.read_text(encoding="utf-8") == now and not list(kept.glob("chunk-*.npy")):
        rows = np.load(out / "vectors.npy", mmap_mode="r")
        for n, start in enumerate(range(0, len(rows), SHARD)):
            _save(kept / f"chunk-{n:06d}.npy", np.asarray(rows[start : start + SHARD]))


def _encoded(passages: Passages, encoder: Encoder, kept: Path, tell: Progress) -> list[Path]:
    """Return the files of [m, d] float16 rows, encoding only the shards that are not there yet."""
    shards = []
    for n, start in enumerate(range(0, len(passages), SHARD)):
        path, end = kept / f"chunk-{n:06d}.npy", min(start + SHARD, len(passages))
        if not path.is_file():
            rows = np.empty((end - start, encoder.dim), np.float16)
            for at in range(start, end, _TOLD):
                part = [passages[i] for i in range(at, min(at + _TOLD, end))]
                rows[at - start : at - start + len(part)] = encoder.encode_passages(part)
                tell("encode", at + len(part), len(passages))
            _save(path, rows)
        shards.append(path)
        tell("encode", end, len(passages))
    return shards


def _joined(shards: Sequence[Path], path: Path, shape: tuple[int, int]) -> np.ndarray:
    """Copy the shards into one mapped file and return it: memory does not grow with the corpus."""
    rows = np.lib.format.open_memmap(path, "w+", dtype=np.float16, shape=shape)
    start = 0
    for shard in shards:
        part = np.load(shard)
        rows[start : start + len(part)] = part
        start += len(part)
    rows.flush()
    return rows


def _save(path: Path, rows: np.ndarray) -> None:
    temporary = path.with_suffix(".partial")
    with temporary.open("wb") as file:
        np.save(file, rows)
    temporary.replace(path)


def _sample(passages: Passages) -> list[str]:
    """Return the first words of passages spread over the corpus."""
    step = max(1, len(passages) // _SAMPLE)
    return [" ".join(passages[i].text.split()[:12]) or passages[i].title for i in range(0, len(passages), step)][:_SAMPLE]


@functools.lru_cache(maxsize=8)
def shared_dense(folder: str, mark: str, encoder: str | None) -> DenseRetriever:
    """Return the dense retriever of an index, one per process and state of its files."""
    return open_dense(folder, encoder)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
