"""Micro-batches: what waits while a search runs makes the next one. Bounded, so that it never piles up."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from agentgym.errors import AgentGymError
from agentgym.retrieval import Hit, Retriever
from agentgym.serve.metrics import Metrics


class OverloadedError(AgentGymError):
    """Raised where a request would have to wait too long; try again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        """Say why, and when to come back."""
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(slots=True)
class _Waiting:
    queries: Sequence[str]
    k: int
    answer: "asyncio.Future[list[list[Hit]]]"
    since: float = field(default_factory=time.monotonic)


class MicroBatcher:
    """Searches for many requests at once, in a few threads.

    A request is searched at once where a thread is free; those that come meanwhile wait together and make the next
    batch. So nothing waits for a timer, and batches grow with the load. Equal queries of a batch are searched once.
    """

    def __init__(
        self, metrics: Metrics, *, threads: int = 1, max_batch: int = 64, max_queue: int = 2_048, deadline_s: float = 10.0
    ) -> None:
        """Search in `threads` threads.

        Args:
            metrics: what counts.
            threads: searches at once.
            max_batch: queries of one search, unless one request alone has more.
            max_queue: queries that may wait; a request that finds more is refused.
            deadline_s: requests that waited longer are refused when their turn comes.
        """
        self.metrics = metrics
        self.retriever: Retriever | None = None
        self._max_batch, self._max_queue, self._deadline_s = max_batch, max_queue, deadline_s
        self._free = threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self._queue: deque[_Waiting] = deque()
        self._scheduled = False
        self.waiting = 0
        """Queries in the queue."""
        self._running: set[asyncio.Task[None]] = set()

    async def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """Return the hits of each query. Raises OverloadedError where too many wait already."""
        if self.waiting and self.waiting + len(queries) > self._max_queue:
            raise OverloadedError(f"{self.waiting:,} queries wait; at most {self._max_queue:,} may")
        loop = asyncio.get_running_loop()
        entry = _Waiting(queries, k, loop.create_future())
        self._queue.append(entry)
        self.waiting += len(queries)
        if not self._scheduled:  # whatever arrived with this request is in the queue when this runs
            self._scheduled = True
            loop.call_soon(self._pump)
        return await entry.answer

    async def close(self) -> None:
        """Wait for the searches under way; refuse what still waits."""
        while self._queue:
            entry = self._queue.popleft()
            self.waiting -= len(entry.queries)
            if not entry.answer.done():
                entry.answer.set_exception(OverloadedError("the server is shutting down", 5))
        await asyncio.gather(*self._running, return_exceptions=True)
        self._pool.shutdown(wait=False)

    def _pump(self) -> None:
        self._scheduled = False
        while self._free and self._queue:
            batch = self._take()
            if batch:
                self._free -= 1
                task = asyncio.get_running_loop().create_task(self._run(batch))
                self._running.add(task)
                task.add_done_callback(self._running.discard)

    def _take(self) -> list[_Waiting]:
        batch: list[_Waiting] = []
        n, late = 0, time.monotonic() - self._deadline_s
        while self._queue and (not batch or n + len(self._queue[0].queries) <= self._max_batch):
            entry = self._queue.popleft()
            self.waiting -= len(entry.queries)
            if entry.answer.done():  # its client went away
                continue
            if entry.since < late:
                entry.answer.set_exception(OverloadedError(f"waited longer than {self._deadline_s:g} s"))
                continue
            n += len(entry.queries)
            batch.append(entry)
        return batch

    async def _run(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        try:
            answers = await loop.run_in_executor(self._pool, self._answers, self.retriever, batch)
            for entry, answer in zip(batch, answers, strict=True):
                if entry.answer.done():
                    continue
                if isinstance(answer, Exception):
                    entry.answer.set_exception(answer)
                else:
                    entry.answer.set_result(answer)
        except Exception as error:  # noqa: BLE001 (handed to every request of the batch)
            for entry in batch:
                if not entry.answer.done():
                    entry.answer.set_exception(error)
        finally:
            self._free += 1
            self._pump()

    def _answers(self, retriever: Retriever | None, batch: list[_Waiting]) -> list[list[list[Hit]] | Exception]:
        """Return hits or an exception for each request: where a search fails, a query of one of them may have broken it."""
        try:
            return list(self._found(retriever, batch))
        except AgentGymError as error:
            return [error for _ in batch]
        except Exception as error:  # noqa: BLE001 (handed to whoever asked)
            if len(batch) > 1:
                return [answer for entry in batch for answer in self._answers(retriever, [entry])]
            return [RuntimeError("the search raised StopIteration") if isinstance(error, StopIteration) else error]

    def _found(self, retriever: Retriever | None, batch: list[_Waiting]) -> list[list[list[Hit]]]:
        """Search a batch: one call for each k, each query once."""
        if retriever is None:
            raise OverloadedError("the index is still loading", 2)
        wanted: dict[int, dict[str, list[Hit]]] = {}
        for entry in batch:
            wanted.setdefault(entry.k, {}).update({query: [] for query in entry.queries})
        for k, answers in wanted.items():
            asked = [query for query in answers if query.strip()]
            for query, hits in zip(asked, retriever.search_many(asked, k) if asked else (), strict=True):
                answers[query] = hits
            self.metrics.observe("batch_queries", len(asked))
        return [[wanted[entry.k][query] for query in entry.queries] for entry in batch]
