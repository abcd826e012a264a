"""DRPO: right and wrong answers each normalised among themselves, as coefficients of mean log-probabilities."""

from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.partition import part_greatest
from agentgym.credit.recipe import Recipe
from agentgym.credit.scales import CreditConfig, Scales, within
from agentgym.credit.shape import is_correct


@dataclass(frozen=True, slots=True)
class Decoupled:
    """The outcome becomes the group's size times the coefficient of the episode's mean log-probability."""

    tau: float
    lam: float
    max_tokens: float

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new outcome; groups of right (or of wrong) answers only get 0."""
        right = is_correct(arrays) & arrays.in_statistics
        wrong = ~is_correct(arrays) & arrays.in_statistics
        share = np.asarray(arrays.extra("n_tokens"), np.float64) / self.max_tokens
        short = softmax((1.0 - share) / self.lam, right, arrays)
        likely = softmax(np.asarray(arrays.extra("mean_logprob"), np.float64) / self.tau, wrong, arrays)
        counts = arrays.group_sum(np.stack([right, wrong], axis=1).astype(np.float64))
        both = (counts > 0).all(1)
        return arrays.but(outcome=np.where(both, counts.sum(1) * (short - likely), 0.0))

    def describe(self) -> str:
        """Say the formula."""
        return (
            "outcome := group size x coefficient: right answers softmax((1 - tokens / "
            f"{self.max_tokens:g}) / {self.lam:g}) among the right, wrong ones -softmax(mean log-probability / {self.tau:g}) "
            "among the wrong; 0 in groups that lack either"
        )


def softmax(values: Floats, counted: Bools, arrays: CreditArrays) -> Floats:
    """Return exp(value) / sum over the counted rows of the group, 0 for rows that are not counted: [B] -> [B]."""
    top = part_greatest(values[:, None], counted[:, None], arrays.group[:, None], arrays.n_groups)[arrays.group]
    top = np.where(np.isfinite(top), top, 0.0)
    weight = np.where(counted, np.exp(np.where(counted, values - top, 0.0)), 0.0)
    total = arrays.group_sum(weight[:, None])[:, 0]
    return np.divide(weight, total, out=np.zeros_like(weight), where=total > 0)


def drpo(config: CreditConfig, *, tau: float = 10.0, lam: float = 0.1, max_tokens: int = 8192) -> Recipe:
    """Return group size x w_i for right answers, - group size x softmax(s_i / tau) for wrong ones, s the mean log-prob.

    w_i = softmax((1 - tokens / max_tokens) / lam) among the right answers: a long right answer never gets a negative
    coefficient. With loss.aggregation = "sequence_mean" the gradient at ratio 1 is that of its objective, mean over
    groups of sum w s - tau log mean exp(s / tau); groups that lack right or wrong answers count in the mean.

    Source: DRPO, decoupled reward policy optimization (arXiv 2510.04474). Evidence: read in released code (tau 10,
    lambda .1). Deviation: coefficients are those of the sampling weights, frozen over the updates of a batch; the
    squared-hinge KL penalty is left out (loss.kl_coef is there).
    """
    within("tau", tau, 1e-6, 1e6)
    within("lam", lam, 1e-6, 1e6)
    within("max_tokens", max_tokens, 1, 10**9)
    claim = (
        "BIASED: no expected reward's gradient, but that of an objective of its own: likelihood of right answers, short "
        "ones first, against a log-mean-exp over the likelihoods of wrong ones."
    )
    prepare = (Decoupled(tau, lam, float(max_tokens)),)
    return Recipe("drpo", ("trajectory",), (), claim, prepare, needs=("correct", "mean_logprob", "n_tokens"))
