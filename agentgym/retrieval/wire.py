"""The three ways in which search clients of the field talk to a server at one address, read and written.

| dialect | request | answer |
|---|---|---|
| search-r1 | JSON `{"queries": […], "topk", "return_scores"}` | `{"result": [[…] per query]}` |
| skyrl | JSON `{"query": "…", "topk", "return_scores"}` | `{"result": [[…]]}`, one inner list |
| gem | msgpack `{"query": "…", "topk", "return_scores"}` | msgpack `{"result": […]}`, flat |

With scores (or always, in gem) an item is `{"document": {"id", "contents"}, "score"}`, without them the document itself.
`contents` is the title in double quotes, a line break, and the text.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentgym.errors import AgentGymError, MissingExtraError
from agentgym.retrieval.protocol import Hit
from agentgym.types import JSON, Passage

try:  # several times as fast as the standard library, and the same bytes for what is sent here
    import orjson
except ImportError:
    orjson = None

MAX_QUERIES = 1_024
MAX_QUERY_CHARS = 20_000
MAX_K = 1_000
JSON_TYPE, MSGPACK_TYPE = "application/json", "application/msgpack"
INSTALL = 'pip install "agentic-gym[serve]"'


class WireError(AgentGymError):
    """Raised for a request that is not one of the dialects; `status` is the HTTP status to answer with."""

    def __init__(self, message: str, status: int = 400) -> None:
        """Say what is wrong, and with which status to answer."""
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class SearchRequest:
    """What a client asked for."""

    queries: tuple[str, ...]
    k: int
    scores: bool
    dialect: str
    """"search-r1", "skyrl" or "gem"."""
    packed: bool = False
    """Whether the answer goes back as msgpack."""


def read_request(body: bytes, default_k: int) -> SearchRequest:
    """Read a request of any dialect; unknown fields are ignored, as the servers of the field do.

    Args:
        body: as it came; msgpack is told from JSON by its first byte, since gem's client names no content type.
        default_k: passages a query where the client leaves `topk` out, or gives null or 0.

    Raises:
        WireError: it cannot be read, or a field has another type or is out of range; names the field.
    """
    packed = bool(body) and (0x80 <= body[0] <= 0x8F or body[0] in (0xDE, 0xDF))
    fields = _unpack(body) if packed else _parse(body)
    if not isinstance(fields, dict):
        raise WireError(f"the body is {type(fields).__name__}; send an object with 'queries' (a list) or 'query' (a text)")
    if fields.get("queries") is not None:
        queries, dialect = fields["queries"], "search-r1"
        if not isinstance(queries, list) or not all(isinstance(q, str) for q in queries):
            raise WireError("'queries' must be a list of texts")
    elif isinstance(fields.get("query"), str):
        queries, dialect = [fields["query"]], "gem" if packed else "skyrl"
    else:
        raise WireError("'queries' (a list of texts) or 'query' (a text) is missing")
    if len(queries) > MAX_QUERIES:
        raise WireError(f"{len(queries):,} queries in one request; allowed: {MAX_QUERIES:,}. Send several requests", 413)
    longest = max(map(len, queries), default=0)
    if longest > MAX_QUERY_CHARS:
        raise WireError(f"a query of {longest:,} characters; allowed: {MAX_QUERY_CHARS:,}", 413)
    scores = fields.get("return_scores", False)
    if not isinstance(scores, bool) and scores is not None:
        raise WireError(f"'return_scores' is {scores!r:.40}; allowed: true, false")
    return SearchRequest(tuple(queries), _k(fields, default_k), bool(scores), dialect, packed)


def _k(fields: dict[str, Any], default_k: int) -> int:
    k = fields.get("topk", fields.get("topk_rerank"))
    if k is None or k == 0:
        return default_k
    if not isinstance(k, int) or isinstance(k, bool) or not 0 < k <= MAX_K:
        raise WireError(f"'topk' is {k!r:.40}; allowed: 1 to {MAX_K:,}, or 0 or null for {default_k}")
    return k


def write_answer(request: SearchRequest, results: Sequence[Sequence[Hit]]) -> bytes:
    """Return the answer's body in the request's own dialect."""
    if request.dialect == "gem":
        return _pack({"result": [_wrapped(hit, hit.score if request.scores else None) for hit in results[0]]})
    if request.scores:
        rows = [[_wrapped(hit, hit.score) for hit in hits] for hits in results]
    else:
        rows = [[_document(hit.passage) for hit in hits] for hits in results]
    return _pack({"result": rows}) if request.packed else dump({"result": rows})


def _wrapped(hit: Hit, score: float | None) -> dict[str, JSON]:
    return {"document": _document(hit.passage), "score": score}


def _document(passage: Passage) -> dict[str, JSON]:
    return {"id": passage.id, "contents": contents(passage)}


def contents(passage: Passage) -> str:
    """Return a passage as one text: its title in double quotes, a line break, its text."""
    return f'"{passage.title}"\n{passage.text}'


def write_request(queries: Sequence[str], k: int) -> bytes:
    """Return the body of a batch request with scores."""
    return dump({"queries": list(queries), "topk": k, "return_scores": True})


def read_answer(body: bytes, n_queries: int) -> list[list[Hit]]:
    """Read an answer to `n_queries` queries from any server of the field.

    Taken are: items with and without the "document" wrapper, documents that are texts, missing and null scores (a
    falling one takes their place: 1, 1/2, 1/3 …), missing ids (a hash of the contents), and a flat list for one query.

    Raises:
        ValueError: another shape; says which part.
    """
    answer = _unpack(body) if body[:1] >= b"\x80" else json.loads(body) if orjson is None else orjson.loads(body)
    rows = answer.get("result") if isinstance(answer, dict) else None
    if not isinstance(rows, list):
        raise ValueError("no list 'result' in the answer")
    if n_queries == 1 and not (len(rows) == 1 and isinstance(rows[0], list)):
        rows = [rows]
    if len(rows) != n_queries:
        raise ValueError(f"{len(rows)} lists of results for {n_queries} queries")
    return [[_hit(item, rank) for rank, item in enumerate(row)] for row in rows]


def _hit(item: Any, rank: int) -> Hit:
    score = None
    if isinstance(item, dict) and "document" in item:
        item, score = item["document"], item.get("score")
    if not isinstance(score, int | float) or isinstance(score, bool):
        score = 1.0 / (rank + 1)
    if isinstance(item, str):
        item = {"contents": item}
    if not isinstance(item, dict):
        raise ValueError(f"a document is {type(item).__name__}, expected an object or a text")
    text, title = item.get("contents"), item.get("title")
    if not isinstance(text, str):
        text = item.get("text")
        if not isinstance(text, str):
            raise ValueError(f"a document has neither 'contents' nor 'text'; found {', '.join(map(str, item)) or 'nothing'}")
        title = title if isinstance(title, str) else ""
    else:
        first, _, text = text.partition("\n")
        title = first.strip().removeprefix('"').removesuffix('"')
    doc_id = item.get("id", item.get("docid"))
    if doc_id is None:
        doc_id = hashlib.blake2b(f"{title}\n{text}".encode(), digest_size=8).hexdigest()
    return Hit(Passage(str(doc_id), title, text), float(score))


def dump(value: JSON) -> bytes:
    """Return a value as JSON bytes."""
    return orjson.dumps(value) if orjson is not None else json.dumps(value, ensure_ascii=False).encode()


def _parse(body: bytes) -> Any:
    try:
        return orjson.loads(body) if orjson is not None else json.loads(body)
    except (ValueError, RecursionError) as error:
        raise WireError(f"the body is neither JSON nor msgpack: {error}") from None


def _pack(value: JSON) -> bytes:
    return _msgpack().packb(value)


def _unpack(body: bytes) -> Any:
    try:
        return _msgpack().unpackb(body)
    except MissingExtraError as error:
        raise WireError(str(error), 415) from None
    except Exception as error:  # noqa: BLE001 (the library raises several unrelated kinds)
        raise WireError(f"the body begins as msgpack and cannot be read as such: {error}") from None


def _msgpack() -> Any:
    try:
        import msgpack
    except ImportError:
        raise MissingExtraError("a client that speaks msgpack", "msgpack", INSTALL) from None
    return msgpack
