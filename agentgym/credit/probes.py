"""Recipes on probes of an episode's middle: step potentials, and what of a good chain of thought has become likely."""

from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.modulate import Whiten, live_minmax, modulate
from agentgym.credit.normalise import Normalise
from agentgym.credit.outcome import z_score
from agentgym.credit.partition import part_greatest
from agentgym.credit.recipe import BIASED_GROUP, GROUP_STD_CAUTION, Recipe
from agentgym.credit.scales import CreditConfig, Scales, one_of, within
from agentgym.credit.shape import flag, is_correct, score_name


def step_potential(accuracy: Floats, confidence: Floats) -> Floats:
    """Return 1.5 acc conf + .5 acc - conf, in [-1, 1]: sure and wrong is -1, unsure and wrong 0, sure and right 1.

    Any shape; both in [0, 1].
    """
    return 1.5 * accuracy * confidence + 0.5 * accuracy - confidence


def suffix_gain(logprobs: Floats, masked: Floats) -> Floats:
    """Return the most that a prefix adds to the log-probability of any suffix of a good chain: [..., S] -> [...].

    Args:
        logprobs: [..., S] log-probability of each suffix of the chain after the question and the episode so far.
        masked: [..., S] the same with the episode masked out.
    """
    return (np.asarray(logprobs, np.float64) - masked).max(-1)


def rising_weights(live: Bools) -> Floats:
    """Return weights that rise along each row's turns as a sigmoid and sum to 1: [B, K], 0 outside `live`.

    sigmoid(8 (k / (n - 1) - 1/2)) for turn k of n, normalised. The shape is the paper's, its constants are ours.
    """
    n = live.sum(1, keepdims=True)
    place = np.arange(live.shape[1]) / np.maximum(n - 1, 1)
    weight = np.where(live, 1.0 / (1.0 + np.exp(-8.0 * (place - 0.5))), 0.0)
    return weight / np.maximum(weight.sum(1, keepdims=True), 1e-300)


@dataclass(frozen=True, slots=True)
class ByStepPotential:
    """Late turns of an answer that is already certain get less; turns that raise the step potential get a bonus."""

    alpha: float
    xi: float
    saturated: float

    def apply(self, advantages: Floats, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return A f + xi g with the step potential of each turn."""
        live = arrays.turn_mask
        accuracy, confidence = (np.asarray(arrays.extra(n), np.float64) for n in ("accuracy", "confidence"))
        phi = np.where(live, step_potential(accuracy, confidence), 0.0)
        before = np.cumsum(phi > self.saturated, axis=1) - (phi > self.saturated)
        factor = 1.0 - self.alpha * (1.0 - np.exp(-before))
        rise = np.zeros_like(phi)
        rise[:, 1:] = phi[:, 1:] - phi[:, :-1]
        counted = live & arrays.in_statistics[:, None]
        grown = np.exp(live_minmax(rise, counted))
        bonus = grown - (grown[counted].mean() if counted.any() else 0.0)
        return np.where(live, modulate(advantages, factor, self.xi * bonus), 0.0)

    def describe(self) -> str:
        """Say the formula."""
        return (
            "modulate: potential = 1.5 acc conf + .5 acc - conf of each step; multiply by 1 - "
            f"{self.alpha:g} (1 - exp(-earlier steps above {self.saturated:g})), add {self.xi:g} (exp(rise of the potential, moved "
            "to [0, 1] over the batch) - its mean over the batch)"
        )


@dataclass(frozen=True, slots=True)
class OutcomeIfAny:
    """The outcome in groups with a right answer, a process score in others, -1 for format errors."""

    component: str
    by_suffix: bool = False
    """The process score is the weighted mean of the extra "suffix_gain", one number per turn."""

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with the new outcome."""
        right = (is_correct(arrays) & arrays.in_statistics).astype(np.float64)[:, None]
        any_right = part_greatest(right, np.ones_like(right, bool), arrays.group[:, None], arrays.n_groups)[arrays.group]
        if self.by_suffix:
            gains = np.where(arrays.turn_mask, np.asarray(arrays.extra("suffix_gain"), np.float64), 0.0)
            process = (rising_weights(arrays.turn_mask) * gains).sum(1)
        else:
            process = np.asarray(arrays.extra(score_name(self.component)), np.float64)
        outcome = np.where(any_right > 0, arrays.outcome, process)
        return arrays.but(outcome=np.where(flag(arrays, "format_error"), -1.0, outcome))

    def describe(self) -> str:
        """Say the rule."""
        what = "the mean of suffix_gain over the turns, weights rising as a sigmoid" if self.by_suffix else self.component
        return f"outcome := outcome if the group has a right answer, else {what}; -1 where format_error is set"


def spae(
    config: CreditConfig, *, alpha: float = 0.5, xi: float = 0.5, saturated: float = 0.9, component: str = ""
) -> Recipe:
    """Return (O - group mean) f + xi g, whitened over the batch's turns; f and g from the step potential.

    Reads the extras accuracy and confidence ([B, K]) of a probe at the end of each step: accuracy the mean probability
    of the right answer's tokens, confidence exp(-mean entropy of the answer's tokens). With `component` (step_potential,
    weight 0 will do) training takes them from what that component measured.

    Source: "Step Potential Advantage Estimation: Harnessing Intermediate Confidence and Correctness for Efficient
    Mathematical Reasoning" (arXiv 2601.03823). Evidence: both signals from a public review of the paper; the potential
    read in released code, the saturation threshold in training not confirmed. Deviation: none in the recipe;
    step_potential takes entropies along the right answer where the paper samples five continuations.
    """
    within("alpha", alpha, 0.0, 1.0)
    within("xi", xi, 0.0, 1e3)
    claim = "BIASED: a turn's weight depends on its own probe, a bonus is paid for its rise, and the batch's std divides."
    steps = (ByStepPotential(alpha, xi, saturated), Whiten())
    needs = (f"probe:{component}",) if component else ("accuracy", "confidence")
    return Recipe("spae", ("trajectory",), (Normalise("trajectory"),), claim, modulate=steps, needs=needs)


def p2s(config: CreditConfig, *, form: str = "component", component: str = "self_aligned") -> Recipe:
    """Return GRPO on the outcome in groups with a right answer, else on a process score; -1 for format errors.

    form "component": the process score is a component's. "suffix": the mean over the turns, with weights that rise as
    a sigmoid, of the extra suffix_gain ([B, K]): for every turn but the last the most that the episode so far adds to
    the log-probability of any suffix of the best self-made chain (`suffix_gain`), for the last the log-probability of
    the right answer.

    Source: P2S (arXiv 2601.20649). Evidence: from a summary; the constants of the weights are not confirmed.
    Deviation: parts are turns, where the paper cuts an episode into equal parts.
    """
    one_of("form", form, ("component", "suffix"))
    claim = f"{BIASED_GROUP} What is scored depends on siblings."
    by_suffix = form == "suffix"
    needs = ("correct", "format_error", "suffix_gain" if by_suffix else score_name(component))
    cautions = (GROUP_STD_CAUTION.format("p2s"),)
    prepare = (OutcomeIfAny(component, by_suffix),)
    return Recipe("p2s", ("trajectory",), (z_score(),), claim, prepare, needs=needs, cautions=cautions)
