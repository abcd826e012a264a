"""Recipes on one score per trajectory: Dr. GRPO, RLOO, dynamic sampling, filters, and corrections of noisy verifiers.

All read trajectory-scope scores only; with the option `total` the turn scores are added to them.
"""

from agentgym.credit.blocks import Block, Centre
from agentgym.credit.normalise import Normalise
from agentgym.credit.recipe import BIASED_GROUP, GROUP_STD_CAUTION, Prepare, Recipe
from agentgym.credit.scales import CreditConfig, one_of, within
from agentgym.credit.select import ConsistentRows, MixedGroups, SpreadGroups
from agentgym.credit.shape import Affine, Mix, Replace, SumTurns
from agentgym.errors import ConfigError


def z_score(level: str = "trajectory", eps: float = 1e-6) -> Normalise:
    """Return the group's z-score with a sample std: what most recipes of the field end in."""
    return Normalise(level, "group", "mean", "std", eps=eps)


def added(total: bool) -> tuple[Prepare, ...]:
    """Return the step that adds the turn scores to the outcome, if asked for."""
    return (SumTurns(keep_outcome=True),) if total else ()


def dr_grpo(config: CreditConfig, *, total: bool = False) -> Recipe:
    """Return A = R - mean of the group, itself included.

    Source: "Understanding R1-Zero-Like Training" (Liu et al. 2025). Evidence: read in released code.
    Deviation: a lone member gets 0; the constant denominator of its loss is the learner's default.
    """
    what = "E[outcome + sum of turn scores]" if total else "E[outcome]"
    claim = f"(G - 1) / G times the gradient of {what}, G the members of the group in the statistics."
    return Recipe("dr_grpo", ("trajectory",), (Centre("trajectory", "mean"),), claim, added(total))


def rloo(config: CreditConfig, *, total: bool = False) -> Recipe:
    """Return A = R - mean of the other members.

    Source: "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (Kool et al. 2019). Evidence: read in released code.
    Deviation: a lone member gets 0, not its raw value.
    """
    what = "E[outcome + sum of turn scores]" if total else "E[outcome]"
    return Recipe(
        "rloo", ("trajectory",), (Centre("trajectory", "loo"),), f"exactly the gradient of {what}.", added(total)
    )


def dapo(config: CreditConfig, *, total: bool = False, least: float = 0.0, most: float = 1.0) -> Recipe:
    """Return GRPO on the groups that have both right and wrong answers.

    Source: "DAPO: An Open-Source LLM Reinforcement Learning System at Scale" (Yu et al. 2025). Evidence: read in
    released code. Deviation: groups are dropped, not sampled anew; its loss and penalties belong to the learner.
    """
    within("least", least, 0.0, 1.0)
    within("most", most, least, 1.0)
    blocks: tuple[Block, ...] = (z_score(),)
    claim = f"{BIASED_GROUP} The loss divides by the episodes that remain: the fewer groups are mixed, the more each weighs."
    prepare = (*added(total), MixedGroups(least, most))
    return Recipe("dapo", ("trajectory",), blocks, claim, prepare, cautions=(GROUP_STD_CAUTION.format("dapo"),))


def rlpr(
    config: CreditConfig, *, component: str = "", alpha: float = 0.9, beta: float = 0.5, first_step: int = 6
) -> Recipe:
    """Return GRPO on groups whose outcomes vary: std >= beta * running mean of the groups' std.

    With a `component` (such as reference_probability) the outcome becomes alpha * component + (1 - alpha) * outcome,
    where the outcome should then be the format score: R = .9 max(0, p - p_0) + .1 format.

    Source: "RLPR: Extrapolating RLVR to General Domains without Verifiers" (arXiv 2506.18254). Evidence: read in
    released code. Deviation: the running mean starts at the first step's value.
    """
    within("alpha", alpha, 0.0, 1.0)
    within("beta", beta, 0.0, 100.0)
    prepare: list[Prepare] = [Mix(component, alpha)] if component else []
    prepare.append(SpreadGroups(beta, first_step))
    claim = f"{BIASED_GROUP} Which groups are left, and so the denominator, depends on what was sampled in them."
    return Recipe(
        "rlpr",
        ("trajectory",),
        (z_score(),),
        claim,
        tuple(prepare),
        needs=(f"score:{component}",) if component else (),
        remembers=("steps", "spread"),
        cautions=(GROUP_STD_CAUTION.format("rlpr"),),
    )


def prof(config: CreditConfig, *, keep: int = 4, filter_correct: bool = False) -> Recipe:
    """Return GRPO on the rows of each group whose process scores agree most with their outcomes.

    Of n rows `keep` stay: the right ones with the highest mean turn score, the wrong ones with the lowest (in the
    order of rows with `filter_correct`), n_right = clip(keep // 2, keep - wrong, right).

    Source: PROF, a process consistency filter (arXiv 2509.03403).
    Evidence: read in the paper's own summary; the integer split and filtering before normalising are not confirmed.
    Deviation: "at random" is the order of the rows, which are exchangeable.
    """
    if keep < 2:
        raise ConfigError(f"credit.options.keep: {keep} is not an integer >= 2")
    claim = "BIASED: rows are selected by what was sampled in them, and divided by the std of those that stay."
    prepare = (ConsistentRows(keep, filter_correct),)
    return Recipe(
        "prof", ("trajectory",), (z_score(),), claim, prepare, cautions=(GROUP_STD_CAUTION.format("prof"),)
    )


def noisy_backward(
    config: CreditConfig, *, rho0: float = 0.0, rho1: float = 0.0, baseline: str = "loo", std: bool = False
) -> Recipe:
    """Return A = R^ - baseline with R^ = (R - rho0) / (1 - rho0 - rho1), which is unbiased for the true outcome.

    rho0 is the probability that a wrong answer is accepted, rho1 that a right one is refused.

    Source: "Reinforcement Learning with Verifiable yet Noisy Rewards" (arXiv 2510.00915).
    Evidence: algebra derived here, definitions from a summary; how it enters GRPO is not confirmed.
    Deviation: centred by leave-one-out, because a z-score would cancel the correction (`std`).
    """
    _noise(rho0, rho1)
    one_of("baseline", baseline, ("loo", "mean"))
    why = "unbiased for the true outcome"
    prepare = (Affine(1.0 / (1.0 - rho0 - rho1), rho0, why),)
    if std:
        caution = (
            "credit.recipe = 'noisy_backward' with std = true: the group's z-score cancels the correction, which is "
            "an affine map of the outcome."
        )
        claim = f"{BIASED_GROUP} The correction has no effect."
        return Recipe("noisy_backward", ("trajectory",), (z_score(),), claim, prepare, cautions=(caution,))
    factor = "exactly" if baseline == "loo" else "(G - 1) / G times"
    claim = f"{factor} the gradient of E[true outcome], if rho0 and rho1 are the verifier's rates."
    blocks = (Centre("trajectory", "loo" if baseline == "loo" else "mean"),)
    return Recipe("noisy_backward", ("trajectory",), blocks, claim, prepare)


def noisy_forward(config: CreditConfig, *, rho0: float = 0.0, rho1: float = 0.0) -> Recipe:
    """Return A = rho1 where the answer was accepted, rho1 - 1 where it was refused: no baseline, no std.

    Source: "Reinforcement Learning with Verifiable yet Noisy Rewards" (arXiv 2510.00915).
    Evidence: algebra derived here, definitions from a summary. Deviation: none known. The size 1 - rho0 - rho1 of the
    gradient is left as it is; only rho1 is read.
    """
    _noise(rho0, rho1)
    prepare = (Affine(1.0, 1.0 - rho1, "the weight of the score function"),)
    claim = f"exactly 1 - rho0 - rho1 = {1 - rho0 - rho1:g} times the gradient of E[true outcome] (outcomes 0 or 1)."
    return Recipe("noisy_forward", ("trajectory",), (), claim, prepare)


def _noise(rho0: float, rho1: float) -> None:
    within("rho0", rho0, 0.0, 0.5)
    within("rho1", rho1, 0.0, 0.5)
    if rho0 + rho1 >= 1.0:
        raise ConfigError(f"credit.options: rho0 + rho1 = {rho0 + rho1:g} must stay below 1: such a verifier says nothing")


def overlong(drop: bool) -> tuple[Prepare, ...]:
    """Return the step for episodes over a limit: outcome 0, and out of the loss if asked for."""
    return (Replace("overlong", 0.0, in_loss=not drop),)


OVERLONG_CAUTION = (
    "credit.options.drop_overlong = true: leaving episodes that a limit cut out of the loss flips the sign of early "
    "decisions; let them stay and show the policy its turns left."
)
