"""Further recipes: implicit process rewards, list ranks, masks of segments, KL in the reward, given scales, schedules."""

from dataclasses import dataclass, replace

import numpy as np

from agentgym.credit.arrays import CreditArrays, Floats
from agentgym.credit.blocks import Accumulate, Block, Centre, Level, Weight
from agentgym.credit.modulate import Whiten
from agentgym.credit.normalise import Normalise
from agentgym.credit.outcome import z_score
from agentgym.credit.placing import AtLast
from agentgym.credit.recipe import BIASED_GROUP, GAMMA_CAUTION, GROUP_STD_CAUTION, Recipe
from agentgym.credit.scales import CreditConfig, Scales, one_of, within
from agentgym.credit.shape import is_correct, last_turn


@dataclass(frozen=True, slots=True)
class Masked:
    """Turns that a mask takes out of the loss."""

    by_use: bool = False
    """The mask follows from the extra "useful": useless turns of right episodes but the last, useful ones of wrong."""

    def apply(self, advantages: Floats, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the advantages with 0 where the mask is set."""
        if not self.by_use:
            return np.where(np.asarray(arrays.extra("masked"), bool), 0.0, advantages)
        useful, right = np.asarray(arrays.extra("useful"), bool), is_correct(arrays)[:, None]
        masked = np.where(right, ~useful & ~last_turn(arrays.turn_mask), useful)
        return np.where(masked, 0.0, advantages)

    def describe(self) -> str:
        """Say so."""
        return "modulate: 0 on turns that are masked (useless for a right answer, useful for a wrong one)"


@dataclass(frozen=True, slots=True)
class LessPerTurn:
    """Leave-one-out of turn values whose baseline is each episode's mean per turn, as PRIME has it per token."""

    level: str = "turn"

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return x n / (n - 1) - (sum of all members' means per turn) / (n - 1); 0 without another member."""
        counted = arrays.in_statistics[:, None].astype(np.float64)
        mean = x.values.sum(1, keepdims=True) / np.maximum(x.live.sum(1, keepdims=True), 1)
        n = arrays.group_sum(counted)
        total = arrays.group_sum(mean * counted)
        out = (x.values * n - total) / np.maximum(n - 1.0, 1.0)
        return replace(x, values=np.where(x.live & (n > 1), out, 0.0))

    def describe(self) -> str:
        """Say the set."""
        return "centre: value n / (n - 1) minus the sum of the mean per turn of all n members / (n - 1)"


@dataclass(frozen=True, slots=True)
class PayPerTurn:
    """Each turn's score gets the outcome added, or a charge for leaving the reference policy."""

    mu: float = 0.0
    eta: float = 0.0
    """Above 0: the turn score is -log_ratio / eta instead."""

    @property
    def joins_levels(self) -> bool:
        """Whether the outcome is put into the turn scores."""
        return not self.eta

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new turn scores."""
        if self.eta:
            scores = -np.asarray(arrays.extra("log_ratio"), np.float64) / self.eta
            return arrays.but(turn_scores=np.where(arrays.turn_mask, scores, 0.0))
        scores = arrays.turn_scores + arrays.outcome[:, None] - self.mu
        return arrays.but(turn_scores=np.where(arrays.turn_mask, scores, 0.0))

    def describe(self) -> str:
        """Say the formula."""
        charge = f"turn score := -(log policy - log reference of the turn) / {self.eta:g}"
        return charge if self.eta else f"turn score := turn score + outcome - {self.mu:g}"


@dataclass(frozen=True, slots=True)
class ScheduledAccumulate:
    """Return-to-go with a discount that moves linearly over the training steps."""

    first: float
    last: float
    n_steps: int
    level: str = "turn"

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with sums over the remaining turns."""
        gamma = self.first + (self.last - self.first) * min(1.0, scales.n_steps / self.n_steps)
        return Accumulate(gamma, "turn").apply(x, arrays, scales)

    def describe(self) -> str:
        """Say the schedule."""
        return (
            f"accumulate: sum this and all later turns, each turn ahead multiplied by gamma, which moves from {self.first:g} "
            f"to {self.last:g} over {self.n_steps} steps; 0 once the episode has ended"
        )


def ppr(config: CreditConfig, *, mu: float = 1.0) -> Recipe:
    """Return leave-one-out on the returns-to-go of r_k = p_k + outcome - mu, p_k the turn's process score.

    Source: "Hybrid Reward Normalization for Process-supervised Non-verifiable Agentic Tasks" (arXiv 2509.25598).
    Evidence: from a summary; mu and the last step's rule not confirmed. Deviation: the paper trains with a critic
    (PPO); the baseline here is the leave-one-out mean.
    """
    within("mu", mu, -1e6, 1e6)
    claim = (
        "BIASED: a turn's score holds the outcome, which later turns decide, but a return-to-go pays them only for the turns "
        "from their own on: late decisions get a smaller share of the outcome than early ones."
    )
    return Recipe("ppr", ("turn",), (Accumulate(), Centre("turn", "loo")), claim, (PayPerTurn(mu),))


def prime(config: CreditConfig, *, turn_coef: float = 5.0, outcome_coef: float = 5.0, whiten: bool = True) -> Recipe:
    """Return implicit rewards and outcome, each leave-one-out in the group, summed from the turn on, then whitened.

    Turn scores are the implicit rewards (component log_ratio); the turn axis may be a token axis.

    Source: "Process Reinforcement through Implicit Rewards" (arXiv 2502.01456). Evidence: read in released code; the
    coefficients 5 and 5 from own knowledge. Deviation: a lone episode gets 0 where the release divides by 0.
    """
    blocks: tuple[Block, ...] = (
        LessPerTurn(),
        Weight("turn", turn_coef),
        Accumulate(),
        Centre("trajectory", "loo"),
        Weight("trajectory", outcome_coef),
        AtLast("trajectory"),
        Accumulate(1.0, "trajectory"),
    )  # fmt: skip
    claim = "BIASED: every further turn is charged the group's mean per turn" + (
        "; the batch's std divides." if whiten else "."
    )
    steps = (Whiten(inside=True),) if whiten else ()
    return Recipe("prime", ("turn", "trajectory"), blocks, claim, modulate=steps)


def rank_grpo(config: CreditConfig, *, form: str = "to_go", eps: float = 1e-4) -> Recipe:
    """Return the z-score per list position of the scores from that position on ("to_go") or of its own ("own").

    Source: "Rank-GRPO: Training LLM-based Conversational Recommender Systems with Reinforcement Learning" (arXiv
    2510.20150). Evidence: read in released code. Deviation: the ratio per item is `loss.ratio = "turn"`.
    """
    one_of("form", form, ("to_go", "own"))
    blocks: tuple[Block, ...] = (Normalise("turn", "turn", "mean", "std", eps=eps),)
    if form == "to_go":
        blocks = (Accumulate(), *blocks)
    claim = "BIASED: each position is divided by its own std, and positions that few reach are shrunk."
    return Recipe("rank_grpo", ("turn",), blocks, claim, cautions=(GROUP_STD_CAUTION.format("rank_grpo"),))


def ggpo(config: CreditConfig, *, component: str = "") -> Recipe:
    """Return GRPO with 0 on masked turns (extra "masked"), which still count in the divisor of the loss.

    With a `component` of turn scope (such as retrieval_gain) training makes the mask itself: a turn is useful where
    the component pays; masked are the useless turns of right episodes, the answer excepted, and the useful ones of
    wrong episodes.

    Source: VimRAG's graph-guided policy optimisation (arXiv 2602.12735). Evidence: from a summary. Deviation: turns
    that pay stand for the path that reaches the answer in a graph; the ratio per segment is `loss.ratio = "turn"`.
    """
    claim = f"{BIASED_GROUP} Masked turns learn nothing, and the mask depends on the outcome."
    cautions = (GROUP_STD_CAUTION.format("ggpo"),)
    needs = ("correct", f"useful:{component}") if component else ("masked",)
    steps = (Masked(bool(component)),)
    return Recipe("ggpo", ("trajectory",), (z_score(),), claim, modulate=steps, needs=needs, cautions=cautions)


def prl(config: CreditConfig, *, eta: float = 10.0, component: str = "") -> Recipe:
    """Return outcome minus the KL charge of this and later turns, each leave-one-out: A = r* - sum of log ratios / eta.

    Reads the extra log_ratio ([B, K]: log policy - log reference, summed over the turn's tokens). With `component`
    (log_ratio, weight 0 will do) training takes them from what that component measured.

    Source: PRL (arXiv 2601.10201). Evidence: objective from a summary, the form per step
    not confirmed. Deviation: zero-counted leave-one-out for the group baseline.
    """
    within("eta", eta, 1e-9, 1e12)
    claim = f"exactly the gradient of E[outcome] - KL(policy, reference) / {eta:g}."
    blocks = (Accumulate(), Centre("turn", "loo"), Centre("trajectory", "loo"))
    needs = (f"ratio:{component}",) if component else ("log_ratio",)
    return Recipe("prl", ("turn", "trajectory"), blocks, claim, (PayPerTurn(eta=eta),), needs=needs)


def frozen(
    config: CreditConfig, *, mean: float = 0.0, std: float = 1.0, turn_mean: float = 0.0, turn_std: float = 1.0
) -> Recipe:
    """Return (outcome - mean) / std plus (return-to-go - turn_mean) / turn_std, with numbers measured elsewhere.

    Source: reference-frozen normalisation of Quark Medical Alignment. Evidence: from a summary. Deviation:
    the turn level is ours.
    """
    for name, value in (("std", std), ("turn_std", turn_std)):
        within(name, value, 1e-9, 1e12)
    blocks = (Accumulate(), Given("turn", turn_mean, turn_std), Given("trajectory", mean, std))
    claim = f"exactly the gradient of E[outcome] / {std:g} + E[sum of turn scores] / {turn_std:g}."
    return Recipe("frozen", ("turn", "trajectory"), blocks, claim)


@dataclass(frozen=True, slots=True)
class Given:
    """Centre and scale that were measured elsewhere."""

    level: str
    mean: float
    std: float

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return (x - mean) / std on live places."""
        return replace(x, values=np.where(x.live, (x.values - self.mean) / self.std, 0.0))

    def describe(self) -> str:
        """Say the numbers."""
        return f"normalise: subtract {self.mean:g} and divide by {self.std:g}, both given"


def discount_schedule(config: CreditConfig, *, first: float = 0.5, last: float = 1.0, n_steps: int = 200) -> Recipe:
    """Return turn_grpo without scales whose discount moves from `first` to `last` over `n_steps`.

    Source: after "Imitation Learning from Observation with Automatic Discount Scheduling" (2023). Evidence: idea
    only. Deviation: linear in steps, where the paper follows the learner's progress.
    """
    for name, value in (("first", first), ("last", last)):
        within(name, value, 0.0, 1.0)
    within("n_steps", n_steps, 1, 10**9)
    blocks = (
        ScheduledAccumulate(first, last, n_steps), Centre("turn", "loo"), Weight("turn", config.turn_weight),
        Centre("trajectory", "loo"),
    )  # fmt: skip
    claim = (
        "BIASED: while the discount is below 1 no objective's gradient; at 1 exactly the gradient of "
        f"E[outcome] + {config.turn_weight:g} E[sum of turn scores]."
    )
    cautions = (GAMMA_CAUTION,) if min(first, last) < 1.0 else ()
    return Recipe(
        "discount_schedule", ("turn", "trajectory"), blocks, claim, remembers=("steps",), cautions=cautions
    )  # fmt: skip
