"""verl: turn credit as an advantage estimator, and the hook that brings turn scores to it.

verl calls a registered estimator with `token_level_rewards`, `response_mask`, `index` (the prompt's uid) and `config`
alone, so turn scores must come inside the token rewards. `with_turn_rewards` (around an agent loop's output) puts them
there, `TurnEstimator` reads them back:

- a turn is a run of tokens that the model sampled (1 in `response_mask`);
- what lies behind one turn's last token, up to and including the next turn's last token, is the next turn's score;
- what lies on the last turn's last token or behind it is the outcome: verl writes `reward_score` there.

So rewards that another hook puts on the last token of each turn are read as turn scores too, but for the last turn.
A KL penalty in the reward counts to the turn whose tokens pay it. Two turns without a token between them are one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from agentgym import schema
from agentgym.credit import CreditConfig, CreditResult, Scales, advantages_from_arrays, spread
from agentgym.errors import ConfigError, DataError, MissingExtraError
from agentgym.interop.turns import n_turns, turn_ids

NAME = "agentgym_turn"
"""`algorithm.adv_estimator` in verl's configuration."""


def place_rewards(response_mask: ArrayLike, turn_scores: Sequence[float], outcome: float) -> NDArray[np.float64]:
    """Return the token rewards of one response: [T].

    A turn's score goes on its first token, the outcome on the response's last one. Where the last turn is a single
    token its score goes on the token before it; where that is the whole response, onto the outcome.

    Raises:
        DataError: The number of scores is not that of the turns, or one is not finite.
    """
    mask = np.asarray(response_mask).astype(bool)
    turns = turn_ids(mask[None])[0]
    n = int(turns.max(initial=-1)) + 1
    if len(turn_scores) != n:
        raise DataError(f"{n} turns (runs of 1 in response_mask) but {len(turn_scores)} turn scores; give one per turn")
    rewards = np.zeros(len(mask))
    for k, score in enumerate(turn_scores):
        if not np.isfinite(score):
            raise DataError(f"turn {k}: the turn score is {score!r}; leave a response without valid scores out")
        tokens = np.flatnonzero(turns == k)
        last = k == n - 1 and len(tokens) == 1
        rewards[tokens[0] - 1 if last and tokens[0] > 0 else -1 if last else tokens[0]] += score
    if len(mask):
        rewards[-1] += outcome
    return rewards


def split_rewards(
    token_level_rewards: ArrayLike, response_mask: ArrayLike
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.float64]]:
    """Return the turn scores [B, K], the turn of each token [B, T] and the outcomes [B] of token rewards [B, T]."""
    rewards = np.asarray(token_level_rewards, dtype=np.float64)
    turns = turn_ids(response_mask)
    if rewards.shape != turns.shape:
        raise DataError(f"token_level_rewards {rewards.shape} and response_mask {turns.shape} differ in shape")
    counts = n_turns(turns)
    after = np.pad(turns, ((0, 0), (0, 1)), constant_values=-1)[:, 1:]
    ends = (turns >= 0) & (after != turns)
    ended = np.cumsum(ends, axis=1) - ends  # turns that ended before this token
    final = (ended == counts[:, None]) | (ends & (ended == counts[:, None] - 1))
    scores = np.zeros((len(rewards), int(counts.max(initial=0))))
    row, token = np.nonzero(~final)
    np.add.at(scores, (row, ended[row, token]), rewards[row, token])
    return scores, turns, np.where(final, rewards, 0.0).sum(1)


def turn_credit(
    token_level_rewards: ArrayLike,
    response_mask: ArrayLike,
    index: Sequence[Any] | NDArray[Any],
    credit: CreditConfig,
    scales: Scales | None = None,
) -> tuple[NDArray[np.float64], CreditResult]:
    """Return the advantage of every token, [B, T] float64, and the credit behind it.

    Args:
        token_level_rewards: [B, T], see `split_rewards`.
        response_mask: [B, T], 1 on sampled tokens.
        index: [B] uid of the prompt: equal for siblings.
        credit: The recipe.
        scales: Running scales of earlier steps; None at the first.
    """
    scores, turns, outcome = split_rewards(token_level_rewards, response_mask)
    counts = n_turns(turns)
    exists = np.arange(scores.shape[1])[None, :] < counts[:, None]
    result = advantages_from_arrays(
        scores, exists, outcome, index, config=credit, scales=scales, in_loss=counts > 0
    )
    return spread(result.values, turns, turns >= 0), result


class TurnEstimator:
    """What verl calls: turn advantages of a batch. The running scales pass from one call to the next."""

    def __init__(self, credit: CreditConfig | None = None) -> None:
        """Take a recipe; None: `algorithm.agentgym` of verl's configuration, where there is one, else the default."""
        self.credit = credit
        self.scales: Scales | None = None
        """Formed by the calls so far. verl's checkpoints do not hold them: after a resume they form anew."""
        self.result: CreditResult | None = None
        """Of the last call."""

    def __call__(
        self,
        token_level_rewards: torch.Tensor,
        response_mask: torch.Tensor,
        index: NDArray[Any] | None = None,
        config: Any = None,
        **_: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return advantages and returns (the same), [B, T] each; takes exactly what verl passes.

        Args:
            token_level_rewards: [B, T] float.
            response_mask: [B, T] int.
            index: [B] uids.
            config: verl's `algorithm` table.
            _: What verl adds for other estimators (`reward_baselines`).

        Raises:
            ConfigError: No uids came, or `algorithm.agentgym` has an unknown key.
            DataError: A reward is not finite; it names group and turn.
        """
        if index is None:
            raise ConfigError(f"{NAME}: verl passed no uids, so nobody knows which responses are siblings")
        if self.credit is None:
            self.credit = _settings(config)
        rewards, mask = token_level_rewards.detach().cpu().numpy(), response_mask.detach().cpu().numpy()
        values, self.result = turn_credit(rewards, mask, index, self.credit, self.scales)
        self.scales = self.result.next_scales
        advantages = torch.as_tensor(values, dtype=token_level_rewards.dtype, device=token_level_rewards.device)
        return advantages, advantages.clone()


def register(name: str = NAME, credit: CreditConfig | None = None) -> TurnEstimator:
    """Register an estimator with verl in this process and return it; `agentgym.interop.verl_plugin` does it on import."""
    try:
        from verl.trainer.ppo.core_algos import register_adv_est  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("agentgym.interop.verl.register", str(error.name), "pip install verl") from error
    estimator = TurnEstimator(credit)
    register_adv_est(name)(estimator)
    return estimator


def with_turn_rewards(output: Any) -> Any:
    """Return an agent loop's output whose token rewards hold its turn scores as well.

    Call it on what `AgentLoopBase.run` is about to return. The scores are `output.extra_fields["turn_scores"]`, one per
    turn; the outcome is `reward_score`, which verl may fill later. Where a reward model writes the token rewards
    afterwards (`reward_score` stays None) the turn scores are lost.

    Args:
        output: verl's `AgentLoopOutput`.

    Raises:
        DataError: The number of scores is not that of the turns.
    """
    scores = [float(s) for s in output.extra_fields.get("turn_scores") or ()]
    place_rewards(output.response_mask, scores, 0.0)  # said here, where the agent loop can be named
    parent = type(output)

    def as_dict(self: Any) -> dict[str, Any]:
        fields = parent.as_dict(self)
        if "rm_scores" in fields:
            placed = place_rewards(self.response_mask, scores, float(self.reward_score))
            fields["rm_scores"] = torch.as_tensor(placed, dtype=fields["rm_scores"].dtype)
        return fields

    child = type(f"Turn{parent.__name__}", (parent,), {"as_dict": as_dict, "__module__": __name__, "__doc__": None})
    return child(**{name: getattr(output, name) for name in type(output).model_fields if name in output.model_fields_set})


def _settings(config: Any) -> CreditConfig:
    given = config.get("agentgym", None) if config is not None and hasattr(config, "get") else None
    plain = {str(k): dict(v) if isinstance(v, Mapping) else v for k, v in (given or {}).items()}
    return schema.from_json(CreditConfig, plain, where="algorithm.agentgym", error=ConfigError)
