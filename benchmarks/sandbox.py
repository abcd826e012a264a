"""Speed of the sandboxes: `make sandbox-speed`, or `python benchmarks/sandbox.py [--calls 2000] [--endurance 10000]`.

In one run: warm executions of every backend that is available here, a cold interpreter, `docker exec` where an engine
answers, calls and forks of live sessions, memory of a worker, and many executions after which nothing may be left.
Writes benchmarks/results/sandbox.json and .md. Wall times mean little on a busy machine: the load is written beside them.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentgym.errors import MissingExtraError
from agentgym.sandbox import Limits, SandboxUnavailableError, open_sandbox, owners
from agentgym.sandbox.interpreter import find
from agentgym.sandbox.pool import WarmSandbox

OUT = Path(__file__).parent / "results"
PROGRAM = "total = 0\nfor i in range(1000):\n    total += i * i\ntotal"
VALUE = "332833500"
THREADS = 2


def main(arguments: list[str]) -> int:
    """Measure, write both files; 1 if something was left behind."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--endurance", type=int, default=10_000)
    parser.add_argument("--first", action="store_true", help="schedule this run before all else (root): a busy machine as if idle")
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args(arguments)
    result: dict[str, Any] = {"load_before": os.getloadavg()[0], "machine": machine(), "first": args.first, "calls": args.calls, "rows": {}}
    if args.first:
        go_first([os.getpid()])
    result["rows"]["cold python -I -S"] = cold(args.calls // 10)
    for name in ("bubblewrap", "process", "docker"):
        try:
            sandbox = open_sandbox(name, Limits(), workers=THREADS, spares=2)
        except (SandboxUnavailableError, MissingExtraError) as error:
            result["rows"][name] = {"missing": str(error)}
            continue
        assert isinstance(sandbox, WarmSandbox)
        result["rows"][name] = backend(sandbox, args.calls, first=args.first)
        if name == "docker":
            result["rows"]["docker exec"] = docker_exec(sandbox, max(20, args.calls // 40))
        sandbox.close()
    result["endurance"] = endurance(args.endurance)
    result["load_after"] = os.getloadavg()[0]
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "sandbox.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    (args.out / "sandbox.md").write_text("\n".join(page(result)) + "\n", encoding="utf-8")
    print("\n".join(page(result)))
    return int(any(result["endurance"]["left"].values()))


def go_first(pids: list[int]) -> None:
    """Give the scheduling groups of processes the highest share; every worker has a group of its own."""
    for pid in pids:
        Path(f"/proc/{pid}/autogroup").write_text("-19")


def backend(sandbox: WarmSandbox, calls: int, *, first: bool) -> dict[str, Any]:
    """Measure one backend, warm."""
    started = time.perf_counter()
    sandbox.warm()
    warm_s = time.perf_counter() - started
    inside: list[float] = []

    def once() -> None:
        result = sandbox.run(PROGRAM)
        inside.append(result.cpu_s)
        if result.value != VALUE:
            raise SystemExit(f"{sandbox.name}: a program failed: {result}")

    if first:
        go_first([pid for worker in (*sandbox._idle, *sandbox._ready) for pid in tree(worker)])
    times_of(once, 50, 1)
    inside.clear()
    workers = [pid for worker in sandbox._idle for pid in tree(worker)]
    own, theirs = time.process_time(), sum(map(cpu_of, workers))
    row = summary(times_of(once, calls, THREADS))
    cpu_s = time.process_time() - own + sum(map(cpu_of, workers)) - theirs + sum(inside)
    row["cpu_ms"] = 1000 * cpu_s / calls
    row["one_thread"] = summary(times_of(once, max(50, calls // 4), 1))
    row["worker_mb"] = statistics.mean(sum(memory_of(pid) for pid in tree(worker)) for worker in sandbox._idle)
    row["start_ms"] = 1000 * warm_s / THREADS
    row["open_ms"] = summary(times_of(lambda: sandbox.open().close(), max(20, calls // 20), 1))["p50_ms"]
    with sandbox.open() as session:
        session.run("data = {i: str(i) for i in range(10_000)}")
        row["session_call"] = summary(times_of(lambda: session.run(PROGRAM), max(50, calls // 4), 1))
        forks: list[float] = []
        for _ in range(max(20, calls // 20)):
            begun = time.perf_counter()
            twin = session.fork()
            forks.append(time.perf_counter() - begun)
            if twin.run("len(data)").value != "10000":
                raise SystemExit("a fork lost its state")
            twin.close()
        row["fork"] = summary((sum(forks), forks))
    return row


def cold(calls: int) -> dict[str, Any]:
    """A fresh interpreter for every program, as `subprocess` gives it; no isolation at all."""
    python = find().path

    def once() -> None:
        done = subprocess.run([python, "-I", "-S", "-c", f"{PROGRAM}\nprint(total)"], capture_output=True, text=True, check=True)
        if done.stdout.strip() != VALUE:
            raise SystemExit("the cold program failed")

    return summary(times_of(once, calls, THREADS))


def docker_exec(sandbox: Any, calls: int) -> dict[str, Any]:
    """`docker exec` of an interpreter in a container that runs."""
    container = sandbox.engine().containers.run(
        sandbox._image, ["/usr/local/bin/python3", "-c", "import time; time.sleep(600)"], detach=True, network_mode="none"
    )

    def once() -> None:
        code, out = container.exec_run(["/usr/local/bin/python3", "-I", "-S", "-c", f"{PROGRAM}\nprint(total)"])
        if code or out.decode().strip() != VALUE:
            raise SystemExit(f"docker exec failed: {out!r}")

    try:
        return summary(times_of(once, calls, THREADS))
    finally:
        container.remove(force=True)


def endurance(calls: int) -> dict[str, Any]:
    """Many executions, some of which fork, raise, hang or leave files; then count what is left."""
    sandbox = open_sandbox("bubblewrap", Limits(), workers=THREADS)
    kinds = (
        PROGRAM, PROGRAM, "1 / 0", "import os\nif os.fork() == 0:\n    import time; time.sleep(60)", "open('left', 'w').write('x')",
        "import tempfile\ntempfile.mkdtemp()", "print('x' * 100_000)", "import os; os._exit(3)", PROGRAM, PROGRAM,
    )  # fmt: skip
    sandbox.run("1")
    assert isinstance(sandbox, WarmSandbox)
    sandbox.warm()
    before, counter = left(), iter(range(calls))
    lock, started = threading.Lock(), time.perf_counter()

    def work() -> None:
        while True:
            with lock:
                i = next(counter, None)
            if i is None:
                return
            if i % 500 == 499:
                sandbox.run("while True: pass", wall_s=0.05)
            elif i % 50 == 49:
                with sandbox.open() as session:
                    session.run("open('kept', 'w')")
            else:
                sandbox.run(kinds[i % len(kinds)])

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - started
    counts, after = sandbox.metrics(), left()
    sandbox.close()
    gone = {name: max(0, after[name] - before[name] - spare) for name, spare in (("processes", 0), ("descriptors", 0), ("files", 0))}
    # sessions add spare workers: each has a process of bubblewrap, a zygote and two descriptors of ours
    spares = int(counts["workers_live"]) - THREADS
    gone["processes"], gone["descriptors"] = max(0, gone["processes"] - 2 * spares), max(0, gone["descriptors"] - 2 * spares)
    inside = {f"inside_{name}": int(counts[f"leaked_{name}"]) for name in ("processes", "files", "descriptors")}
    return {"calls": calls, "seconds": seconds, "left": gone | inside, "counts": counts}


def left() -> dict[str, int]:
    """Count processes below this one, open descriptors, files of the sandbox on this machine."""
    return {
        "processes": len(below(os.getpid())),
        "descriptors": len(list(Path("/proc/self/fd").iterdir())),
        "files": len(list(owners.folder().rglob("*"))),
    }


def below(pid: int) -> list[int]:
    """Return every process below one."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found += [int(child), *below(int(child))]
    return found


def tree(worker: Any) -> list[int]:
    """Return the processes of a worker while no program runs."""
    pid = worker.launched.pid
    return [pid, *below(pid)] if pid else []


def cpu_of(pid: int) -> float:
    """CPU seconds of a process."""
    try:
        rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(rest[11]) + int(rest[12])) / os.sysconf("SC_CLK_TCK")


def memory_of(pid: int) -> float:
    """Proportional set size of a process, MiB; resident size where that may not be read."""
    for name, key in (("smaps_rollup", "Pss:"), ("status", "VmRSS:")):
        try:
            for line in Path(f"/proc/{pid}/{name}").read_text().splitlines():
                if line.startswith(key):
                    return int(line.split()[1]) / 1024
        except OSError:
            continue
    return 0.0


def times_of(act: Callable[[], Any], calls: int, threads: int) -> tuple[float, list[float]]:
    """Return wall seconds of all calls, and of each."""
    found: list[float] = []

    def work() -> None:
        for _ in range(calls // threads):
            begun = time.perf_counter()
            act()
            found.append(time.perf_counter() - begun)

    started = time.perf_counter()
    running = [threading.Thread(target=work) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return time.perf_counter() - started, found


def summary(measured: tuple[float, list[float]]) -> dict[str, Any]:
    """Return rate and percentiles."""
    seconds, times = measured
    ordered = sorted(times)
    return {
        "per_s": len(times) / seconds,
        "p50_ms": 1000 * statistics.median(ordered),
        "p99_ms": 1000 * ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))],
        "n": len(times),
    }


def machine() -> str:
    """Describe where this ran."""
    return f"{os.cpu_count()} cores, Linux {platform.release()}, Python {platform.python_version()}, user {'root' if os.getuid() == 0 else 'ordinary'}"


def page(result: dict[str, Any]) -> list[str]:
    """Return the lines of the report."""
    lines = [
        "# Speed of the sandboxes",
        "",
        f"Written by `make sandbox-speed`. {result['machine']}; load average {result['load_before']:.1f} before, "
        f"{result['load_after']:.1f} after{', this run scheduled before all else (`--first`)' if result['first'] else ''}. {THREADS} callers at once, {THREADS} workers; a program of a thousand additions.",
        "",
        "| how | executions/s | p50 ms | p99 ms | CPU ms each | ratio to cold |",
        "|---|---|---|---|---|---|",
    ]
    base = result["rows"]["cold python -I -S"]["per_s"]
    for name, row in result["rows"].items():
        if "missing" in row:
            lines.append(f"| {name} | not on this machine | | | | |")
            continue
        cpu = f"{row['cpu_ms']:.2f}" if "cpu_ms" in row else ""
        warm = " (warm)" if "cpu_ms" in row else ""
        lines.append(f"| {name}{warm} | {row['per_s']:.0f} | {row['p50_ms']:.1f} | {row['p99_ms']:.1f} | {cpu} | {row['per_s'] / base:.1f} |")
    lines += [
        "",
        "| backend | one caller: /s | p50 ms | call of a session: p50 ms | fork of a live session: p50 ms | p99 ms | open and close a session: p50 ms | start a worker: ms | memory of a worker: MiB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in result["rows"].items():
        if "fork" in row:
            one, call, fork = row["one_thread"], row["session_call"], row["fork"]
            lines.append(
                f"| {name} | {one['per_s']:.0f} | {one['p50_ms']:.1f} | {call['p50_ms']:.1f} | {fork['p50_ms']:.1f} | {fork['p99_ms']:.1f} "
                f"| {row['open_ms']:.1f} | {row['start_ms']:.0f} | {row['worker_mb']:.1f} |"
            )
    found = result["endurance"]
    nothing = "nothing was left" if not any(found["left"].values()) else f"left: {found['left']}"
    lines += [
        "",
        f"{found['calls']:,} executions of bubblewrap that print, raise, fork, hang, leave files and exit, sessions among them, "
        f"in {found['seconds']:.0f} s: {nothing} (processes, descriptors, files of the host; processes, files, descriptors inside).",
    ]
    return lines


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
