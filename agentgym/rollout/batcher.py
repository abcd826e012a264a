"""Puts a policy of this process behind all live episodes: one batch when every one of them waits for it."""

import asyncio

from agentgym.errors import AgentGymError
from agentgym.rollout.policy import Policy, Request
from agentgym.types import Completion


class Batcher:
    """Collects requests of live episodes; runs them when all wait, or `max_wait_s` after the first.

    Sampling noise is keyed per request, so results do not depend on who was batched with whom.
    """

    def __init__(self, policy: Policy, max_wait_s: float = 30.0) -> None:
        """Serve `policy`; `max_wait_s` matters only where a slow tool holds an episode back."""
        self.policy = policy
        self.max_wait_s = max_wait_s
        self.live = 0
        self._pending: list[tuple[Request, asyncio.Future[Completion]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._running: set[asyncio.Task[None]] = set()

    def enter(self, n_workers: int) -> None:
        """Count workers that will ask; call it before any of them does."""
        self.live += n_workers

    def leave(self) -> None:
        """Count a worker as done and let the others go on."""
        self.live -= 1
        self._flush_if_full()

    async def act(self, request: Request) -> Completion:
        """Return the completion of one request."""
        if self.policy.served:
            return (await self.policy.act([request]))[0]
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Completion] = loop.create_future()
        self._pending.append((request, future))
        if self._timer is None:
            self._timer = loop.call_later(self.max_wait_s, self._flush)
        self._flush_if_full()
        try:
            return await future
        finally:
            if future.cancelled():  # the policy must not be asked for an episode that is no more
                self._pending = [item for item in self._pending if item[1] is not future]

    def _flush_if_full(self) -> None:
        if self._pending and len(self._pending) >= self.live:
            self._flush()

    def _flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._pending = self._pending, []
        if batch:
            task = asyncio.get_running_loop().create_task(self._run(batch))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _run(self, batch: list[tuple[Request, asyncio.Future[Completion]]]) -> None:
        # A fixed order makes the batch the same in every run, whoever asked first.
        batch.sort(key=lambda item: item[0].episode)
        try:
            completions = await self.policy.act([request for request, _ in batch])
            if len(completions) != len(batch):
                raise AgentGymError(f"the policy returned {len(completions)} completions for {len(batch)} requests")
        except Exception as error:  # noqa: BLE001 (handed to every episode of the batch)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        for (_, future), completion in zip(batch, completions, strict=True):
            if not future.done():
                future.set_result(completion)
