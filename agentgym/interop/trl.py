"""TRL: `TurnGRPOTrainer`, a `GRPOTrainer` that learns from a score per turn.

    from agentgym.interop.trl import TurnGRPOTrainer as GRPOTrainer

Turn scores come from the `rollout_func`, which returns them as one more field, "turn_rewards" (a list per completion,
one number per turn, in order), or from environments that have an attribute `turn_rewards`. The reward functions stay
what they are: their weighted sum is the outcome. A turn is a run of tokens that the model sampled (`env_mask`, or the
mask of the tool loop); turns that touch need "turn_spans" (per turn [start, end) in the completion).

Of TRL's own settings `scale_rewards` and `multi_objective_aggregation` lose their meaning (see `CreditConfig`).
`loss_type="dr_grpo"` has a constant denominator and keeps the expectation exact; the default "dapo" divides by the
batch's tokens, "grpo" by each completion's.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from agentgym.credit import CreditConfig, CreditResult, Scales, advantages_from_arrays, spread
from agentgym.errors import ConfigError, DataError, MissingExtraError
from agentgym.interop.turns import n_turns, padded, turn_ids
from agentgym.types import Trajectory

try:
    from accelerate.utils import gather_object
    from trl import GRPOTrainer  # pyright: ignore[reportPrivateImportUsage]
except ImportError as error:
    raise MissingExtraError("agentgym.interop.trl", str(error.name), "pip install 'agentic-gym[trl]'") from error

LOSS_TYPES = ("grpo", "dapo", "bnpo", "dr_grpo", "cispo", "sapo")
"""Losses of TRL whose terms are per token, so that each token can have its turn's advantage."""
_STATE = "agentgym_credit.json"
_SHOWN = ("effective_share", "sign_agreement", "zero_variance/turn", "zero_variance/trajectory", "turn_objective_weight")


_Parent: Any = GRPOTrainer
"""TRL's own types say less than its classes do, and are absent where it is not installed."""


class TurnGRPOTrainer(_Parent):
    """`GRPOTrainer` with one advantage per turn; takes all its arguments and `credit`."""

    def __init__(self, *args: Any, credit: CreditConfig | None = None, **kwargs: Any) -> None:
        """Prepare the trainer.

        Args:
            args: As `GRPOTrainer`.
            credit: How scores become advantages; None for `turn_grpo` with its defaults.
            kwargs: As `GRPOTrainer`.

        Raises:
            ConfigError: A setting of TRL works on whole completions and would lose what turns say.
        """
        super().__init__(*args, **kwargs)
        self.credit = credit if credit is not None else CreditConfig()
        self.credit_scales = Scales.start(self.credit)
        self.credit_result: CreditResult | None = None
        """The last batch's credit, rows in the order of generation."""
        self._outcomes: Any = None
        self._refuse_whole_completions()

    def _refuse_whole_completions(self) -> None:
        args = self.args
        why = None
        if args.loss_type not in LOSS_TYPES:
            why = f"loss_type={args.loss_type!r} (fine are {', '.join(LOSS_TYPES)})"
        elif args.importance_sampling_level != "token":
            # Its ratio is one differentiable number per completion: every token would get the mean advantage.
            why = f"importance_sampling_level={args.importance_sampling_level!r} (take 'token')"
        elif args.off_policy_mask_threshold is not None:
            why = "off_policy_mask_threshold (leave it out)"
        if why:
            raise ConfigError(f"TurnGRPOTrainer: one number per completion is all that this sees: {why}")

    def _calculate_rewards(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._outcomes = super()._calculate_rewards(*args, **kwargs)
        return self._outcomes

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output = super()._generate_and_score_completions(inputs)
        mask = output["completion_mask"] * output.get("tool_mask", 1)
        sampled = mask.cpu().numpy().astype(bool)
        turns = turn_ids(sampled, [row.get("turn_spans") for row in inputs])
        # Groups may lie on several processes: credit is computed over all of them, each keeps its own rows.
        everyone = gather_object(self._local_scores(inputs, turns))
        result = self._credit([scores for scores, _ in everyone], np.array([trained for _, trained in everyone], bool))
        start = self.accelerator.process_index * len(inputs)
        mine = result.values[start : start + len(inputs)]
        values = torch.as_tensor(spread(mine, turns, sampled), dtype=torch.float32)
        output["advantages"] = values.to(mask.device)
        self._note(result)
        return output

    def _local_scores(self, inputs: Sequence[Mapping[str, Any]], turns: np.ndarray) -> list[tuple[list[Any], bool]]:
        """Return for each completion its turn scores, and whether it has tokens in the loss."""
        found = []
        for row, (given, n) in enumerate(zip(self._given(inputs), n_turns(turns).tolist(), strict=True)):
            scores = [None] * n if given is None else list(given)
            if given is not None and self.environments is not None and len(scores) == n - 1:
                scores.append(0.0)  # a last message without a call never reaches the environment
            if n and len(scores) != n:
                raise DataError(
                    f"completion {row}: {n} turns (runs of sampled tokens) but {len(scores)} turn rewards. Give one "
                    "per turn, and turn_spans where turns touch"
                )
            found.append((scores, n > 0))
        return found

    def _given(self, inputs: Sequence[Mapping[str, Any]]) -> list[Sequence[float | None] | None]:
        if any(row.get("turn_rewards") is not None for row in inputs):
            return [row.get("turn_rewards") for row in inputs]
        found = [getattr(e, "turn_rewards", None) for e in self.environments or [None] * len(inputs)]
        if all(scores is None for scores in found):
            raise ConfigError(
                "no turn rewards arrived: let rollout_func return a field 'turn_rewards' (a list of numbers per "
                "completion), or give the environment an attribute turn_rewards; without any, GRPOTrainer is enough"
            )
        return found

    def _credit(self, scores: Sequence[Sequence[float | None]], trained: np.ndarray) -> CreditResult:
        train = self.model.training
        size = self.num_generations if train else self.num_generations_eval
        rewards: torch.Tensor = self._outcomes
        known = ~torch.isnan(rewards).all(dim=1)
        outcome = (rewards * self.reward_weights.to(rewards.device)[None, :]).nansum(dim=1)
        values, exists = padded(scores)
        scored = known.cpu().numpy()
        result = advantages_from_arrays(
            values,
            exists,
            outcome.cpu().numpy(),
            np.arange(len(scores)) // size,
            config=self.credit,
            scales=self.credit_scales,
            in_statistics=scored,
            in_loss=scored & trained,
        )
        if train:
            self.credit_scales = result.next_scales
        self.credit_result = result
        return result

    def _note(self, result: CreditResult) -> None:
        """Add the credit's metrics to the trainer's, and the mean advantage of each completion to its table."""
        metrics = self._metrics["train" if self.model.training else "eval"]
        shown = result.scales | {name: result.metrics[name] for name in _SHOWN if name in result.metrics}
        for name, value in shown.items():
            metrics[f"credit/{name}"].append(value)
        log, n = self._logs["advantages"], len(result.values)
        if len(log) >= n:
            lengths = np.maximum(1, result.arrays.turn_mask.sum(1))
            for _ in range(n):
                log.pop()
            log.extend((result.values.sum(1) / lengths).tolist())

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        super()._save_checkpoint(model, trial)
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial=trial)) / f"checkpoint-{self.state.global_step}"
            (folder / _STATE).write_text(json.dumps(self.credit_scales.to_dict()), encoding="utf-8")

    def _load_optimizer_and_scheduler(self, checkpoint: Any) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is not None and (path := Path(checkpoint) / _STATE).exists():
            self.credit_scales = Scales.from_dict(json.loads(path.read_text(encoding="utf-8")))


def rollout_fields(trajectories: Sequence[Trajectory]) -> dict[str, list[Any]]:
    """Return recorded episodes as what a `rollout_func` returns, turn rewards and outcomes included.

    Trajectories in the order of the prompts that TRL passed (siblings one after the other). One that is in neither
    statistics nor loss gets the outcome None, which `outcome_reward` hands on: TRL and `TurnGRPOTrainer` leave it out.

    Raises:
        DataError: An episode fills several token segments; TRL knows one sequence per completion.
    """
    names = ("prompt_ids", "completion_ids", "logprobs", "env_mask", "turn_rewards", "turn_spans", "outcome")
    fields: dict[str, list[Any]] = {name: [] for name in names}
    for trajectory in trajectories:
        for name, value in _fields(trajectory).items():
            fields[name].append(value)
    return fields


def outcome_reward(outcome: Sequence[float | None], **_: Any) -> list[float | None]:
    """A reward function of TRL: the trajectory-scope rewards that `rollout_fields` passed on."""
    return list(outcome)


def _fields(trajectory: Trajectory) -> dict[str, Any]:
    if len(trajectory.segments) > 1:
        raise DataError(
            f"trajectory {trajectory.id} has {len(trajectory.segments)} token segments (its context was compacted); TRL "
            "knows one sequence per completion"
        )
    segment = trajectory.segments[0] if trajectory.segments else None
    usable = trajectory.in_loss and segment is not None and any(segment.mask)
    if segment is None or not usable:
        return {
            "prompt_ids": [0], "completion_ids": [0], "logprobs": [0.0], "env_mask": [0],
            "turn_rewards": [turn.reward for turn in trajectory.turns], "turn_spans": [],
            "outcome": trajectory.reward if trajectory.in_statistics else None,
        }  # fmt: skip
    start, end = segment.mask.index(1), len(segment.mask) - segment.mask[::-1].index(1)
    return {
        "prompt_ids": list(segment.ids[:start]),
        "completion_ids": list(segment.ids[start:end]),
        "logprobs": list(segment.logprobs[start:end]),
        "env_mask": list(segment.mask[start:end]),
        "turn_rewards": [turn.reward for turn in trajectory.turns],
        "turn_spans": [(span.start - start, span.end - start) for span in segment.spans],
        "outcome": trajectory.reward if trajectory.in_statistics else None,
    }
