"""Files of a workspace, as the zygote touches them: no link is followed, no name is trusted, no recursion."""

import errno
import os
import stat
from collections.abc import Iterator

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH = 64


class PathError(Exception):
    """A path that cannot be had; the message is for the policy."""


def parts(path: str) -> list[str]:
    """Return the names of a relative path. Raises PathError."""
    if not path or "\0" in path or len(path) > 1024:
        raise PathError(f"not a path: {path[:80]!r}")
    if path.startswith("/"):
        raise PathError(f"{path[:80]!r}: give a path relative to the workspace")
    names = [name for name in path.split("/") if name not in ("", ".")]
    if not names or ".." in names or len(names) > _MAX_DEPTH:
        raise PathError(f"{path[:80]!r} leaves the workspace or is too deep")
    return names


def folder(root: str, names: list[str], *, make: bool = False) -> int:
    """Open a folder below `root` step by step. Raises PathError."""
    here = os.open(root, _FOLDER)
    try:
        for name in names:
            if make:
                try:
                    os.mkdir(name, 0o700, dir_fd=here)
                except FileExistsError:
                    pass
            below = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
    except OSError as error:
        os.close(here)
        raise PathError(f"{'/'.join(names)[:80]!r}: {error.strerror}") from error
    return here


def open_file(root: str, path: str, *, write: bool) -> int:
    """Open a plain file for reading, or make it anew for writing. Raises PathError."""
    *above, name = parts(path)
    where = folder(root, above, make=write)
    try:
        if write:
            try:
                os.unlink(name, dir_fd=where)  # never write through a link, a pipe or a shared inode
            except FileNotFoundError:
                pass
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        else:
            flags = os.O_RDONLY | os.O_NONBLOCK
        fd = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=where)
    except OSError as error:
        raise PathError(f"{path[:80]!r}: {error.strerror}") from error
    finally:
        os.close(where)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise PathError(f"{path[:80]!r} is no plain file")
    return fd


def walk(root: str, max_entries: int) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (relative path, lstat) of everything below `root`, folders before what they hold, up to `max_entries`."""
    pending, seen = [""], 0
    while pending:
        inside = pending.pop()
        try:
            here = os.open(f"{root}/{inside}" if inside else root, _FOLDER)
        except OSError:
            continue
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    seen += 1
                    if seen > max_entries:
                        return
                    try:
                        status = entry.stat(follow_symlinks=False)
                    except OSError:
                        continue
                    path = f"{inside}/{entry.name}" if inside else entry.name
                    if len(path) > 1024:
                        yield path, status
                        return  # deeper than anybody needs: counted as too many
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(path)
                    yield path, status
        except OSError:
            continue
        finally:
            os.close(here)


def listing(root: str, max_entries: int) -> dict[str, int]:
    """Return relative path -> bytes of the plain files, sorted."""
    found = {path: status.st_size for path, status in walk(root, max_entries) if stat.S_ISREG(status.st_mode)}
    return dict(sorted(found.items()))


def usage(root: str, max_entries: int) -> tuple[int, int]:
    """Return (bytes on disk, number of entries) below `root`."""
    size = count = 0
    for path, status in walk(root, max_entries):
        size += status.st_blocks * 512
        count += 1 if len(path) <= 1024 else max_entries
    return size, count


def copy(source: str, target: str, max_entries: int) -> None:
    """Copy plain files, folders and links (as links) into the empty folder `target`. Raises OSError (disk full)."""
    for path, status in walk(source, max_entries):
        to = f"{target}/{path}"
        if stat.S_ISDIR(status.st_mode):
            os.mkdir(to, 0o700)
        elif stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(f"{source}/{path}"), to)
        elif stat.S_ISREG(status.st_mode):
            reading = os.open(f"{source}/{path}", os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                writing = os.open(to, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, status.st_mode & 0o700 | 0o600)
                try:
                    while chunk := os.read(reading, 1 << 20):
                        view = memoryview(chunk)
                        while view:
                            view = view[os.write(writing, view) :]
                finally:
                    os.close(writing)
            finally:
                os.close(reading)


def clear(root: str) -> int:
    """Delete everything below `root`, however deep and whatever its modes; return what could not be deleted."""
    try:
        top = os.open(root, _FOLDER)
    except PermissionError:
        os.chmod(root, 0o700)
        top = os.open(root, _FOLDER)
    number, failed = 0, 0
    try:
        while failed < 8:
            names = [entry.name for entry in _entries(top)]
            if not names:
                return 0
            for name in names:
                number, gone = _delete(top, top, name, number)
                failed += not gone
        return failed
    finally:
        os.close(top)


def _delete(top: int, above: int, name: str, number: int) -> tuple[int, bool]:
    """Delete one entry of `above`. Folders deeper than `_MAX_DEPTH` are moved up to `top`, for a later pass."""
    stack: list[tuple[int, str, list[str]]] = []
    parent, child = above, name
    try:
        while True:
            here = _enter(parent, child)
            if here is None:
                gone = _unlink(parent, child)
            elif len(stack) >= _MAX_DEPTH:
                number = _lift(top, here, number)
                os.close(here)
                gone = _unlink(parent, child, folder=True)
            else:
                stack.append((here, child, [entry.name for entry in _entries(here)]))
                gone = True
            if not gone:
                return number, False
            while stack and not stack[-1][2]:
                here, child, _ = stack.pop()
                os.close(here)
                if not _unlink(stack[-1][0] if stack else above, child, folder=True):
                    return number, False
            if not stack:
                return number, True
            parent, child = stack[-1][0], stack[-1][2].pop()
    except OSError:
        return number, False
    finally:
        for here, _, _ in stack:
            os.close(here)


def _enter(parent: int, name: str) -> int | None:
    """Open a folder with full rights, or return None for anything else."""
    try:
        if not stat.S_ISDIR(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            return None
        try:
            return os.open(name, _FOLDER, dir_fd=parent)
        except PermissionError:
            os.chmod(name, 0o700, dir_fd=parent)
    except FileNotFoundError:
        return None
    here = os.open(name, _FOLDER, dir_fd=parent)
    return here


def _unlink(parent: int, name: str, *, folder: bool = False) -> bool:
    remove = os.rmdir if folder else os.unlink
    try:
        remove(name, dir_fd=parent)
    except FileNotFoundError:
        pass
    except PermissionError:
        os.fchmod(parent, 0o700)
        try:
            remove(name, dir_fd=parent)
        except OSError:
            return False
    except OSError:
        return False
    return True


def _lift(top: int, here: int, number: int) -> int:
    """Delete the files of one folder and move its folders up to `top`."""
    for entry in _entries(here):
        if not entry.is_dir(follow_symlinks=False):
            _unlink(here, entry.name)
            continue
        while True:
            number += 1
            try:
                os.rename(entry.name, f".lifted-{number}", src_dir_fd=here, dst_dir_fd=top)
                break
            except OSError as error:
                if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                    raise
    return number


def _entries(folder: int) -> list["os.DirEntry[str]"]:
    with os.scandir(folder) as entries:
        return list(entries)
