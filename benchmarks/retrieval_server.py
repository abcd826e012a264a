"""200 clients at once against our retrieval server, and against a plain FastAPI one over the same index.

    pip install fastapi; python benchmarks/retrieval_server.py      # writes benchmarks/results/retrieval_server.md

Every client sends one question after the other over a connection of its own and waits for each answer, for a minute.
The plain server is what training code usually brings along: FastAPI, a pydantic model, a plain function in the thread
pool that searches query by query, the access log on. Requests per CPU second count the server's user and system time
alone, so a busy machine changes them little; rates and latencies it does change.
"""

import argparse
import asyncio
import json
import os
import platform
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from agentgym.atomic import write_text
from agentgym.retrieval import build_index, open_retriever
from agentgym.worlds.readers import read_tasks

RESULTS = Path(__file__).parent / "results"


def plain_server(index: str, port: int) -> None:
    """Serve an index the usual way; never returns."""
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel

    class QueryRequest(BaseModel):
        queries: list[str] = []
        query: str | None = None
        topk: int | None = None
        return_scores: bool = False

    corpus, app = open_retriever(index), FastAPI()

    @app.post("/retrieve")
    def retrieve(request: QueryRequest) -> dict[str, Any]:
        rows = []
        for query in request.queries or [request.query or ""]:
            hits = corpus.search(query, request.topk or 3)
            documents = [{"id": h.passage.id, "contents": f'"{h.passage.title}"\n{h.passage.text}'} for h in hits]
            scored = [{"document": d, "score": h.score} for d, h in zip(documents, hits, strict=True)]
            rows.append(scored if request.return_scores else documents)
        return {"result": rows}

    uvicorn.run(app, host="127.0.0.1", port=port)


@contextmanager
def running(kind: str, index: Path) -> Iterator[tuple[int, subprocess.Popen[Any]]]:
    """Start a server in a process of its own; give its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ours = ["-m", "agentgym", "serve", "retrieval", str(index), "--port", str(port), "--quiet"]
    command = ours if kind == "agentgym" else [__file__, "--plain-server", str(index), str(port)]
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                asyncio.run(asked_once(port, b'{"queries": ["warm up"]}'))
                break
            except (OSError, ValueError, asyncio.IncompleteReadError):
                time.sleep(0.1)
        yield port, process
    finally:
        process.terminate()
        process.wait()


async def asked_once(port: int, body: bytes) -> bytes:
    """Ask over a connection of its own. Raises ValueError for a status other than 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        return await asked(reader, writer, body)
    finally:
        writer.close()


async def asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: bytes) -> bytes:
    """Send one request, return the answer's body. A client as lean as can be, for the two share the machine."""
    head = f"POST /retrieve HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body)
    received = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = int(received.split(b" ", 2)[1])
    length = int(received.split(b"content-length:")[1].split(b"\r\n", 1)[0])
    answer = await reader.readexactly(length)
    if status != 200:
        raise ValueError(f"HTTP {status}")
    return answer


async def load(port: int, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Let clients ask until the time is over; return latencies in seconds and errors by kind."""
    latencies: list[float] = []
    errors: Counter[str] = Counter()
    until = time.perf_counter() + seconds

    async def client(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        n = number
        while (started := time.perf_counter()) < until:
            try:
                answer = await asked(reader, writer, bodies[n % len(bodies)])
                if not answer.startswith(b'{"result":[[{'):
                    errors["no result"] += 1
                latencies.append(time.perf_counter() - started)
            except (OSError, ValueError, asyncio.IncompleteReadError) as error:
                errors[f"{type(error).__name__}: {error}"] += 1
                writer.close()
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
            n += clients
        writer.close()

    await asyncio.gather(*(client(n) for n in range(clients)))
    return {"latencies": latencies, "errors": dict(errors)}


def cpu_of(process: subprocess.Popen[Any]) -> float:
    """Return user and system seconds of a process so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measured(kind: str, index: Path, bodies: list[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Return what one server did under load."""
    with running(kind, index) as (port, process):
        asyncio.run(load(port, bodies, clients, min(3.0, seconds)))
        before = cpu_of(process)
        found = asyncio.run(load(port, bodies, clients, seconds))
        cpu = cpu_of(process) - before
        resident = next(int(line.split()[1]) for line in Path(f"/proc/{process.pid}/status").read_text().splitlines() if line.startswith("VmHWM"))
    at = sorted(found["latencies"])
    return {
        "server": kind,
        "requests": len(at),
        "errors": found["errors"],
        "per_s": len(at) / seconds,
        "per_cpu_s": len(at) / cpu,
        "p50_ms": 1e3 * at[len(at) // 2],
        "p99_ms": 1e3 * at[int(len(at) * 0.99)],
        "max_ms": 1e3 * at[-1],
        "peak_mb": resident / 1024,
    }


def main() -> int:
    """Measure, print, write; exit code 1 where a request of ours failed."""
    if sys.argv[1:2] == ["--plain-server"]:
        plain_server(sys.argv[2], int(sys.argv[3]))
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("AGENTGYM_DATA", "../shared/data")) / "qa")
    parser.add_argument("--set", default="hotpotqa")
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--out", type=Path, default=RESULTS / "retrieval_server.md")
    args = parser.parse_args()
    questions = [task.question for task in read_tasks(args.data / f"{args.set}.questions.jsonl")]
    bodies = [json.dumps({"queries": [q], "topk": 3, "return_scores": True}).encode() for q in questions]
    with tempfile.TemporaryDirectory() as folder:
        index = Path(folder) / "ix"
        n_passages = build_index(args.data / f"{args.set}.corpus.jsonl", index)["counts"]["passages"]
        rows = [measured(kind, index, bodies, args.clients, args.seconds) for kind in ("agentgym", "FastAPI")]
    text = page(rows, args, n_passages)
    print(text, end="")
    write_text(args.out, text)
    write_text(args.out.with_suffix(".json"), json.dumps(rows, indent=1) + "\n")
    return int(bool(rows[0]["errors"]))


def page(rows: list[dict[str, Any]], args: argparse.Namespace, n_passages: int) -> str:
    """Return the results as Markdown."""
    packages = ", ".join(f"{p} {version(p)}" for p in ("uvicorn", "starlette", "fastapi", "uvloop", "orjson", "numpy"))
    ratio = rows[0]["per_cpu_s"] / rows[1]["per_cpu_s"]
    return "\n".join(
        [
            f"# {args.clients} clients at once",
            "",
            f"Written by `python benchmarks/retrieval_server.py --set {args.set} --clients {args.clients} --seconds {args.seconds:.0f}`."
            f" Python {platform.python_version()}, {packages}, {platform.machine()} {platform.system()}, {os.cpu_count()} cores shared with"
            " the clients and other work.",
            "",
            f"One question a request, {n_passages:,} passages, three passages with scores an answer; the same index in both servers,"
            " one process each.",
            "",
            "| server | requests | errors | requests per CPU second | requests/s | p50 ms | p99 ms | max ms | peak MB |",
            "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            *(
                f"| {r['server']} | {r['requests']:,} | {sum(r['errors'].values())} | {r['per_cpu_s']:,.0f} | {r['per_s']:,.0f}"
                f" | {r['p50_ms']:.0f} | {r['p99_ms']:.0f} | {r['max_ms']:.0f} | {r['peak_mb']:.0f} |"
                for r in rows
            ),
            "",
            f"Per CPU second of the server ours answers {ratio:.1f} times as many requests.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
