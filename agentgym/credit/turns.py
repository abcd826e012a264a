"""Recipes on turn scores: information gain, dual-level matching, checklists, states met twice, entropies."""

from dataclasses import dataclass, replace

import numpy as np

from agentgym.credit.arrays import CreditArrays
from agentgym.credit.blocks import Accumulate, Block, Level, Weight
from agentgym.credit.modulate import ByEntropy, CentreBatch
from agentgym.credit.normalise import Normalise
from agentgym.credit.outcome import z_score
from agentgym.credit.placing import AtLast, OverTurns, WithoutLast
from agentgym.credit.recipe import BIASED_GROUP, GAMMA_CAUTION, GROUP_STD_CAUTION, Prepare, Recipe
from agentgym.credit.scales import CreditConfig, Scales, one_of, within
from agentgym.credit.shape import MeanTurns, OutcomeAtLast, SumTurns
from agentgym.errors import ConfigError

_CHARGE = (
    "BIASED: no objective's gradient. A score is centred before it is summed, so every further turn is charged the "
    "mean score of the group's turns, and long episodes lose where scores are positive."
)
_ALIVE = (
    "BIASED: the baseline of a turn index is taken over the episodes that reach it, oneself included, which shrinks "
    "late turns; a lone episode keeps its raw value."
)


@dataclass(frozen=True, slots=True)
class Curriculum:
    """Weights of outcome and turn scores that move linearly over the training steps."""

    outcome: tuple[float, float]
    turn: tuple[float, float]
    n_steps: int

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with both kinds of score weighed."""
        done = min(1.0, scales.n_steps / self.n_steps)
        outcome, turn = (first + (last - first) * done for first, last in (self.outcome, self.turn))
        return arrays.but(outcome=outcome * arrays.outcome, turn_scores=turn * arrays.turn_scores)

    def describe(self) -> str:
        """Say the weights."""
        (a, b), (c, d) = self.outcome, self.turn
        return f"weigh: outcome {a:g} -> {b:g}, turn scores {c:g} -> {d:g}, linearly over {self.n_steps} steps"


def igpo(
    config: CreditConfig, *, form: str = "joint", gamma: float = 1.0, std: bool = True, last: str = "outcome",
    curriculum: bool = False, n_steps: int = 200,
) -> Recipe:  # fmt: skip
    """Return A_k = sum over j >= k of gamma^(j-k) z(r_j), the last turn's score being the outcome: normalise, then sum.

    form "joint": one mean and std over all turn scores and outcomes of the group; "separate": one for the turn
    scores, one for the outcomes. std population, sqrt(variance + 1e-8) + 1e-6. `std` False leaves the division out.
    last "outcome": the last turn has no score of its own and is in no statistics of turn scores ("separate"); "both":
    it has. `curriculum`: outcome weight .5 -> 1 and turn weight 1 -> .5 over `n_steps`, before normalising.

    Source: "Information Gain-based Policy Optimization" (arXiv 2510.14967). Evidence: read in released code of
    February 2026; the order from own knowledge; the curriculum's shape is not confirmed. Deviation: turns are carried
    by a mask; the release takes every score of exactly 0 for no turn.
    """
    one_of("form", form, ("joint", "separate"))
    one_of("last", last, ("outcome", "both"))
    within("gamma", gamma, 0.0, 1.0)
    within("n_steps", n_steps, 1, 10**9)
    how = {"over": "group", "spread": "population" if std else "none", "eps_inside": 1e-8}
    prepare: list[Prepare] = [Curriculum((0.5, 1.0), (1.0, 0.5), n_steps)] if curriculum else []
    if form == "joint":
        prepare.append(OutcomeAtLast())
        levels, blocks = ("turn",), (Normalise("turn", **how), Accumulate(gamma))
    else:
        levels = ("turn", "trajectory")
        turn: tuple[Block, ...] = (Normalise("turn", **how),)
        if last == "outcome":
            turn = (WithoutLast("turn"), *turn, WithoutLast("turn", back=True))
        outcome = (Normalise("trajectory", **how), AtLast("trajectory"), Accumulate(gamma, "trajectory"))
        blocks = (*turn, Accumulate(gamma), *outcome)
    cautions = [GROUP_STD_CAUTION.format("igpo")] if std else []
    if gamma < 1.0:
        cautions.append(GAMMA_CAUTION)
    if curriculum and form == "separate" and std:
        cautions.append(
            "credit.recipe = 'igpo': with form = 'separate' the z-scores cancel the curriculum's weights; use 'joint'."
        )
    remembers = ("steps",) if curriculum else ()
    return Recipe(
        "igpo", levels, blocks, _CHARGE, tuple(prepare), remembers=remembers, cautions=tuple(cautions)
    )  # fmt: skip


def matchtir(
    config: CreditConfig, *, discount: float = 0.9, lone: str = "raw", std: bool = True, outcome: str = "last"
) -> Recipe:
    """Return A = (z(sum of turn scores) + z(discounted return-to-go at the same turn index)) / 2.

    Both z over the group, sample std + 1e-6; the second over the members that have the turn. lone "raw": a member
    that alone has a turn keeps its raw return, as released; "zero": it gets 0. outcome "last" adds the outcome to the
    last turn's score; "none" leaves it out.

    Source: "MatchTIR: Fine-Grained Supervision for Tool-Integrated Reasoning via Bipartite Matching" (arXiv
    2601.10712). Evidence: read in released code (discount .9 and the mean are the code's; the paper's combination is
    not confirmed). Deviation: none with lone = "raw".
    """
    within("discount", discount, 0.0, 1.0)
    one_of("lone", lone, ("raw", "zero"))
    one_of("outcome", outcome, ("last", "none"))
    rule = "raw" if lone == "raw" else "zero"
    spread = "std" if std else "none"
    blocks: tuple[Block, ...] = (
        Normalise("trajectory", "group", "mean", spread, singleton=rule),
        Weight("trajectory", 0.5),
        Accumulate(discount),
        Normalise("turn", "turn", "mean", spread, singleton=rule),
        Weight("turn", 0.5),
    )
    prepare: tuple[Prepare, ...] = (*((OutcomeAtLast(),) if outcome == "last" else ()), SumTurns())
    cautions = (*((GROUP_STD_CAUTION.format("matchtir"),) if std else ()), *((GAMMA_CAUTION,) if discount < 1 else ()))
    return Recipe("matchtir", ("trajectory", "turn"), blocks, _ALIVE, prepare, cautions=cautions)


def cm2(
    config: CreditConfig, *, form: str = "trajectory", reference_turns: int = 0, min_count: int = 5, factor: float = 1.0
) -> Recipe:
    """Return checklist scores centred on the group, without a std.

    form "trajectory": sum of the turn scores / number of reference turns; "turn": each turn's score against the
    members that have the same turn, 0 where fewer than `min_count` have it; "step": item by item,
    A = sum over eligible items of w (met - share of members that ever meet it) / sum of their w, from the extras
    items, eligible ([B, K, C]) and item_weights ([C]). All divided by `factor`.

    Source: "CM2: Reinforcement Learning with Checklist Rewards for Multi-Turn and Multi-Step Agentic Tool Use"
    (2026). Evidence: read in the paper and in released code. Deviation: the number of reference turns is an option,
    the extra reference_turns, or the most turns of the group.
    """
    one_of("form", form, ("trajectory", "turn", "step"))
    if reference_turns < 0 or min_count < 1 or not factor > 0:
        raise ConfigError("credit.options: reference_turns >= 0, min_count >= 1 and factor > 0 are needed")
    scale = (Weight("turn" if form != "trajectory" else "trajectory", 1.0 / factor),) if factor != 1.0 else ()
    if form == "trajectory":
        blocks: tuple[Block, ...] = (Normalise("trajectory"), *scale)
        claim = (
            "(G - 1) / G times the gradient of E[sum of turn scores / reference turns], if that number is fixed by "
            "the task; with the episode's own number of turns it would be the mean score per turn."
        )
        needs = ("reference_turns",) if not reference_turns else ()
        return Recipe("cm2", ("trajectory",), blocks, claim, (MeanTurns(reference_turns),), needs=needs)
    claim = (
        "BIASED: each turn sees its own score alone, so a turn that opens the way to later scores gets no credit for "
        "them; late turns are shrunk by an alive-only baseline."
    )
    if form == "turn":
        return Recipe("cm2", ("turn",), (Normalise("turn", "turn", min_count=min_count), *scale), claim)
    return Recipe("cm2", ("turn",), (Items(), *scale), claim, needs=("items", "eligible", "item_weights"))


@dataclass(frozen=True, slots=True)
class Items:
    """Item-wise credit of a step: each eligible item against the share of members that ever meet it."""

    level: str = "turn"

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level with item-wise values in place of the turn scores."""
        live = arrays.turn_mask[:, :, None]
        met = np.where(live, np.asarray(arrays.extra("items"), np.float64), 0.0)
        eligible = live & np.asarray(arrays.extra("eligible"), bool)
        weights = np.asarray(arrays.extra("item_weights"), np.float64)
        ever = (met * eligible).max(1, initial=0.0)
        counted = arrays.in_statistics[:, None]
        share = arrays.group_sum(ever * counted) / np.maximum(arrays.group_sum(counted.astype(np.float64)), 1.0)
        weighed = np.where(eligible, weights, 0.0)
        total = weighed.sum(2)
        values = np.divide((weighed * (met - share[:, None, :])).sum(2), total, out=np.zeros_like(total), where=total > 0)
        return replace(x, values=values)

    def describe(self) -> str:
        """Say the formula."""
        return (
            "items: the weighted mean over the items eligible at this step of (met here or later) minus the share of "
            "the group's members that ever meet the item, itself included"
        )


def gigpo(
    config: CreditConfig, *, gamma: float = 0.95, omega: float = 1.0, form: str = "mean", over: str = "trajectories",
    baseline: str = "mean",
) -> Recipe:  # fmt: skip
    """Return A = A_E + omega A_S: the total against the group, and the return-to-go against turns in the same state.

    The outcome counts as part of the last turn's score. A state is an observation that occurs in several turns of the
    group (extra "state"). form "mean": centre only; "mean_std": z-scores. over "trajectories" or "rows": whether the
    mean of A_E counts each episode once or each of its turns. baseline "loo": the other episodes only, at both levels;
    a lone turn keeps its raw return.

    Source: "Group-in-Group Policy Optimization for LLM Agent Training" (arXiv 2505.10978). Evidence: read in a fork
    of its code; omega = 1 and gamma = .95 from own knowledge. Deviation: baseline "loo" is ours.
    """
    within("gamma", gamma, 0.0, 1.0)
    within("omega", omega, 0.0, 1e9)
    one_of("form", form, ("mean", "mean_std"))
    one_of("over", over, ("trajectories", "rows"))
    one_of("baseline", baseline, ("mean", "loo"))
    spread = "std" if form == "mean_std" else "none"
    if baseline == "loo":
        if form != "mean" or over != "trajectories":
            raise ConfigError("credit.options.baseline: 'loo' goes with form = 'mean' and over = 'trajectories' only")
        episode: tuple[Block, ...] = (Normalise("trajectory", "group", "loo"),)
        step = Normalise("turn", "state", "loo_episode", singleton="raw")
    else:
        rows = (OverTurns("trajectory"),) if over == "rows" else ()
        episode = (*rows, Normalise("trajectory", "group", "mean", spread))
        step = Normalise("turn", "state", "mean", spread)
    blocks = (*episode, Accumulate(gamma), step, Weight("turn", omega))
    if baseline == "loo":
        claim = f"exactly E of the sum over turns of score function x (total + {omega:g} return-to-go)"
        claim += (
            f": the gradient of {1 + omega:g} E[total]." if gamma == 1.0
            else f", the returns discounted by {gamma:g}, which is no objective's gradient: BIASED."
        )  # fmt: skip
    else:
        claim = "BIASED: a state met n times keeps the share 1 - E[1/n] of its credit, so rare states are shrunk."
    cautions = (
        *((GROUP_STD_CAUTION.format("gigpo"),) if spread == "std" else ()), *((GAMMA_CAUTION,) if gamma < 1 else ())
    )  # fmt: skip
    prepare = (OutcomeAtLast(), SumTurns())
    return Recipe("gigpo", ("trajectory", "turn"), blocks, claim, prepare, needs=("state",), cautions=cautions)


def empg(config: CreditConfig, *, k: float = 1.0, k_next: float = 1.0, zeta: float = 0.05) -> Recipe:
    """Return A_k = z(outcome) g_k + zeta f_{k+1}, minus its mean over the batch's turns.

    H is a turn's mean token entropy (extra "entropy"), moved to [0, 1] over the batch; g = exp(-k H) / its batch mean,
    f = exp(-k_next H); the last turn has no bonus.

    Source: "Harnessing Uncertainty: Entropy-Modulated Policy Gradients for Long-Horizon LLM Agents" (arXiv
    2509.09265). Evidence: from a summary and one public re-implementation; zeta = .05 and centring over turns (not
    tokens) are not confirmed. Deviation: none known.
    """
    within("k", k, 0.0, 1e3)
    within("k_next", k_next, 0.0, 1e3)
    within("zeta", zeta, -1e3, 1e3)
    claim = f"{BIASED_GROUP} Turns are reweighed by their own entropy, and a bonus pays for sure next turns."
    modulate = (ByEntropy(k, k_next, zeta), CentreBatch())
    cautions = (GROUP_STD_CAUTION.format("empg"),)
    return Recipe(
        "empg", ("trajectory",), (z_score(),), claim, modulate=modulate, needs=("entropy",), cautions=cautions
    )  # fmt: skip
