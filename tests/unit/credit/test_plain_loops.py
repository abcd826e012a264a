"""Every registered recipe, with its options, against plain loops written from the formulas, on random ragged groups."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from agentgym.credit import RECIPES, CreditArrays, CreditConfig, Scales, recipe_of
from agentgym.credit.scales import RunningSquare
from tests.support import credit_loops as loops
from tests.support.credit_loops import ITEM_WEIGHTS, WEIGHTS, Advantages, Row, as_arrays, some_rows

STEP = 30
SCALES = Scales(turn_square=RunningSquare(0.02, 3), n_steps=STEP, spread=0.9)
PLAIN = {"turn_weight": 1.0, "scale": "none"}


def run(arrays: CreditArrays, name: str, options: Mapping[str, Any]) -> np.ndarray:
    plain = PLAIN if name in ("turn_grpo", "per_index", "discount_schedule") else {}
    return recipe_of(CreditConfig(recipe=name, options=dict(options), **plain)).run(arrays, SCALES)


def total(row: Row) -> float:
    return row.outcome + sum(row.turns)


def mixed(rows: Sequence[Row]) -> Advantages:
    keep = [0 < loops.mean(r.outcome for r in loops.peers(rows, row)) < 1 for row in rows]
    z = loops.z_of(rows, lambda r: r.outcome)
    return [a if k else [0.0] * len(a) for a, k in zip(z, keep, strict=True)]


def spread_enough(rows: Sequence[Row], beta: float) -> Advantages:
    z = loops.z_of(rows, lambda r: r.outcome)
    out = []
    for row, a in zip(rows, z, strict=True):
        group = [r.outcome for r in loops.peers(rows, row)]
        std = 0.0 if len(group) < 2 else float(np.std(group, ddof=1))
        out.append(a if std >= beta * SCALES.spread else [0.0] * len(a))
    return out


def modes(row: Row) -> list[float]:
    phi = [float(np.dot(s, row.more["mode_reliability"])) for s in row.more["mode_support"]]
    return [b - a for a, b in itertools.pairwise(phi)][: len(row.turns)]


def weighed(rows: Sequence[Row], outcome: float, turn: float) -> list[Row]:
    return [Row(r.group, [turn * x for x in r.turns], outcome * r.outcome, r.states, r.entropy, r.more) for r in rows]


def loo_of(score: Callable[[Row], float]) -> Callable[[Sequence[Row]], Advantages]:
    return lambda rows: loops.spread(rows, lambda row: loops.loo(row, rows, score))


def gigpo(rows: Sequence[Row], **how: Any) -> Advantages:
    return loops.gigpo(rows, **({"gamma": 0.95, "omega": 1.0, "over_rows": False, "std": False, "others": False} | how))


def ppr(rows: Sequence[Row], mu: float) -> Advantages:
    paid = [Row(r.group, [x + r.outcome - mu for x in r.turns], 0.0) for r in rows]
    return loops.turn_grpo(paid, lambda r: r.turns)


def frozen(rows: Sequence[Row]) -> Advantages:
    return [[x / 2.0 + r.outcome - 0.4 for x in loops.to_go(r.turns)] for r in rows]


def discounted(rows: Sequence[Row]) -> Advantages:
    out = []
    for row in rows:
        own = loops.to_go(row.turns, 0.75)
        others = [loops.to_go(r.turns, 0.75) for r in loops.peers(rows, row) if r is not row]
        o = loops.loo(row, rows, lambda r: r.outcome)
        level = [(x - loops.mean(loops.at(v, k) for v in others)) if others else 0.0 for k, x in enumerate(own)]
        out.append([x + o for x in level])
    return out


CASES: list[tuple[str, dict[str, Any], Callable[[Sequence[Row]], Advantages]]] = [
    ("turn_grpo", {}, lambda rows: loops.turn_grpo(rows, lambda r: r.turns)),
    ("turn_grpo", {"among": "alive"}, loops.alive),
    ("per_index", {}, loops.per_index),
    ("grpo", {}, lambda rows: loops.z_of(rows, lambda r: r.outcome)),
    ("grpo", {"total": True}, lambda rows: loops.z_of(rows, total)),
    ("dr_grpo", {}, lambda rows: loops.spread(rows, lambda r: r.outcome - loops.mean(p.outcome for p in loops.peers(rows, r)))),
    ("rloo", {}, loo_of(lambda r: r.outcome)),
    ("rloo", {"total": True}, loo_of(total)),
    ("dapo", {}, mixed),
    ("rlpr", {"beta": 0.6}, lambda rows: spread_enough(rows, 0.6)),
    ("prof", {"keep": 4}, lambda rows: loops.prof(rows, 4)),
    ("noisy_backward", {"rho0": 0.1, "rho1": 0.2}, loo_of(lambda r: (r.outcome - 0.1) / 0.7)),
    ("noisy_forward", {"rho0": 0.1, "rho1": 0.2}, lambda rows: loops.spread(rows, lambda r: 0.2 if r.outcome else -0.8)),
    ("e_grpo", {}, lambda rows: loops.e_grpo(rows, 0.3)),
    ("c_grpo", {}, lambda rows: loops.c_grpo(rows, 0.3, released=False)),
    ("c_grpo", {"form": "released"}, lambda rows: loops.c_grpo(rows, 0.3, released=True)),
    ("trust_grpo", {}, lambda rows: loops.trust_grpo(rows, 0.3, STEP, 500)),
    ("atom_searcher", {}, lambda rows: loops.atom_searcher(rows, 0.5, STEP, 200)),
    ("igpo", {}, lambda rows: loops.igpo_joint(rows, 1.0, True)),
    ("igpo", {"gamma": 0.8, "std": False}, lambda rows: loops.igpo_joint(rows, 0.8, False)),
    ("igpo", {"curriculum": True}, lambda rows: loops.igpo_joint(weighed(rows, 0.575, 0.925), 1.0, True)),
    ("matchtir", {}, lambda rows: loops.matchtir(rows, 0.9)),
    ("cm2", {"reference_turns": 3}, lambda rows: loops.cm2_trajectory(rows, 3)),
    ("cm2", {"form": "turn", "min_count": 3}, lambda rows: loops.cm2_turn(rows, 3)),
    ("cm2", {"form": "step"}, lambda rows: loops.cm2_step(rows, ITEM_WEIGHTS)),
    ("gigpo", {}, gigpo),
    ("gigpo", {"over": "rows"}, lambda rows: gigpo(rows, over_rows=True)),
    ("gigpo", {"form": "mean_std"}, lambda rows: gigpo(rows, std=True)),
    ("gigpo", {"baseline": "loo", "omega": 0.5}, lambda rows: gigpo(rows, others=True, omega=0.5)),
    ("empg", {}, lambda rows: loops.empg(rows, 1.0, 1.0, 0.05)),
    ("mrn", {}, lambda rows: loops.channels(rows, WEIGHTS, batch=False)),
    ("gdpo", {}, lambda rows: loops.channels(rows, WEIGHTS, batch=True)),
    ("spae", {}, lambda rows: loops.spae(rows, 0.5, 0.5, 0.9)),
    ("spae", {"saturated": 0.1, "alpha": 0.8}, lambda rows: loops.spae(rows, 0.8, 0.5, 0.1)),
    ("ppr", {"mu": 0.5}, lambda rows: ppr(rows, 0.5)),
    ("prime", {}, lambda rows: loops.prime(rows, 5.0, 5.0, True)),
    ("prime", {"whiten": False, "turn_coef": 1.0}, lambda rows: loops.prime(rows, 1.0, 5.0, False)),
    ("rank_grpo", {}, lambda rows: loops.rank(rows, own=False)),
    ("rank_grpo", {"form": "own"}, lambda rows: loops.rank(rows, own=True)),
    ("ggpo", {}, loops.masked),
    ("prl", {"eta": 2.0}, lambda rows: loops.turn_grpo(rows, lambda r: [-x / 2 for x in r.more["log_ratio"]])),
    ("p2s", {}, loops.p2s),
    ("frozen", {"mean": 0.4, "turn_std": 2.0}, frozen),
    ("discount_schedule", {"n_steps": 60}, discounted),
    ("counterfactual", {}, lambda rows: loops.counterfactual(rows, 0.0)),
    ("counterfactual", {"weight": 0.5}, lambda rows: loops.counterfactual(rows, 0.5)),
    ("drpo", {"max_tokens": 100}, lambda rows: loops.drpo(rows, 10.0, 0.1, 100.0)),
    ("drpo", {"max_tokens": 100, "tau": 0.3, "lam": 2.0}, lambda rows: loops.drpo(rows, 0.3, 2.0, 100.0)),
    ("tips", {}, lambda rows: loops.potential(rows, 1.0, zero=True)),
    ("pica", {}, lambda rows: loops.potential(rows, 1.0, zero=False)),
    ("siop", {}, lambda rows: loops.turn_grpo(rows, modes)),
    ("slate", {}, loops.slate),
    ("a2tgpo", {}, loops.a2tgpo),
]  # fmt: skip


def test_every_recipe_has_a_plain_form() -> None:
    assert set(RECIPES.names()) == {name for name, _, _ in CASES}


@pytest.mark.parametrize(("name", "options", "plain"), CASES, ids=[f"{n} {o or ''}" for n, o, _ in CASES])
def test_recipe_against_plain_loops(name: str, options: dict[str, Any], plain: Callable[..., Advantages]) -> None:
    for seed in range(8):
        rows = some_rows(seed)
        arrays = as_arrays(rows)
        got = run(arrays, name, options)
        for row, mask, numbers, want in zip(rows, arrays.turn_mask, got, plain(rows), strict=True):
            np.testing.assert_allclose(numbers[mask], want, rtol=0, atol=1e-9, err_msg=f"seed {seed}, {row}")
            assert not numbers[~mask].any()


def test_separate_information_gain_against_plain_loops() -> None:
    for seed in range(8):
        rows = some_rows(seed)
        for row in rows:  # as in the paper: the turn that answers has no gain of its own
            row.turns[-1] = 0.0
        arrays = as_arrays(rows)
        got = run(arrays, "igpo", {"form": "separate", "gamma": 0.9})
        for mask, numbers, want in zip(arrays.turn_mask, got, loops.igpo_separate(rows, 0.9, True), strict=True):
            np.testing.assert_allclose(numbers[mask], want, rtol=0, atol=1e-9)
