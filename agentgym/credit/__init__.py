"""Credit: scores of turns and trajectories in, one advantage per turn out. numpy only, float64.

`advantages(config, groups, scales)` reads trajectories; `advantages_from_arrays(turn_scores, turn_mask, outcome,
group, config=CreditConfig(recipe="turn_grpo"))` reads plain arrays of any trainer and returns the same
`CreditResult`, whose `values` are [B, K]; `spread(values, turn_id, token_mask)` lays them onto tokens [B, T].
`recipe_of(config).describe()` says in words what is computed and what its expectation is the gradient of.
"""

from agentgym.credit.arrays import CreditArrays
from agentgym.credit.channels import Channels, channels_from_groups
from agentgym.credit.placing import spread
from agentgym.credit.recipe import Recipe
from agentgym.credit.recipes import recipe_of
from agentgym.credit.result import CreditResult, advantages, advantages_from_arrays
from agentgym.credit.scales import CreditConfig, Scales
from agentgym.hooks import RECIPES

__all__ = [
    "RECIPES",
    "Channels",
    "CreditArrays",
    "CreditConfig",
    "CreditResult",
    "Recipe",
    "Scales",
    "advantages",
    "advantages_from_arrays",
    "channels_from_groups",
    "recipe_of",
    "spread",
]
