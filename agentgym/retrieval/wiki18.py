"""The Wikipedia of December 2018 in 21,015,324 passages of 100 words: found on disk, or downloaded with resumption."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx

from agentgym.errors import ConfigError, DataError, ServiceError

URL = "https://huggingface.co/datasets/PeterJinGo/wiki-18-corpus/resolve/main/wiki-18.jsonl.gz"
"""Where Search-R1 publishes it. DPR's own copy of the passages is `psgs_w100.tsv.gz`; either is taken."""
NAMES = ("wiki-18.jsonl", "wiki-18.jsonl.gz", "psgs_w100.tsv", "psgs_w100.tsv.gz")
PASSAGES = 21_015_324
ATTEMPTS = 8
"""Attempts without a new byte after which a download is given up."""
TIMEOUT_S = 30.0

Progress = Callable[[str, int, int], None]


def corpus_file(
    folder: Path,
    *,
    corpus: Path | None = None,
    url: str | None = None,
    sha256: str | None = None,
    progress: Progress | None = None,
    wait: Callable[[int], None] | None = None,
) -> Path:
    """Return the corpus: the file that was named, one of NAMES in `folder`, or what is downloaded into it.

    Args:
        folder: where to look, and to keep the download.
        corpus: a file that is there already.
        url: another place; the file is kept under the last part of its path.
        sha256: what the download must have; without it, what the server says of it (`X-Linked-ETag`) is compared.
        progress: called with ("download", bytes, bytes in all or 0).
        wait: called with the number of the attempt before it is repeated (default: sleeps 1, 2, 4 … seconds).

    Raises:
        ConfigError: the address is none.
        DataError: the checksum differs.
        ServiceError: the download does not get on; what came is kept, and a further call goes on there.
    """
    if corpus is not None:
        return corpus
    address = httpx.URL(url or URL)
    name = address.path.rpartition("/")[2]
    if address.scheme not in ("http", "https") or not name:
        raise ConfigError(f"--url {str(address)!r}: give the http or https address of a file")
    for known in NAMES if url is None else (name,):
        if (folder / known).is_file():
            return folder / known
    folder.mkdir(parents=True, exist_ok=True)
    return _Download(address, folder / name, sha256, progress or (lambda stage, done, total: None), wait or _sleep).run()


class _Download:
    """One file over HTTP, continued by Range after every break, also of an earlier process."""

    def __init__(self, url: httpx.URL, target: Path, sha256: str | None, progress: Progress, wait: Callable[[int], None]) -> None:
        self._url, self._target, self._sha256, self._progress, self._wait = url, target, sha256, progress, wait
        self._partial = target.with_name(target.name + ".partial")
        self._notes = target.with_name(target.name + ".partial.json")
        self._total = 0

    def run(self) -> Path:
        attempt = 0
        with httpx.Client(follow_redirects=True, timeout=TIMEOUT_S) as client:
            while True:
                before = self._size()
                try:
                    if self._once(client):
                        return self._done()
                    reason = "the server closed the connection early"
                except httpx.HTTPError as error:
                    reason = f"{type(error).__name__}: {error}"
                attempt = 1 if self._size() > before else attempt + 1
                if attempt >= ATTEMPTS:
                    raise ServiceError(
                        f"{self._url}: {reason}, {ATTEMPTS} times without a new byte; {self._size():,} bytes are kept in "
                        f"{self._partial}: run the same command again to go on, or give --corpus FILE"
                    )
                self._wait(attempt)

    def _size(self) -> int:
        return self._partial.stat().st_size if self._partial.exists() else 0

    def _once(self, client: httpx.Client) -> bool:
        """Take what the server gives from where the file ends; True when it is whole."""
        at, validator = self._size(), self._read_notes()
        headers = {"Accept-Encoding": "identity"}
        if at:
            headers |= {"Range": f"bytes={at}-"} | ({"If-Range": validator} if validator else {})
        with client.stream("GET", self._url, headers=headers) as answer:
            if answer.status_code == 416 and at:  # nothing behind the end: whole, unless the file is another one
                self._total = int(answer.headers.get("Content-Range", "*/0").rpartition("/")[2] or 0)
                if at == self._total:
                    return True
                self._partial.unlink()
                return False
            if answer.status_code in (429, 500, 502, 503, 504):
                raise httpx.HTTPStatusError(f"status {answer.status_code}", request=answer.request, response=answer)
            if answer.status_code not in (200, 206):
                raise ServiceError(f"{self._url}: the server answers {answer.status_code}; give another --url, or --corpus FILE")
            if answer.status_code == 200:
                at = 0
            self._total = at + int(answer.headers.get("Content-Length", 0))
            self._write_notes(answer)
            with self._partial.open("ab" if at else "wb") as file:
                for piece in self._pieces(answer):
                    file.write(piece)
                    at += len(piece)
                    self._progress("download", at, self._total)
                file.flush()
                os.fsync(file.fileno())
        return at >= self._total > 0 or (self._total == 0 and at > 0)

    def _pieces(self, answer: httpx.Response) -> Iterator[bytes]:
        """Yield bytes; a break ends the stream, so that what came before it is written."""
        try:
            yield from answer.iter_raw()  # of no fixed size: a buffer would lose what came before the break
        except httpx.TransportError:
            return

    def _read_notes(self) -> str:
        try:
            notes = json.loads(self._notes.read_text(encoding="utf-8"))
            self._sha256 = self._sha256 or notes.get("sha256")
            return notes["validator"] if notes["url"] == str(self._url) else ""
        except (OSError, ValueError, KeyError):
            return ""

    def _write_notes(self, answer: httpx.Response) -> None:
        linked = next((r.headers["X-Linked-ETag"].strip('"') for r in (*answer.history, answer) if "X-Linked-ETag" in r.headers), "")
        if self._sha256 is None and len(linked) == 64:
            self._sha256 = linked
        tag = answer.headers.get("ETag", "")
        validator = tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified", "")
        self._notes.write_text(json.dumps({"url": str(self._url), "validator": validator, "sha256": self._sha256}), encoding="utf-8")

    def _done(self) -> Path:
        """Compare the checksum and give the file its name."""
        if self._sha256:
            with self._partial.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != self._sha256.lower():
                wrong = self._partial.with_name(self._target.name + ".damaged")
                self._partial.replace(wrong)
                self._notes.unlink(missing_ok=True)
                raise DataError(f"{wrong}: SHA-256 {found}, expected {self._sha256}; delete it and run the same command again")
        self._partial.replace(self._target)
        self._notes.unlink(missing_ok=True)
        return self._target


def _sleep(attempt: int) -> None:
    import time

    time.sleep(min(2 ** (attempt - 1), 60))
