"""32 episodes call a tool of 50 ms each: how long until all have their result, here and in TRL's loop, in one run.

    python benchmarks/tool_waves.py [--write]

Ours: whole episodes (reset, call, scores, answer) by the one driver, and the toolbox alone. TRL's: the method of its
trainer that runs the tool calls of a batch, called as it stands, with a stub where the model would generate. Both get the
same functions, once plain (time.sleep) and once as coroutines (asyncio.sleep).
"""

import argparse
import asyncio
import platform
import statistics
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import agentgym
from agentgym.rollout import EnvPool, run_groups
from agentgym.rollout.policy import Request
from agentgym.tools import Toolbox, ToolContext
from agentgym.types import Completion, ToolCall

RESULTS = Path(__file__).parent / "results" / "tool_waves.md"
N, SECONDS, REPEATS = 32, 0.05, 5


def plain(query: str) -> str:
    """Look something up, slowly.

    Args:
        query: what.
    """
    time.sleep(SECONDS)
    return f"found {query}"


async def waiting(query: str) -> str:
    """Look something up, slowly.

    Args:
        query: what.
    """
    await asyncio.sleep(SECONDS)
    return f"found {query}"


TOOLS = {
    "plain function, slow=True": agentgym.tool(name="lookup", slow=True)(plain),
    "plain function, timeout_s=5": agentgym.tool(name="lookup", timeout_s=5)(plain),
    "coroutine": agentgym.tool(name="lookup")(waiting),
    "plain function, not declared slow": agentgym.tool(name="lookup")(plain),
}


class Scripted:
    """Looks something up, then answers."""

    privileged, served = False, False

    async def act(self, requests: Any) -> list[Completion]:
        """Act at once."""
        return [Completion(self._say(request)) for request in requests]

    def _say(self, request: Request) -> str:
        done = any(message.role == "assistant" for message in request.messages)
        return "<answer>nobody</answer>" if done else "<lookup>Ada</lookup>"

    def release(self, episodes: Any) -> None:
        """Keep nothing."""


def wave(item: Any) -> float:
    """The calls of 32 episodes through the toolbox."""
    box = Toolbox([item])

    async def run() -> float:
        started = time.perf_counter()
        results = await asyncio.gather(*(box.run(ToolCall("lookup", {"query": "x"}), ToolContext()) for _ in range(N)))
        assert all(result.ok for result in results)
        return time.perf_counter() - started

    return asyncio.run(run())


def episodes(item: Any) -> float:
    """32 whole episodes of SearchQA, one call and an answer each."""
    pool = EnvPool("SearchQA-v0", world="synthetic:natural?entities=100&seed=0", tools=[item])
    tasks = pool.first.tasks()[:1]
    made = [pool.take() for _ in range(N)]
    for env in made:
        pool.give(env)
    started = time.perf_counter()
    (group,) = run_groups(pool, Scripted(), tasks, group_size=N, key=(0, 0))
    spent = time.perf_counter() - started
    assert all(t.turns[0].results[0].data == "found Ada" for t in group.trajectories)
    return spent


def trl_wave(kind: str) -> float:
    """The same calls through GRPOTrainer's own method."""
    from trl import GRPOTrainer

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    call = {"type": "function", "function": {"name": "lookup", "arguments": {"query": "x"}}}
    trainer = SimpleNamespace(
        _sync_tool_dicts=[{"lookup": plain} if kind == "plain" else {}] * N,
        _async_tool_dicts=[{"lookup": waiting} if kind == "coroutine" else {}] * N,
        async_loop=loop,
        max_tool_calling_iterations=1,
        max_completion_length=-1,  # every result is too long: the loop ends after the calls, before the model
        use_vllm=False,
        vllm_mode="",
        _is_vlm=False,
        tools=[],
        model=SimpleNamespace(config=SimpleNamespace(max_position_embeddings=1)),
        _get_tool_suffix_ids=lambda messages: [0] * len(messages),
    )
    completions = [[{"role": "assistant", "tool_calls": [call]}] for _ in range(N)]
    prompts = [[{"role": "user", "content": "?"}] for _ in range(N)]
    started = time.perf_counter()
    GRPOTrainer._tool_call_loop(trainer, prompts, [[1]] * N, [[1]] * N, completions, None, None, {})  # type: ignore[arg-type]
    spent = time.perf_counter() - started
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
    return spent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    write = parser.parse_args().write
    rows = []
    for name, item in TOOLS.items():
        rows.append((f"agentgym, toolbox, {name}", [wave(item) for _ in range(REPEATS)]))
    for name, item in list(TOOLS.items())[:3]:
        rows.append((f"agentgym, whole episodes, {name}", [episodes(item) for _ in range(REPEATS)]))
    for kind, name in (("plain", "plain function"), ("coroutine", "coroutine")):
        rows += [(f"TRL, tool loop, {name}", [trl_wave(kind) for _ in range(REPEATS)])]
    best = min(statistics.median(times) for _, times in rows)
    lines = [f"| {name} | {statistics.median(t):.3f} | {min(t):.3f} | {statistics.median(t) / best:.1f} |" for name, t in rows]
    print("\n".join(lines))
    if write:
        RESULTS.write_text(HEAD.format(versions=_versions()) + "\n".join(lines) + "\n", encoding="utf-8")


def _versions() -> str:
    import trl

    return f"trl {trl.__version__}, Python {platform.python_version()}"


HEAD = """# Slow tools of many episodes

`python benchmarks/tool_waves.py --write` ({versions}): 32 episodes call a tool that waits 50 ms; seconds until the last
result, median and best of five runs, ratio to the best row. A plain function that is not declared slow runs in place, one
after the other, as it should where a call costs microseconds. TRL's rows are its trainer's own method for the tool calls of a
batch; it runs the calls of one episode at once if they are coroutines, and the episodes of a batch one after the other.

| what | median s | best s | ratio |
|---|---|---|---|
"""

if __name__ == "__main__":
    main()
