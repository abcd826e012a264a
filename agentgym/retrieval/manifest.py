"""The manifest of an index: what it holds, and how to tell that it is whole."""

import hashlib
import json
from pathlib import Path
from typing import Any

from agentgym.errors import DataError
from agentgym.jsonl import parse_json
from agentgym.retrieval.analyzer import ANALYZER
from agentgym.retrieval.postings import K1, B
from agentgym.types import JSON

NAME = "manifest.json"
FORMAT = "agentgym-bm25"
"""Scores of bm25s, worked out when the index is built; analyzer `words-1`, fixed parameters."""
LUCENE = "agentgym-lucene"
"""Postings with frequencies, scored as Lucene does; analyzer `lucene-english-1`, any parameters."""
VERSION = 1
"""Raise it whenever files of older indexes can no longer be read."""
PARAMETERS = {"k1": K1, "b": B, "method": "lucene"}
LUCENE_ANALYZER = "lucene-english-1"
SMALL_FILE = 1 << 20
"""Files up to this many bytes have their checksum compared at every opening."""
SMALL_INDEX = 256 << 20
"""Indexes up to this many bytes have all their checksums compared at every opening."""


class SourceFile:
    """Counts and hashes the stored bytes of one file of passages while it is read."""

    def __init__(self, path: Path, format: str) -> None:
        """Take a file and the name of its format."""
        self.path, self.format, self.bytes, self.passages = path, format, 0, 0
        self._digest = hashlib.sha256()

    def update(self, data: Any) -> None:
        """Take the next bytes."""
        self.bytes += len(data)
        self._digest.update(data)

    def entry(self) -> dict[str, JSON]:
        """Return what the manifest keeps: no folders, so that an index may be published."""
        return {
            "name": self.path.name,
            "format": self.format,
            "bytes": self.bytes,
            "sha256": self._digest.hexdigest(),
            "passages": self.passages,
        }


def write_manifest(
    folder: Path,
    counts: dict[str, int],
    sources: list[dict[str, JSON]],
    kind: str = FORMAT,
    parameters: dict[str, JSON] = PARAMETERS,
) -> dict[str, JSON]:
    """Describe all files of a folder in its manifest; return the manifest. `kind` is FORMAT or LUCENE."""
    files = {
        path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)}
        for path in sorted(folder.iterdir())
        if path.name != NAME
    }
    manifest: dict[str, JSON] = {
        "format": kind,
        "version": VERSION,
        "analyzer": ANALYZER if kind == FORMAT else LUCENE_ANALYZER,
        "parameters": parameters,
        "counts": counts,
        "sources": sources,
        "files": files,
    }
    manifest["seal"] = _seal(manifest)
    (folder / NAME).write_text(json.dumps(manifest, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return manifest


def read_manifest(folder: Path) -> dict[str, JSON]:
    """Return the manifest of an index that this version can read.

    Raises:
        DataError: no index there, a damaged manifest, another format, version or analyzer.
    """
    path = folder / NAME
    if folder.is_file():
        raise DataError(f"{folder}: a file, not the folder of an index; give what `agentgym index build --out` made")
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. {_rebuild(folder)}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: missing, so {folder} is no index. {_rebuild(folder)}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}. {_rebuild(folder)}") from error
    try:
        manifest = parse_json(text, str(path))
    except DataError as error:
        raise DataError(f"{error}. {_rebuild(folder)}") from error
    if not isinstance(manifest, dict) or manifest.get("format") not in (FORMAT, LUCENE):
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise DataError(f"{path}: format {found!r:.40} where {LUCENE!r} or {FORMAT!r} is needed. {_rebuild(folder)}")
    if manifest.get("version") != VERSION:
        raise DataError(
            f"{path}: index format version {manifest.get('version')!r:.20}; this AgentGym reads version {VERSION}. "
            + _rebuild(folder)
        )
    if manifest.get("seal") != _seal(manifest):
        raise DataError(f"{path}: damaged: its content does not match its own checksum. {_rebuild(folder)}")
    fixed = manifest["format"] == FORMAT
    analyzer = ANALYZER if fixed else LUCENE_ANALYZER
    if manifest["analyzer"] != analyzer or (fixed and manifest["parameters"] != PARAMETERS):
        raise DataError(
            f"{path}: built with analyzer {manifest['analyzer']!r} and {manifest['parameters']}; this AgentGym "
            f"searches with {analyzer!r}{f' and {PARAMETERS}' if fixed else ''}. {_rebuild(folder)}"
        )
    return manifest


def check_files(folder: Path, manifest: dict[str, JSON], *, verify: bool) -> None:
    """Compare the files of an index with its manifest.

    Sizes are always compared, and the checksums of files up to 1 MiB; all checksums when `verify` is set or the
    index has at most 256 MiB.

    Raises:
        DataError: a file is missing, has another size or other content.
    """
    files = manifest["files"]
    whole = verify or sum(entry["bytes"] for entry in files.values()) <= SMALL_INDEX
    for name, entry in files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError:
            raise DataError(f"{path}: missing. {_rebuild(folder)}") from None
        if size != entry["bytes"]:
            raise DataError(f"{path}: has {size:,} bytes, the manifest says {entry['bytes']:,}. {_rebuild(folder)}")
        if (whole or size <= SMALL_FILE) and _sha256(path) != entry["sha256"]:
            raise DataError(f"{path}: damaged: SHA-256 differs from the manifest. {_rebuild(folder)}")


def _rebuild(folder: Path) -> str:
    return f"Build it (again) with `agentgym index build`, output folder {folder}"


def _seal(manifest: dict[str, JSON]) -> str:
    body = {name: value for name, value in manifest.items() if name != "seal"}
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
