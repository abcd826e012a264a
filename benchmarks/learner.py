"""One learner step beside TRL's GRPOTrainer: same tiny model, same recorded episodes, same number of rows at once.

    python benchmarks/learner.py                 # needs `make extra-trl`; writes results/learner.md
    python benchmarks/learner.py --steps 3 --repeats 1

A step is everything from episodes that are there to weights that are changed: credit, batch, loss, gradient,
optimiser, metrics. Both sides get the same trajectories and run in turns in one process on one thread; TRL's time
spent in the rollout function is left out. Outcome-only credit without a std (TRL's scale_rewards="none", our dr_grpo)
and a constant denominator, so that losses and weights must agree; they are compared at every step.
"""

import argparse
import contextlib
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import tiny_runs
import torch
from tiny_runs import SAMPLING, ClosedWorlds, pool_of

from agentgym.credit import CreditConfig
from agentgym.learn import learner as learner_module
from agentgym.learn.batch import TokenBatch, to_batch
from agentgym.learn.config import LearnConfig, TrainConfig
from agentgym.learn.learner import Learner
from agentgym.learn.loss import LossConfig
from agentgym.learn.sft import SftConfig, WarmStart
from agentgym.policies.hf import tiny
from agentgym.rollout import run_groups
from agentgym.types import Group, TokenRows

RESULT = Path(__file__).resolve().parent / "results" / "learner.md"
PROMPTS, SIZE, AT_ONCE = 12, 8, 48
"""Tasks a step, episodes per task, rows in one forward pass."""
LR = 1e-3
TOLERANCE = 1e-5
KINDS = ("1", "2a", "2b", "2c", "3a", "3b")


@dataclass
class Timed:
    """What one side did in one run."""

    cpu_ms: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    """One per optimiser step."""
    weights: Any = None


def recorded(folder: Path, n_batches: int) -> list[list[Group]]:
    """Return batches of episodes of a policy after a short warm start, whose weights are left in the folder."""
    pool, policy = pool_of(ClosedWorlds(KINDS, 0)), tiny.load(seed=0)
    warm = WarmStart(SftConfig(steps=60), policy, tiny_runs.demonstrations(pool, policy, 600, 0.5, 0), 0)
    for _ in range(60):
        warm.step()
    policy.sync(0)
    policy.save(folder)
    tasks = pool.first.source.split("train")
    return [
        run_groups(pool, policy, tasks[i * PROMPTS : (i + 1) * PROMPTS], group_size=SIZE, key=(0, i), sampling=SAMPLING)
        for i in range(n_batches)
    ]


# ---- ours -----------------------------------------------------------------------------------------


class Fixed(Learner):
    """The learner with shares as TRL makes them here: the first rows, then the rest. Keeps the losses."""

    losses: list[float]

    def _share(self, batch: TokenBatch, step: int, update: int) -> TokenBatch:
        part = np.array_split(np.arange(batch.n_episodes), self.config.train.updates_per_batch)[update]
        return batch.split_episodes([part])[0]

    def _accumulate(self, batch: TokenBatch) -> Any:
        stats = super()._accumulate(batch)
        self.losses.append(stats.loss)
        return stats


def ours(start: Path, batches: Sequence[list[Group]], updates: int, constant: float, every_row: bool) -> Timed:
    """Learn from the batches in turn; with `every_row` also through rows whose advantages are all 0."""
    policy = tiny.load(seed=0)
    policy.load(start)
    policy.sync(0)
    longest = max(len(s.ids) for groups in batches for g in groups for t in g.trajectories for s in t.segments)
    train = TrainConfig(
        lr=LR, schedule="constant", steps=len(batches), n_prompts=PROMPTS, group_size=SIZE, updates_per_batch=updates,
        micro_tokens=AT_ONCE * longest,
    )  # fmt: skip
    loss = LossConfig(tokens_per_episode=constant, clip_high=0.2)
    config = LearnConfig(train=train, loss=loss, credit=CreditConfig(recipe="dr_grpo"))
    found, away = Timed(), [0.0]

    def rollout(acting: Any, tasks: Any, *, key: tuple[int, int], **_: Any) -> list[Group]:
        before = time.process_time()
        groups = rescored(batches[key[1]], acting)
        away[0] += time.process_time() - before
        return groups

    made = {"skip_zero": False} if every_row else {}
    with (
        patch.object(learner_module, "to_batch", lambda *a, **k: to_batch(*a, **(k | made))),
        Fixed(config, policy, rollout, ClosedWorlds(KINDS, 0)) as learner,
    ):
        learner.losses = found.losses
        for _ in batches:
            before, away[0] = time.process_time(), 0.0
            learner.step()
            found.cpu_ms.append(1e3 * (time.process_time() - before - away[0]))
    found.weights = _flat(policy.model)
    return found


def rescored(groups: Sequence[Group], policy: Any) -> list[Group]:
    """Return the episodes as if these weights had sampled them: TRL takes its own log-probabilities as the old ones."""
    segments = [t.segments[0] for g in groups for t in g.trajectories]
    rows = TokenRows(tuple(s.ids for s in segments), tuple(s.mask for s in segments))
    with torch.no_grad():
        scored = policy.logprobs(rows).tolist()
    fresh = iter(replace(s, logprobs=tuple(row[: len(s.ids)])) for s, row in zip(segments, scored, strict=True))
    return [replace(g, trajectories=tuple(replace(t, segments=(next(fresh),)) for t in g.trajectories)) for g in groups]


# ---- TRL ------------------------------------------------------------------------------------------


def theirs(start: Path, batches: Sequence[list[Group]], updates: int, constant: int) -> Timed:
    """Let GRPOTrainer learn from the batches in turn, with everything off that is not needed for a step."""
    import trl
    from datasets import Dataset
    from transformers import TrainerCallback

    from agentgym.interop.trl import outcome_reward, rollout_fields

    policy, found = tiny.load(seed=0), Timed()
    policy.load(start)
    model = policy.model
    model.set_attn_implementation("sdpa")
    rest, away, losses = list(batches), [0.0], []

    def rollout(prompts: Sequence[Any], trainer: Any) -> dict[str, Any]:
        before = time.process_time()
        fields = rollout_fields([t for g in rest.pop(0) for t in g.trajectories])
        del fields["turn_rewards"], fields["turn_spans"]
        away[0] += time.process_time() - before
        return fields

    class Trainer(trl.GRPOTrainer):
        def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
            loss = super().compute_loss(*args, **kwargs)
            losses.append(float(loss.detach()))
            return loss

    class Clock(TrainerCallback):
        started, spent = 0.0, 0.0

        def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % updates == 0:
                Clock.started, away[0] = time.process_time(), 0.0

        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if state.global_step % updates == 0:
                found.cpu_ms.append(1e3 * (time.process_time() - Clock.started - away[0]))

    accumulate = PROMPTS * SIZE // AT_ONCE // updates
    with tempfile.TemporaryDirectory() as folder:
        args = trl.GRPOConfig(
            output_dir=folder, per_device_train_batch_size=AT_ONCE, gradient_accumulation_steps=accumulate,
            steps_per_generation=PROMPTS * SIZE // AT_ONCE, num_generations=SIZE, max_steps=len(batches) * updates,
            max_completion_length=constant, loss_type="dr_grpo", scale_rewards="none", beta=0.0, epsilon=0.2,
            learning_rate=LR, lr_scheduler_type="constant", adam_beta2=0.95, weight_decay=0.0, max_grad_norm=1.0,
            gradient_checkpointing=False, bf16=False, use_cpu=True, report_to="none", save_strategy="no",
            logging_strategy="no", disable_tqdm=True, shuffle_dataset=False, dataloader_pin_memory=False,
        )  # fmt: skip
        trainer = Trainer(
            model=model, reward_funcs=outcome_reward, args=args, processing_class=policy.tokenizer, callbacks=[Clock()],
            train_dataset=Dataset.from_dict({"prompt": ["author"] * PROMPTS * len(batches)}), rollout_func=rollout,
        )  # fmt: skip
        with patch.object(sys.modules["trl.trainer.grpo_trainer"], "shuffle_sequence_dict", lambda rows: rows):
            trainer.train()
    found.losses = [sum(losses[i : i + accumulate]) for i in range(0, len(losses), accumulate)]
    found.weights = _flat(model)
    return found


def _flat(model: Any) -> torch.Tensor:
    return torch.cat([p.detach().double().flatten() for p in model.parameters()])


# ---- comparison -----------------------------------------------------------------------------------

SIDES = ("trl", "every row", "as it is")


def compare(start: Path, batches: Sequence[list[Group]], updates: int, repeats: int) -> dict[str, Any]:
    """Run all sides in turns; return their times and how far they agree."""
    constant = 32
    times: dict[str, list[float]] = {side: [] for side in SIDES}
    loss_gap = weight_gap = 0.0
    for _ in range(repeats):
        trl = theirs(start, batches, updates, constant)
        times["trl"] += trl.cpu_ms[1:]  # the first step makes caches and optimiser states
        for side in SIDES[1:]:
            own = ours(start, batches, updates, float(constant), side == "every row")
            times[side] += own.cpu_ms[1:]
            loss_gap = max(loss_gap, *(abs(x - y) for x, y in zip(trl.losses, own.losses, strict=True)))
            weight_gap = max(weight_gap, float((trl.weights - own.weights).abs().max()))
    return {"times": times, "loss_gap": loss_gap, "weight_gap": weight_gap, "losses": trl.losses}


def zero_rows(batches: Sequence[list[Group]]) -> float:
    """Return the share of episodes in groups of equal outcomes, which have no advantage."""
    groups = [g for groups in batches for g in groups]
    return sum(len({t.reward for t in g.trajectories}) == 1 for g in groups) / len(groups)


def main(arguments: Sequence[str]) -> int:
    """Measure, print, write the page; 1 if the losses differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="batches of episodes a run")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULT)
    args = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    with tempfile.TemporaryDirectory() as folder:
        batches = recorded(Path(folder), args.steps)
        with contextlib.redirect_stdout(sys.stderr):
            found = {updates: compare(Path(folder), batches, updates, args.repeats) for updates in (1, 2)}
    text = page(found, batches, args)
    print(text)
    args.out.write_text(text, encoding="utf-8")
    return int(any(row["loss_gap"] > TOLERANCE for row in found.values()))


def page(found: dict[int, dict[str, Any]], batches: Sequence[list[Group]], args: argparse.Namespace) -> str:
    """Return the result as Markdown."""
    tokens = [len(t.segments[0].ids) for groups in batches for g in groups for t in g.trajectories]
    n, names = PROMPTS * SIZE, {"trl": "GRPOTrainer", "every row": "agentgym, every row", "as it is": "agentgym as it is"}
    lines = [
        "# One learner step beside TRL's GRPOTrainer",
        "",
        f"`make learner-speed` runs this anew (needs `make extra-trl`). trl {version('trl')}; {tiny_runs.versions()}.",
        "",
        f"Tiny policy, {n} recorded episodes a step ({PROMPTS} tasks x {SIZE}), {sum(tokens) / len(tokens):.0f} tokens an"
        f" episode, micro-batches of {AT_ONCE} rows (ours: as many tokens at most); a step is credit, batch, loss, gradient, AdamW and metrics, without"
        f" the rollout. {args.repeats} runs of {args.steps} steps a side, in turns in one process, the first step of a run"
        " left out. CPU milliseconds a step.",
        "",
        "| updates a step | side | median | least | ratio of medians |",
        "|---|---|---|---|---|",
    ]
    for updates, row in found.items():
        base = statistics.median(row["times"]["trl"])
        for side in SIDES:
            middle = statistics.median(row["times"][side])
            lines.append(f"| {updates} | {names[side]} | {middle:.0f} | {min(row['times'][side]):.0f} | {middle / base:.2f} |")
    gap, drift = (max(row[name] for row in found.values()) for name in ("loss_gap", "weight_gap"))
    scale = max(abs(x) for row in found.values() for x in row["losses"])
    lines += [
        "",
        f"Losses of all optimiser steps agree to {gap:.1e} (largest loss {scale:.1e}), weights after {args.steps} steps to"
        f" {drift:.1e} (rate {LR:g}).",
        "",
        f"- *every row*: the same rows as TRL. *as it is*: rows whose advantages are all 0 are left out of the forward"
        f" pass, which changes no gradient; here {zero_rows(batches):.0%} of the episodes are such.",
        "- With two updates a step GRPOTrainer scores all rows once more, for the old log-probabilities; ours come with the"
        " episodes. With one update it does not.",
        "- Off in TRL: gradient checkpointing, logging, progress bars, saving, shuffling of the rows (so that both sides make"
        " the same shares). Our step includes its metrics and the probe that compares sampler and learner.",
        "- The rest of the difference: logits at every completion position instead of sampled ones, entropies, prompts"
        " padded on the left and completions on the right with an attention mask (ours: rows of similar length together,"
        " padded on the right, plain causal attention).",
        "- This is a model of 200,000 weights: at larger ones fixed costs vanish, and what is left is the share of rows and"
        " positions that are not computed.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
