"""The block `normalise`: subtract a centre and divide by a spread, both over the parts of a partition."""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats, Ints
from agentgym.credit.blocks import Level
from agentgym.credit.partition import (
    WORDS,
    Partition,
    own_part_sums,
    part_greatest,
    part_least,
    part_sums,
    partition,
)
from agentgym.credit.scales import Scales

Centre = Literal["mean", "loo", "loo_episode", "given", "none"]
"""mean: of the part; loo: of the part's other values; loo_episode: of the part's values of other rows."""
Spread = Literal["none", "std", "population", "max", "minmax", "given"]
Singleton = Literal["zero", "raw", "drop"]

_NO_SPREAD = 1e-9
"""A smaller std is a set of equal values: nothing can be divided by it."""


@dataclass(frozen=True, slots=True, eq=False)
class Normalised:
    """What `normalise` returns."""

    values: Floats
    """[B, U] float64; 0 outside `kept`."""
    kept: Bools
    """[B, U] bool: live, and in a part with enough members."""
    count: Floats
    """[B, U] float64: counted values in the part."""
    divisor: Floats
    """[B, U] float64: what was divided by; infinite where a part had no spread."""


def normalise(
    values: Floats,
    live: Bools,
    parts: Ints,
    n_parts: int,
    *,
    counted: Bools | None = None,
    centre: Centre = "mean",
    spread: Spread = "none",
    ddof: int = 1,
    eps: float = 1e-6,
    eps_inside: float = 0.0,
    min_count: int = 1,
    singleton: Singleton = "zero",
    given: tuple[float, float] = (0.0, 1.0),
) -> Normalised:
    """Centre and scale each value over its part.

    Args:
        values: [B, U] float64, or [B, U, C] (not with "loo_episode"); masks and parts have the same shape.
        live: [B, U] bool: the places that exist; others become 0.
        parts: [B, U] int64 from 0 on, see `partition` and `per_channel`.
        n_parts: number of parts.
        counted: [B, U] bool: the places that enter the statistics; None for `live`.
        centre: what is subtracted, see `Centre`; "given" takes `given[0]`.
        spread: what is divided by: "std" (with `ddof`), "population" (ddof 0), "max", "minmax" (the difference of
            greatest and least; the least is subtracted too), "given" (`given[1]`) or "none".
        ddof: for "std".
        eps: added to the spread, outside the root.
        eps_inside: added to the variance, inside the root; with it a part without spread is divided by its root.
        min_count: values of a part with fewer counted ones become 0 and leave `kept`.
        singleton: a value without another counted one in its part becomes 0 ("zero"), stays as it is, divided by
            1 + eps if there is a std ("raw"), or becomes 0 and leaves `kept` ("drop").
        given: centre and spread that were measured elsewhere.
    """
    counted = live if counted is None else counted & live
    number = part_sums(counted.astype(np.float64), parts, n_parts)
    count = number[parts]
    least = part_least(values, counted, parts, n_parts)
    shifted = np.where(live, values - least[parts], 0.0)  # equal values give exact zeros
    inside = np.where(counted, shifted, 0.0)
    total = part_sums(inside, parts, n_parts)
    mean = total / np.maximum(number, 1.0)
    own, own_number = inside, counted.astype(np.float64)
    if centre == "loo_episode":
        own, own_number = own_part_sums((inside, own_number), parts, n_parts)
    others = count - own_number
    if centre == "none":
        centred = np.where(live, values, 0.0)
    elif centre == "given":
        centred = np.where(live, values - given[0], 0.0)
    elif centre == "mean":
        centred = shifted - mean[parts]
    else:
        centred = shifted - (total[parts] - own) / np.maximum(others, 1.0)
    divisor = np.ones_like(values)
    if spread in ("std", "population"):
        deviation = np.where(counted, inside - mean[parts], 0.0)
        square = part_sums(deviation**2, parts, n_parts)
        root = np.sqrt(square / np.maximum(number - (ddof if spread == "std" else 0), 1.0) + eps_inside)
        divisor = np.where(root > (0.0 if eps_inside else _NO_SPREAD), root + eps, np.inf)[parts]
    elif spread in ("max", "minmax"):
        greatest = part_greatest(values, counted, parts, n_parts)
        if spread == "minmax":
            centred, greatest = shifted, greatest - least
        divisor = np.where(greatest > 0.0, greatest + eps, np.inf)[parts]
    elif spread == "given":
        divisor = np.full_like(values, given[1] + eps)
    out, kept = centred / divisor, live & (count >= min_count)
    if centre in ("mean", "loo", "loo_episode"):
        alone = others <= 0
        lone = values / (1.0 + eps if spread in ("std", "population") else 1.0) if singleton == "raw" else 0.0
        out = np.where(alone, lone, out)
        if singleton == "drop":
            kept = kept & ~alone
    return Normalised(np.where(kept, out, 0.0), kept, count, divisor)


@dataclass(frozen=True, slots=True)
class Normalise:
    """`normalise` as a step of a recipe; members outside the statistics are compared with those in them."""

    level: str
    over: Partition = "group"
    centre: Centre = "mean"
    spread: Spread = "none"
    ddof: int = 1
    eps: float = 1e-6
    eps_inside: float = 0.0
    min_count: int = 1
    singleton: Singleton = "zero"

    def apply(self, x: Level, arrays: CreditArrays, scales: Scales) -> Level:
        """Return the level normalised, with its divisor."""
        parts, n_parts = partition(self.over, arrays, x.values.shape[1])
        out = normalise(
            x.values,
            x.live,
            parts,
            n_parts,
            counted=x.live & arrays.in_statistics[:, None],
            centre=self.centre,
            spread=self.spread,
            ddof=self.ddof,
            eps=self.eps,
            eps_inside=self.eps_inside,
            min_count=self.min_count,
            singleton=self.singleton,
        )
        return replace(x, values=out.values, divisor=out.divisor)

    def describe(self) -> str:
        """Say the set, the centre, the spread and the rule for a lone value."""
        others = {"loo": "the other values of ", "loo_episode": "the values that other episodes have in "}
        where = f"{others.get(self.centre, '')}{WORDS[self.over]}"
        steps = [] if self.centre == "none" else [f"subtract the mean over {where}"]
        eps = f" + {self.eps:g}" if self.eps else ""
        inside = f" with {self.eps_inside:g} under the root" if self.eps_inside else ""
        std = "sample std" if self.spread == "std" and self.ddof else "population std"
        if self.spread != "none":
            name = {"max": "greatest value", "minmax": "range (after subtracting the least)"}.get(self.spread, std)
            biased = ": BIASED" if self.spread in ("std", "population") and self.over != "batch" else ""
            steps.append(f"divide by the {name} over {WORDS[self.over]}{eps}{inside}{biased}")
        if self.min_count > 1:
            steps.append(f"0 where fewer than {self.min_count} members are there")
        if self.centre not in ("none", "given"):
            steps.append(f"a lone value: {'its raw value' if self.singleton == 'raw' else '0'}")
        return "normalise: " + "; ".join(steps)
