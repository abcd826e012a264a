"""Credit: scores of turns and trajectories in, one advantage per turn out. numpy only, float64."""

from agentgym.credit.arrays import CreditArrays
from agentgym.credit.recipes import RECIPES, Recipe, recipe_of
from agentgym.credit.result import CreditResult, advantages
from agentgym.credit.scales import CreditConfig, Scales

__all__ = [
    "RECIPES",
    "CreditArrays",
    "CreditConfig",
    "CreditResult",
    "Recipe",
    "Scales",
    "advantages",
    "recipe_of",
]
