"""What information gain costs beside a training step of the tiny policy: `python benchmarks/information_gain.py`.

Writes benchmarks/results/information_gain.md. After a short warm start every round takes one step of the learner with
the default settings (rollouts, credit, two updates; its own reward has no probabilities) and then scores the gain of
every turn of the same episodes in three ways, in turn, in this process, on one thread:

- naive: K + 1 forward passes for an episode of K turns that show something, one for each context, over all of it;
- padded: the same rows in padded batches;
- shared: `HFPolicy.score`, which renders and computes once what contexts have in common at their beginnings.

Fails if shared and naive differ by more than 1e-5, or if the gain costs more than 10 % of a step.
"""

import argparse
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from agentgym import hooks
from agentgym.learn.run import DemonstrationConfig, Run, RunConfig
from agentgym.learn.sft import SftConfig
from agentgym.policies.hf import HFPolicy, scorer
from agentgym.rewards.information import InformationGain
from agentgym.types import Message, Score, Trajectory

MOST_SHARE, MOST_GAP = 0.10, 1e-5


class Apart:
    """A scorer that reads every context as a whole; `n_forwards` counts what it was asked for."""

    def __init__(self, policy: HFPolicy, max_tokens: int) -> None:
        """Batch up to `max_tokens`; 1 takes one context at a time."""
        self.policy, self.max_tokens, self.n_rows = policy, max_tokens, 0

    def score(
        self, contexts: Sequence[Sequence[Message]], prefix: str, targets: Sequence[str], suffix: str
    ) -> list[list[float]]:
        """Return the log-probabilities of the targets."""
        p = self.policy
        self.n_rows += len(contexts)
        parts: Any = (p._causal, p._codec, p.renderer, contexts, prefix, targets, suffix, self.max_tokens)
        return scorer.score(*parts, share_prefixes=False)


def main() -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--sft-steps", type=int, default=150)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "information_gain.md")
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = measure(args.rounds, args.sft_steps)
    text = page(rows, args.sft_steps)
    print(text, end="")
    args.out.parent.mkdir(parents=True, exist_ok=True)
    temporary = args.out.with_suffix(".tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(args.out)
    share = statistics.median(r["shared"] / r["step"] for r in rows)
    return int(share > MOST_SHARE or max(r["gap"] for r in rows) > MOST_GAP)


def measure(rounds: int, sft_steps: int) -> list[dict[str, float]]:
    """Return one row of CPU seconds and counts a round."""
    config = RunConfig(demonstrations=DemonstrationConfig(episodes=800), sft=SftConfig(steps=sft_steps))
    policy: HFPolicy = hooks.POLICIES.resolve("tiny")()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        run = Run(config, policy, hooks.POLICIES.resolve("scripted")(), Path(folder) / "run")
        warm = run._warm_start(None)
        while True:
            try:
                next(warm)
            except StopIteration as done:
                learner = run._learner(done.value)
                break
        learner.step()  # the first one also fills caches
        for _ in range(rounds):
            start = time.process_time()
            record = learner.step()
            row = {"step": time.process_time() - start, "turns": record.metrics["turns"]}
            episodes = [t for g in learner.groups for t in g.trajectories]
            naive, padded = Apart(policy, 1), Apart(policy, 16_384)
            row["naive"], expected = timed(naive, episodes)
            row["padded"], _ = timed(padded, episodes)
            row["shared"], found = timed(policy, episodes)
            row |= {"episodes": len(episodes), "contexts": naive.n_rows, "gap": gap(expected, found)}
            rows.append(row)
        learner.close()
        run.close()
    return rows


def timed(service: Any, episodes: Sequence[Trajectory]) -> tuple[float, list[dict[int, Score]]]:
    """Return the CPU time of one call of the component, and its scores."""
    start = time.process_time()
    scores = InformationGain().complete(episodes, service)
    return time.process_time() - start, scores


def gap(a: Sequence[dict[int, Score]], b: Sequence[dict[int, Score]]) -> float:
    """Return the greatest difference between the gains, and between the log-probabilities behind them."""
    worst = 0.0
    for one, other in zip(a, b, strict=True):
        for turn, score in one.items():
            numbers = {**score.parts, "raw": float(score.raw or 0.0)}
            same = {**other[turn].parts, "raw": float(other[turn].raw or 0.0)}
            worst = max(worst, *(abs(numbers[k] - same[k]) for k in numbers))
    return worst


def page(rows: Sequence[dict[str, float]], sft_steps: int) -> str:
    """Return the page of results."""

    def middle(name: str) -> float:
        return statistics.median(r[name] for r in rows)

    def share(name: str) -> str:
        values = [100 * r[name] / r["step"] for r in rows]
        return f"{statistics.median(values):.1f} % ({min(values):.1f} to {max(values):.1f})"

    table = "\n".join(
        f"| {words} | {1e3 * middle(name):.0f} | {share(name)} | {middle('naive') / middle(name):.1f} |"
        for name, words in (
            ("naive", "naive, K + 1 forward passes an episode"),
            ("padded", "the same contexts in padded batches"),
            ("shared", "ours, shared beginnings computed once"),
        )
    )
    return f"""# Cost of information gain

Written by `make information-gain` (`python benchmarks/information_gain.py`). CPU time of one thread; medians of {len(rows)} rounds, in
each of which all three ways score the episodes of one training step ({middle("episodes"):.0f} episodes, {middle("turns"):.1f} turns on average, {middle("contexts"):.0f} contexts).

Python {platform.python_version()}, torch {version("torch")}, transformers {version("transformers")}, {platform.machine()} {platform.system()}; tiny policy after {sft_steps} steps of warm
start; a training step (16 prompts, groups of 8, two updates) takes {1e3 * middle("step"):.0f} ms.

| way | ms | share of a training step, median (range) | naive / this |
|---|---:|---:|---:|
{table}

Greatest difference between ours and naive, log-probabilities and gains: {max(r["gap"] for r in rows):.1e} (at most {MOST_GAP:g} is accepted).
"""


if __name__ == "__main__":
    sys.exit(main())
