"""Settings of the policy loss, and what some of them do that one might not expect."""

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

from agentgym.errors import ConfigError, suggestion
from agentgym.learn.batch import Unit
from agentgym.learn.correction import Correction
from agentgym.learn.kl import KlKind

Aggregation = Literal["constant", "token_mean", "sequence_mean"]
Surrogate = Literal["ppo", "cispo", "sapo", "reinforce"]


@dataclass(frozen=True, slots=True)
class LossConfig:
    """How token losses become one number."""

    aggregation: Aggregation = "constant"
    """constant: sum over action tokens / (n_episodes * tokens_per_episode), the only one whose expectation at ratio 1
    is the gradient of the objective. token_mean: sum / action tokens of the update, which couples the step size to
    length (an error of order 1 / episodes). sequence_mean: mean over episodes of their token mean, which weighs the
    tokens of long episodes less and can flip the sign of a decision whose outcomes differ in length."""
    tokens_per_episode: float = 0.0
    """The constant c of `constant`. 0: the warm start's mean action tokens per episode, without a warm start the
    first step's; then frozen and checkpointed."""
    surrogate: Surrogate = "ppo"
    """ppo: min(ratio * A, clipped ratio * A). cispo: bounded ratio, held constant, * A * logprob: every token keeps
    its gradient. sapo: a smooth gate of the ratio in the place of a clip. reinforce: A * logprob without a ratio."""
    ratio: Unit = "token"
    """What a ratio covers: token, turn or sequence (geometric mean over its tokens, each keeping its own gradient)."""
    clip: bool = True
    """Clip the ratio as in "Proximal Policy Optimization Algorithms"; at ratio 1 it changes nothing. Read by ppo and
    cispo."""
    clip_low: float = 0.2
    """The ratio's lower bound is 1 - clip_low."""
    clip_high: float = 0.28
    """The ratio's upper bound is 1 + clip_high (larger than the lower one: "DAPO", clip-higher)."""
    dual_clip: float = 0.0
    """Above 1: on tokens with a negative advantage the ratio counts as this at most (usual: 3). 0: no such bound. Read by
    ppo."""
    cispo_bounds: Literal["offset", "cap"] = "offset"
    """offset: cispo's ratio is held in [1 - clip_low, 1 + clip_high] (verl). cap: it is at most clip_high itself,
    without a lower bound (TRL, where 5 is usual): the same number means another bound."""
    sapo_tau_positive: float = 1.0
    """Sharpness of sapo's gate where the advantage is positive."""
    sapo_tau_negative: float = 1.05
    """Sharpness of sapo's gate elsewhere."""
    kl_coef: float = 0.0
    """Weight of the KL term to a frozen reference policy; 0 leaves it out."""
    kl: KlKind = "k3"
    """Estimate of the KL. In the loss the gradient of k2 is that of KL(policy || reference), of k3 that of
    KL(reference || policy), of k1 zero in expectation; in the reward k1 is exact."""
    kl_in: Literal["loss", "reward"] = "loss"
    """loss: a term of its own. reward: each token pays for its KL, and the advantages of the tokens before it too."""
    correction: Correction = "none"
    """Weigh advantages by learner / sampler probability where the two differ at equal weights (a served sampler,
    another precision): truncate holds the weight in bounds, mask drops what lies outside. Costs a forward pass."""
    correction_level: Unit = "token"
    """What a correction weight covers: token, turn or sequence (product over its tokens)."""
    correction_low: float = 0.0
    """Least correction weight."""
    correction_high: float = 2.0
    """Largest correction weight."""

    def __post_init__(self) -> None:
        """Refuse values outside their range."""
        for name, allowed in _CHOICES.items():
            given = getattr(self, name)
            if given not in allowed:
                choices = ", ".join(map(repr, allowed))
                raise ConfigError(f"{name} = {given!r}: allowed are {choices}{suggestion(str(given), allowed)}")
        if self.tokens_per_episode < 0 or self.kl_coef < 0:
            raise ConfigError(
                f"tokens_per_episode = {self.tokens_per_episode} and kl_coef = {self.kl_coef} must not be negative"
            )
        if not 0 < self.clip_low < 1 or not self.clip_high > 0:
            raise ConfigError(
                f"clip_low = {self.clip_low} must lie in (0, 1) and clip_high = {self.clip_high} above 0; "
                "clip = false switches clipping off"
            )
        if self.dual_clip and not self.dual_clip > 1:
            raise ConfigError(f"dual_clip = {self.dual_clip}: must lie above 1 (3 is usual), or be 0 for none")
        if not self.sapo_tau_positive > 0 or not self.sapo_tau_negative > 0:
            raise ConfigError(
                f"sapo_tau_positive = {self.sapo_tau_positive} and sapo_tau_negative = {self.sapo_tau_negative} must "
                "lie above 0"
            )
        if not 0 <= self.correction_low < 1 or not self.correction_high > 1:
            raise ConfigError(
                f"correction_low = {self.correction_low} must lie in [0, 1) and correction_high = "
                f"{self.correction_high} above 1: equal probabilities have the weight 1"
            )

    @property
    def ratio_bounds(self) -> tuple[float, float]:
        """Where the ratio of cispo is held."""
        if not self.clip:
            return 0.0, math.inf
        if self.cispo_bounds == "cap":
            return 0.0, self.clip_high
        return 1.0 - self.clip_low, 1.0 + self.clip_high

    @property
    def whole_batch(self) -> bool:
        """Whether a batch must be prepared as a whole before it is shared out (`agentgym.learn.prepare`)."""
        return self.correction != "none" or (self.kl_coef > 0 and self.kl_in == "reward")

    def notes(self, n_updates: int = 1) -> tuple[str, ...]:
        """Return one sentence per setting that changes what is optimised.

        Args:
            n_updates: Optimiser steps on one batch of episodes, passes over it included.
        """
        c = self
        found = {
            "loss.aggregation = token_mean divides by the update's own tokens: the expected gradient is off by a "
            "share of order 1 / episodes, towards actions that make episodes short or long":
                c.aggregation == "token_mean",
            "loss.aggregation = sequence_mean weighs an action by 1 / tokens of its episode: where an action changes "
            "the length its expected gradient can have the wrong sign": c.aggregation == "sequence_mean",
            "loss.surrogate = reinforce has no ratio, so that the updates of a batch after the first are biased; "
            "take ppo or one update per batch": c.surrogate == "reinforce" and n_updates > 1,
            "loss.kl = k1 inside the loss has an expected gradient of zero and only adds noise; take k2 or k3, or "
            "loss.kl_in = reward": c.kl_coef > 0 and c.kl == "k1" and c.kl_in == "loss",
            f"loss.kl = {c.kl} inside the reward leaves out the gradient of the estimate itself; k1 is exact there":
                c.kl_coef > 0 and c.kl != "k1" and c.kl_in == "reward",
            "loss.cispo_bounds = cap holds the ratio below loss.clip_high itself, which is below 1: every token at "
            "ratio 1 is scaled down; 5 is usual":
                c.surrogate == "cispo" and c.cispo_bounds == "cap" and c.clip and c.clip_high < 1,
            f"loss.dual_clip is read by ppo alone, and loss.surrogate is {c.surrogate}": c.dual_clip > 0 and c.surrogate != "ppo",
            f"loss.ratio = {c.ratio} changes nothing: loss.surrogate = reinforce has no ratio":
                c.surrogate == "reinforce" and c.ratio != "token",
        }  # fmt: skip
        return tuple(text for text, holds in found.items() if holds)


_CHOICES: dict[str, tuple[str, ...]] = {
    "aggregation": ("constant", "token_mean", "sequence_mean"),
    "surrogate": ("ppo", "cispo", "sapo", "reinforce"),
    "ratio": ("token", "turn", "sequence"),
    "cispo_bounds": ("offset", "cap"),
    "kl": ("k1", "k2", "k3"),
    "kl_in": ("loss", "reward"),
    "correction": ("none", "truncate", "mask"),
    "correction_level": ("token", "turn", "sequence"),
}

PUBLISHED: dict[str, dict[str, Any]] = {
    "grpo": {"aggregation": "sequence_mean", "clip_high": 0.2},
    "dapo": {"aggregation": "token_mean"},
    "dr_grpo": {"clip_high": 0.2},
    "gspo": {"aggregation": "sequence_mean", "ratio": "sequence", "clip_low": 3e-4, "clip_high": 4e-4},
    "cispo_verl": {"aggregation": "token_mean", "surrogate": "cispo"},
    "cispo_trl": {"aggregation": "token_mean", "surrogate": "cispo", "cispo_bounds": "cap", "clip_high": 5.0},
    "sapo": {"aggregation": "sequence_mean", "surrogate": "sapo"},
    "reinforce": {"surrogate": "reinforce"},
}
"""Losses of the field as they were published, as changes of the default; dr_grpo's constant is tokens_per_episode."""


def published_loss(name: str, **changes: Any) -> LossConfig:
    """Return a loss of `PUBLISHED` with some settings changed. Raises ConfigError for an unknown name."""
    if name not in PUBLISHED:
        raise ConfigError(f"no loss is called {name!r}{suggestion(name, tuple(PUBLISHED))}; known: {', '.join(PUBLISHED)}")
    return replace(LossConfig(**PUBLISHED[name]), **changes)
