"""Recipes that mix a component of partial merit into the outcome: E-GRPO, C-GRPO, and the schedules of two others."""

from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import CreditArrays
from agentgym.credit.outcome import OVERLONG_CAUTION, overlong, z_score
from agentgym.credit.recipe import BIASED_GROUP, GROUP_STD_CAUTION, Prepare, Recipe
from agentgym.credit.scales import CreditConfig, Scales, one_of, within
from agentgym.credit.shape import Mix, Replace, flag, score_name, trust

_SIBLINGS = " The mixed outcome itself depends on siblings (division by the group's greatest)."


def e_grpo(
    config: CreditConfig, *, component: str = "entity_match", alpha: float = 0.3, drop_overlong: bool = False
) -> Recipe:
    """Return GRPO on R = 1 if right, alpha * entity rate / its greatest in the group if wrong, 0 for format errors.

    Reads the component's raw trajectory scores, and the flags correct, format_error and overlong.

    Source: "Repurposing Synthetic Data for Fine-grained Search Agent Supervision" (arXiv 2510.24694). Evidence: read
    in the paper. Deviation: over-long episodes get 0 and stay in the loss; the paper's way is `drop_overlong`.
    """
    within("alpha", alpha, 0.0, 1.0)
    prepare: tuple[Prepare, ...] = (
        Mix(component, alpha, "incorrect", group_max=True),
        Replace("format_error"),
        *overlong(drop_overlong),
    )
    cautions = (GROUP_STD_CAUTION.format("e_grpo"), *((OVERLONG_CAUTION,) if drop_overlong else ()))
    needs = ("correct", "format_error", "overlong", score_name(component))
    claim = BIASED_GROUP + _SIBLINGS
    return Recipe("e_grpo", ("trajectory",), (z_score(),), claim, prepare, needs=needs, cautions=cautions)


def c_grpo(
    config: CreditConfig, *, component: str = "citation_rubric", alpha: float = 0.3, form: str = "paper"
) -> Recipe:
    """Return GRPO on R = (1 - alpha) R_o + alpha R_o R_r, R_r the rubric's score.

    form "paper": R_r is divided by its greatest in the group; "released": it is not (the released configuration asks
    for the division, and its branch for right answers leaves it out).

    Source: "Chaining the Evidence: Robust Reinforcement Learning for Deep Search Agents with Citation-Aware Rubric
    Rewards" (arXiv 2601.06021). Evidence: released form read in code, paper's form from own knowledge.
    Deviation: none known.
    """
    within("alpha", alpha, 0.0, 1.0)
    one_of("form", form, ("paper", "released"))
    prepare = (Mix(component, alpha, "correct", group_max=form == "paper"),)
    claim = BIASED_GROUP + (_SIBLINGS if form == "paper" else "")
    return Recipe(
        "c_grpo",
        ("trajectory",),
        (z_score(),),
        claim,
        prepare,
        needs=("correct", score_name(component)),
        cautions=(GROUP_STD_CAUTION.format("c_grpo"),),
    )


@dataclass(frozen=True, slots=True)
class Trust:
    """A thinking score joins the outcome, as far as the group may trust it, and less from step to step."""

    component: str
    alpha: float
    horizon: float

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with outcome + gamma alpha exp(-step / horizon) score."""
        bonus = np.asarray(arrays.extra(score_name(self.component)), np.float64)
        decay = self.alpha * np.exp(-scales.n_steps / self.horizon)
        return arrays.but(outcome=arrays.outcome + trust(arrays.outcome, bonus, arrays) * decay * bonus)

    def describe(self) -> str:
        """Say the formula."""
        return (
            f"outcome := outcome + gamma {self.alpha:g} exp(-step / {self.horizon:g}) {self.component}; gamma = 1 if the "
            "group's right answers have on average at least the score of its wrong ones, else exp(their difference)"
        )


@dataclass(frozen=True, slots=True)
class Anneal:
    """A process score and the outcome, the first with a weight that falls to 0."""

    component: str
    weight: float
    n_steps: int

    def apply(self, arrays: CreditArrays, scales: Scales) -> CreditArrays:
        """Return the arrays with w * score + (1 - w) * outcome, -1 where the format is wrong."""
        bonus = np.asarray(arrays.extra(score_name(self.component)), np.float64)
        w = self.weight * max(0.0, 1.0 - scales.n_steps / self.n_steps)
        mixed = w * bonus + (1.0 - w) * arrays.outcome
        return arrays.but(outcome=np.where(flag(arrays, "format_error"), -1.0, mixed))

    def describe(self) -> str:
        """Say the formula."""
        return (
            f"outcome := w {self.component} + (1 - w) outcome with w = {self.weight:g} (1 - step / {self.n_steps}), "
            "at least 0; -1 where format_error is set"
        )


def trust_grpo(
    config: CreditConfig, *, component: str = "atomic_thought", alpha: float = 0.3, horizon: float = 500.0
) -> Recipe:
    """Return GRPO on R = R_o + gamma alpha exp(-step / T) R_t, R_t a score of the thinking, gamma its trust weight.

    gamma compares the mean R_t of right (R_o at least one half) and wrong answers of the group: 1 if right ones have
    at least as much, else exp(difference).

    Source: "SophiaVL-R1: Reinforcing MLLMs Reasoning with Thinking Reward" (2025). Evidence: read in the paper and in
    released code, which differ: T = 500 is the code's, the total number of steps the paper's. Deviation: a group of
    right (or wrong) answers only has gamma = 1, undefined in the paper; the code's skips are left out.
    """
    within("alpha", alpha, 0.0, 100.0)
    within("horizon", horizon, 1e-9, 1e12)
    return Recipe(
        "trust_grpo",
        ("trajectory",),
        (z_score(),),
        BIASED_GROUP + " The trust weight depends on siblings.",
        (Trust(component, alpha, horizon),),
        needs=(score_name(component),),
        remembers=("steps",),
        cautions=(GROUP_STD_CAUTION.format("trust_grpo"),),
    )


def atom_searcher(
    config: CreditConfig, *, component: str = "atomic_thought", weight: float = 0.5, n_steps: int = 200
) -> Recipe:
    """Return GRPO on R = w R_atom + (1 - w) R_o if the format is right, else -1; w = weight (1 - step / n_steps).

    Source: "Atom-Searcher: Enhancing Agentic Deep Research via Fine-Grained Atomic Thought Reward" (arXiv
    2508.12800). Evidence: from own knowledge; the constant .5 and the aggregation over thoughts are not confirmed.
    Deviation: the outcome is whatever the suite's trajectory scope says.
    """
    within("weight", weight, 0.0, 1.0)
    within("n_steps", n_steps, 1, 10**9)
    return Recipe(
        "atom_searcher",
        ("trajectory",),
        (z_score(),),
        BIASED_GROUP + " The objective changes from step to step.",
        (Anneal(component, weight, n_steps),),
        needs=("format_error", score_name(component)),
        remembers=("steps",),
        cautions=(GROUP_STD_CAUTION.format("atom_searcher"),),
    )
