"""Whether turn credit is likely to help, from recorded groups alone: before any training.

What turn credit can add to outcome-only credit is bounded by four things that any batch of groups of the untrained
policy shows: that episodes have more than one turn, that turn scores differ between siblings and lie on other turns
than the last, that they point the way of the outcome, and that the outcome alone leaves something to say. The rule and
its limits are in docs/credit.md; its thresholds are `LEAST` and two standard errors.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from agentgym.credit.arrays import Bools, CreditArrays, Floats
from agentgym.credit.blocks import accumulate, centre

Verdict = Literal["likely", "open", "unlikely", "against", "none"]
FEW = 8
"""Groups below which the sentence says from how few it speaks."""
LEAST = 0.1
"""Least share that counts: of groups, of a variance that is taken off, of a variance that is explained."""
_NOISE = 1e-9


@dataclass(frozen=True, slots=True)
class Forecast:
    """What the groups say about turn credit."""

    verdict: Verdict
    """likely; open: whether turn scores lead to success cannot be seen yet, because outcomes hardly differ or because the
    groups are too few; unlikely; against: they point away from the outcome; none: turn credit equals trajectory credit
    here."""
    sentence: str
    """The verdict and its reason, in one sentence."""
    n_groups: int
    """Groups with two members in the statistics: only those say anything."""
    horizon: float
    """Mean turns of an episode."""
    silent: float
    """Share of the groups whose outcomes are all equal: outcome-only credit learns nothing from them."""
    speaking: float
    """Share of the groups in which turn scores still to come differ between siblings at some turn."""
    rescued: float
    """Share of the groups that are silent and speaking."""
    locality: float
    """1 - mean square of the centred return-to-go of turn scores / that of their centred sum, over live turns: how much
    variance credit by turn takes off the same scores summed per episode; 0 (or below) if all is paid on last turns."""
    alignment: float | None
    """Correlation, within groups that are not silent, of the sum of turn scores and the outcome; None where either does
    not vary."""
    alignment_error: float
    """Its standard error if there were none, 1 / sqrt(degrees of freedom - 1); 0 where there is no alignment."""

    def metrics(self) -> dict[str, float]:
        """Return the numbers by name; the alignment only where it is known."""
        names = ("n_groups", "horizon", "silent", "speaking", "rescued", "locality")
        found = {name: float(getattr(self, name)) for name in names}
        known = {} if self.alignment is None else {"alignment": self.alignment, "alignment_error": self.alignment_error}
        return found | known


def forecast(arrays: CreditArrays) -> Forecast:
    """Return the forecast for the members in the statistics of groups with at least two of them; branches left out."""
    counted = arrays.in_statistics & ~arrays.is_branch
    arrays = arrays.but(in_statistics=counted)
    compared = counted & arrays.has_other
    n_groups = len(np.unique(arrays.group[compared]))
    live = arrays.turn_mask & compared[:, None]
    scores = np.where(arrays.turn_mask, arrays.turn_scores, 0.0)
    to_go = centre(accumulate(scores, arrays.turn_mask, 1.0), arrays.turn_mask, arrays)
    ones = np.ones((len(arrays.group), 1), bool)
    summed = centre(scores.sum(1, keepdims=True), ones, arrays)[:, 0]
    outcome = centre(arrays.outcome[:, None], ones, arrays)[:, 0]
    moving = _groups(arrays, compared & (np.abs(outcome) > _NOISE))
    talking = _groups(arrays, compared & (np.abs(np.where(live, to_go, 0.0)) > _NOISE).any(1))
    whole = float((np.where(live, summed[:, None], 0.0) ** 2).sum())
    alignment, error = _alignment(arrays, compared & np.isin(arrays.group, moving), outcome, summed)
    n = max(n_groups, 1)
    found = {
        "n_groups": n_groups,
        "horizon": float(arrays.turn_mask[counted].sum(1).mean()) if counted.any() else 0.0,
        "silent": 1.0 - len(moving) / n if n_groups else 0.0,
        "speaking": len(talking) / n,
        "rescued": len(np.setdiff1d(talking, moving)) / n,
        "locality": 1.0 - float((np.where(live, to_go, 0.0) ** 2).sum()) / whole if whole > _NOISE else 0.0,
        "alignment": alignment,
        "alignment_error": error,
    }
    verdict, sentence = _judged(found)
    if 0 < n_groups < FEW:
        sentence += f"; this rests on {n_groups} group{'s' if n_groups > 1 else ''} alone"
    return Forecast(verdict, sentence, **found)


def _groups(arrays: CreditArrays, rows: Bools) -> np.ndarray:
    return np.unique(arrays.group[rows])


def _alignment(arrays: CreditArrays, rows: Bools, outcome: Floats, summed: Floats) -> tuple[float | None, float]:
    """Return the correlation within groups and its standard error."""
    # Leave-one-out centring differs from the group's mean by n / (n - 1), which is the same for both sides of a group.
    o, s = outcome[rows], summed[rows]
    squares = float((o**2).sum() * (s**2).sum())
    if squares <= _NOISE:
        return None, 0.0
    r = max(-1.0, min(1.0, float((o * s).sum()) / math.sqrt(squares)))
    free = int(rows.sum()) - len(np.unique(arrays.group[rows]))
    return r, 1.0 / math.sqrt(max(free - 1, 1))


def _judged(f: dict[str, object]) -> tuple[Verdict, str]:
    """Return the verdict and its sentence; the rules in order, the first that holds decides."""
    n, horizon, silent, speaking, rescued, locality = (
        float(f[name]) for name in ("n_groups", "horizon", "silent", "speaking", "rescued", "locality")  # pyright: ignore
    )
    r, error = f["alignment"], float(f["alignment_error"])  # pyright: ignore[reportArgumentType]
    if not n:
        return "none", "turn credit cannot be judged: no group has two members in the statistics"
    if horizon <= 1.0:
        return "none", "turn credit equals trajectory credit here: episodes have one turn"
    if speaking < LEAST:
        return "none", f"turn credit would hardly be heard: turn scores differ between siblings in {speaking:.0%} of the groups"
    if locality < LEAST:
        return "none", (
            f"turn credit hardly differs from the same scores summed per episode: it takes {max(locality, 0.0):.0%} off "
            "their variance, since they are paid on last turns"
        )
    if isinstance(r, float) and r <= -max(LEAST, 2 * error):
        return "against", (
            f"turn credit is likely to hurt: within groups, episodes with higher turn scores have lower outcomes (correlation {r:+.2f})"
        )
    if isinstance(r, float) and r >= max(LEAST, 2 * error):
        return "likely", (
            f"turn credit is likely to help: over {horizon:.1f} turns, episodes with higher turn scores have higher outcomes within groups "
            f"(correlation {r:+.2f}), and turn scores speak in {rescued:.0%} of the groups while all outcomes are equal"
        )
    if silent >= 0.5 and rescued >= LEAST:
        return "open", (
            f"turn credit may help: all outcomes are equal in {silent:.0%} of the groups and turn scores speak in {rescued:.0%} of "
            "all, but too few outcomes differ to see whether they lead to success"
        )
    if isinstance(r, float) and abs(r) >= LEAST and error > LEAST:
        return "open", (
            f"whether turn credit helps cannot be seen from so few groups: episodes with higher turn scores have "
            f"{'higher' if r > 0 else 'lower'} outcomes (correlation {r:+.2f}), but chance alone gives up to {min(2 * error, 1.0):.2f} either way"
        )
    told = "cannot be compared with outcomes" if not isinstance(r, float) else f"hardly go with the outcome (correlation {r:+.2f})"
    return "unlikely", f"turn credit is unlikely to help: within groups, turn scores {told}"
