"""Named recipes: ordered lists of blocks, and what the expectation of each is the gradient of."""

from agentgym import hooks
from agentgym.credit.blocks import Accumulate, Baseline, Block, Centre, Kind, Lone, Scale, Weight
from agentgym.credit.recipe import BIASED_GROUP, GAMMA_CAUTION, GROUP_STD_CAUTION, Prepare, Recipe
from agentgym.credit.scales import CreditConfig, one_of
from agentgym.credit.shape import SumTurns
from agentgym.types import Scope


def turn_grpo(config: CreditConfig, *, among: str = "all") -> Recipe:
    """Return the default: turn and trajectory scores, each centred on the siblings and divided by one scale.

    A_ik = turn_weight (X_ik - mean over the others of X_jk) / s_T + (O_i - mean over the others of O_j) / s_O with
    X_ik the return-to-go of turn k. among "all": an ended sibling counts as 0 at later turns; "alive": it does not
    count, and an episode that alone has a turn keeps its raw return there (only so is that form exact). With
    turn_weight = 0 the turn level is left out.

    Source: leave-one-out baseline of "Buy 4 REINFORCE Samples, Get a Baseline for Free!" (Kool et al. 2019), per turn
    and over zero-counted returns-to-go; the scales are ours. Evidence: derived and enumerated here.
    """
    one_of("among", among, ("all", "alive"))
    alive = among == "alive"
    levels: tuple[Scope, ...] = ("turn", "trajectory") if config.turn_weight else ("trajectory",)
    blocks: list[Block] = []
    for level in levels:
        baseline: Baseline = "mean" if config.scale == "group" else "loo"
        if level == "turn":
            blocks.append(Accumulate(config.gamma))
            blocks.append(Centre(level, baseline, "alive", "raw") if alive else Centre(level, baseline))
        else:
            blocks.append(Centre(level, baseline))
        blocks.append(_level_scale(level, config))
        if level == "turn":
            blocks.append(Weight(level, config.turn_weight))
    cautions: list[str] = []
    if config.scale == "group":
        cautions.append(GROUP_STD_CAUTION.format("turn_grpo' with scale = 'group"))
    if config.gamma < 1.0 and config.turn_weight:
        cautions.append(GAMMA_CAUTION)
    return Recipe("turn_grpo", levels, tuple(blocks), _claim(config, alive), cautions=tuple(cautions))


def grpo(config: CreditConfig, *, total: bool = False) -> Recipe:
    """Return (O - group mean) / (group std + 1e-6), sample std, on trajectory-scope scores only.

    With `total` the turn scores are added to the outcome first.

    Source: "DeepSeekMath: Pushing the Limits of Mathematical Reasoning in Open Language Models" (Shao et al. 2024),
    outcome supervision. Evidence: read in released code. Deviation: a group of equal outcomes and a lone member get 0.
    """
    prepare: tuple[Prepare, ...] = (SumTurns(keep_outcome=True),) if total else ()
    blocks: tuple[Block, ...] = (Centre("trajectory", "mean"), Scale("trajectory", "group", ddof=1))
    cautions = (GROUP_STD_CAUTION.format("grpo"),)
    return Recipe("grpo", ("trajectory",), blocks, BIASED_GROUP, prepare, cautions=cautions)


def per_index(config: CreditConfig) -> Recipe:
    """Return the counter-example: centre each turn index over the members that reach it, then accumulate. BIASED.

    Source: the construction of "Reinforcing Multi-Turn Reasoning in LLM Agents via Turn-Level Credit Assignment"
    (arXiv 2505.11821), carried to episodes of unequal length, which are not its setting as far as known.
    Evidence: derived and enumerated here.
    """
    return per_index_variant(config, "mean", "zero")


def per_index_variant(config: CreditConfig, baseline: Baseline, lone: Lone) -> Recipe:
    """Return `per_index` with another baseline or another rule for a turn that only one member reaches."""
    blocks: list[Block] = [Centre("turn", baseline, "alive", lone)]
    if config.scale == "group":
        blocks.append(Scale("turn", "index", ddof=1))
    blocks += [Accumulate(config.gamma), Weight("turn", config.turn_weight), Centre("trajectory", baseline)]
    if config.scale == "group":
        blocks.append(Scale("trajectory", "group", ddof=1))
    cautions = [GROUP_STD_CAUTION.format("per_index' with scale = 'group")] if config.scale == "group" else []
    if config.gamma < 1.0:
        cautions.append(GAMMA_CAUTION)
    name = "per_index (BIASED counter-example)"
    return Recipe(name, ("turn", "trajectory"), tuple(blocks), _BIASED_INDEX, cautions=tuple(cautions))


def recipe_of(config: CreditConfig) -> Recipe:
    """Return the recipe that a configuration names."""
    return hooks.RECIPES.resolve(config.recipe)(config, **config.options)


def _level_scale(level: Scope, config: CreditConfig) -> Scale:
    kind: Kind = config.scale  # pyright: ignore[reportAssignmentType]  # checked by CreditConfig
    floor = config.loo_floor if kind == "loo" else config.floor
    return Scale(level, kind, ddof=int(level == "trajectory"), floor=floor)


_BIASED_INDEX = (
    "BIASED: no objective's gradient. The baseline of a turn index is paid only by episodes that reach it, so every "
    "extra turn is charged its mean score and turns that pay are not worth reaching. Harmless only where all episodes "
    "have the same number of turns. For comparison and tests."
)


def _claim(config: CreditConfig, alive: bool = False) -> str:
    """Say what the expectation of turn_grpo is, at ratio 1 and with a fixed denominator of the loss."""
    weight = f"{config.turn_weight:g}"
    turn = f" + {weight} E[sum of turn scores]{{}}" if config.turn_weight else ""
    if config.scale == "group":
        claim = BIASED_GROUP
    elif config.scale == "loo":
        claim = (
            "per prompt, and per level, the exact direction: the gradients of E[outcome] and of E[sum of turn scores], "
            "each multiplied by the mean of 1/s over the other members; prompts with little spread weigh more."
        )
    elif config.scale == "batch":
        claim = f"the gradient of E[outcome]/s_O{turn.format('/s_T')} up to an error of order 1/(number of groups)."
    else:
        over = {"running": ("/s_O", "/s_T"), "shared": ("/s", "/s"), "none": ("", "")}[config.scale]
        claim = f"exactly the gradient of E[outcome]{over[0]}{turn.format(over[1])}, turn limits included."
    if config.gamma < 1.0 and config.turn_weight:
        claim = (
            f"BIASED: with gamma = {config.gamma:g} the turn level is no objective's gradient: each turn prefers what "
            f"is paid early, hence stopping. With gamma = 1 it would be {claim}"
        )
    if alive and config.scale not in ("none", "group"):
        claim += " Scales are formed on the alive-only values."
    return claim + " (Ratio 1, constant loss denominator, episodes cut by a limit kept.)"
