"""Verdicts on disk: SQLite, one row a key, written through, safe across processes.

A cache that cannot be used is an error when it is opened, never a silent miss: a run that believes it is cached
and is not costs money.
"""

import hashlib
import json
import os
import sqlite3
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from agentgym import schema
from agentgym.errors import DataError
from agentgym.judges.protocol import Judge, JudgeRequest, Verdict

FORMAT = 1
_APPLICATION_ID = 0x41474A43
_BUSY_S = 60.0


class VerdictCache:
    """A table key → verdict in one file."""

    def __init__(self, path: str | Path) -> None:
        """Open or make the file, check it whole, and try a write.

        Raises:
            DataError: The file is no verdict cache of this format, is damaged, or cannot be written.
        """
        self.path = Path(path)
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._lock:
                self._check(self._open())
        except (sqlite3.Error, OSError) as error:
            raise self._complaint(error) from error

    def __deepcopy__(self, memo: dict[int, object]) -> "VerdictCache":
        """Return itself: the file is shared."""
        return self

    def __len__(self) -> int:
        """Return the number of verdicts."""
        try:
            with self._lock:
                return self._open().execute("SELECT count(*) FROM verdicts").fetchone()[0]
        except sqlite3.Error as error:
            raise self._complaint(error) from error

    def read(self, keys: Sequence[str]) -> dict[str, Verdict]:
        """Return the verdicts of those keys that have one. Raises DataError for a damaged row or file."""
        found: dict[str, str] = {}
        try:
            with self._lock:
                connection = self._open()
                for key in keys:
                    row = connection.execute("SELECT verdict FROM verdicts WHERE key = ?", (key,)).fetchone()
                    if row is not None:
                        found[key] = row[0]
            return {
                key: schema.from_json(Verdict, json.loads(text), f"{self.path}: {key}") for key, text in found.items()
            }
        except (sqlite3.Error, ValueError, TypeError) as error:
            raise self._complaint(error) from error

    def write(self, verdicts: dict[str, Verdict]) -> None:
        """Store verdicts; they are on disk when this returns. Raises DataError if they cannot be."""
        rows = [(key, json.dumps(schema.to_json(v), ensure_ascii=False)) for key, v in verdicts.items()]
        try:
            with self._lock, closing(self._open().cursor()) as cursor:
                cursor.execute("BEGIN IMMEDIATE")
                try:
                    cursor.executemany("INSERT OR REPLACE INTO verdicts (key, verdict) VALUES (?, ?)", rows)
                    cursor.execute("COMMIT")
                except BaseException:
                    if cursor.connection.in_transaction:  # some failures end it by themselves
                        cursor.execute("ROLLBACK")
                    raise
        except sqlite3.Error as error:
            raise self._complaint(error) from error

    def close(self) -> None:
        """Close the file; it opens again on use."""
        with self._lock:
            if self._connection is not None and self._pid == os.getpid():
                self._connection.close()
            self._connection = None

    def __del__(self) -> None:
        if self._connection is not None and self._pid == os.getpid():
            self._connection.close()

    def _open(self) -> sqlite3.Connection:
        """Return this process's connection: one that came over a fork must not be used."""
        if self._connection is None or self._pid != os.getpid():
            self._connection = sqlite3.connect(
                self.path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
            )
            self._pid = os.getpid()
        return self._connection

    def _check(self, connection: sqlite3.Connection) -> None:
        made = connection.execute("PRAGMA application_id").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if made not in (0, _APPLICATION_ID) or (tables and made == 0):
            raise sqlite3.DatabaseError("it is a database of something else")
        damage = connection.execute("PRAGMA quick_check").fetchone()[0]
        if damage != "ok":
            raise sqlite3.DatabaseError(damage)
        connection.execute("BEGIN IMMEDIATE")
        if connection.execute("PRAGMA application_id").fetchone()[0] == 0:
            connection.execute("CREATE TABLE verdicts (key TEXT PRIMARY KEY, verdict TEXT NOT NULL) WITHOUT ROWID")
            connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("INSERT OR REPLACE INTO verdicts VALUES ('', '')")  # a read-only file shows here
        connection.execute("DELETE FROM verdicts WHERE key = ''")
        connection.execute("COMMIT")
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        if version != FORMAT:
            raise sqlite3.DatabaseError(f"it has format {version}, this release reads {FORMAT}")

    def _complaint(self, error: Exception) -> DataError:
        return DataError(
            f"{self.path}: the judge cache cannot be used: {error}; move the file away to begin a new one, or choose"
            " another path that can be written"
        )


class CachedJudge:
    """Answers from a cache where it can; asks the judge below for the rest and keeps what it decides."""

    def __init__(self, judge: Judge, cache: VerdictCache | None = None) -> None:
        """Put a cache before a judge; without a file verdicts are kept in memory."""
        self.judge, self.cache, self.id = judge, cache, judge.id
        self.hits = 0
        self._memory: dict[str, Verdict] = {}

    async def decide(self, requests: Sequence[JudgeRequest]) -> list[Verdict]:
        """Return one verdict per request, in order. Abstentions are never kept."""
        keys = [cache_key(self.judge.id, request) for request in requests]
        known = self._known(list(dict.fromkeys(keys)))
        self.hits += sum(key in known for key in keys)
        open_: dict[str, JudgeRequest] = {k: r for k, r in zip(keys, requests, strict=True) if k not in known}
        if not open_:
            return [known[key] for key in keys]
        fresh = dict(zip(open_, await self.judge.decide(list(open_.values())), strict=True))
        kept = {key: verdict for key, verdict in fresh.items() if not verdict.abstained}
        if kept:
            self._keep(kept)
        return [known.get(key) or fresh[key] for key in keys]

    def metrics(self) -> dict[str, float]:
        """Return the judge's counts and how many requests the cache answered."""
        return {**self.judge.metrics(), "cached": float(self.hits)}

    def _known(self, keys: list[str]) -> dict[str, Verdict]:
        found = self.cache.read(keys) if self.cache is not None else {k: self._memory[k] for k in keys if k in self._memory}
        return {key: replace(verdict, cached=True) for key, verdict in found.items()}

    def _keep(self, verdicts: dict[str, Verdict]) -> None:
        if self.cache is not None:
            self.cache.write(verdicts)
        else:
            self._memory.update(verdicts)


def cache_key(judge_id: str, request: JudgeRequest) -> str:
    """Return the sha256 (hex) of the judge and everything that the request says."""
    body = json.dumps([FORMAT, judge_id, schema.to_json(request, keep_defaults=True)], sort_keys=True)
    return hashlib.sha256(body.encode()).hexdigest()
