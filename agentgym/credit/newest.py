"""Recipes of 2026, read in abstracts and, where some is public, in released code: each says what it takes from where.

None of them is confirmed against a paper's equations; do not cite them as reproductions.
"""

from dataclasses import dataclass, replace

import numpy as np

from agentgym.credit.arrays import CreditArrays, Floats
from agentgym.credit.blocks import Accumulate, Centre, Level, Weight
from agentgym.credit.normalise import Normalise
from agentgym.credit.outcome import z_score
from agentgym.credit.placing import WithoutLast
from agentgym.credit.recipe import GAMMA_CAUTION, GROUP_STD_CAUTION, Prepare, Recipe
from agentgym.credit.scales import CreditConfig, Scales, one_of, within
from agentgym.credit.shape import last_turn
from agentgym.errors import DataError


@dataclass(frozen=True, slots=True)
class Potential:
    """Turn scores become differences of a potential: alpha (gamma Phi_{k+1} - Phi_k)."""

    alpha: float = 1.0
    gamma: float = 1.0
    terminal: str = "keep"
    """"zero": the potential after the last turn counts as 0, as policy invariance needs; "keep": as it was measured."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new turn scores; without the extra "potential" the scores are the differences."""
        if "potential" not in arrays.extras:
            return arrays.but(turn_scores=self.alpha * np.where(arrays.turn_mask, arrays.turn_scores, 0.0))
        phi = np.asarray(arrays.extra("potential"), np.float64)
        n, k = arrays.turn_mask.shape
        if phi.shape != (n, k + 1):
            raise DataError(f"credit: extras['potential'] has shape {phi.shape}; one more than the turns, {(n, k + 1)}")
        after = np.where(last_turn(arrays.turn_mask), 0.0, phi[:, 1:]) if self.terminal == "zero" else phi[:, 1:]
        gain = self.alpha * (self.gamma * after - phi[:, :-1])
        return arrays.but(turn_scores=np.where(arrays.turn_mask, gain, 0.0))

    def describe(self) -> str:
        """Say the formula."""
        end = "; after the last turn it counts as 0" if self.terminal == "zero" else ""
        return (
            f"turn score := {self.alpha:g} ({self.gamma:g} potential after the turn - potential before it){end} (without "
            f"potentials: {self.alpha:g} times the turn score, which then is that difference)"
        )


@dataclass(frozen=True, slots=True)
class Modes:
    """A potential from the siblings' own answers: how much support reliable answer modes have."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with "potential" = sum over modes of reliability * support ([B, K+1, M], [B, M])."""
        support = np.asarray(arrays.extra("mode_support"), np.float64)
        reliability = np.asarray(arrays.extra("mode_reliability"), np.float64)
        potential: Floats = np.einsum("bkm,bm->bk", support, reliability)
        return arrays.but(extras={**arrays.extras, "potential": potential})

    def describe(self) -> str:
        """Say the formula."""
        return "potential := sum over the modes of the group's answers of reliability x support before each turn"


@dataclass(frozen=True, slots=True)
class OverRootTerms:
    """Division of a sum over the remaining turns by the root of their number."""

    level: str = "turn"
    own_last: bool = False
    """The last turn is one of the terms."""

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level divided by sqrt(number of terms), at least 1."""
        left = arrays.turn_mask.sum(1)[:, None] - np.arange(arrays.turn_mask.shape[1]) - (not self.own_last)
        return replace(x, values=x.values / np.sqrt(np.maximum(left, 1.0)))

    def describe(self) -> str:
        """Say so."""
        return "divide by the root of the number of terms that were summed"


def _shaped(
    name: str, prepare: tuple[Prepare, ...], gamma: float, claim: str, needs: tuple[str, ...] = (),
    *, invariant: bool = False, component: str = "",
) -> Recipe:  # fmt: skip
    """Return zero-counted leave-one-out on turn scores and outcome, without scales."""
    blocks = (Accumulate(gamma), Centre("turn", "loo"), Centre("trajectory", "loo"))
    discounted = gamma < 1.0 and not invariant
    needs = (*needs, f"potential:{component}") if component else needs
    cautions = (GAMMA_CAUTION,) if discounted else ()
    if discounted:
        claim = f"BIASED: with gamma = {gamma:g} no objective's gradient. With gamma = 1: {claim}"
    return Recipe(name, ("turn", "trajectory"), blocks, claim, prepare, needs=needs, cautions=cautions)


def tips(
    config: CreditConfig, *, alpha: float = 1.0, gamma: float = 1.0, terminal: str = "zero", component: str = ""
) -> Recipe:
    """Return outcome plus potential-based shaping by a teacher's log-likelihood of the gold answer.

    r_k = alpha (gamma Phi_{k+1} - Phi_k); potentials in the extra "potential" ([B, K+1]), or as the probing `component`
    (step_potential) measured them; without either the turn scores are the differences (component information_gain_log).

    Source: "TIPS: Turn-level Information-Potential Reward Shaping for Search-Augmented LLMs" (arXiv 2603.22293).
    Evidence: abstract, and released code, which has Phi = log of the sum over gold answers of exp(mean log-probability),
    alpha = .02, and nothing taken back at the end: that is alpha = 0.02 with terminal = "keep", which adds .02 E[last
    potential] to the objective. Deviation: terminal = "zero", which the claimed invariance needs, is the default here;
    the paper trains with PPO and a critic, the baseline here is the leave-one-out mean.
    """
    within("alpha", alpha, 0.0, 1e6)
    within("gamma", gamma, 0.0, 1.0)
    one_of("terminal", terminal, ("keep", "zero"))
    prepare = (Potential(alpha, gamma, terminal),)
    if terminal == "zero":
        claim = "exactly the gradient of E[outcome] where potentials are given, for any gamma (policy invariance)."
        return _shaped("tips", prepare, gamma, claim, invariant=True, component=component)
    claim = f"exactly the gradient of E[outcome] + {alpha:g} E[last potential]."
    return _shaped("tips", prepare, gamma, claim, component=component)


def pica(config: CreditConfig, *, gamma: float = 1.0, component: str = "") -> Recipe:
    """Return outcome plus differences of the probability of success given the history so far.

    The probabilities are the extra "potential" ([B, K+1]), or what the probing `component` (step_potential) measured;
    without either the turn scores are the differences.

    Source: "PiCA: Pivot-Based Credit Assignment for Search Agentic Reinforcement Learning" (arXiv 2605.09287).
    Evidence: abstract; how the probability is estimated from pivots (golden sub-queries and sub-answers) is NOT
    CONFIRMED. Released code pays .6 (1/2 - m_k) for search k, m_k the output of a process model, less .3 x 1.5^(k - 2)
    from the fourth search on, and no difference of two states. Deviation: leave-one-out on both levels is ours.
    """
    within("gamma", gamma, 0.0, 1.0)
    claim = "exactly the gradient of E[outcome] + E[potential after the last turn]."
    return _shaped("pica", (Potential(1.0, gamma, "keep"),), gamma, claim, component=component)


def siop(config: CreditConfig, *, gamma: float = 1.0) -> Recipe:
    """Return differences of the support for reliable modes of the siblings' answers, without gold.

    Reads the extras mode_support ([B, K+1, M]: probability of each mode before each turn and after the last) and
    mode_reliability ([B, M]). The outcome enters as given; leave it 0 for training without gold.

    Source: "Self-Induced Outcome Potential: Turn-Level Credit Assignment for Agents without Verifiers" (arXiv
    2605.04984). Evidence: abstract, and released code, where each episode has one mode, that of its own answer: support
    log p, p the mean probability of up to 3 answers of the mode; reliability q, its share of the group's answers times
    exp(mean entailment by what was retrieved), normalised; and (1 - .5) q added to the last turn. That is M = 1 with
    outcome = q / 2. How advantages are formed is NOT CONFIRMED. Deviation: several modes at once, weighted.
    """
    within("gamma", gamma, 0.0, 1.0)
    claim = (
        "BIASED: the modes come from the group's own answers, so each episode moves its own target; for given modes "
        "the gradient of E[outcome] + E[support after the last turn]."
    )
    needs = ("mode_support", "mode_reliability")
    return _shaped("siop", (Modes(), Potential(1.0, gamma, "keep")), gamma, claim, needs)


def slate(config: CreditConfig, *, std: bool = True) -> Recipe:
    """Return each step's score against those of other continuations of the same prefix, at that step only.

    The rows of a group are continuations that branch at one turn (extra "state" tells prefixes apart); a turn without
    another continuation gets 0.

    Source: "Truncated Step-Level Sampling with Process Rewards for Retrieval-Augmented Reasoning" (arXiv 2602.23440).
    Evidence: abstract, and released code: sample std + 1e-6 over 5 candidates of a step; a judge gives -1, 0 or 1 to
    thought, query and answer, an answer earns .1 times the share of searches left, and the candidate that is continued
    is drawn by softmax(advantage / .7). Deviation: which candidate is continued belongs to the rollouts (`[branch]`).
    """
    claim = (
        "BIASED: the step's own score alone, nothing of what it opens the way to"
        + ("; divided by the std of its siblings." if std else ".")
    )  # fmt: skip
    blocks = (Normalise("turn", "state", "mean", "std" if std else "none"),)
    cautions = (GROUP_STD_CAUTION.format("slate"),) if std else ()
    return Recipe("slate", ("turn",), blocks, claim, needs=("state",), cautions=cautions)


def a2tgpo(config: CreditConfig, *, gamma: float = 1.0, weight: float = 1.0) -> Recipe:
    """Return z(outcome) + weight * (sum over later turns of gamma^(j-k) z_j) / sqrt(number of terms).

    z_j is the information gain's z-score at the same turn index of the group; the last turn, which answers, has none.

    Source: "A2TGPO: Agentic Turn-Group Policy Optimization with Adaptive Turn-level Clipping" (arXiv 2605.06200).
    Evidence: abstract only (no code was found); how the outcome joins is NOT CONFIRMED. Deviation: its clipping range
    by turn, wider where a turn informs more, belongs to the loss and is left out.
    """
    within("gamma", gamma, 0.0, 1.0)
    within("weight", weight, 0.0, 1e6)
    turn = (
        WithoutLast("turn"),
        Normalise("turn", "turn", "mean", "std"),
        WithoutLast("turn", back=True),
        Accumulate(gamma),
        OverRootTerms(),
        Weight("turn", weight),
    )
    claim = (
        "BIASED: no objective's gradient. Every turn is charged the mean of its index before the sum, divided by that "
        "index's std, and weighed by how many turns follow."
    )
    cautions = (GROUP_STD_CAUTION.format("a2tgpo"), *((GAMMA_CAUTION,) if gamma < 1.0 else ()))
    return Recipe("a2tgpo", ("turn", "trajectory"), (*turn, z_score()), claim, cautions=cautions)
