"""Steps on the summed advantages: factors and bonuses per turn, centring and whitening over the batch."""

from dataclasses import dataclass

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.normalise import normalise
from agentgym.credit.scales import Scales


def modulate(advantages: Floats, factor: Floats, bonus: Floats | float = 0.0) -> Floats:
    """Return advantages * factor + bonus: [B, K] each."""
    return advantages * factor + bonus


def live_minmax(values: Floats, live: Bools, eps: float = 1e-8) -> Floats:
    """Return the live values moved to [0, 1] by their least and greatest, 0 elsewhere: [B, K] -> [B, K]."""
    if not live.any():
        return np.zeros_like(values)
    low, high = values[live].min(), values[live].max()
    return np.where(live, (values - low) / (high - low + eps), 0.0)


@dataclass(frozen=True, slots=True)
class ByEntropy:
    """Sure turns get more of the advantage, unsure ones less; a turn before a sure one gets a bonus."""

    k: float = 1.0
    k_next: float = 1.0
    zeta: float = 0.05

    def apply(self, advantages: Floats, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return A g + zeta f of the next turn, g = exp(-k H) / its batch mean, f = exp(-k' H), H in [0, 1]."""
        live = arrays.turn_mask & arrays.in_statistics[:, None]
        shown = arrays.turn_mask
        if not live.any():
            return advantages
        h = live_minmax(np.where(shown, np.asarray(arrays.extra("entropy"), np.float64), 0.0), live)
        g = np.exp(-self.k * h)
        g = g / g[live].mean()
        following = np.zeros_like(h)
        following[:, :-1] = np.where(shown[:, 1:], np.exp(-self.k_next * h[:, 1:]), 0.0)
        return np.where(shown, modulate(advantages, g, self.zeta * following), 0.0)

    def describe(self) -> str:
        """Say the formula."""
        return (
            "modulate: H = the turn's mean token entropy, moved to [0, 1] over the batch; multiply by "
            f"exp(-{self.k:g} H) / its mean over the batch, and add {self.zeta:g} exp(-{self.k_next:g} H of the next turn)"
        )


@dataclass(frozen=True, slots=True)
class CentreBatch:
    """Centring over all live turns of the batch."""

    def apply(self, advantages: Floats, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the advantages minus their mean over live turns in the statistics."""
        live = arrays.turn_mask & arrays.in_statistics[:, None]
        return advantages - (advantages[live].mean() if live.any() else 0.0)

    def describe(self) -> str:
        """Say the set."""
        return "normalise: subtract the mean over all live turns of the batch"


@dataclass(frozen=True, slots=True)
class Whiten:
    """A z-score over all live turns of the batch."""

    eps: float = 1e-8
    inside: bool = False

    def apply(self, advantages: Floats, arrays: CreditArrays, scales: Scales) -> Floats:
        """Return the advantages whitened."""
        live = arrays.turn_mask
        parts = np.zeros(live.shape, np.int64)
        outside, inside = (0.0, self.eps) if self.inside else (self.eps, 0.0)
        counted = live & arrays.in_statistics[:, None]
        out = normalise(advantages, live, parts, 1, counted=counted, spread="std", eps=outside, eps_inside=inside)
        return out.values

    def describe(self) -> str:
        """Say the set."""
        return f"normalise: subtract the mean and divide by the sample std over all live turns of the batch, eps {self.eps:g}"
