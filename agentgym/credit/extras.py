"""What single recipes read beside the scores, taken from trajectories: observations, entropies, components, flags.

| name | shape | meaning |
|---|---|---|
| potential:NAME | [B, K + 1] float | what the probing component NAME measured before each turn and after the last; read as "potential" |
| probe:NAME | [B, K] float, twice | what the probing component NAME measured after each turn; read as "accuracy" and "confidence" |
| score:NAME | [B] float | raw trajectory-scope score of a component (turn-scope raw scores are summed) |
| useful:NAME | [B, K] bool | the component NAME paid something at the turn; read as "useful" |
| ratio:NAME | [B, K] float | log policy - log reference of the turn's action, as the component NAME (log_ratio) measured them; read as "log_ratio" |
| channels, channel_weights | [B, C], [C] float | contribution of each component over the whole episode, weights taken out |
| state | [B, K] int | key of the observation in front of each turn |
| entropy | [B, K] float | mean token entropy of each turn, natural log |
| correct | [B] bool | the episode succeeded |
| format_error | [B] bool | it ended by too many invalid actions |
| overlong | [B] bool | a limit of turns or tokens cut it |
| n_tokens, mean_logprob | [B] int, [B] float | sampled tokens, and the mean of their log-probabilities at sampling |
| continued_outcome, continued_turns | [B, K + 1] float | mean outcome, and mean sum of turn scores, of the branches that began before turn k; NaN without any |
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from agentgym.credit.arrays import CreditArrays
from agentgym.credit.channels import channels_from_groups
from agentgym.errors import ConfigError, DataError, suggestion
from agentgym.rewards.probing import potentials, probes
from agentgym.types import Group, Score, Trajectory

_OPTIONAL = ("reference_turns",)
"""Extras that a recipe can do without; trajectories do not have them."""


def gather(
    needs: Sequence[str], groups: Sequence[Group], arrays: CreditArrays, *, both_levels: bool = False
) -> dict[str, NDArray[Any]]:
    """Return the extras that a recipe reads; rows as in `arrays`.

    Raises:
        ConfigError: for an extra that trajectories do not hold, and for a component that none of them has.
        DataError: for a trajectory in a mask that lacks its part; it names group and turn.
    """
    out: dict[str, NDArray[Any]] = {}
    rows = [(group.id, trajectory) for group in groups for trajectory in group.trajectories]
    for name in needs:
        if name.startswith("score:"):
            out[name] = _component(name.removeprefix("score:"), rows)
        elif name.startswith("potential:"):
            out["potential"] = _potentials(name.removeprefix("potential:"), rows, arrays.turn_mask.shape)
        elif name.startswith("probe:"):
            out |= _probes(name.removeprefix("probe:"), rows, arrays.turn_mask.shape)
        elif name.startswith("useful:"):
            paid = _per_turn(name.removeprefix("useful:"), rows, arrays.turn_mask.shape, lambda score: score.raw)
            out["useful"] = paid > 0
        elif name.startswith("ratio:"):
            out["log_ratio"] = _per_turn(name.removeprefix("ratio:"), rows, arrays.turn_mask.shape, _log_ratio)
        elif name == "channels":
            out |= _channels(groups, both_levels)
        elif name in _ROWS:
            out[name] = np.array([_ROWS[name](trajectory) for _, trajectory in rows], bool)
        elif name == "state":
            out[name] = _states(rows, arrays.turn_mask.shape)
        elif name == "entropy":
            out[name] = _entropies(rows, arrays.turn_mask.shape)
        elif name in ("n_tokens", "mean_logprob"):
            out |= _tokens(rows)
        elif name in ("continued_outcome", "continued_turns"):
            out |= _continued(rows, arrays.turn_mask.shape)
        elif name not in _OPTIONAL:
            raise ConfigError(
                f"credit: the recipe reads {name!r}, which trajectories do not hold. Pass it as an array to "
                "agentgym.credit.advantages_from_arrays(extras=...)."
            )
    return out


_ROWS: dict[str, Callable[[Trajectory], bool]] = {
    "correct": lambda t: t.success,
    "format_error": lambda t: t.end_reason == "too_many_invalid",
    "overlong": lambda t: t.truncated and t.end_reason in ("max_turns", "max_tokens"),
}


def _tokens(rows: Sequence[tuple[str, Trajectory]]) -> dict[str, NDArray[Any]]:
    sampled = [
        [x for s in t.segments for x, mine in zip(s.logprobs, s.mask, strict=True) if mine] for _, t in rows
    ]
    means = [sum(values) / len(values) if values else 0.0 for values in sampled]
    return {"n_tokens": np.array(list(map(len, sampled)), np.int64), "mean_logprob": np.array(means, np.float64)}


def _continued(rows: Sequence[tuple[str, Trajectory]], shape: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Return what the branches of each trajectory came to, by the turn before which they began."""
    place = {t.id: (i, t.first_turn) for i, (_, t) in enumerate(rows)}
    sums = np.zeros((3, shape[0], shape[1] + 1))
    for _, t in rows:
        if t.parent is not None and t.parent[0] in place and t.in_statistics:
            i, first = place[t.parent[0]]
            sums[:, i, t.first_turn - first] += 1.0, t.reward, sum(turn.reward for turn in t.own_turns)
    n = np.where(sums[0] > 0, sums[0], np.nan)
    return {"continued_outcome": sums[1] / n, "continued_turns": sums[2] / n}


def _potentials(
    component: str, rows: Sequence[tuple[str, Trajectory]], shape: tuple[int, ...]
) -> NDArray[np.float64]:
    out = np.zeros((shape[0], shape[1] + 1))
    for i, (group, t) in enumerate(rows):
        found = potentials(t, component)
        if found is not None:
            out[i, : len(found)] = found
        elif t.own_turns and (t.in_statistics or t.in_loss):
            raise DataError(
                f"group {group}, trajectory {t.id}: the component {component!r} stored no potentials; take a probing one "
                "(step_potential) into the suite, weight 0 will do"
            )
    return out


def _probes(
    component: str, rows: Sequence[tuple[str, Trajectory]], shape: tuple[int, ...]
) -> dict[str, NDArray[np.float64]]:
    out = np.zeros((2, *shape))
    for i, (group, t) in enumerate(rows):
        found = probes(t, component)
        if found:
            out[:, i, : len(found)] = np.transpose(found)
        elif t.own_turns and (t.in_statistics or t.in_loss):
            raise DataError(
                f"group {group}, trajectory {t.id}: the component {component!r} stored no accuracy and confidence; take "
                "step_potential into the suite (weight 0 will do), scored by a policy that gives entropies (hf:)"
            )
    return {"accuracy": out[0], "confidence": out[1]}


def _per_turn(
    component: str, rows: Sequence[tuple[str, Trajectory]], shape: tuple[int, ...], read: Callable[[Score], float | None]
) -> NDArray[np.float64]:
    """Return a number of a component's score for each turn; turns without such a score have 0."""
    _known(component, rows)
    out = np.zeros(shape)
    for i, (group, t) in enumerate(rows):
        for k, turn in enumerate(t.own_turns):
            score = turn.scores.get(component)
            value = read(score) if score is not None and score.valid and not score.deferred else None
            if value is not None:
                out[i, k] = value
            elif score is not None and (t.in_statistics or t.in_loss):
                raise DataError(f"group {group}, trajectory {t.id}, turn {turn.index}: the score {component!r} has no number.")
    return out


def _log_ratio(score: Score) -> float | None:
    parts = score.parts
    return parts["policy"] - parts["reference"] if "policy" in parts and "reference" in parts else None


def _component(name: str, rows: Sequence[tuple[str, Trajectory]]) -> NDArray[np.float64]:
    _known(name, rows)
    values = np.zeros(len(rows))
    for i, (group, t) in enumerate(rows):
        if not (t.in_statistics or t.in_loss):
            continue
        found = [(f"turn {turn.index}", turn.scores[name]) for turn in t.turns if name in turn.scores]
        if name in t.scores:
            found = [("trajectory scope", t.scores[name])]
        for where, score in found:
            if score.deferred or not score.valid or score.raw is None:
                state = "deferred: complete the suite before credit" if score.deferred else "invalid"
                raise DataError(f"group {group}, trajectory {t.id}, {where}: the score {name!r} is {state}.")
        values[i] = sum(float(score.raw) for _, score in found if score.raw is not None)
    return values


def _known(name: str, rows: Sequence[tuple[str, Trajectory]]) -> None:
    """Refuse a component that no trajectory has."""
    present = {n for _, t in rows for scores in (t.scores, *(turn.scores for turn in t.turns)) for n in scores}
    if rows and name not in present:
        raise ConfigError(
            f"credit: the recipe reads the component {name!r}, which no trajectory has"
            f"{suggestion(name, tuple(sorted(present)))}; add it to the suite (weight 0 will do), or name another in "
            "credit.options.component"
        )


def _channels(groups: Sequence[Group], both_levels: bool) -> dict[str, NDArray[Any]]:
    """Return contributions with the weights taken out: the weights stay with `channel_weights`."""
    found = channels_from_groups(groups, both_levels=both_levels)
    weights = np.where(found.trajectory_weight != 0, found.trajectory_weight, found.turn_weight)
    weights = np.where(weights != 0, weights, 1.0)
    return {"channels": (found.trajectory + found.turn.sum(1)) / weights, "channel_weights": weights}


def _states(rows: Sequence[tuple[str, Trajectory]], shape: tuple[int, ...]) -> NDArray[np.int64]:
    """Return a number per observation: what the environment answered to the turn before; the task's text at first."""
    numbers: dict[Any, int] = {}
    out = np.zeros(shape, np.int64)
    for i, (_, t) in enumerate(rows):
        before: Any = t.turns[t.first_turn - 1].messages if t.first_turn else None
        for k, turn in enumerate(t.own_turns):
            out[i, k] = numbers.setdefault(before, len(numbers))
            before = turn.messages
    return out


def _entropies(rows: Sequence[tuple[str, Trajectory]], shape: tuple[int, ...]) -> NDArray[np.float64]:
    out = np.zeros(shape)
    for i, (group, t) in enumerate(rows):
        for k, turn in enumerate(t.own_turns):
            if turn.entropies:
                out[i, k] = float(np.mean(turn.entropies))
            elif t.in_statistics or t.in_loss:
                raise DataError(
                    f"group {group}, trajectory {t.id}, turn {turn.index}: no token entropies were recorded, which the recipe "
                    "reads. Record them in the policy, or choose another recipe."
                )
    return out
