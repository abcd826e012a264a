"""What the zygote reads of processes and descriptors."""

import os


def anonymous_kb(pid: int) -> int:
    """Memory that is a process's own, KiB; 0 where it is gone."""
    try:
        with open(f"/proc/{pid}/status", "rb") as file:
            text = file.read()
    except OSError:
        return 0
    at = text.find(b"RssAnon:")
    return int(text[at + 8 : text.find(b"kB", at)]) if at >= 0 else 0


def used(pid: int) -> tuple[float, float]:
    """CPU seconds (ended children included) and largest resident MiB of a live process."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            rest = file.read().rpartition(b")")[2].split()
        with open(f"/proc/{pid}/status", "rb") as file:
            text = file.read()
    except OSError:
        return 0.0, 0.0
    at = text.find(b"VmHWM:")
    peak = int(text[at + 6 : text.find(b"kB", at)]) / 1024 if at >= 0 else 0.0
    return sum(int(part) for part in rest[11:15]) / os.sysconf("SC_CLK_TCK"), peak


def is_zombie(pid: int) -> bool:
    """Say whether a process is dead, waited for or not."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"Z", b"X")
    except OSError:
        return True


def removed(folder: str) -> bool:
    """Delete an empty folder; False where it is not empty."""
    try:
        os.rmdir(folder)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def is_open(fd: int) -> bool:
    """Say whether a descriptor is open here."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def worst_for_memory() -> None:
    """Be the first that the kernel kills where memory runs out."""
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write("1000")
    except OSError:  # a courtesy to the host, no part of the boundary
        pass
