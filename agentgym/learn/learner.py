"""The learner: one `step` is tasks -> rollouts -> credit -> token batch -> loss -> weights -> sampler."""

import asyncio
import inspect
import logging
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch

from agentgym.credit import CreditResult, Scales, recipe_of
from agentgym.credit import advantages as credit_advantages
from agentgym.credit.diagnostics import by_component, by_turn, turn_metrics
from agentgym.errors import ConfigError, LedgerError, TrainingStopped
from agentgym.learn.batch import TokenBatch, micro_batches, to_batch
from agentgym.learn.checkpoint import Checkpoint, CheckpointStore, savable
from agentgym.learn.config import LearnConfig
from agentgym.learn.guards import AFTER_A_STOP, Guards
from agentgym.learn.loss import LossStats, policy_loss, token_weights
from agentgym.learn.metrics import mean_action_tokens, rollout_metrics
from agentgym.learn.optim import apply_gradients, learning_rate, make_optimizer
from agentgym.learn.order import Order
from agentgym.learn.prepare import prepare
from agentgym.rollout.policy import LearnablePolicy
from agentgym.seeding import stream
from agentgym.task import Task, TaskSource
from agentgym.tools.waiting import run_quietly
from agentgym.types import JSON, Group, StepRecord, Trajectory

log = logging.getLogger(__name__)


class Rollout(Protocol):
    """Runs groups of episodes: `functools.partial(run_groups_async, pool)`; may be a plain function too."""

    def __call__(
        self, policy: LearnablePolicy, tasks: Sequence[Task], *, group_size: int, key: tuple[int, int]
    ) -> list[Group] | Awaitable[list[Group]]:
        """Return one group per task, in order; `key` is (seed, step)."""
        ...


Complete = Callable[[Sequence[Trajectory]], Sequence[Trajectory] | Awaitable[Sequence[Trajectory]]]
"""Fills deferred scores of a step's trajectories and applies group transforms; keeps number and order."""


class Learner:
    """Improves a policy on its own episodes; resumable, one `step` at a time.

    Everything random is keyed by (seed, step, ...), everything else is in `state()`, the weights and the optimiser:
    a run that goes on from a checkpoint repeats the numbers of one that never stopped (bit for bit on one CPU thread).
    """

    def __init__(
        self,
        config: LearnConfig,
        policy: LearnablePolicy,
        rollout: Rollout,
        tasks: TaskSource,
        *,
        complete: Complete | None = None,
        reference: LearnablePolicy | None = None,
        margin: Callable[[float], float] | None = None,
        measures: Callable[[], Mapping[str, float]] | None = None,
        tokens_per_episode: float = 0.0,
        cpu_s: float = 0.0,
    ) -> None:
        """Prepare optimiser, task order, scales and guards.

        Args:
            config: Settings.
            policy: Changed in place.
            rollout: Runs the episodes.
            tasks: Where tasks come from; `config.train.split` is drawn in a seeded order without end.
            complete: Fills deferred scores (`suite.complete` with its scorer bound); None if there are none.
            reference: Frozen policy of the KL term; needed if `config.loss.kl_coef` is above 0.
            margin: The suite's margin between success and failure when turn scores weigh w.
            measures: Further numbers of a step, asked after its scores are complete (the counts of a judge).
            tokens_per_episode: The warm start's mean, for the loss constant c; 0 without a warm start.
            cpu_s: CPU-seconds spent before (the warm start's): they count against `max_cpu_s`.
        """
        if config.loss.kl_coef > 0 and reference is None:
            raise ConfigError(f"loss.kl_coef = {config.loss.kl_coef} needs a reference policy; pass one or set it to 0")
        for note in config.loss.notes(config.train.epochs * config.train.updates_per_batch):
            log.warning(note)
        self.config = config
        self.policy = policy
        self.steps_done = 0
        self.cpu_s = cpu_s
        """CPU-seconds so far: warm start, all steps, those before a resume."""
        self.scales = Scales.start(config.credit)
        self.guards = Guards(config.guards)
        self.groups: list[Group] = []
        """The last step's episodes, completed: for records and views."""
        self.tokens_per_episode = config.loss.tokens_per_episode or tokens_per_episode
        self._rollout, self._complete, self._reference, self._margin = rollout, complete, reference, margin
        self._measures = measures
        self._tasks = Order(tasks.split(config.train.split), config.seed, "tasks", config.train.split)
        self._optimizer = make_optimizer(list(policy.parameters()), config.train)
        # One event loop for the learner's life: clients of endpoints stay usable from step to step.
        self._runner = asyncio.Runner()

    def step(self) -> StepRecord:
        """Run one batch of episodes, learn from it and report it.

        Raises:
            TrainingStopped: If a guard found, after the step before, that the run can no longer learn (a stop is
                raised on the next call, so that the record that shows it is never lost), or if this step left
                weights that sampler and learner do not read alike, such as ones that are not finite.
        """
        self._stop_if_dead()
        watch = _Watch()
        c, step = self.config, self.steps_done
        groups = self._episodes(step)
        watch.lap("rollout_cpu_s")
        result = credit_advantages(c.credit, groups, self.scales)
        trajectories = [t for g in groups for t in g.trajectories]
        if not self.tokens_per_episode:
            self.tokens_per_episode = mean_action_tokens([t for t in trajectories if t.parent is None])
        scales = {**result.scales, "c": self.tokens_per_episode}
        # What the recipe selected out is no episode of the loss: neither its rows nor its count.
        chosen = [t for t, kept in zip(trajectories, result.in_loss, strict=True) if kept]
        batch = to_batch(chosen, result.advantages, skip_zero=c.loss.kl_coef == 0)
        batch, prepared = prepare(batch, c.loss, self.policy, self._reference, c.train.micro_tokens)
        learned = self._learn(batch, step) | prepared
        self.steps_done += 1
        self._sync()
        used, self.scales, self.groups = self.scales, result.next_scales, groups
        watch.lap("learn_cpu_s")
        times = watch.metrics()
        self.cpu_s += times["time/cpu_s"]
        times["time/total_cpu_s"] = self.cpu_s
        more = self._measures() if self._measures is not None else {}
        metrics = _finite(rollout_metrics(groups) | self._credit_metrics(result, used) | learned | times | dict(more))
        warnings = self.guards.check(metrics)
        for warning in warnings:
            log.warning("step %d: %s", step, warning)
        return StepRecord(step, metrics, scales, result.advantages, warnings)

    def records(self, store: CheckpointStore | None = None) -> Iterator[StepRecord]:
        """Run until `train.steps` or `train.max_cpu_s`, yield each record and write checkpoints.

        A record is yielded before its checkpoint is written: after a kill, records from the resumed step on repeat.

        Raises:
            TrainingStopped: If a guard stops the run; the state is checkpointed first.
        """
        train = self.config.train
        while not self.over:
            yield self.step()
            over = self.over or self.stop_reason
            if store and (over or self.steps_done % train.checkpoint_every == 0):
                self.save(store)
        self._stop_if_dead()

    def save(self, store: CheckpointStore) -> Checkpoint:
        """Write a checkpoint of the current state."""
        return store.save("train", self.steps_done, savable(self.policy), self._optimizer, self.state())

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a training checkpoint of the same run, or begin from its warm start's last one.

        Raises:
            ConfigError: If the checkpoint belongs to a run with another seed.
            DataError: If it does not fit the policy.
        """
        if checkpoint.phase == "warmstart":
            savable(self.policy).load(checkpoint.model)
            state = checkpoint.state()
            self.cpu_s = float(state["cpu_s"])
            self.tokens_per_episode = self.config.loss.tokens_per_episode or float(state["tokens_per_episode"])
        else:
            self.restore(checkpoint.restore(savable(self.policy), self._optimizer), str(checkpoint.path))
        self.policy.sync(self.steps_done)

    def state(self) -> dict[str, JSON]:
        """Return what a checkpoint keeps besides weights and optimiser."""
        return {
            "seed": self.config.seed,
            "steps_done": self.steps_done,
            "tokens_per_episode": self.tokens_per_episode,
            "cpu_s": self.cpu_s,
            "scales": self.scales.to_dict(),
            "guards": self.guards.state(),
        }

    def restore(self, state: Mapping[str, JSON], where: str = "state") -> None:
        """Take over what `state` returned."""
        if state["seed"] != self.config.seed:
            raise ConfigError(
                f"{where} belongs to a run with seed {state['seed']}, this one has {self.config.seed}: "
                "set seed to the run's own, or start a new run folder"
            )
        self.steps_done, self.cpu_s = int(state["steps_done"]), float(state["cpu_s"])
        self.tokens_per_episode = float(state["tokens_per_episode"])
        self.scales = Scales.from_dict(state["scales"])
        self.guards.restore(state["guards"])

    def close(self) -> None:
        """End the event loop; the learner cannot step afterwards."""
        self._runner.close()

    def __enter__(self) -> "Learner":
        """Return itself, to be closed at the end of the block."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Close."""
        self.close()

    def _episodes(self, step: int) -> list[Group]:
        """Return the step's groups with all scores filled in."""
        train = self.config.train
        # The stream's position is a function of the step: nothing to checkpoint, nothing to drift.
        tasks = self._tasks.take(step * train.n_prompts, train.n_prompts)
        key = (self.config.seed, step)
        groups = list(self._wait(self._rollout(self.policy, tasks, group_size=train.group_size, key=key)))
        if self._complete is None:
            return groups
        flat = [t for g in groups for t in g.trajectories]
        done = list(self._wait(self._complete(flat)))
        if [t.id for t in done] != [t.id for t in flat]:
            raise ConfigError(f"complete() returned {len(done)} trajectories, not the {len(flat)} given in their order")
        rest = iter(done)
        return [Group(g.id, g.task_id, tuple(next(rest) for _ in g.trajectories)) for g in groups]

    def _wait(self, value: Any) -> Any:
        return run_quietly(self._runner.run, value) if inspect.isawaitable(value) else value

    def _learn(self, batch: TokenBatch, step: int) -> dict[str, float]:
        """Take the optimiser steps of one batch and return their metrics."""
        train = self.config.train
        lr = learning_rate(train, step, train.steps)
        stats, norms, skipped, first_gap = LossStats(), [], 0, 0.0
        for update in range(train.epochs * train.updates_per_batch if batch.n_episodes else 0):
            part = self._share(batch, step, update)
            if not len(part.lengths):
                continue
            part_stats = self._accumulate(part)
            if not norms and not skipped:  # a share without advantages makes no update
                first_gap = part_stats.max_logprob_gap
            stats.add(part_stats)
            norm, taken = apply_gradients(self._optimizer, train, lr)
            skipped += not taken
            norms += [norm] if taken else []
        return stats.metrics() | {
            "grad_norm": sum(norms) / len(norms) if norms else 0.0,
            "lr": lr,
            "n_updates": len(norms) + skipped,
            "skipped_updates": skipped,
            "logprob_gap": first_gap,
            "rows": len(batch.lengths),
        }

    def _share(self, batch: TokenBatch, step: int, update: int) -> TokenBatch:
        """Return the episodes of one optimiser step: a random share of the batch, its own counts as denominators."""
        n_shares = self.config.train.updates_per_batch
        epoch, share = divmod(update, n_shares)
        order = stream(self.config.seed, step, "shares", epoch).permutation(batch.n_episodes)
        return batch.split_episodes([np.sort(np.array_split(order, n_shares)[share])])[0]

    def _accumulate(self, batch: TokenBatch) -> LossStats:
        """Add the gradient of one update to the parameters, micro-batch by micro-batch."""
        config, stats = self.config.loss, LossStats()
        for part in micro_batches(batch, self.config.train.micro_tokens):
            rows = part.rows()
            reference = None
            if config.kl_coef > 0 and config.kl_in == "loss" and self._reference is not None:
                with torch.no_grad():
                    reference = self._reference.logprobs(rows)
            weights = token_weights(part, config, self.tokens_per_episode)
            loss, part_stats = policy_loss(self.policy.logprobs(rows), part, weights, config, reference)
            loss.backward()
            stats.add(part_stats)
        return stats

    def _credit_metrics(self, result: CreditResult, used: Scales) -> dict[str, float]:
        """Return the credit's own metrics, its diagnostics by turn and component, the weight w of turn scores, and the margin that w leaves the suite."""
        w = result.metrics.get("turn_objective_weight", 0.0)
        recipe = recipe_of(self.config.credit)
        by_place = turn_metrics(by_turn(recipe, result.arrays, used), by_component(self.groups))
        metrics = {f"credit/{name}": value for name, value in (result.metrics | by_place).items()}
        metrics |= {"w": w, "zero_variance_share": 1.0 - result.metrics.get("effective_share", 0.0)}
        return metrics | ({"margin": float(self._margin(w))} if self._margin is not None else {})

    @property
    def over(self) -> bool:
        """Whether the run has taken all its steps or used up its CPU time."""
        train = self.config.train
        return self.steps_done >= train.steps or 0 < train.max_cpu_s <= self.cpu_s

    @property
    def stop_reason(self) -> str:
        """Why the guards let no further step begin; empty while they do."""
        return self.guards.stop_reason() if self.config.guards.stop else ""

    def _stop_if_dead(self) -> None:
        if self.stop_reason:
            raise TrainingStopped(f"after {self.steps_done} steps: {self.stop_reason}")

    def _sync(self) -> None:
        """Hand the weights to the sampler. Raises TrainingStopped if they are of no use any more."""
        try:
            self.policy.sync(self.steps_done)
        except LedgerError as error:
            raise TrainingStopped(f"after {self.steps_done} steps: {error}. {AFTER_A_STOP}") from error


def _finite(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics as plain floats; records are JSON, which has no nan, so one that is not finite becomes 0."""
    return {name: float(value) if math.isfinite(value) else 0.0 for name, value in metrics.items()}


class _Watch:
    """Wall and CPU seconds of a step, CPU seconds of its parts."""

    def __init__(self) -> None:
        self._wall, self._cpu = time.perf_counter(), time.process_time()
        self._last = self._cpu
        self._laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now = time.process_time()
        self._laps[f"time/{name}"], self._last = now - self._last, now

    def metrics(self) -> dict[str, float]:
        cpu_s = time.process_time() - self._cpu
        return {"time/wall_s": time.perf_counter() - self._wall, "time/cpu_s": cpu_s, **self._laps}
