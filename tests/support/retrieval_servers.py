"""Corpora, encoders and server processes for tests of retrieval."""

import json
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np

from agentgym.retrieval import Hit
from agentgym.types import Passage

TOPICS = ("harbour", "orchard", "railway", "violin", "glacier", "lantern")


def passages(n: int = 60) -> list[Passage]:
    """Passages of six topics, each with a word of its own."""
    return [
        Passage(f"p{i}", f"{TOPICS[i % 6].title()} {i}", f"A {TOPICS[i % 6]} of number{i} near the {TOPICS[i // 6 % 6]}.")
        for i in range(n)
    ]


def write_passages(path: Path, given: Sequence[Passage]) -> Path:
    path.write_text("".join(json.dumps({"id": p.id, "title": p.title, "text": p.text}) + "\n" for p in given), encoding="utf-8")
    return path


def static_encoder(folder: Path, words: Sequence[str], dim: int = 16, seed: int = 0) -> Path:
    """A table of random vectors for words, in model2vec's layout; "neo" before a word gives nearly the same vector."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = {"[UNK]": 0}
    for word in words:
        for form in (word, f"neo{word}"):
            vocabulary.setdefault(form, len(vocabulary))
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()  # pyright: ignore
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()  # pyright: ignore
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(len(vocabulary), dim)).astype(np.float32)
    for word in words:
        rows[vocabulary[f"neo{word}"]] = rows[vocabulary[word]] + 0.1 * rng.normal(size=dim)
    write_safetensors(folder / "model.safetensors", {"embeddings": rows})
    return folder


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> None:
    names = {"float32": "F32", "float16": "F16", "int64": "I64"}
    header: dict[str, Any] = {}
    body = b""
    for name, array in arrays.items():
        data = array.tobytes()
        header[name] = {"dtype": names[str(array.dtype)], "shape": array.shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


class Recording:
    """A retriever that finds its passages by number of shared words, and keeps what it was asked."""

    def __init__(self, given: Sequence[Passage]) -> None:
        self.given, self.batches = list(given), []

    def search(self, query: str, k: int) -> list[Hit]:
        return self.search_many([query], k)[0]

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.batches.append((tuple(queries), k))
        return [self._found(query, k) for query in queries]

    def _found(self, query: str, k: int) -> list[Hit]:
        if "crash" in query:
            raise RuntimeError("a query that breaks the index")
        words = set(query.lower().split())
        scored = [(len(words & set(f"{p.title} {p.text}".lower().rstrip(".").split())), p) for p in self.given]
        return [Hit(p, float(s)) for s, p in sorted(scored, key=lambda x: -x[0])[:k] if s]

    def passage(self, doc_id: str) -> Passage | None:
        return next((p for p in self.given if p.id == doc_id), None)

    def __len__(self) -> int:
        return len(self.given)

    def __deepcopy__(self, memo: Any) -> "Recording":
        return self


class ServerProcess:
    """`agentgym serve retrieval` in a process of its own."""

    def __init__(self, index: Path, *flags: str, port: int = 0) -> None:
        self.index, self.flags, self.port = index, flags, port
        self.start()

    def start(self) -> None:
        command = [sys.executable, "-m", "agentgym", "serve", "retrieval", str(self.index), "--port", str(self.port), "--json"]
        self.process = subprocess.Popen([*command, *self.flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"the server ended with {self.process.wait()}"
        self.url = json.loads(line)["url"]
        self.port = int(self.url.rsplit(":", 1)[1].split("/")[0])
        self.root = self.url.removesuffix("/retrieve")

    def wait_ready(self) -> None:
        with httpx.Client(transport=httpx.HTTPTransport(retries=10)) as client:
            for _ in range(600):
                if client.get(f"{self.root}/ready", timeout=20).status_code == 200:
                    return
                time.sleep(0.05)
        raise AssertionError("the server did not become ready")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self._close()

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        code = self.process.wait(20)
        self._close()
        return code

    def _close(self) -> None:
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def serving(index: Path, *flags: str) -> Iterator[ServerProcess]:
    server = ServerProcess(index, *flags)
    try:
        server.wait_ready()
        yield server
    finally:
        server.stop()
