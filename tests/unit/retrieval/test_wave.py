"""Environments that step together search together; each gets what a search alone would give."""

import asyncio
import threading
from typing import Any

import gymnasium as gym
import pytest
from retrieval_servers import TOPICS, Recording, passages

from agentgym import Answer, Gold, Task
from agentgym.errors import ServiceError
from agentgym.retrieval.wave import search_in_wave
from agentgym.rollout import EnvPool, run_groups
from agentgym.rollout.policy import Request
from agentgym.types import Completion


class Searcher:
    """Searches twice for its own topic, then answers; answers all requests of a batch together."""

    privileged = served = False

    def __init__(self) -> None:
        self.sizes: list[int] = []

    def release(self, episodes: Any) -> None:
        pass

    async def act(self, requests: Any) -> list[Completion]:
        self.sizes.append(len(requests))
        return [Completion(self._text(r)) for r in requests]

    def _text(self, request: Request) -> str:
        turn, member = request.key[-1], request.key[-2]
        return f"<search>{TOPICS[member % 6]} number{turn}</search>" if turn < 2 else "<answer>x</answer>"


def task(name: str = "t") -> Task:
    return Task(name, "Which harbour?", Gold(answers=(Answer("x"),)))


def test_64_environments_make_one_search_a_wave() -> None:
    corpus, policy = Recording(passages()), Searcher()
    pool = EnvPool("SearchQA-v0", tasks=[task()], retriever=corpus)
    (group,) = run_groups(pool, policy, [task()], group_size=64, key=(0, 0))
    assert policy.sizes == [64, 64, 64]
    assert [len(queries) for queries, _ in corpus.batches] == [6, 6], "two waves, six different queries in each"
    alone = Recording(passages())
    for t in group.trajectories:
        assert t.end_reason == "answered"
        for turn in t.turns[:2]:
            (result,) = turn.results
            assert [d.id for d in result.documents] == [h.passage.id for h in alone.search(turn.calls[0].arguments["query"], 3)]


def test_a_plain_step_searches_at_once_also_inside_a_running_loop() -> None:
    corpus = Recording(passages())
    env = gym.make("SearchQA-v0", tasks=[task()], retriever=corpus)
    env.reset(seed=0)
    plain = env.step("<search>harbour</search>")[0]

    async def notebook() -> str:
        env.reset(seed=0)
        return env.step("<search>harbour</search>")[0]

    assert asyncio.run(notebook()) == plain
    assert corpus.batches == [(("harbour",), 3)] * 2


def test_steps_gathered_by_a_user_are_one_wave_and_k_splits_it() -> None:
    corpus = Recording(passages())
    envs = [gym.make("SearchQA-v0", tasks=[task()], retriever=corpus).unwrapped for _ in range(3)]
    actions = ["<search>violin</search>", '<search k="5">violin</search>', "<search>glacier</search>"]

    async def together() -> list[Any]:
        for env in envs:
            env.reset(seed=0)
        return await asyncio.gather(*(env.astep(a) for env, a in zip(envs, actions, strict=True)))  # pyright: ignore

    asyncio.run(together())
    assert sorted(corpus.batches, key=lambda b: b[1]) == [(("violin", "glacier"), 3), (("violin",), 5)]


def test_a_query_that_breaks_the_index_breaks_its_own_episode_alone() -> None:
    corpus = Recording(passages())

    async def together() -> list[Any]:
        asked = (search_in_wave(corpus, q, 2) for q in ("harbour", "crash", "violin"))
        return await asyncio.gather(*asked, return_exceptions=True)

    first, second, third = asyncio.run(together())
    assert [hit.passage.title for hit in first] == [h.passage.title for h in corpus.search("harbour", 2)]
    assert isinstance(second, RuntimeError)
    assert third


def test_a_retriever_that_waits_on_a_network_runs_beside_the_loop() -> None:
    class Remote(Recording):
        blocks = True

        def search_many(self, queries: Any, k: int) -> Any:
            assert threading.current_thread() is not threading.main_thread()
            assert let_go.wait(5), "the loop stood still while the search ran"
            if queries == ["down"]:
                raise ServiceError("no answer")
            return super().search_many(queries, k)

    corpus, let_go = Remote(passages()), threading.Event()

    async def together() -> tuple[Any, Any]:
        search = asyncio.ensure_future(search_in_wave(corpus, "harbour", 2))
        await asyncio.sleep(0.02)
        let_go.set()
        found = await search
        with pytest.raises(ServiceError, match="no answer"):
            await search_in_wave(corpus, "down", 2)
        return found, corpus.batches

    found, batches = asyncio.run(together())
    assert found
    assert batches == [(("harbour",), 2)]


class Odd(Recording):
    """Cannot search for "odd", and says so as nobody should."""

    def _found(self, query: str, k: int) -> list:
        return next(iter([])) if query == "odd" else super()._found(query, k)


@pytest.mark.parametrize("blocks", [False, True])
def test_nobody_waits_for_ever_for_what_a_future_cannot_carry(blocks: bool) -> None:
    corpus = Odd(passages())
    corpus.blocks = blocks

    async def wave() -> list:
        searches = (search_in_wave(corpus, query, 1) for query in ("number1", "odd", "number2"))
        return await asyncio.wait_for(asyncio.gather(*searches, return_exceptions=True), 60)

    first, odd, last = asyncio.run(wave())
    assert [len(first), len(last)] == [1, 1]
    assert "StopIteration" in str(odd)


def test_nobody_waits_for_ever_for_a_thread_that_cannot_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    corpus = Recording(passages())
    corpus.blocks = True

    async def no_thread(*args: Any) -> Any:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("agentgym.retrieval.wave.asyncio.to_thread", no_thread)
    with pytest.raises(RuntimeError, match="new thread"):
        asyncio.run(asyncio.wait_for(search_in_wave(corpus, "number1", 1), 60))
