"""Runs the search environments of skyrl-gym or gem through recorded actions; prints turns and CPU seconds as JSON.

Runs in an environment of its own (`make extra-peers`) and imports nothing of this project: see env_throughput.py.

    .venv-peers/bin/python benchmarks/peer_turns.py skyrl http://127.0.0.1:8000/retrieve episodes.json
"""

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Episode = dict[str, Any]


def skyrl(url: str, topk: int) -> Callable[[Episode], int]:
    """Return what runs one episode in skyrl-gym's SearchEnv and gives its number of turns."""
    from skyrl_gym.envs.search.env import SearchEnv, SearchEnvConfig

    config = SearchEnvConfig(search_url=url, topk=topk)

    def run(episode: Episode) -> int:
        extras = {"reward_spec": {"ground_truth": {"target": [episode["answer"]]}}, "max_turns": 6}
        env = SearchEnv(config, extras=extras)
        env.init([{"role": "user", "content": episode["question"]}])
        for n, action in enumerate(episode["actions"], 1):
            out = env.step(action)
            assert out["done"] == (n == len(episode["actions"])), out
            assert out["done"] or "Doc 1" in out["observations"][0]["content"], out
        assert out["reward"] == 1, out
        return len(episode["actions"])

    return run


def gem(url: str, topk: int) -> Callable[[Episode], int]:
    """Return what runs one episode in gem's QaEnv with its SearchTool and gives its number of turns."""
    import datasets
    from gem.envs.qa_env import QaEnv
    from gem.tools.search_tool import SearchTool
    from gem.tools.tool_env_wrapper import ToolEnvWrapper

    datasets.disable_progress_bars()
    one = datasets.Dataset.from_list([{"question": "q", "answer": "a"}])
    inner = QaEnv(dataset=one)
    env = ToolEnvWrapper(inner, [SearchTool(search_url=url, topk=topk, timeout=60)], max_tool_uses=6)

    def run(episode: Episode) -> int:
        env.reset()
        inner.answer = episode["answer"]
        for n, action in enumerate(episode["actions"], 1):
            observation, reward, terminated, _, _ = env.step(action)
            assert terminated == (n == len(episode["actions"])), observation
            assert terminated or "Doc 1" in observation, observation
        assert reward == 1
        return len(episode["actions"])

    return run


def main() -> int:
    """Run all episodes after a warm-up of ten, and print what they cost this process."""
    name, url, path = sys.argv[1:]
    logging.disable(logging.WARNING)
    given = json.loads(Path(path).read_text(encoding="utf-8"))
    run = {"skyrl": skyrl, "gem": gem}[name](url, given["topk"])
    for episode in given["episodes"][:10]:
        run(episode)
    print("warm", flush=True)
    sys.stdin.readline()  # the server's clock is read now
    started, wall = time.process_time(), time.perf_counter()
    turns = sum(run(episode) for episode in given["episodes"])
    print(json.dumps({"turns": turns, "cpu_s": time.process_time() - started, "wall_s": time.perf_counter() - wall}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
