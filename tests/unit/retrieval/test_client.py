"""The client: what it asks, how it retries, when its circuit opens, what it remembers."""

import contextlib
import copy
import json
import os
import pickle
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from retrieval_servers import passages

from agentgym.errors import ConfigError, ServiceError
from agentgym.retrieval.client import Breaker, ClientConfig, RemoteRetriever, is_address, remote_retriever
from agentgym.retrieval.protocol import Hit, Retriever
from agentgym.retrieval.wire import read_request, write_answer

QUICK = ClientConfig(backoff_s=0.001, max_backoff_s=0.002, max_attempts=3, breaker_after=2, cooldown_s=0.05, deadline_s=5)


def answering(request: httpx.Request) -> httpx.Response:
    if request.url.path == "/info":
        return httpx.Response(200, json={"passages": 60})
    if request.url.path.startswith("/documents/"):
        name = request.url.path.removeprefix("/documents/")
        found = next((p for p in passages() if p.id == name), None)
        body = {"id": found.id, "title": found.title, "text": found.text} if found else {"detail": "none"}
        return httpx.Response(200 if found else 404, json=body)
    asked = read_request(request.content, 3)
    return httpx.Response(200, content=write_answer(asked, [[Hit(passages()[i % 60], 2.0)] for i in range(len(asked.queries))]))


def client(answer: Callable[[httpx.Request], httpx.Response], config: ClientConfig = QUICK) -> tuple[RemoteRetriever, list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return answer(request)

    made = RemoteRetriever("http://127.0.0.1:9", config)
    made._http = httpx.Client(transport=httpx.MockTransport(keep))
    return made, asked


def test_a_batch_is_one_request_and_blank_queries_are_not_asked() -> None:
    retriever, asked = client(answering)
    found = retriever.search_many(["x", "  ", "y"], 4)
    assert [[h.passage.id for h in hits] for hits in found] == [["p0"], [], ["p1"]]
    assert [json.loads(r.content) for r in asked] == [{"queries": ["x", "y"], "topk": 4, "return_scores": True}]
    assert retriever.search("z", 0) == []
    assert len(asked) == 1
    assert isinstance(retriever, Retriever)
    assert len(retriever) == 60
    assert [len(json.loads(r.content)["queries"]) for r in (retriever.search_many(["q"] * 600, 1), asked[2:])[1]] == [256, 256, 88]


def test_a_passage_that_was_shown_is_not_asked_for() -> None:
    retriever, asked = client(answering)
    retriever.search("x", 1)
    assert retriever.passage("p0") == passages()[0]
    assert len(asked) == 1
    assert retriever.passage("p7") == passages()[7]
    assert retriever.passage("a/b ?") is None
    assert asked[-1].url.raw_path == b"/documents/a%2Fb%20%3F"


@pytest.mark.parametrize("fault", [503, 500, 429, httpx.ConnectError("refused"), httpx.ReadTimeout("slow")])
def test_a_fault_that_passes_is_tried_again(fault: Any) -> None:
    left = [fault, fault]

    def answer(request: httpx.Request) -> httpx.Response:
        if left:
            now = left.pop()
            if isinstance(now, Exception):
                raise now
            return httpx.Response(now, text="busy", headers={"retry-after": "0"})
        return answering(request)

    retriever, asked = client(answer)
    assert retriever.search("x", 1)
    assert len(asked) == 3


def test_retry_after_beyond_the_deadline_ends_the_search() -> None:
    retriever, asked = client(lambda request: httpx.Response(503, text="busy", headers={"retry-after": "60"}))
    with pytest.raises(ServiceError, match=r"after 1 attempts .* HTTP 503: busy"):
        retriever.search("x", 1)
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (lambda r: httpx.Response(404, text="no such page"), "HTTP 404: no such page"),
        (lambda r: httpx.Response(200, text="<html>"), "unknown shape"),
        (lambda r: httpx.Response(200, json={"result": []}), "0 lists of results for 2 queries"),
    ],
)
def test_a_fault_that_stays_is_told_at_once_and_opens_no_circuit(answer: Any, problem: str) -> None:
    retriever, asked = client(answer)
    for _ in range(4):
        with pytest.raises(ServiceError, match=problem):
            retriever.search_many(["x", "y"], 1)
    assert len(asked) == 4


def test_the_circuit_opens_fails_at_once_and_closes_after_a_probe() -> None:
    up = threading.Event()

    def answer(request: httpx.Request) -> httpx.Response:
        if up.is_set():
            return answering(request)
        raise httpx.ConnectError("refused")

    retriever, asked = client(answer)
    for _ in range(2):
        with pytest.raises(ServiceError, match="after 3 attempts"):
            retriever.search("x", 1)
    with pytest.raises(ServiceError, match="circuit is open after 2 failed searches"):
        retriever.search("x", 1)
    assert len(asked) == 6
    threading.Event().wait(0.06)
    with pytest.raises(ServiceError, match="after 1 attempts"):
        retriever.search("x", 1)
    with pytest.raises(ServiceError, match="circuit is open"):
        retriever.search("x", 1)
    assert len(asked) == 7, "one probe, then open for twice as long"
    up.set()
    threading.Event().wait(0.12)
    assert retriever.search("x", 1)
    assert retriever.search("y", 1)
    assert retriever.breaker.opened == 2


def test_a_search_from_before_the_circuit_opened_does_not_speak_for_the_probe() -> None:
    breaker = Breaker(2, 1e-9, 1.0)
    for _ in range(4):
        assert breaker.enter() is None
    for _ in range(3):
        breaker.failure("down")
    assert breaker.opened == 1, "the third was on its way already"
    assert breaker.enter() == 1
    breaker.failure("late news")
    with pytest.raises(ServiceError, match="circuit is open"):
        breaker.enter()  # one probe at a time
    assert breaker.opened == 1
    breaker.failure("still down", probe=True)
    assert breaker.opened == 2


def test_no_id_that_a_policy_writes_opens_the_circuit() -> None:
    retriever, asked = client(answering)
    for _ in range(QUICK.breaker_after + 1):
        assert retriever.passage("x" * 70_000) is None
        assert retriever.passage("\0é" * 2_000) is None
    assert asked == []
    assert retriever.search("q", 1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # from Python 3.12 on, where there are threads
def test_a_fork_of_the_process_has_connections_of_its_own() -> None:
    retriever, asked = client(answering)
    before = retriever._http
    assert retriever.search("q", 1)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            with contextlib.suppress(ServiceError):  # nobody listens where the client of its own asks
                retriever.search("q", 1)
            code = 2 if retriever._http is before or len(asked) > 1 else 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert retriever._http is before


def test_only_one_probe_is_let_through() -> None:
    breaker = Breaker(1, 0.001, 1.0)
    breaker.failure("down")
    threading.Event().wait(0.005)
    assert breaker.enter() == 1
    with pytest.raises(ServiceError, match="down"):
        breaker.enter()
    breaker.success()
    assert breaker.enter() is None


def test_one_address_is_one_client_a_process() -> None:
    one = remote_retriever("http://127.0.0.1:9")
    assert remote_retriever("http://127.0.0.1:9") is one
    assert copy.deepcopy(one) is one
    assert pickle.loads(pickle.dumps(one)) is one
    assert one.url == "http://127.0.0.1:9/retrieve"
    assert remote_retriever("http://127.0.0.1:9/v1/retrieve").url == "http://127.0.0.1:9/v1/retrieve"
    assert is_address("https://x")
    assert not is_address("bm25")
    assert not is_address(one)


@pytest.mark.parametrize("url", ["http://", "http://:8000", "ftp://x", "http://[bad"])
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="http://HOST:PORT"):
        RemoteRetriever(url)
