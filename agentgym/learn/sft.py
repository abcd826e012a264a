"""Warm start: supervised learning on the action tokens of demonstrations."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from agentgym.errors import ConfigError, LedgerError, TrainingStopped
from agentgym.learn.batch import TokenBatch, micro_batches
from agentgym.learn.checkpoint import Checkpoint, CheckpointStore, savable
from agentgym.learn.optim import OptimConfig, Schedule, apply_gradients, learning_rate, make_optimizer
from agentgym.learn.order import Order
from agentgym.rollout.policy import LearnablePolicy
from agentgym.types import JSON, StepRecord, TokenRows, Trajectory


@dataclass(frozen=True, slots=True)
class SftConfig(OptimConfig):
    """The warm start. `steps = 0` leaves it out."""

    lr: float = 5e-3
    """Peak learning rate (5e-3 suits a policy of a few hundred thousand weights; pretrained models want far less)."""
    schedule: Schedule = "linear"
    """What follows the warm-up."""
    warmup_steps: int = 30
    """Steps over which the rate rises linearly."""
    steps: int = 420
    """Optimiser steps."""
    batch_episodes: int = 32
    """Demonstrations a step."""
    micro_tokens: int = 16_384
    """Most padded tokens in one forward pass; changes memory and speed, not results."""
    checkpoint_every: int = 100
    """Steps between checkpoints; the last step always writes one."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        OptimConfig.__post_init__(self)
        if self.steps < 0 or self.batch_episodes < 1 or self.micro_tokens < 1 or self.checkpoint_every < 1:
            raise ConfigError(
                f"sft: steps = {self.steps} must not be negative; batch_episodes = {self.batch_episodes}, micro_tokens "
                f"= {self.micro_tokens} and checkpoint_every = {self.checkpoint_every} must be 1 or more"
            )


class WarmStart:
    """Trains a policy to imitate demonstrations; resumable, one `step` at a time."""

    def __init__(
        self, config: SftConfig, policy: LearnablePolicy, demonstrations: Sequence[TokenRows], seed: int = 0
    ) -> None:
        """Prepare the optimiser and the order of the demonstrations.

        Args:
            config: Settings.
            policy: Changed in place.
            demonstrations: One entry per episode: its rows of tokens in the policy's own rendering (usually one),
                mask 1 on action tokens.
            seed: Key of the order.

        Raises:
            ConfigError: If there are no demonstrations.
            LedgerError: If a demonstration has no action token.
        """
        for index, rows in enumerate(demonstrations):
            if _n_actions(rows) == 0:
                raise LedgerError(f"demonstration {index} of {len(demonstrations)} has no action token (mask 1)")
        self.config = config
        self.policy = policy
        self.steps_done = 0
        self.cpu_s = 0.0
        """CPU-seconds that all steps took so far, those before a resume included."""
        self._order = Order(demonstrations, seed, "demonstrations")
        self._optimizer = make_optimizer(list(policy.parameters()), config)
        self.tokens_per_episode = sum(map(_n_actions, demonstrations)) / len(demonstrations)
        """Mean action tokens of a demonstration: the constant c of the policy loss."""

    def step(self) -> StepRecord:
        """Take one optimiser step and report it."""
        wall, cpu = time.perf_counter(), time.process_time()
        c, step = self.config, self.steps_done
        batch = _stack(self._order.take(step * c.batch_episodes, c.batch_episodes))
        loss = 0.0
        for part in micro_batches(batch, c.micro_tokens):
            logprobs = self.policy.logprobs(part.rows())
            part_loss = -logprobs[torch.as_tensor(part.mask, device=logprobs.device)].sum() / batch.n_action_tokens
            part_loss.backward()
            loss += float(part_loss.detach())
        lr = learning_rate(c, step, c.steps)
        norm, taken = apply_gradients(self._optimizer, c, lr)
        self.steps_done += 1
        spent = time.process_time() - cpu
        self.cpu_s += spent
        metrics = {
            "sft/loss": loss,
            "sft/action_tokens": batch.n_action_tokens / batch.n_episodes,
            "sft/lr": lr,
            "sft/grad_norm": norm if taken else 0.0,
            "sft/skipped_updates": float(not taken),
            "time/wall_s": time.perf_counter() - wall,
            "time/cpu_s": spent,
            "time/total_cpu_s": self.cpu_s,
        }
        return StepRecord(step, metrics, {"c": self.tokens_per_episode}, {})

    def records(self, store: CheckpointStore | None = None) -> Iterator[StepRecord]:
        """Run the remaining steps, yield each record, write checkpoints, and at the end hand over the weights.

        A record is yielded before its checkpoint is written: after a kill, records from the resumed step on repeat.

        Raises:
            TrainingStopped: If sampler and learner do not read the weights alike, such as ones that are not finite.
        """
        while self.steps_done < self.config.steps:
            yield self.step()
            done = self.steps_done
            if store and (done == self.config.steps or done % self.config.checkpoint_every == 0):
                self.save(store)
        try:
            self.policy.sync(0)
        except LedgerError as error:
            raise TrainingStopped(f"after the warm start: {error}. Begin a new run with a lower sft.lr") from error

    def save(self, store: CheckpointStore) -> Checkpoint:
        """Write a checkpoint of the current state."""
        return store.save("warmstart", self.steps_done, savable(self.policy), self._optimizer, self.state())

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint of the same run. Raises DataError if it does not fit."""
        state = checkpoint.restore(savable(self.policy), self._optimizer)
        self.steps_done, self.cpu_s = int(state["steps_done"]), float(state["cpu_s"])

    def state(self) -> dict[str, JSON]:
        """Return what a checkpoint keeps besides weights and optimiser."""
        return {"steps_done": self.steps_done, "cpu_s": self.cpu_s, "tokens_per_episode": self.tokens_per_episode}


def demonstration(trajectory: Trajectory) -> TokenRows:
    """Return the token rows of a recorded episode, one per segment, for `WarmStart`."""
    return TokenRows(
        tuple(segment.ids for segment in trajectory.segments), tuple(segment.mask for segment in trajectory.segments)
    )


def _n_actions(rows: TokenRows) -> int:
    return sum(map(sum, rows.mask))


def _stack(demonstrations: Sequence[TokenRows]) -> TokenBatch:
    """Return the rows of some demonstrations as a batch without advantages."""
    rows = [
        (episode, ids, mask)
        for episode, rows in enumerate(demonstrations)
        for ids, mask in zip(rows.ids, rows.mask, strict=True)
    ]
    lengths = np.array([len(ids) for _, ids, _ in rows], dtype=np.int64)
    shape = (len(rows), int(lengths.max()))
    ids, mask = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=bool)
    for b, (_, row_ids, row_mask) in enumerate(rows):
        ids[b, : len(row_ids)], mask[b, : len(row_ids)] = row_ids, row_mask
    episode_tokens = np.array([_n_actions(rows) for rows in demonstrations], dtype=np.int64)
    zeros = np.zeros(shape)
    return TokenBatch(ids, mask, zeros, zeros, lengths, np.array([e for e, _, _ in rows]), episode_tokens)
