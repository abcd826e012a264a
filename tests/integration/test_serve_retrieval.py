"""Real server processes: rollouts through one, its death in the middle, reloads, clients of others, many at once."""

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import httpx
import pytest
from retrieval_servers import TOPICS, ServerProcess, passages, serving, write_passages

from agentgym import Answer, Gold, Task
from agentgym.errors import ConfigError
from agentgym.retrieval import build_index, open_retriever
from agentgym.retrieval.client import ClientConfig, RemoteRetriever
from agentgym.rollout import EnvPool, run_groups
from agentgym.types import Completion

pytestmark = pytest.mark.serve
ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(os.environ.get("AGENTGYM_PEERS_PYTHON") or ROOT / ".venv-peers" / "bin" / "python")


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    build_index(write_passages(tmp_path / "corpus.jsonl", passages()), tmp_path / "ix")
    return tmp_path / "ix"


@pytest.fixture(scope="module")
def steady_index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("steady")
    build_index(write_passages(folder / "corpus.jsonl", passages()), folder / "ix")
    return folder / "ix"


@pytest.fixture(scope="module")
def steady(steady_index: Path) -> Iterator[ServerProcess]:
    """A server that no test stops or changes."""
    with serving(steady_index) as running:
        yield running


@pytest.fixture
def server(index: Path) -> Iterator[ServerProcess]:
    with serving(index) as running:
        yield running


def tasks(n: int) -> list[Task]:
    return [Task(f"t{i}", f"Which {TOPICS[i % 6]}?", Gold(answers=(Answer("x"),), doc_ids=(f"p{i}",))) for i in range(n)]


def requests_of(server: ServerProcess, dialect: str) -> int:
    text = httpx.get(f"{server.root}/metrics").text
    found = re.search(rf'requests_total{{dialect="{dialect}",status="200"}} (\d+)', text)
    return int(found[1]) if found else 0


class Searcher:
    """Searches `turns` times, then answers. `on_turn` is called before each wave."""

    privileged, served = False, False

    def __init__(self, turns: int = 3, on_turn: Any = None) -> None:
        self.turns, self.on_turn = turns, on_turn

    def release(self, episodes: Any) -> None:
        pass

    async def act(self, requests: Any) -> list[Completion]:
        turn = requests[0].key[-1]
        if self.on_turn is not None:
            self.on_turn(turn)
        return [
            Completion(f"<search>{TOPICS[r.key[-3] % 6]} number{r.key[-1]}</search>" if r.key[-1] < self.turns else "<answer>x</answer>")
            for r in requests
        ]


def shown(groups: Any) -> list[Any]:
    return [[d.id for turn in t.turns for r in turn.results for d in r.documents] for g in groups for t in g.trajectories]


def test_a_rollout_over_a_server_shows_what_one_in_process_shows(steady: ServerProcess, steady_index: Path) -> None:
    here = run_groups(EnvPool("SearchQA-v0", tasks=tasks(6), index=steady_index), Searcher(), tasks(6), group_size=4, key=(0, 0))
    before = requests_of(steady, "search-r1")
    there = run_groups(
        EnvPool("SearchQA-v0", tasks=tasks(6), retriever=steady.root), Searcher(), tasks(6), group_size=4, key=(0, 0)
    )
    assert shown(there) == shown(here)
    assert all(len(ids) == 9 for ids in shown(here))
    assert requests_of(steady, "search-r1") - before == 3, "one request a wave of 24 environments"
    env = gym.make("SearchQA-v0", tasks=tasks(1), retriever=steady.url)
    env.reset(seed=0)
    assert "Violin 3" in env.step("<open>p3</open>")[0]


def test_a_server_that_dies_and_comes_back_is_waited_for(server: ServerProcess) -> None:
    def restart(turn: int) -> None:
        if turn == 1:
            server.kill()
            back = threading.Timer(0.3, server.start)
            back.start()

    pool = EnvPool("SearchQA-v0", tasks=tasks(6), retriever=RemoteRetriever(server.url, ClientConfig(deadline_s=60, max_attempts=60)))
    groups = run_groups(pool, Searcher(3, restart), tasks(6), group_size=2, key=(0, 0))
    assert {t.end_reason for g in groups for t in g.trajectories} == {"answered"}
    assert all(len(ids) == 9 for ids in shown(groups))


def test_a_server_that_stays_dead_marks_its_episodes_and_the_next_run_recovers(server: ServerProcess) -> None:
    config = ClientConfig(max_attempts=2, backoff_s=0.01, breaker_after=1, cooldown_s=0.05, max_cooldown_s=0.05)
    pool = EnvPool("SearchQA-v0", tasks=tasks(12), retriever=RemoteRetriever(server.url, config))

    def die(turn: int) -> None:
        if turn == 1:
            server.kill()

    groups = run_groups(pool, Searcher(3, die), tasks(6), group_size=2, key=(0, 0))
    trajectories = [t for g in groups for t in g.trajectories]
    assert len(trajectories) == 12, "the run ends well"
    for t in trajectories:
        assert t.end_reason == "service_error"
        assert "no usable answer" in t.error or "circuit is open" in t.error
        assert not t.in_loss
        assert not t.in_statistics
        assert len(t.turns) == 1, "what was done before stays on record"
    server.start()
    server.wait_ready()
    time.sleep(0.06)
    groups = run_groups(pool, Searcher(), tasks(6), group_size=2, key=(0, 1))
    assert {t.end_reason for g in groups for t in g.trajectories} == {"answered"}


def test_sighup_opens_the_index_anew_and_keeps_the_old_one_where_that_fails(server: ServerProcess, index: Path) -> None:
    def info() -> dict[str, Any]:
        return httpx.get(f"{server.root}/info").json()

    def until(done: Any) -> dict[str, Any]:
        for _ in range(400):
            if done(now := info()):
                return now
            time.sleep(0.02)
        raise AssertionError(now)

    build_index(write_passages(index.parent / "more.jsonl", passages(90)), index, overwrite=True)
    assert info()["passages"] == 60
    server.process.send_signal(signal.SIGHUP)
    assert until(lambda now: now["loads"] == 2)["passages"] == 90
    (index / "manifest.json").write_text("{")
    server.process.send_signal(signal.SIGHUP)
    assert "manifest.json" in until(lambda now: "problem" in now)["problem"]
    answer = httpx.post(server.url, json={"query": "number80", "topk": 1}).json()
    assert answer["result"][0][0]["id"] == "p80"


def test_sixty_clients_at_once_get_what_a_search_alone_gives(steady: ServerProcess, steady_index: Path) -> None:
    alone = open_retriever(steady_index)
    queries = [f"{TOPICS[i % 6]} number{i}" for i in range(60)]

    async def all_at_once() -> list[Any]:
        limits = httpx.Limits(max_connections=60)
        async with httpx.AsyncClient(limits=limits, timeout=30) as client:
            return await asyncio.gather(*(client.post(steady.url, json={"query": q, "topk": 2}) for q in queries * 3))

    for query, answer in zip(queries * 3, asyncio.run(all_at_once()), strict=True):
        assert answer.status_code == 200
        assert [row["id"] for row in answer.json()["result"][0]] == [h.passage.id for h in alone.search(query, 2)]


def test_hostile_bytes_leave_the_server_answering(steady: ServerProcess) -> None:
    host, port = "127.0.0.1", steady.port
    for raw in (b"\x00\xff" * 50, b"POST /retrieve HTTP/1.1\r\nContent-Length: 5\r\n\r\n{", b"GET / HTTP/9\r\n\r\n"):
        with socket.create_connection((host, port), timeout=5) as connection:
            connection.sendall(raw)
    for body in (b"\xdf\xff\xff\xff\xff", b'{"queries": ' + b"[" * 100_000, json.dumps({"queries": ["\ud800"]}).encode()):
        assert httpx.post(steady.url, content=body).status_code in (200, 400)
    assert httpx.post(steady.url, json={"query": "x" * 1_000_000}).status_code == 413
    assert httpx.post(steady.url, json={"query": "violin", "topk": 10**9}).status_code == 400
    assert httpx.post(steady.url, json={"queries": ["", "violin"]}).json()["result"][0] == []


def command(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "agentgym", "serve", "retrieval", *words], capture_output=True, text=True, timeout=300)


def test_what_cannot_be_served_ends_with_a_message(index: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as busy:
        taken = command(str(index), "--port", str(busy.getsockname()[1]))
    assert (taken.returncode, "choose another with --host, --port" in taken.stderr) == (2, True)
    (index / "manifest.json").write_text("{")
    broken = command(str(index), "--port", "0")
    assert broken.returncode == 1
    assert "manifest.json" in broken.stderr
    assert "Traceback" not in broken.stderr
    unknown = command(str(index), "--retriever", "hybird")
    assert (unknown.returncode, "did you mean 'hybrid'" in unknown.stderr) == (2, True)


def test_ctrl_c_ends_a_server_with_code_0(index: Path) -> None:
    server = ServerProcess(index)
    server.wait_ready()
    assert server.stop() == 0


def test_an_address_and_an_index_are_not_both_taken(index: Path) -> None:
    with pytest.raises(ConfigError, match="not both"):
        gym.make("SearchQA-v0", tasks=tasks(1), index=index, retriever="http://127.0.0.1:9")


CLIENTS = """
import json, sys
from skyrl_gym.envs.search.env import SearchEnv, SearchEnvConfig
from gem.tools.search_tool import SearchTool
url, query = sys.argv[1:]
extras = {"reward_spec": {"ground_truth": {"target": ["x"]}}, "max_turns": 3}
sky = SearchEnv(SearchEnvConfig(search_url=url, topk=2), extras=extras)
sky.init([{"role": "user", "content": "q"}])
gem = SearchTool(search_url=url, topk=2).execute_action(f"<search>{query}</search>")
print(json.dumps([sky.step(f"<search>{query}</search>")["observations"][0]["content"], gem[2], gem[1]]))
"""


@pytest.mark.peers
def test_the_search_clients_of_skyrl_gym_and_gem_work(steady: ServerProcess, steady_index: Path) -> None:
    if not PEERS.is_file():
        pytest.skip("no environment with skyrl-gym and gem: make extra-peers")
    before = requests_of(steady, "gem"), requests_of(steady, "skyrl")
    done = subprocess.run([PEERS, "-c", CLIENTS, steady.url, "violin number9"], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2_000:]
    sky, gem, gem_failed = json.loads(done.stdout.splitlines()[-1])
    assert not gem_failed
    found = [h.passage for h in open_retriever(steady_index).search("violin number9", 2)]
    for n, passage in enumerate(found, 1):
        assert f"Doc {n}(Title: \"{passage.title}\") {passage.text}\n" in gem
        assert f"Doc {n}: \"{passage.title}\"\n{passage.text}\n" in json.loads(sky.split("<information>")[1].split("</information>")[0])["result"]
    assert requests_of(steady, "gem") - before[0] == 1
    assert requests_of(steady, "skyrl") - before[1] == 1
