"""The dialects of search servers: what clients send, what they get, what is read from servers of others."""

import json

import pytest

from agentgym.retrieval import Hit
from agentgym.retrieval.wire import SearchRequest, WireError, read_answer, read_request, write_answer, write_request
from agentgym.types import Passage

msgpack = pytest.importorskip("msgpack")

HITS = [Hit(Passage("a", "Chad", "N'Djamena\nis its capital."), 2.5), Hit(Passage("b", 'The "Blue"', "é"), 1.0)]


def test_search_r1_asks_for_a_batch_with_and_without_scores() -> None:
    request = read_request(b'{"queries": ["x", "y"], "topk": 2, "return_scores": true, "further": 1}', 3)
    assert request == SearchRequest(("x", "y"), 2, True, "search-r1")
    document = {"id": "a", "contents": "\"Chad\"\nN'Djamena\nis its capital."}
    assert json.loads(write_answer(request, [HITS[:1], []])) == {"result": [[{"document": document, "score": 2.5}], []]}
    bare = read_request(b'{"queries": ["x"]}', 3)
    assert (bare.k, bare.scores) == (3, False)
    assert json.loads(write_answer(bare, [HITS[:1]])) == {"result": [[document]]}
    assert json.loads(write_answer(read_request(b'{"queries": []}', 3), [])) == {"result": []}


def test_skyrl_asks_one_query_and_gets_a_list_in_a_list() -> None:
    request = read_request(b'{"query": "x", "topk": null, "return_scores": true}', 3)
    assert request == SearchRequest(("x",), 3, True, "skyrl")
    (row,) = json.loads(write_answer(request, [HITS]))["result"]
    assert [item["score"] for item in row] == [2.5, 1.0]


@pytest.mark.parametrize("scores", [True, False])
def test_gem_speaks_msgpack_and_gets_a_flat_list(scores: bool) -> None:
    request = read_request(msgpack.packb({"query": "x", "topk": 2, "return_scores": scores}), 3)
    assert request == SearchRequest(("x",), 2, scores, "gem", packed=True)
    rows = msgpack.unpackb(write_answer(request, [HITS]))["result"]
    assert [row["score"] for row in rows] == ([2.5, 1.0] if scores else [None, None])
    assert rows[1]["document"] == {"id": "b", "contents": '"The "Blue""\né'}


@pytest.mark.parametrize(
    ("body", "status", "problem"),
    [
        (b"", 400, "neither JSON nor msgpack"),
        (b"{", 400, "neither JSON nor msgpack"),
        (b"\xff\xfe", 400, "neither JSON nor msgpack"),
        (b"\x81\xa5quer", 400, "begins as msgpack"),
        (b"[1]", 400, "the body is list"),
        (b"{}", 400, "'queries' .* or 'query'"),
        (b'{"queries": "x"}', 400, "a list of texts"),
        (b'{"queries": [1]}', 400, "a list of texts"),
        (b'{"query": 7}', 400, "'queries' .* or 'query'"),
        (b'{"query": "x", "topk": 1000000000}', 400, "'topk' is 1000000000; allowed: 1 to 1,000"),
        (b'{"query": "x", "topk": -1}', 400, "'topk' is -1"),
        (b'{"query": "x", "topk": true}', 400, "'topk' is True"),
        (b'{"query": "x", "topk": "3"}', 400, "'topk' is '3'"),
        (b'{"query": "x", "return_scores": "yes"}', 400, "'return_scores' is 'yes'"),
        (b'{"query": "' + b"x" * 1_000_000 + b'"}', 413, "a query of 1,000,000 characters; allowed: 20,000"),
        (json.dumps({"queries": ["x"] * 2_000}).encode(), 413, "2,000 queries in one request; allowed: 1,024"),
    ],
)
def test_what_no_client_should_send_is_named(body: bytes, status: int, problem: str) -> None:
    with pytest.raises(WireError, match=problem) as caught:
        read_request(body, 3)
    assert caught.value.status == status


def test_an_answer_of_ours_is_read_back() -> None:
    request = read_request(write_request(["x", "y"], 5), 3)
    read = read_answer(write_answer(request, [HITS, []]), 2)
    assert read[0][0] == HITS[0]
    assert read[0][1].passage == HITS[1].passage
    assert read[1] == []


@pytest.mark.parametrize(
    "item",
    [
        {"document": {"id": "a", "contents": '"Chad"\nText'}, "score": 2.0},
        {"id": "a", "contents": '"Chad"\nText'},
        {"document": {"id": "a", "title": "Chad", "text": "Text"}, "score": None},
        {"docid": "a", "contents": "Chad\nText"},
    ],
)
def test_answers_of_other_servers_are_read(item: object) -> None:
    for rows in ([[item]], [item]):
        ((hit,),) = read_answer(json.dumps({"result": rows}).encode(), 1)
        assert hit.passage == Passage("a", "Chad", "Text")
        assert hit.score > 0


def test_documents_without_id_or_score_get_stable_ones() -> None:
    body = json.dumps({"result": [['"Chad"\nText', {"document": "other"}]]}).encode()
    ((first, second),) = read_answer(body, 1)
    assert (first.passage.title, first.passage.text, first.score) == ("Chad", "Text", 1.0)
    assert second.score == 0.5
    assert first.passage.id != second.passage.id
    assert read_answer(body, 1)[0][0].passage.id == first.passage.id


@pytest.mark.parametrize("body", [b"[]", b'{"result": 3}', b'{"result": [[], []]}', b'{"result": [[7]]}', b'{"result": [[{"id": "a"}]]}'])
def test_an_answer_of_another_shape_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"result|document|lists"):
        read_answer(body, 3 if b"[], []" in body else 1)
