"""The corpus of 2018 over a server on loopback that breaks off, changes its file, or refuses."""

import gzip
import hashlib
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentgym.cli.main import main
from agentgym.errors import ConfigError, DataError, ServiceError
from agentgym.retrieval import open_index
from agentgym.retrieval.wiki18 import corpus_file

ROWS = [{"id": str(i), "contents": f'"Title {i}"\nPassage number {i} about the lake of {i * 7}.'} for i in range(2000)]
DATA = gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode(), mtime=0)
SHA = hashlib.sha256(DATA).hexdigest()
Behave = Callable[["Server"], None]


class Server:
    """Serves DATA below a redirect; `cut` bytes at most per answer; keeps the ranges that were asked for."""

    def __init__(self, cut: int | None = None, ranges: bool = True, sha: str = SHA, data: bytes = DATA) -> None:
        self.cut, self.ranges, self.sha, self.data, self.tag, self.refuse = cut, ranges, sha, data, '"v1"', 0
        self.asked: list[str | None] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.startswith("/resolve/"):
                    self.send_response(302)
                    self.send_header("Location", "/blob/wiki-18.jsonl.gz")
                    self.send_header("X-Linked-ETag", f'"{outer.sha}"')
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                outer.answer(self)

            def log_message(self, format: str, *args: Any) -> None: ...

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/resolve/wiki-18.jsonl.gz"

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append(wanted)
        if self.refuse:
            handler.send_response(self.refuse)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        at = 0
        same = handler.headers.get("If-Range") in (None, self.tag)
        if wanted and self.ranges and same:
            at = int(wanted.removeprefix("bytes=").rstrip("-"))
        if at >= len(self.data):
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(self.data)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if wanted and self.ranges and same else 200)
        handler.send_header("ETag", self.tag)
        handler.send_header("Content-Length", str(len(self.data) - at))
        handler.end_headers()
        handler.wfile.write(self.data[at : at + self.cut if self.cut else None])


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    started: list[Server] = []

    def start(**options: Any) -> Server:
        started.append(Server(**options))
        threading.Thread(target=started[-1].http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return started[-1]

    yield start
    for server in started:
        server.http.shutdown()
        server.http.server_close()


def fetch(server: Server, folder: Path, **options: Any) -> Path:
    return corpus_file(folder, url=server.url, wait=lambda attempt: None, **options)


def test_a_broken_download_goes_on_where_it_stopped(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(cut=len(DATA) // 3)
    seen: list[tuple[int, int]] = []
    path = fetch(server, tmp_path, progress=lambda stage, done, total: seen.append((done, total)))
    assert path == tmp_path / "wiki-18.jsonl.gz"
    assert path.read_bytes() == DATA
    starts = [int((asked or "bytes=0-").removeprefix("bytes=").rstrip("-")) for asked in server.asked]
    assert starts == sorted(set(starts))
    assert len(starts) == 4
    assert seen[-1] == (len(DATA), len(DATA))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    assert fetch(server, tmp_path) == path, "what is there is taken"
    assert len(server.asked) == 4


def test_a_later_process_goes_on(serve: Callable[..., Server], tmp_path: Path) -> None:
    first = serve(cut=1000)
    first.cut = 1000
    with pytest.raises(ZeroDivisionError):
        corpus_file(tmp_path, url=first.url, wait=lambda attempt: 1 // 0)  # pyright: ignore[reportArgumentType]
    first.cut = None
    assert fetch(first, tmp_path).read_bytes() == DATA
    assert first.asked == [None, "bytes=1000-"]


@pytest.mark.parametrize("changed", [{"ranges": False}, {"tag": '"v2"'}])
def test_a_server_without_ranges_or_with_another_file_starts_anew(
    changed: dict[str, Any], serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(cut=1000)
    with pytest.raises(ZeroDivisionError):
        corpus_file(tmp_path, url=server.url, wait=lambda attempt: 1 // 0)  # pyright: ignore[reportArgumentType]
    server.cut = None
    for name, value in changed.items():
        setattr(server, name, value)
    assert fetch(server, tmp_path).read_bytes() == DATA


def test_a_wrong_checksum_is_refused_and_the_file_set_aside(serve: Callable[..., Server], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.damaged: SHA-256 .*, expected 0000"):
        fetch(serve(sha="0" * 64), tmp_path)
    with pytest.raises(DataError, match="expected 1111"):
        fetch(serve(), tmp_path, sha256="1" * 64)
    assert [p.name for p in tmp_path.iterdir()] == ["wiki-18.jsonl.gz.damaged"]


def test_a_download_that_does_not_get_on_is_given_up(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    server.refuse = 503
    with pytest.raises(ServiceError, match="8 times without a new byte; 0 bytes are kept"):
        fetch(server, tmp_path)
    server.refuse = 404
    with pytest.raises(ServiceError, match=r"answers 404; give another --url, or --corpus FILE"):
        fetch(server, tmp_path)
    with pytest.raises(ConfigError, match="http or https address"):
        corpus_file(tmp_path, url="ftp://x/y.gz")


def test_one_command_downloads_and_builds(serve: Callable[..., Server], tmp_path: Path, capsys: Any) -> None:
    server = serve(cut=len(DATA) * 2 // 3)
    arguments = ["index", "wiki18", "--out", str(tmp_path / "wiki"), "--url", server.url, "--sha256", SHA, "--json"]
    assert main(arguments) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["counts"]["passages"] == 2000
    assert "download 100%" in said.err
    assert "merge 100%" in said.err
    hits = open_index(tmp_path / "wiki").search("passage number 77", 1)
    assert (hits[0].passage.id, hits[0].passage.title) == ("77", "Title 77")
    assert main([*arguments, "--quiet"]) == 2, "an index is there"
    assert main([*arguments[:4], "--corpus", str(tmp_path / "wiki-18.jsonl.gz"), "--overwrite", "--quiet"]) == 0
    assert len(server.asked) == 2
