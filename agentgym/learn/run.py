"""One training run in one folder: warm start, learning, evaluation; written as it goes, resumed where it stopped."""

import functools
import json
import platform
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from agentgym import config as configs
from agentgym import schema
from agentgym.errors import ConfigError, DataError
from agentgym.learn.checkpoint import CheckpointStore
from agentgym.learn.learner import LearnConfig, Learner
from agentgym.learn.sft import WarmStart, demonstration
from agentgym.rollout.demonstrate import Demonstrator
from agentgym.rollout.episode import SamplingConfig
from agentgym.rollout.evaluate import EvalConfig, EvalResult, evaluate
from agentgym.rollout.groups import EnvPool, run_groups, run_groups_async
from agentgym.rollout.policy import Policy
from agentgym.rollout.record import TrajectoryWriter, cut_partial_line, read_trajectories
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.types import JSON, Group, StepRecord, TokenRows

PACKAGES = ("agentic-gym", "gymnasium", "numpy", "torch", "transformers", "bm25s")

TINY_WORLD = {
    "world": "synthetic:closed?worlds=256&kinds=1,2a,2b,2c,3a,3b",
    "observation": "compact",
    "reward": "search",
    "k": 2,
}
"""The embedded default: questions of one to three hops over closed-vocabulary worlds."""


@dataclass(frozen=True, slots=True)
class DemonstrationConfig:
    """Episodes that the warm start imitates."""

    policy: str = "scripted"
    """Who demonstrates."""
    episodes: int = 2_000
    noise: float = 0.45
    """Chance of a bad action per turn: a competent but careless demonstrator leaves something to learn."""


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Evaluation on held-out tasks."""

    split: str = "dev"
    tasks: int = 250
    """Tasks of the split, drawn once; the same in every evaluation of every run."""
    every: int = 40
    """Learner steps between evaluations; the warm start and the last step are always evaluated."""


@dataclass(frozen=True, slots=True)
class RunConfig(LearnConfig):
    """A recipe: everything that a run depends on."""

    env: str = "SearchQA-v0"
    env_args: dict[str, Any] = field(default_factory=lambda: dict(TINY_WORLD))
    """[env_args] Arguments of gym.make."""
    policy: str = "tiny"
    policy_args: dict[str, Any] = field(default_factory=dict)
    """[policy_args] Arguments of the policy's factory."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_tokens=8))
    """[sampling]"""
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    """[demonstrations]"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """[evaluation]"""
    record_every: int = 10
    """Learner steps between those whose trajectories and advantages are kept; the last is always kept."""


@dataclass(frozen=True, slots=True)
class Event:
    """What a run reports."""

    phase: str
    """demonstrations, warmstart, evaluation, train or done."""
    step: int
    metrics: dict[str, float]
    warnings: tuple[str, ...] = ()


class Run:
    """A training run in `out`. `events()` does the work and yields what happened."""

    def __init__(self, config: RunConfig, policy: Any, demonstrator: Policy, out: Path) -> None:
        """Open or resume the run folder.

        Args:
            config: The resolved recipe.
            policy: The policy to train, with fresh weights; a resumed run loads its own.
            demonstrator: Who demonstrates the warm start.
            out: The run folder.

        Raises:
            ConfigError: `out` holds a run of another recipe.
        """
        self.config, self.policy, self.out = config, policy, out
        self.demonstrator = demonstrator
        self.pool = EnvPool(config.env, **config.env_args)
        self.suite = self.pool.first.suite
        self.store = CheckpointStore(out, config.train.keep_checkpoints)
        self.last_evaluation: EvalResult | None = None
        self._open()

    def _open(self) -> None:
        text, path = configs.dump(self.config), self.out / "config.toml"
        self.out.mkdir(parents=True, exist_ok=True)
        if path.exists() and path.read_text(encoding="utf-8") != text:
            raise ConfigError(f"{self.out} holds a run of another recipe (config.toml differs); choose another --out")
        path.write_text(text, encoding="utf-8")
        versions = {"python": platform.python_version(), "platform": sys.platform}
        versions |= {name: _version(name) for name in PACKAGES}
        (self.out / "versions.json").write_text(json.dumps(versions, indent=1) + "\n", encoding="utf-8")

    def events(self) -> Iterator[Event]:
        """Do the run, or what is left of it; yield one event a step and one an evaluation."""
        checkpoint = self.store.latest()
        resumed_at = -1
        if checkpoint is not None and checkpoint.phase == "train":
            resumed_at = checkpoint.step
        self._trim(checkpoint.phase if checkpoint else "", checkpoint.step if checkpoint else 0)
        warm = None
        if resumed_at < 0 and self.config.sft.steps:
            warm = yield from self._warm_start(checkpoint)
        learner = self._learner(warm)
        try:
            if resumed_at >= 0 and checkpoint is not None:
                learner.resume(checkpoint)
            else:
                yield self._evaluate(0)
            yield from self._learn(learner)
        finally:
            learner.close()
        self.policy.save(self.out / "model")
        self._write_tokens()
        yield Event("done", learner.steps_done, {"time/total_cpu_s": learner.cpu_s})

    def _warm_start(self, checkpoint: Any) -> Iterator[Any]:
        started = time.process_time()
        warm = WarmStart(self.config.sft, self.policy, self._demonstrations(), self.config.seed)
        if checkpoint is not None:
            warm.resume(checkpoint)
        else:
            warm.cpu_s = time.process_time() - started  # making the demonstrations counts
        yield Event("demonstrations", 0, {"episodes": float(self.config.demonstrations.episodes)})
        for record in warm.records(self.store):
            yield self._keep("warmstart", record)
        return warm

    def _demonstrations(self) -> list[TokenRows]:
        c = self.config
        source, split = self.pool.first.source, c.train.split
        rng = stream(c.seed, "demonstrations")
        tasks = [source.sample(split, rng) for _ in range(c.demonstrations.episodes)]
        sampling = SamplingConfig(max_tokens=c.sampling.max_tokens, oracle_noise=c.demonstrations.noise)
        writer = Demonstrator(self.demonstrator, self.policy)
        groups = run_groups(self.pool, writer, tasks, group_size=1, key=(c.seed, -1), sampling=sampling, concurrency=64)
        records = [t for g in groups for t in g.trajectories]
        broken = next((t for t in records if t.error), None)
        if broken is not None:
            raise DataError(f"demonstration {broken.id} failed: {broken.error}")
        return [demonstration(t) for t in records if t.segments]

    def _learner(self, warm: WarmStart | None) -> Learner:
        c = self.config
        rollout = functools.partial(run_groups_async, self.pool, sampling=c.sampling)
        return Learner(
            c,
            self.policy,
            rollout,
            self.pool.first.source,
            complete=functools.partial(self.suite.complete, scorer=self.policy),
            reference=self.policy.frozen_copy() if c.loss.kl_coef > 0 else None,
            margin=lambda w: self.suite.bounds(turn_factor=w).margin,
            tokens_per_episode=warm.tokens_per_episode if warm else 0.0,
            cpu_s=warm.cpu_s if warm else 0.0,
        )

    def _learn(self, learner: Learner) -> Iterator[Event]:
        for record in learner.records(self.store):
            done, last = record.step + 1, learner.over
            kept = record.step % self.config.record_every == 0 or last
            yield self._keep("train", record, learner.groups if kept else ())
            if done % self.config.evaluation.every == 0 or last:
                yield self._evaluate(done)

    def evaluation_tasks(self) -> list[Task]:
        """Return the held-out tasks: a fixed draw that does not depend on the run's seed."""
        tasks = self.pool.first.tasks(self.config.evaluation.split)
        order = stream("evaluation", self.config.evaluation.split).permutation(len(tasks))
        return [tasks[int(i)] for i in order[: self.config.evaluation.tasks]]

    def _evaluate(self, step: int) -> Event:
        config = EvalConfig(seed=self.config.seed, concurrency=0, sampling=self.config.sampling)
        started = time.process_time()
        result, _ = evaluate(self.pool, self.policy, self.evaluation_tasks(), config)
        self.last_evaluation = result
        metrics = {f"eval/{n}": m.mean for n, m in result.measures.items()}
        metrics["eval/success_low"] = result.measures["success"].low
        metrics["eval/success_high"] = result.measures["success"].high
        metrics |= {f"eval/success/{kind}": row["success"] for kind, row in result.by_kind.items()}
        metrics["time/cpu_s"] = time.process_time() - started
        return self._write(Event("evaluation", step, metrics))

    def _keep(self, phase: str, record: StepRecord, groups: Sequence[Group] = ()) -> Event:
        event = Event(phase, record.step, record.metrics, tuple(record.warnings))
        if groups:
            with TrajectoryWriter(self.out / "trajectories.jsonl") as writer:
                for trajectory in (t for g in groups for t in g.trajectories):
                    writer.write(trajectory)
        advantages = {i: list(a) for i, a in record.advantages.items()} if groups else {}
        return self._write(event, scales=record.scales, advantages=advantages)

    def _write(self, event: Event, **more: JSON) -> Event:
        line = {"phase": event.phase, "step": event.step, "metrics": event.metrics, "warnings": event.warnings, **more}
        with (self.out / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(schema.to_json(line)) + "\n")
        return event

    def _write_tokens(self) -> None:
        """Write the texts of all sampled tokens that the kept records hold, for the report."""
        path = self.out / "trajectories.jsonl"
        used = {i for t in read_trajectories(path) for s in t.segments for i in s.ids} if path.exists() else set()
        texts = {str(i): text for i, text in sorted(self.policy.token_texts(used).items())}
        (self.out / "tokens.json").write_text(json.dumps(texts) + "\n", encoding="utf-8")

    def _trim(self, phase: str, step: int) -> None:
        """Cut the records back to the checkpoint, so that the repeated steps stand in them once."""

        def before(line: dict[str, Any]) -> bool:
            if line["phase"] == "evaluation":
                return phase == "train" and line["step"] <= step
            return (line["phase"] == "warmstart" and phase == "train") or (line["phase"] == phase and line["step"] < step)

        _filter_lines(self.out / "metrics.jsonl", before)
        _filter_lines(
            self.out / "trajectories.jsonl", lambda t: phase == "train" and t["seed"][1] < step
        )


def use_threads(n: int) -> None:
    """Let torch use `n` threads: one is right for small models on small machines."""
    torch.set_num_threads(n)


def _filter_lines(path: Path, keep: Any) -> None:
    if not path.exists():
        return
    cut_partial_line(path)
    temporary = path.with_name(f".{path.name}.tmp")
    with path.open(encoding="utf-8") as old, temporary.open("w", encoding="utf-8") as new:
        new.writelines(line for line in old if keep(json.loads(line)))
    temporary.replace(path)


def _version(package: str) -> str:
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return ""
