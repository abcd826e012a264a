"""The server's application: answers, refusals, micro-batches, metrics, reloads. No socket."""

import asyncio
import json
import re
import threading
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import httpx
import pytest
from retrieval_servers import Recording, passages

from agentgym.errors import ConfigError, DataError
from agentgym.retrieval import Hit

pytest.importorskip("starlette")
from agentgym.serve.retrieval import RetrievalServer, ServeConfig

Test = Callable[[httpx.AsyncClient, RetrievalServer], Coroutine[Any, Any, None]]


def run(test: Test, corpus: Any = None, *, config: ServeConfig | None = None, ready: bool = True) -> None:
    """Run a test against the application, loaded or not."""
    given = corpus if corpus is not None else Recording(passages())

    async def whole() -> None:
        server = RetrievalServer(given if callable(given) else lambda: given, config, name="corpus")
        if ready:
            assert await server.reload()
        transport = httpx.ASGITransport(app=server.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            await test(client, server)
        await server.batcher.close()

    asyncio.run(whole())


class Gated(Recording):
    """Searches only while its gate is open; the search that warms a server up passes."""

    def __init__(self) -> None:
        super().__init__(passages())
        self.gate = threading.Event()
        self.entered = threading.Event()

    def search(self, query: str, k: int) -> list[Hit]:
        return self._found(query, k)

    def search_many(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.entered.set()
        assert self.gate.wait(10)
        return super().search_many(queries, k)


def test_every_address_answers() -> None:
    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        found = await client.post("/retrieve", json={"queries": ["harbour number0", " "], "topk": 1, "return_scores": True})
        document = {"id": "p0", "contents": '"Harbour 0"\nA harbour of number0 near the harbour.'}
        assert found.json() == {"result": [[{"document": document, "score": 2.0}], []]}
        assert (await client.get("/documents/p7")).json() == {"id": "p7", "title": "Orchard 7", "text": passages()[7].text}
        assert (await client.get("/documents/none")).status_code == 404
        assert (await client.get("/health")).json() == {"status": "ok"}
        assert (await client.get("/ready")).json() == {"status": "ready", "passages": 60}
        assert (await client.get("/info")).json()["passages"] == 60
        assert (await client.get("/retrieve")).status_code == 405
        assert (await client.get("/other")).status_code == 404

    run(test)


def test_bad_requests_are_answered_with_what_is_wrong_and_the_server_goes_on() -> None:
    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        for body, status in ((b"{", 400), (b'{"queries": 3}', 400), (b'{"query": "x", "topk": 1000000000}', 400), (b"x" * 5_000, 413)):
            answer = await client.post("/retrieve", content=body)
            assert answer.status_code == status
            assert answer.json()["detail"]
        broken = await client.post("/retrieve", json={"query": "crash"})
        assert (broken.status_code, broken.json()["detail"]) == (500, "RuntimeError: a query that breaks the index")
        assert (await client.post("/retrieve", json={"query": "violin"})).status_code == 200

    run(test, config=ServeConfig(max_body_bytes=4_096))


def test_what_waits_while_a_search_runs_is_one_batch_and_equal_queries_are_searched_once() -> None:
    corpus = Gated()

    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        def ask(query: str, k: int = 2) -> asyncio.Task[httpx.Response]:
            return asyncio.ensure_future(client.post("/retrieve", json={"query": query, "topk": k}))

        first = ask("harbour")
        await asyncio.to_thread(corpus.entered.wait, 5)
        rest = [ask(q) for q in ("violin", "glacier", "violin")] + [ask("violin", 1)]
        while server.batcher.waiting < 4:
            await asyncio.sleep(0.001)
        corpus.gate.set()
        answers = [r.json()["result"][0] for r in await asyncio.gather(first, *rest)]
        assert corpus.batches == [(("harbour",), 2), (("violin", "glacier"), 2), (("violin",), 1)]
        assert answers[1] == answers[3] != answers[2]
        assert answers[4] == answers[1][:1]

    run(test, corpus)


def test_a_full_queue_sends_clients_away_and_never_piles_up() -> None:
    corpus = Gated()

    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        asked = [asyncio.ensure_future(client.post("/retrieve", json={"query": f"harbour {i}"})) for i in range(40)]
        await asyncio.to_thread(corpus.entered.wait, 5)
        done: set[Any] = set()
        while len(done) < 10:
            done = {a for a in asked if a.done()}
            await asyncio.sleep(0.001)
        assert {a.result().status_code for a in done} == {503}
        assert {a.result().headers["retry-after"] for a in done} == {"1"}
        assert server.batcher.waiting <= 16
        corpus.gate.set()
        statuses = [r.status_code for r in await asyncio.gather(*asked)]
        assert statuses.count(200) + statuses.count(503) == 40
        assert statuses.count(200) >= 16
        text = (await client.get("/metrics")).text
        assert f"agentgym_retrieval_rejected_total {statuses.count(503)}\n" in text

    run(test, corpus, config=ServeConfig(max_queue=16, max_batch=8))


def test_who_waited_too_long_is_sent_away() -> None:
    corpus = Gated()

    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        first = asyncio.ensure_future(client.post("/retrieve", json={"query": "harbour"}))
        await asyncio.to_thread(corpus.entered.wait, 5)
        second = asyncio.ensure_future(client.post("/retrieve", json={"query": "violin"}))
        await asyncio.sleep(0.05)
        corpus.gate.set()
        assert (await first).status_code == 200
        assert (await second).status_code == 503
        assert "waited longer" in (await second).json()["detail"]

    run(test, corpus, config=ServeConfig(deadline_s=0.02))


def test_before_the_index_is_loaded_clients_are_told_to_come_back() -> None:
    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        for answer in (await client.get("/ready"), await client.post("/retrieve", json={"query": "x"}), await client.get("/documents/p0")):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "2"
        assert (await client.get("/health")).status_code == 200

    run(test, ready=False)


def test_a_reload_that_fails_keeps_the_old_index() -> None:
    loads: list[Any] = [Recording(passages()), DataError("index/terms: damaged"), Recording(passages(6))]

    def load() -> Any:
        now = loads.pop(0)
        if isinstance(now, Exception):
            raise now
        return now

    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        assert not await server.reload()
        assert (await client.get("/info")).json()["problem"] == "DataError: index/terms: damaged"
        assert (await client.post("/retrieve", json={"query": "number59"})).json()["result"][0][0]["id"] == "p59"
        assert await server.reload()
        assert (await client.post("/retrieve", json={"query": "number59"})).json() == {"result": [[]]}
        info = (await client.get("/info")).json()
        assert (info["passages"], info["loads"], info.get("problem")) == (6, 2, None)
        assert 'reloads_total{outcome="failed"} 1' in (await client.get("/metrics")).text

    run(test, load)


def test_a_first_load_that_fails_is_told_to_whoever_started_the_server() -> None:
    def load() -> Any:
        raise DataError("no index there")

    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        told: list[str] = []
        server.on_failed_start = lambda: told.append(server.problem)
        assert not await server.reload()
        assert told == ["DataError: no index there"]
        assert server.never_loaded
        assert "no index there" in (await client.post("/retrieve", json={"query": "x"})).json()["detail"]

    run(test, load, ready=False)


def test_metrics_are_in_prometheus_form_and_add_up() -> None:
    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        for _ in range(3):
            await client.post("/retrieve", json={"queries": ["harbour", "violin"]})
        await client.post("/retrieve", content=b"{")
        answer = await client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        values = {}
        for line in answer.text.splitlines():
            if not line.startswith("#"):
                name, value = re.fullmatch(r"([a-z_]+(?:\{[^}]*\})?) ([0-9.]+)", line).groups()  # pyright: ignore
                values[name.removeprefix("agentgym_retrieval_")] = float(value)
        assert values["queries_total"] == 6
        assert values['requests_total{dialect="search-r1",status="200"}'] == 3
        assert values['requests_total{dialect="unknown",status="400"}'] == 1
        assert values["request_seconds_count"] == 4
        assert values['batch_queries_bucket{le="1"}'] == 0
        assert values['batch_queries_bucket{le="2"}'] == values['batch_queries_bucket{le="+Inf"}'] == 3
        assert values["batch_queries_sum"] == 6

    run(test)


@pytest.mark.parametrize("wrong", [{"topk": 0}, {"max_queue": 0}, {"threads": -1}, {"deadline_s": 0}])
def test_a_setting_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServeConfig(**wrong)


def test_answers_are_json_that_the_standard_library_reads() -> None:
    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        answer = await client.post("/retrieve", content=json.dumps({"query": "harbour"}))
        assert answer.headers["content-type"] == "application/json"
        assert int(answer.headers["content-length"]) == len(answer.content)
        assert len(json.loads(answer.content)["result"][0]) == 3

    run(test)


class Poisoned(Recording):
    """Breaks at one query."""

    def __init__(self, error: Exception) -> None:
        super().__init__(passages())
        self.error = error

    def _found(self, query: str, k: int) -> list[Hit]:
        if query == "poison":
            raise self.error
        return super()._found(query, k)


@pytest.mark.parametrize("error", [ValueError("no such word"), StopIteration()])
def test_a_query_that_breaks_the_search_fails_alone(error: Exception) -> None:
    async def test(client: httpx.AsyncClient, server: RetrievalServer) -> None:
        asked = (client.post("/retrieve", json={"queries": [query]}) for query in ("number0", "poison", "number1"))
        answers = await asyncio.wait_for(asyncio.gather(*asked), 60)
        assert [answer.status_code for answer in answers] == [200, 500, 200]

    run(test, Poisoned(error))
