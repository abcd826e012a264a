"""One training run in one folder: warm start, learning, evaluation; written as it goes, resumed where it stopped."""

import json
import platform
import sys
import time
from collections.abc import Awaitable, Generator, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from agentgym import config as configs
from agentgym.atomic import write_text
from agentgym.credit import CreditArrays
from agentgym.credit.forecast import forecast
from agentgym.errors import ConfigError, DataError
from agentgym.judges import JudgeConfig
from agentgym.learn.checkpoint import Checkpoint, CheckpointStore, SavablePolicy, write_folder
from agentgym.learn.folder import TRAJECTORIES, RunFolder
from agentgym.learn.learner import LearnConfig, Learner
from agentgym.learn.sft import WarmStart, demonstration
from agentgym.rewards.checklist_toml import read_checklists
from agentgym.rollout.branch import BranchConfig, run_branched_async
from agentgym.rollout.demonstrate import Demonstrator
from agentgym.rollout.episode import SamplingConfig
from agentgym.rollout.evaluate import EvalConfig, EvalResult, evaluate
from agentgym.rollout.groups import EnvPool, run_groups, run_groups_async
from agentgym.rollout.policy import LearnablePolicy, Policy
from agentgym.rollout.record import TrajectoryWriter, read_trajectories
from agentgym.rollout.services import Services, judge_for, needing
from agentgym.seeding import stream
from agentgym.task import Task
from agentgym.types import JSON, Group, StepRecord, TokenRows

UNKNOWN_SHARE = 0.1
"""Share of tokens without a word of their own above which a warning is given."""
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
    episodes: int = 3_000
    noise: float = 0.5
    """Chance of a bad action per turn: a competent but careless demonstrator leaves something to learn."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.episodes < 1:
            raise ConfigError(f"demonstrations.episodes = {self.episodes}: must be 1 or more; sft.steps = 0 needs none")
        if not 0 <= self.noise <= 1:
            raise ConfigError(f"demonstrations.noise = {self.noise}: must lie in [0, 1]")


@dataclass(frozen=True, slots=True)
class EvaluationConfig:
    """Evaluation on held-out tasks."""

    split: str = "dev"
    tasks: int = 250
    """Tasks of the split, drawn once; the same in every evaluation of every run."""
    every: int = 40
    """Learner steps between evaluations; the warm start and the last step are always evaluated."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.tasks < 1 or self.every < 1:
            raise ConfigError(
                f"evaluation.tasks = {self.tasks} and evaluation.every = {self.every} must be 1 or more"
            )


@dataclass(frozen=True, slots=True)
class RunConfig(LearnConfig):
    """A recipe: everything that a run depends on."""

    env: str = "SearchQA-v0"
    env_args: dict[str, Any] = field(default_factory=lambda: dict(TINY_WORLD))
    """[env_args] Arguments of gym.make. reward and tools may be code of one's own by name: "my_code.py:tools"."""
    reward: dict[str, Any] = field(default_factory=dict)
    """[reward] The reward in the place of the environment's own: outcome and terms, or an expression."""
    checklist: dict[str, Any] = field(default_factory=dict)
    """[checklist.NAME] Checklists that the reward names as checklist:NAME."""
    judge: JudgeConfig = field(default_factory=JudgeConfig)
    """[judge] Who decides what the reward leaves to a judge; asked only by rewards that do."""
    policy: str = "tiny"
    policy_args: dict[str, Any] = field(default_factory=dict)
    """[policy_args] Arguments of the policy's factory."""
    sampling: SamplingConfig = field(default_factory=lambda: SamplingConfig(max_tokens=8))
    """[sampling]"""
    branch: BranchConfig = field(default_factory=BranchConfig)
    """[branch] Continuations from the middle of training episodes."""
    demonstrations: DemonstrationConfig = field(default_factory=DemonstrationConfig)
    """[demonstrations]"""
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    """[evaluation]"""
    record_every: int = 10
    """Learner steps between those whose trajectories and advantages are kept; the last is always kept."""
    log_to: tuple[str, ...] = ()
    """Dashboards that get the metrics too: tensorboard, wandb, trackio, or registered ones. Not part of what a run is:
    a resumed run may name others."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        if self.record_every < 1:
            raise ConfigError(f"record_every = {self.record_every}: must be 1 or more")
        if self.credit.recipe == "counterfactual" and self.branch.mode == "none":
            raise ConfigError(
                "credit.recipe = 'counterfactual' compares continuations, and branch.mode = 'none' runs none; set "
                "branch.mode = 'turns'"
            )


@dataclass(frozen=True, slots=True)
class Event:
    """What a run reports."""

    phase: str
    """resumed, demonstrations, warmstart, evaluation, train, forecast or done."""
    step: int
    metrics: dict[str, float]
    warnings: tuple[str, ...] = ()
    note: str = ""
    """Of a forecast: what it says, in one sentence."""


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
            ConfigError: The policy cannot learn, or `out` holds something else than a stopped run of this recipe.
        """
        if not isinstance(policy, LearnablePolicy) or not isinstance(policy, SavablePolicy):
            raise ConfigError(f"policy {config.policy!r} has no weights to train; take tiny, smollm2-135m or hf:PATH")
        self.config, self.out = config, out
        self.policy: Any = policy
        self.demonstrator = demonstrator
        read_checklists(config.checklist, "checklist", replace=True)
        reward = {"reward": config.reward} if config.reward else {}
        self.pool = EnvPool(config.env, **{**config.env_args, **reward})
        self.suite = self.pool.first.suite
        for split in (config.train.split, config.evaluation.split):  # a wrong name is said now, not hours later
            self.pool.first.source.split(split)
        tasks = self.pool.first.source.split(config.train.split)
        self.needs_start = config.loss.kl_coef > 0 or bool(needing(self.suite, "reference"))
        if self.needs_start and not hasattr(policy, "frozen_copy"):
            what = ", ".join(needing(self.suite, "reference")) or "the KL term (loss.kl_coef)"
            raise ConfigError(f"{what}: needs a frozen copy of the policy as reference, and {config.policy!r} has no frozen_copy()")
        setting = "a table [judge], e.g. judge.options.base_url=http://127.0.0.1:8000/v1"
        self.services = Services(self.suite, scorer=policy, judge=judge_for(self.suite, config.judge, tasks, setting))  # pyright: ignore
        self.store = CheckpointStore(out, config.train.keep_checkpoints)
        self.last_evaluation: EvalResult | None = None
        self.folder = RunFolder(out, configs.dump(replace(config, log_to=())))
        versions = {"python": platform.python_version(), "platform": sys.platform}
        versions |= {name: _version(name) for name in PACKAGES}
        write_text(out / "versions.json", json.dumps(versions, indent=1) + "\n")

    def close(self) -> None:
        """Let other processes open the folder."""
        self.folder.close()

    def events(self) -> Iterator[Event]:
        """Do the run, or what is left of it; yield one event a step and one an evaluation."""
        checkpoint, damaged = self._checkpoint()
        in_training = checkpoint is not None and checkpoint.phase == "train"
        self.folder.trim(checkpoint.phase if checkpoint else "", checkpoint.step if checkpoint else 0)
        if checkpoint is not None:
            yield Event("resumed", checkpoint.step, {"in_training": float(in_training)}, damaged)
        warm = None
        if in_training:
            self._load_start()
        elif self.config.sft.steps:
            warm = yield from self._warm_start(checkpoint)
        learner = self._learner(warm)
        try:
            if in_training and checkpoint is not None:
                learner.resume(checkpoint)
            else:
                yield self._evaluate(0)
            yield from self._learn(learner)
        finally:
            learner.close()
        write_folder(self.out / "model", self.policy.save)
        self._write_tokens()
        yield Event("done", learner.steps_done, {"time/total_cpu_s": learner.cpu_s})

    def _checkpoint(self) -> tuple[Checkpoint | None, tuple[str, ...]]:
        """Return the checkpoint to go on from, and what is to be said about damaged ones after it.

        Raises:
            DataError: There are checkpoints, all of them damaged: beginning anew is for the user to decide.
        """
        found, every = self.store.latest(), self.store.all()
        later = every[[c.path for c in every].index(found.path) + 1 :] if found else every
        names = " and ".join(str(c.path) for c in later)
        if later and found is None:
            raise DataError(
                f"{names}: damaged (not as its manifest.json says), and there is no other checkpoint; "
                f"choose another --out, or delete {self.store.folder} to begin anew"
            )
        return found, (f"{names} is damaged; going on from {found.path.name}",) if later and found else ()

    def _load_start(self) -> None:
        """Load the weights that learning began with: the reference of a KL term or a score is a copy of them."""
        if not self.config.sft.steps or not self.needs_start:
            return
        start = self.store.latest("warmstart")
        if start is None or start.step < self.config.sft.steps:
            raise DataError(
                f"{self.store.folder}/warmstart-{self.config.sft.steps:06d} is missing or damaged, and the KL term "
                "(loss.kl_coef) or a score that asks for a reference needs it; restore it, or choose another --out"
            )
        self.policy.load(start.model)

    def _warm_start(self, checkpoint: Checkpoint | None) -> Generator[Event, None, WarmStart]:
        started = time.process_time()
        rows = self._demonstrations()
        warm = WarmStart(self.config.sft, self.policy, rows, self.config.seed)
        if checkpoint is not None:
            warm.resume(checkpoint)
        else:
            warm.cpu_s = time.process_time() - started  # making the demonstrations counts
        yield Event("demonstrations", 0, {"episodes": float(self.config.demonstrations.episodes)}, _unknown_words(rows, self.policy))
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
        settings: dict[str, Any] = {"key": (c.seed, -1), "sampling": sampling, "concurrency": 64, "progress": 0.0}
        groups = run_groups(self.pool, writer, tasks, group_size=1, **settings)
        records = [t for g in groups for t in g.trajectories]
        broken = next((t for t in records if t.error), None)
        if broken is not None:
            raise DataError(f"demonstration {broken.id} failed: {broken.error}")
        return [demonstration(t) for t in records if t.segments]

    def _learner(self, warm: WarmStart | None) -> Learner:
        c = self.config
        settings: dict[str, Any] = {"sampling": c.sampling, "concurrency": c.train.concurrency}

        def rollout(policy: Policy, tasks: Sequence[Task], **group: Any) -> Awaitable[list[Group]]:
            progress = min(1.0, group["key"][1] / max(1, c.train.steps - 1))
            if c.branch.mode == "none":
                return run_groups_async(self.pool, policy, tasks, progress=progress, **settings, **group)
            return run_branched_async(self.pool, policy, tasks, branch=c.branch, progress=progress, **settings, **group)

        start = self.policy.frozen_copy() if self.needs_start else None
        self.services.reference = start
        return Learner(
            c,
            self.policy,
            rollout,
            self.pool.first.source,
            complete=self.services.complete,
            measures=self.services.metrics,
            reference=start if c.loss.kl_coef > 0 else None,
            margin=lambda w: self.suite.bounds(turn_factor=w).margin,
            tokens_per_episode=warm.tokens_per_episode if warm else 0.0,
            cpu_s=warm.cpu_s if warm else 0.0,
        )

    def _learn(self, learner: Learner) -> Iterator[Event]:
        for record in learner.records(self.store):
            done = record.step + 1
            last = learner.over or bool(learner.stop_reason)
            kept = record.step % self.config.record_every == 0 or last
            yield self._keep("train", record, learner.groups if kept else ())
            if record.step == 0:
                yield self._forecast(learner.groups)
            if done % self.config.evaluation.every == 0 or last:
                yield self._evaluate(done)

    def _forecast(self, groups: Sequence[Group]) -> Event:
        """Say whether turn credit is likely to help, from the episodes of the policy before its first update."""
        found = forecast(CreditArrays.from_groups(groups, both_levels=True))
        event = Event("forecast", 0, {f"forecast/{name}": value for name, value in found.metrics().items()}, note=found.sentence)
        return self._write(event, note=found.sentence, verdict=found.verdict)

    def evaluation_tasks(self) -> list[Task]:
        """Return the held-out tasks: a fixed draw that does not depend on the run's seed."""
        tasks = self.pool.first.tasks(self.config.evaluation.split)
        order = stream("evaluation", self.config.evaluation.split).permutation(len(tasks))
        return [tasks[int(i)] for i in order[: self.config.evaluation.tasks]]

    def _evaluate(self, step: int) -> Event:
        c = self.config
        config = EvalConfig(seed=c.seed, concurrency=c.train.concurrency, sampling=c.sampling)
        started = time.process_time()
        result, _ = evaluate(self.pool, self.policy, self.evaluation_tasks(), config, services=self.services)
        self.last_evaluation = result
        metrics = {f"eval/{n}": m.mean for n, m in result.measures.items()}
        if success := result.measures.get("success"):
            metrics |= {"eval/success_low": success.low, "eval/success_high": success.high}
        metrics |= {f"eval/success/{kind}": row["success"] for kind, row in result.by_kind.items()}
        metrics |= self.services.metrics()
        metrics |= {"eval/n_faults": float(result.n_faults)} if result.n_faults else {}
        metrics["time/cpu_s"] = time.process_time() - started
        return self._write(Event("evaluation", step, metrics, (*self.services.notes(), *_losses(result))))

    def _keep(self, phase: str, record: StepRecord, groups: Sequence[Group] = ()) -> Event:
        event = Event(phase, record.step, record.metrics, (*self.services.notes(), *record.warnings))
        if groups:
            with TrajectoryWriter(self.out / TRAJECTORIES) as writer:
                for trajectory in (t for g in groups for t in g.trajectories):
                    writer.write(trajectory)
        advantages = {i: list(a) for i, a in record.advantages.items()} if groups else {}
        return self._write(event, scales=record.scales, advantages=advantages)

    def _write(self, event: Event, **more: JSON) -> Event:
        line = {"phase": event.phase, "step": event.step, "metrics": event.metrics, "warnings": event.warnings, **more}
        self.folder.append(line)
        return event

    def _write_tokens(self) -> None:
        """Write the texts of all sampled tokens that the kept records hold, for the report."""
        path = self.out / TRAJECTORIES
        used = {i for t in read_trajectories(path) for s in t.segments for i in s.ids} if path.exists() else set()
        texts = {str(i): text for i, text in sorted(self.policy.token_texts(used).items())}
        write_text(self.out / "tokens.json", json.dumps(texts) + "\n")


def _unknown_words(rows: Sequence[TokenRows], policy: Any) -> tuple[str, ...]:
    """Return a warning where many tokens of the demonstrations stand for words that the policy does not know."""
    tokenizer = getattr(policy, "tokenizer", None)
    unknown: int | None = getattr(tokenizer, "unk_token_id", None)
    ids = [id_ for r in rows for row in r.ids for id_ in row]
    share = ids.count(unknown) / max(1, len(ids)) if unknown is not None else 0.0
    if share < UNKNOWN_SHARE:
        return ()
    return (
        f"{share:.0%} of the demonstrations' tokens are {getattr(tokenizer, 'unk_token', unknown)}: the policy has no token for "
        "these words and cannot learn to write them; take a model that reads any text (policy=hf:PATH), or give tiny the words "
        "and tools of this world (policy_args.words, policy_args.tools)",
    )


def _losses(result: EvalResult) -> tuple[str, ...]:
    """Return what is to be said about episodes that are in no mean of an evaluation."""
    if not result.n_faults:
        return ()
    most = max(result.faults, key=lambda text: result.faults[text])
    of_judge = f", {result.n_abstained} of them because a score is invalid" if result.n_abstained else ""
    return (f"{result.n_faults} of {result.n_episodes} episodes of the evaluation are in no mean{of_judge}: {most}",)


def use_threads(n: int) -> None:
    """Let torch use `n` threads: one is right for small models on small machines."""
    torch.set_num_threads(n)


def _version(package: str) -> str:
    try:
        return torch.__version__ if package == "torch" else version(package)
    except PackageNotFoundError:
        return ""
