"""Searches of environments that step together, as one batch.

Coroutines that wait for the same thing (a batch of completions, usually) wake in the same turn of their event loop. The
first of them that searches schedules one batch behind all the others; so a wave of 64 environments makes one call of
`search_many`, and nobody waits for a timer. A search alone in its turn is a batch of one.
"""

import asyncio
from collections.abc import Sequence
from weakref import WeakKeyDictionary

from agentgym.errors import ServiceError
from agentgym.retrieval.protocol import Hit, Retriever

_Asked = tuple[str, "asyncio.Future[list[Hit]]"]


class _Wave:
    """What one event loop gathers until its next turn."""

    def __init__(self) -> None:
        self.asked: dict[tuple[int, int], tuple[Retriever, list[_Asked]]] = {}
        self.running: set[asyncio.Task[None]] = set()

    def add(self, corpus: Retriever, query: str, k: int) -> "asyncio.Future[list[Hit]]":
        loop = asyncio.get_running_loop()
        if not self.asked:
            loop.call_soon(self.flush)
        answer: asyncio.Future[list[Hit]] = loop.create_future()
        self.asked.setdefault((id(corpus), k), (corpus, []))[1].append((query, answer))
        return answer

    def flush(self) -> None:
        asked, self.asked = self.asked, {}
        for (_, k), (corpus, searches) in asked.items():
            if getattr(corpus, "blocks", False):
                task = asyncio.get_running_loop().create_task(_in_thread(corpus, searches, k))
                self.running.add(task)
                task.add_done_callback(self.running.discard)
            else:
                _settle(searches, _answers(corpus, [query for query, _ in searches], k))


_waves: WeakKeyDictionary[asyncio.AbstractEventLoop, _Wave] = WeakKeyDictionary()


async def search_in_wave(corpus: Retriever, query: str, k: int) -> list[Hit]:
    """Return `corpus.search(query, k)`, searched together with what other coroutines of this turn of the loop ask.

    A failure that is one query's own reaches that query alone; a ServiceError reaches all that were in the batch.
    """
    loop = asyncio.get_running_loop()
    wave = _waves.get(loop)
    if wave is None:
        wave = _waves[loop] = _Wave()
    return await wave.add(corpus, query, k)


async def _in_thread(corpus: Retriever, searches: list[_Asked], k: int) -> None:
    try:
        answers = await asyncio.to_thread(_answers, corpus, [query for query, _ in searches], k)
    except Exception as error:  # noqa: BLE001 (no thread can be had: nobody may wait for it)
        answers = [error for _ in searches]
    _settle(searches, answers)


def _answers(corpus: Retriever, queries: list[str], k: int) -> list[list[Hit] | Exception]:
    """Return hits or an exception for each query: equal queries are searched once, a broken batch one by one."""
    unique = list(dict.fromkeys(queries))
    found: dict[str, list[Hit] | Exception] = {}
    try:
        found.update(zip(unique, corpus.search_many(unique, k), strict=True))
    except ServiceError as error:
        found = dict.fromkeys(unique, error)
    except Exception as error:  # noqa: BLE001 (one of the queries, perhaps)
        for query in unique:
            try:
                found[query] = corpus.search(query, k) if len(unique) > 1 else error
            except Exception as own:  # noqa: BLE001 (handed to whoever asked)
                found[query] = own
    return [found[query] for query in queries]


def _settle(searches: list[_Asked], answers: Sequence[list[Hit] | Exception]) -> None:
    for (_, future), answer in zip(searches, answers, strict=True):
        if future.done():
            continue
        if isinstance(answer, StopIteration):  # a future cannot carry it
            future.set_exception(RuntimeError("the search raised StopIteration"))
        elif isinstance(answer, Exception):
            future.set_exception(answer)
        else:
            future.set_result(list(answer))
