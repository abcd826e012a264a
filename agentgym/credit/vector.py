"""Recipes on vector rewards: each component is normalised by itself before the weights are applied."""

from agentgym.credit.normalise import Normalise
from agentgym.credit.placing import SumChannels
from agentgym.credit.recipe import GROUP_STD_CAUTION, Recipe
from agentgym.credit.scales import CreditConfig

_BIASED = "BIASED: each channel is divided by its own std in the group, so the weights hold in units of spread."


def mrn(config: CreditConfig, *, eps: float = 1e-4) -> Recipe:
    """Return A = sum over channels of w_c (r_c - mean_c) / (std_c + eps), statistics per group and channel.

    Reads the extras channels ([B, C]) and channel_weights ([C]).

    Source: ReFine-RFT's multi-reward normalisation (2025). Evidence: read in released code. Deviation: none known.
    """
    blocks = (Normalise("channels", "column", "mean", "std", eps=eps), SumChannels())
    return Recipe(
        "mrn", ("channels",), blocks, _BIASED, needs=("channels",), cautions=(GROUP_STD_CAUTION.format("mrn"),)
    )


def gdpo(config: CreditConfig, *, eps: float = 1e-4) -> Recipe:
    """Return the weighted sum of per-channel z-scores, z-scored once more over the whole batch.

    Source: GDPO as "normalize_then_sum" of TRL's GRPOTrainer. Evidence: read in released code. Deviation: none known.
    """
    whole = Normalise("channels", "batch", "mean", "std", eps=eps)
    blocks = (Normalise("channels", "column", "mean", "std", eps=eps), SumChannels(), whole)
    claim = f"{_BIASED} The final z-score over the batch adds an error of order 1 / (number of episodes)."
    return Recipe("gdpo", ("channels",), blocks, claim, needs=("channels",), cautions=(GROUP_STD_CAUTION.format("gdpo"),))
