"""A folder that appears complete or not at all: written beside its final place, then renamed."""

import contextlib
import json
import os
import secrets
import shutil
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from agentgym.errors import ConfigError
from agentgym.retrieval.manifest import NAME

try:
    import fcntl
except ImportError:  # no advisory locks on this platform: what a killed build leaves is removed by hand
    fcntl = None


@contextlib.contextmanager
def workspace(out: Path) -> Iterator[Path]:
    """Give an empty folder beside `out`; it is gone after the block unless `publish` moved it.

    Leftovers of builds of the same `out` whose process died are removed first. A running build holds a lock on
    its folder, so it is told from a dead one without looking at process numbers.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    for leftover in out.parent.glob(f".{out.name}.building-*"):
        with _locked(leftover) as dead:
            if dead:
                shutil.rmtree(leftover, ignore_errors=True)
    while True:
        folder = out.parent / f".{out.name}.building-{secrets.token_hex(4)}"
        folder.mkdir()
        with _locked(folder) as ours:
            # Between mkdir and lock another build may have taken the folder for a dead one.
            if not ours and fcntl is not None and not folder.exists():
                continue
            try:
                yield folder
            finally:
                shutil.rmtree(folder, ignore_errors=True)
            return


@contextlib.contextmanager
def building(out: Path) -> Iterator[Path]:
    """Give the folder `.NAME.building` beside `out`, where an interrupted build finds what it had finished.

    It is gone after the block where the block succeeds, or fails before much was finished (two folders `chunk-*`).

    Raises:
        ConfigError: another process builds `out`; says which, where and since when.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    folder = out.parent / f".{out.name}.building"
    folder.mkdir(exist_ok=True)
    lock = folder / "lock.json"
    with _held(lock) as ours:
        if not ours:
            raise ConfigError(f"{out}: {_holder(lock)} builds this index; wait for it, or choose another output folder")
        kept = False
        try:
            yield folder
        except BaseException:
            kept = sum(p.suffix != ".partial" for p in folder.glob("chunk-*")) > 1
            raise
        finally:
            if not kept:
                shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _held(lock: Path) -> Iterator[bool]:
    """Hold a lock file and write into it who does; False where another process holds it."""
    handle = os.open(lock, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            if fcntl is not None:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        except OSError:  # a file system without locks: build all the same
            pass
        holder = {"process": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(holder).encode())
        yield True
    finally:
        os.close(handle)


def _holder(lock: Path) -> str:
    """Say who holds a lock."""
    try:
        said = json.loads(lock.read_text(encoding="utf-8"))
        return f"process {said['process']} on {said['host']} (since {said['since']})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def check_target(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something else, or an index that is not to be replaced.

    Raises:
        ConfigError: says which.
    """
    restore(out)
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not (out / NAME).is_file():
        raise ConfigError(f"output folder {out} exists and holds no index; choose another, or empty it")
    if not overwrite:
        raise ConfigError(f"output folder {out} holds an index already; choose another, or replace it (--overwrite, overwrite=True)")


def publish(folder: Path, out: Path) -> None:
    """Make `folder` durable and move it to `out`; an existing `out` is replaced.

    Between the two renames of a replacement `out` is absent for a moment, never half-written; where the process ends
    just then, the next build gives it back (`restore`).
    """
    for path in (*folder.iterdir(), folder):
        _sync(path)
    old = _replaced(out)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
        out.rename(old)
    try:
        folder.rename(out)
    except BaseException:
        restore(out)
        raise
    _sync(out.parent)
    shutil.rmtree(old, ignore_errors=True)


def restore(out: Path) -> None:
    """Give back the `out` that a build was about to replace when it was killed, and clear away what is left of one."""
    old = _replaced(out)
    if out.exists():
        shutil.rmtree(old, ignore_errors=True)
    elif old.exists():
        old.rename(out)


def _replaced(out: Path) -> Path:
    return out.with_name(f".{out.name}.replaced")


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Lock a folder for this process; False where it cannot be had: held, gone, or no locks on this file system."""
    if fcntl is None:
        yield False
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held = folder.exists()
        except OSError:
            held = False
        yield held
    finally:
        os.close(handle)


def _sync(path: Path) -> None:
    """Force a file or folder to disk, where the platform can do it through a read-only handle."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
