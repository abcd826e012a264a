"""Options of recipes against plain loops: what test_plain_loops leaves at its default."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditConfig, Scales, recipe_of
from agentgym.credit.scales import RunningSquare
from tests.support import credit_loops as loops
from tests.support.credit_loops import Advantages, Row, as_arrays, mean, peers, some_rows, to_go

STEP = 30
SCALES = Scales(
    turn_square=RunningSquare(0.02, 3), trajectory_square=RunningSquare(0.3, 2), shared_square=RunningSquare(0.1, 4), n_steps=STEP
)
Plain = Callable[[Sequence[Row]], Advantages]


def default(rows: Sequence[Row], weight: float, gamma: float, s_t: Any, s_o: Any, mean_form: bool = False) -> Advantages:
    """The default recipe; s_t and s_o are numbers or functions of (row, rows)."""
    out = []
    for row in rows:
        group = peers(rows, row)
        others = group if mean_form else [r for r in group if r is not row]
        t = s_t(row, rows) if callable(s_t) else s_t
        o = s_o(row, rows) if callable(s_o) else s_o
        if len(group) < 2:
            out.append([0.0] * len(row.turns))
            continue
        outcome = (row.outcome - mean(r.outcome for r in others)) / o if o else 0.0
        level = []
        for k, x in enumerate(to_go(row.turns, gamma)):
            centred = x - mean(loops.at(to_go(r.turns, gamma), k) for r in others)
            level.append(weight * (centred / t if t else 0.0) + outcome)
        out.append(level)
    return out


def std_of(values: Sequence[float], ddof: int) -> float:
    """The std + 1e-6, or 0 for a set of equal values."""
    if len(values) < 2:
        return 0.0
    std = statistics.stdev(values) if ddof else statistics.pstdev(values)
    return std + 1e-6 if std > 1e-9 else 0.0


def returns(rows: Sequence[Row]) -> list[float]:
    return [x for r in rows for x in to_go(r.turns)]


def others_spread(row: Row, rows: Sequence[Row], value: Callable[[Sequence[Row]], list[float]]) -> float:
    pool = value([r for r in peers(rows, row) if r is not row])
    return math.sqrt((statistics.pvariance(pool) if pool else 0.0) + 0.2**2)


def outcomes(rows: Sequence[Row]) -> list[float]:
    return [r.outcome for r in rows]


SETTINGS: list[tuple[dict[str, Any], Plain]] = [
    ({"scale": "running", "turn_weight": 0.7}, lambda rows: default(rows, 0.7, 1.0, SCALES.turn, SCALES.trajectory)),
    ({"scale": "shared"}, lambda rows: default(rows, 0.5, 1.0, SCALES.shared, SCALES.shared)),
    ({"scale": "none", "gamma": 0.6}, lambda rows: default(rows, 0.5, 0.6, 1.0, 1.0)),
    ({"scale": "none", "turn_weight": 0.0}, lambda rows: default(rows, 0.0, 1.0, 1.0, 1.0)),
    ({"scale": "batch"}, lambda rows: default(rows, 0.5, 1.0, statistics.pstdev(returns(rows)), statistics.pstdev(outcomes(rows)))),
    (
        {"scale": "loo"},
        lambda rows: default(
            rows, 0.5, 1.0, lambda r, all_: others_spread(r, all_, returns), lambda r, all_: others_spread(r, all_, outcomes)
        ),
    ),
    (
        {"scale": "group"},
        lambda rows: default(
            rows, 0.5, 1.0, lambda r, all_: std_of(returns(peers(all_, r)), 0),
            lambda r, all_: std_of(outcomes(peers(all_, r)), 1), mean_form=True,
        ),
    ),
]  # fmt: skip


def check(config: CreditConfig, plain: Plain, keep: Callable[[Row], bool] = lambda row: True) -> None:
    for seed in range(8):
        rows = some_rows(seed)
        arrays = as_arrays(rows)
        got = recipe_of(config).run(arrays, SCALES)
        for row, mask, numbers, want in zip(rows, arrays.turn_mask, got, plain(rows), strict=True):
            np.testing.assert_allclose(numbers[mask], want if keep(row) else 0.0, rtol=0, atol=1e-9, err_msg=f"seed {seed}, {row}")


@pytest.mark.parametrize(("settings", "plain"), SETTINGS, ids=[str(s) for s, _ in SETTINGS])
def test_scales_weights_and_discounts_of_the_default(settings: dict[str, Any], plain: Plain) -> None:
    check(CreditConfig(**settings), plain)


def per_index_z(rows: Sequence[Row]) -> Advantages:
    o = loops.z_of(rows, lambda r: r.outcome)
    out = []
    for row, outcome in zip(rows, o, strict=True):
        scores = [loops.z(x, [r.turns[k] for r in peers(rows, row) if k < len(r.turns)]) for k, x in enumerate(row.turns)]
        out.append([0.5 * x + y for x, y in zip(to_go(scores), outcome, strict=True)])
    return out


def in_band(rows: Sequence[Row]) -> Advantages:
    z = loops.z_of(rows, lambda r: r.outcome)
    accuracy = [mean(p.outcome for p in peers(rows, row)) for row in rows]
    return [a if 0.2 < share < 0.6 else [0.0] * len(a) for a, share in zip(z, accuracy, strict=True)]


def first_wrong(rows: Sequence[Row], keep: int) -> Advantages:
    kept: list[Row] = []
    for g in sorted({r.group for r in rows}):
        right = sorted((r for r in rows if r.group == g and r.outcome), key=lambda r: -mean(r.turns))
        wrong = [r for r in rows if r.group == g and not r.outcome]
        n = min(max(keep // 2, keep - len(wrong)), len(right))
        kept += right[:n] + wrong[: keep - n]
    scores = {id(r): loops.z(r.outcome, [p.outcome for p in peers(kept, r)]) for r in kept}
    return [[scores.get(id(r), 0.0)] * len(r.turns) for r in rows]


def dual(rows: Sequence[Row], discount: float, std: bool, lone_raw: bool, placed: bool) -> Advantages:
    def z(value: float, pool: Sequence[float]) -> float:
        if len(pool) < 2:
            return (value / (1 + 1e-6) if std else value) if lone_raw else 0.0
        return loops.z(value, pool) if std else value - mean(pool)

    def paid(row: Row) -> list[float]:
        return loops.placed(row) if placed else row.turns

    out = []
    for row in rows:
        group = peers(rows, row)
        a = z(sum(paid(row)), [sum(paid(r)) for r in group])
        there = [to_go(paid(r), discount) for r in group]
        own = to_go(paid(row), discount)
        out.append([(a + z(x, [t[k] for t in there if k < len(t)])) / 2 for k, x in enumerate(own)])
    return out


def shaped(rows: Sequence[Row], alpha: float, gamma: float, last: bool, to_go_gamma: float) -> Advantages:
    def gains(row: Row) -> list[float]:
        phi = list(row.more["potential"][: len(row.turns) + 1])
        if not last:
            phi[-1] = 0.0
        return [alpha * (gamma * b - a) for a, b in itertools.pairwise(phi)]

    out = []
    for row in rows:
        others = [r for r in peers(rows, row) if r is not row]
        o = loops.loo(row, rows, lambda r: r.outcome)
        own = to_go(gains(row), to_go_gamma)
        out.append([
            (x - mean(loops.at(to_go(gains(r), to_go_gamma), k) for r in others) if others else 0.0) + o for k, x in enumerate(own)
        ])  # fmt: skip
    return out


def by_prefix(rows: Sequence[Row]) -> Advantages:
    out = []
    for row in rows:
        there = [[r.turns[j] for r in peers(rows, row) for j, s in enumerate(r.states) if s == state] for state in row.states]
        out.append([x - mean(t) if len(t) > 1 else 0.0 for x, t in zip(row.turns, there, strict=True)])
    return out


def turn_groups(rows: Sequence[Row], gamma: float, weight: float) -> Advantages:
    out = []
    for row in rows:
        gains = [
            loops.z(x, [p.turns[k] for p in peers(rows, row) if k < len(p.turns) - 1]) for k, x in enumerate(row.turns[:-1])
        ]  # fmt: skip
        o = loops.z(row.outcome, [p.outcome for p in peers(rows, row)])
        ahead = to_go([*gains, 0.0], gamma)
        out.append([o + weight * x / math.sqrt(max(len(gains) - k, 1)) for k, x in enumerate(ahead)])
    return out


def suffixes(rows: Sequence[Row]) -> Advantages:
    def score(row: Row) -> float:
        if row.more["format_error"]:
            return -1.0
        if any(r.outcome >= 0.5 for r in peers(rows, row)):
            return row.outcome
        n = len(row.turns)
        weights = [1 / (1 + math.exp(-8 * (k / max(n - 1, 1) - 0.5))) for k in range(n)]
        return sum(w * x for w, x in zip(weights, row.more["suffix_gain"], strict=True)) / sum(weights)

    return loops.z_of(rows, score)


def by_use(rows: Sequence[Row]) -> Advantages:
    out = []
    for row, a in zip(rows, loops.z_of(rows, lambda r: r.outcome), strict=True):
        last = len(a) - 1
        useful = row.more["useful"]
        masked = [(not useful[k] and k < last) if row.outcome else bool(useful[k]) for k in range(len(a))]
        out.append([0.0 if m else x for m, x in zip(masked, a, strict=True)])
    return out


def scaled(plain: Plain, factor: float) -> Plain:
    return lambda rows: [[factor * x for x in row] for row in plain(rows)]


def mean_turns(rows: Sequence[Row]) -> Advantages:
    """The most turns of the group stand for the reference."""
    def score(row: Row, by: Sequence[Row]) -> float:
        return sum(row.turns) / max(len(r.turns) for r in by)

    def value(row: Row) -> float:
        group = peers(rows, row)
        return score(row, group) - mean(score(r, group) for r in group)

    return loops.spread(rows, value)


CASES: list[tuple[str, dict[str, Any], Plain]] = [
    ("dr_grpo", {"total": True}, lambda rows: loops.spread(rows, lambda r: r.outcome + sum(r.turns) - mean(p.outcome + sum(p.turns) for p in peers(rows, r)))),
    ("dapo", {"least": 0.2, "most": 0.6}, in_band),
    ("rlpr", {"component": "self_aligned", "alpha": 0.6, "first_step": 99}, lambda rows: loops.z_of(rows, lambda r: 0.6 * r.more["self_aligned"] + 0.4 * r.outcome)),
    ("prof", {"keep": 3, "filter_correct": True}, lambda rows: first_wrong(rows, 3)),
    ("noisy_backward", {"rho0": 0.1, "rho1": 0.2, "std": True}, lambda rows: loops.z_of(rows, lambda r: (r.outcome - 0.1) / 0.7)),
    ("noisy_backward", {"rho0": 0.2, "baseline": "mean"}, lambda rows: loops.spread(rows, lambda r: (r.outcome - mean(p.outcome for p in peers(rows, r))) / 0.8)),
    ("e_grpo", {"alpha": 0.7, "component": "self_aligned"}, lambda rows: loops.e_grpo([Row(r.group, r.turns, r.outcome, more={**r.more, "entity_match": r.more["self_aligned"]}) for r in rows], 0.7)),
    ("matchtir", {"discount": 0.6, "lone": "zero"}, lambda rows: dual(rows, 0.6, True, False, True)),
    ("matchtir", {"outcome": "none"}, lambda rows: dual(rows, 0.9, True, True, False)),
    ("matchtir", {"std": False}, lambda rows: dual(rows, 0.9, False, True, True)),
    ("cm2", {}, mean_turns),
    ("cm2", {"form": "turn", "min_count": 2, "factor": 4.0}, scaled(lambda rows: loops.cm2_turn(rows, 2), 0.25)),
    ("empg", {"k": 2.0, "k_next": 0.5, "zeta": -0.1}, lambda rows: loops.empg(rows, 2.0, 0.5, -0.1)),
    ("prime", {"outcome_coef": 0.0, "whiten": False}, lambda rows: loops.prime(rows, 5.0, 0.0, False)),
    ("ggpo", {"component": "retrieval_gain"}, by_use),
    ("p2s", {"form": "suffix"}, suffixes),
    ("tips", {"alpha": 0.02, "terminal": "keep"}, lambda rows: shaped(rows, 0.02, 1.0, True, 1.0)),
    ("tips", {"gamma": 0.5}, lambda rows: shaped(rows, 1.0, 0.5, False, 0.5)),
    ("pica", {"gamma": 0.8}, lambda rows: shaped(rows, 1.0, 0.8, True, 0.8)),
    ("slate", {"std": False}, by_prefix),
    ("a2tgpo", {"gamma": 0.5, "weight": 2.0}, lambda rows: turn_groups(rows, 0.5, 2.0)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "plain"), CASES, ids=[f"{n} {o}" for n, o, _ in CASES])
def test_options_of_recipes(name: str, options: dict[str, Any], plain: Plain) -> None:
    check(CreditConfig(recipe=name, options=options), plain)


def test_per_index_z_scores() -> None:
    check(CreditConfig(recipe="per_index", scale="group"), per_index_z)


def test_over_long_episodes_may_leave_the_loss() -> None:
    """They stay in the statistics, so the others get what they get when nobody leaves."""
    plain = CreditConfig(recipe="e_grpo", options={"drop_overlong": True})
    check(plain, lambda rows: loops.e_grpo(rows, 0.3), lambda row: not row.more["overlong"])
