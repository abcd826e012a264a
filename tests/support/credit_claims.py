"""What each recipe says that its expectation is the gradient of, for the exact tests and the table in docs/credit.md."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from agentgym.credit import CreditArrays, CreditConfig, Recipe, Scales, recipe_of
from tests import mdps
from tests.mdps import Enumeration, Mdp, Path


@dataclass(frozen=True)
class Claim:
    """A recipe with its options and the objective that its expectation is compared with."""

    recipe: str
    of: str
    """The objective in words."""
    value: Callable[[Path], float]
    """The objective."""
    factor: Callable[[int], float] | None = None
    """Expectation / gradient for groups of G; None: the recipe is biased."""
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    """Further settings of `CreditConfig`."""
    by_batch: bool = False
    """It looks at the whole batch, so every group is a batch of its own."""

    @property
    def label(self) -> str:
        """The recipe with what differs from its defaults."""
        words = [self.recipe, *(f"{k}={v}" for k, v in (self.settings | self.options).items())]
        return " ".join([*words, "(one group a batch)"] if self.by_batch else words)

    def make(self) -> Recipe:
        """Return the recipe, turn scores and outcome at equal weights and without running scales."""
        settings = {"turn_weight": 1.0, "scale": "none"} | self.settings
        return recipe_of(CreditConfig(recipe=self.recipe, options=self.options, **settings))

    def run(self, groups: Enumeration) -> np.ndarray:
        """Return the advantages of all groups: [B, K]."""
        recipe, scales = self.make(), Scales(n_steps=50, spread=0.4)

        def one(arrays: CreditArrays) -> np.ndarray:
            return recipe.run(arrays, scales)

        return mdps.each_group(groups, one) if self.by_batch else one(groups.arrays)


def one(_: int) -> float:
    """Exact."""
    return 1.0


def shrunk(g: int) -> float:
    """Exact up to the share that oneself takes in the mean."""
    return (g - 1) / g


def shaped(path: Path) -> float:
    """Outcome and potential after the last turn."""
    return path.outcome + mdps.last_potential(path)


def supported(path: Path) -> float:
    """Outcome and support of reliable modes after the last turn."""
    return path.outcome + 1.5 * mdps.last_potential(path) + 0.5 * (1 - mdps.last_potential(path))


def per_turn(path: Path) -> float:
    """Process scores plus the outcome, less 1, on every turn."""
    return sum(path.rewards) + len(path.rewards) * (path.outcome - 1)


def charged(path: Path) -> float:
    """The outcome less half the log-ratios."""
    return path.outcome - sum(0.4 - r for r in path.rewards) / 2


TOTAL, OUTCOME, TURNS = "O + sum r", "O", "sum r"
CLAIMS: tuple[Claim, ...] = (
    Claim("turn_grpo", TOTAL, mdps.total, one),
    Claim("turn_grpo", TOTAL, mdps.total, one, {"among": "alive"}),
    Claim("turn_grpo", TOTAL, mdps.total, settings={"scale": "group"}),
    Claim("turn_grpo", TOTAL, mdps.total, settings={"scale": "batch"}, by_batch=True),
    Claim("turn_grpo", TOTAL, mdps.total, settings={"gamma": 0.9}),
    Claim("rloo", OUTCOME, mdps.outcome, one),
    Claim("rloo", TOTAL, mdps.total, one, {"total": True}),
    Claim("dr_grpo", OUTCOME, mdps.outcome, shrunk),
    Claim("dr_grpo", TOTAL, mdps.total, shrunk, {"total": True}),
    Claim("grpo", OUTCOME, mdps.outcome),
    Claim("grpo", TOTAL, mdps.total, options={"total": True}),
    Claim("dapo", OUTCOME, mdps.outcome),
    Claim("rlpr", OUTCOME, mdps.outcome, options={"first_step": 0, "beta": 1.2}),
    Claim("prof", OUTCOME, mdps.outcome, options={"keep": 2}),
    Claim("noisy_backward", OUTCOME, mdps.outcome, one),
    Claim("noisy_backward", OUTCOME, mdps.outcome, shrunk, {"baseline": "mean"}),
    Claim("noisy_forward", OUTCOME, mdps.outcome, one),
    Claim("e_grpo", OUTCOME, mdps.outcome),
    Claim("c_grpo", OUTCOME, mdps.outcome),
    Claim("c_grpo", OUTCOME, mdps.outcome, options={"form": "released"}),
    Claim("trust_grpo", OUTCOME, mdps.outcome),
    Claim("atom_searcher", OUTCOME, mdps.outcome),
    Claim("per_index", TOTAL, mdps.total),
    Claim("per_index", TOTAL, mdps.total, settings={"scale": "group"}),
    Claim("igpo", TOTAL, mdps.total),
    Claim("igpo", TOTAL, mdps.total, options={"std": False}),
    Claim("igpo", TOTAL, mdps.total, options={"form": "separate", "last": "both"}),
    Claim("igpo", TOTAL, mdps.total, options={"form": "separate", "last": "both", "std": False}),
    Claim("igpo", TOTAL, mdps.total, options={"curriculum": True}),
    Claim("matchtir", TOTAL, mdps.total),
    Claim("matchtir", TOTAL, mdps.total, options={"std": False, "discount": 1.0}),
    Claim("cm2", "sum r / 3", lambda path: sum(path.rewards) / 3, shrunk, {"reference_turns": 3}),
    Claim("cm2", TURNS, mdps.turns, options={"form": "turn", "min_count": 1}),
    Claim("cm2", TURNS, mdps.turns, options={"form": "turn", "min_count": 3}),
    Claim("cm2", TURNS, mdps.turns, options={"form": "step"}),
    Claim("gigpo", TOTAL, mdps.total),
    Claim("gigpo", TOTAL, mdps.total, options={"over": "rows"}),
    Claim("gigpo", TOTAL, mdps.total, options={"form": "mean_std"}),
    Claim("gigpo", TOTAL, mdps.total, lambda g: 2.0, {"baseline": "loo", "gamma": 1.0}),
    Claim("empg", OUTCOME, mdps.outcome, by_batch=True),
    Claim("mrn", TOTAL, mdps.total),
    Claim("gdpo", TOTAL, mdps.total, by_batch=True),
    Claim("spae", OUTCOME, mdps.outcome, by_batch=True),
    Claim("ppr", "sum r + turns (O - 1)", per_turn),
    Claim("prime", TOTAL, mdps.total, by_batch=True),
    Claim("prime", TOTAL, mdps.total, options={"whiten": False, "turn_coef": 1.0, "outcome_coef": 1.0}),
    Claim("rank_grpo", TURNS, mdps.turns),
    Claim("rank_grpo", TURNS, mdps.turns, options={"form": "own"}),
    Claim("ggpo", OUTCOME, mdps.outcome),
    Claim("prl", "O - sum log ratio / 2", charged, one, {"eta": 2.0}),
    Claim("p2s", OUTCOME, mdps.outcome),
    Claim("frozen", "O / .5 + sum r / .25", lambda path: 2 * path.outcome + 4 * sum(path.rewards), one,
          {"mean": 0.3, "std": 0.5, "turn_mean": 0.2, "turn_std": 0.25}),
    Claim("discount_schedule", TOTAL, mdps.total),
    Claim("counterfactual", OUTCOME, mdps.outcome, one),
    Claim("counterfactual", TOTAL, mdps.total, one, {"weight": 1.0}),
    Claim("drpo", OUTCOME, mdps.outcome, options={"max_tokens": 100}),
    Claim("tips", OUTCOME, mdps.outcome, one),
    Claim("tips", "O + last potential", shaped, one, {"terminal": "keep"}),
    Claim("pica", "O + last potential", shaped, one),
    Claim("siop", "O + last support (modes given)", supported, one),
    Claim("slate", TURNS, mdps.turns),
    Claim("a2tgpo", TOTAL, mdps.total),
)


def expectation(claim: Claim, mdp: Mdp, size: int, p: tuple[float, ...] | None = None) -> tuple[np.ndarray, float]:
    """Return the expected estimate [D] and its relative standard deviation: sqrt(trace of covariance) / length."""
    groups = mdps.with_extras(mdps.enumerate_groups(mdp, size, p=p))
    advantages = claim.run(groups)
    each = np.einsum("bk,bkd->bd", advantages, groups.score).reshape(len(groups.probability), size, -1).mean(1)
    mean = groups.probability @ each
    variance = float(groups.probability @ ((each - mean) ** 2).sum(1))
    length = float(np.linalg.norm(mean))
    return mean, np.sqrt(variance) / length if length > 1e-12 else np.inf
