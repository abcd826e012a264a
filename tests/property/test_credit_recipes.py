"""Properties of every published recipe that hold for every batch."""

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentgym.credit import RECIPES, CreditArrays, CreditConfig, Scales, recipe_of, spread
from agentgym.seeding import stream
from tests.support.credit_loops import as_arrays, some_rows

CLOSE: dict[str, Any] = {"rtol": 1e-9, "atol": 1e-9}
SEEDS = st.integers(0, 2**31)
NAMES = st.sampled_from(sorted(RECIPES.names()))
SHARED = ("channel_weights", "item_weights")
SCALES = Scales(n_steps=20, spread=0.4)


def batch(seed: int) -> CreditArrays:
    """Ragged groups; one row in six is out of each mask."""
    arrays = as_arrays(some_rows(seed))
    rng = stream("masks", seed)
    n = len(arrays.group)
    return arrays.but(in_statistics=rng.random(n) < 5 / 6, in_loss=rng.random(n) < 5 / 6)


def run(arrays: CreditArrays, name: str, **options: Any) -> np.ndarray:
    return recipe_of(CreditConfig(recipe=name, scale="none", options=options)).run(arrays, SCALES)


def rows(a: CreditArrays, order: np.ndarray) -> CreditArrays:
    names = ("turn_scores", "turn_mask", "outcome", "group", "in_statistics", "in_loss")
    extras = {n: v if n in SHARED else v[order] for n, v in a.extras.items()}
    return a.but(**{name: getattr(a, name)[order] for name in names}, extras=extras)


@given(SEEDS, NAMES)
def test_order_of_the_rows_changes_nothing(seed: int, name: str) -> None:
    if name == "prof":  # ties between equal process scores go by the order of the rows
        return
    a = batch(seed)
    order = stream("order", seed).permutation(len(a.group))
    np.testing.assert_allclose(run(rows(a, order), name), run(a, name)[order], **CLOSE)


@given(SEEDS, NAMES)
def test_padding_changes_nothing_and_nothing_lies_outside_the_masks(seed: int, name: str) -> None:
    a = batch(seed)
    got = run(a, name)
    assert np.isfinite(got).all()
    assert not got[~a.turn_mask].any()
    assert not got[~a.in_loss].any()
    per_turn = ("accuracy", "confidence", "masked", "log_ratio", "suffix_gain", "useful", "state", "entropy", "items", "eligible", "potential", "mode_support", "continued_outcome", "continued_turns")
    wide = {n: np.pad(v, [(0, 0), (0, 2), *[(0, 0)] * (v.ndim - 2)], constant_values=1) if n in per_turn else v for n, v in a.extras.items()}  # fmt: skip
    wider = a.but(
        turn_scores=np.pad(a.turn_scores, ((0, 0), (0, 2)), constant_values=7.0),
        turn_mask=np.pad(a.turn_mask, ((0, 0), (0, 2))), extras=wide,
    )  # fmt: skip
    np.testing.assert_allclose(run(wider, name), np.pad(got, ((0, 0), (0, 2))), **CLOSE)


@given(SEEDS, NAMES)
def test_rows_in_neither_mask_could_hold_anything(seed: int, name: str) -> None:
    a = batch(seed)
    lost = ~a.in_statistics & ~a.in_loss
    wild = a.but(turn_scores=np.where(lost[:, None], 1e6, a.turn_scores), outcome=np.where(lost, -1e6, a.outcome))
    np.testing.assert_allclose(run(wild, name), run(a, name), **CLOSE)


@given(SEEDS)
def test_recipes_without_their_extra_part_are_grpo(seed: int) -> None:
    a = batch(seed)
    a = a.but(extras={n: v for n, v in a.extras.items() if n not in ("format_error", "overlong")})
    plain = run(a, "grpo")
    for name in ("e_grpo", "c_grpo", "trust_grpo"):
        np.testing.assert_allclose(run(a, name, alpha=0.0), plain, **CLOSE)
    np.testing.assert_allclose(run(a, "atom_searcher", weight=0.0), plain, **CLOSE)
    np.testing.assert_allclose(run(a, "rlpr", beta=0.0), plain, **CLOSE)
    np.testing.assert_allclose(run(a, "noisy_backward", rho0=0.1, rho1=0.2, std=True), plain, rtol=0, atol=1e-5)
    np.testing.assert_allclose(run(a, "noisy_backward", rho0=0.0, rho1=0.0), run(a, "rloo"), **CLOSE)
    np.testing.assert_allclose(run(a, "noisy_backward", rho0=0.1, rho1=0.2), run(a, "rloo") / 0.7, **CLOSE)


@given(SEEDS)
def test_equal_gains_leave_the_outcome_of_separate_information_gain(seed: int) -> None:
    a = as_arrays(some_rows(seed))
    a = a.but(turn_scores=np.where(a.turn_mask, 0.2, 0.0))
    got = run(a, "igpo", form="separate")
    number = a.group_sum(np.ones((len(a.group), 1)))[:, 0]
    mean = a.group_sum(a.outcome[:, None])[:, 0] / number
    std = np.sqrt(a.group_sum(((a.outcome - mean) ** 2)[:, None])[:, 0] / number + 1e-8)
    z = np.where(number > 1, (a.outcome - mean) / (std + 1e-6), 0.0)
    np.testing.assert_allclose(got, np.where(a.turn_mask, z[:, None], 0.0), **CLOSE)


@given(SEEDS)
def test_a_gain_of_zero_is_a_turn_like_any_other(seed: int) -> None:
    a = as_arrays(some_rows(seed))
    zero = a.but(turn_scores=np.where(a.turn_scores == np.round(a.turn_scores), 0.0, a.turn_scores))
    tiny = zero.but(turn_scores=np.where(a.turn_mask & (zero.turn_scores == 0), 1e-12, zero.turn_scores))
    for name in ("igpo", "matchtir", "turn_grpo", "per_index"):
        np.testing.assert_allclose(run(zero, name), run(tiny, name), rtol=0, atol=1e-6)


@given(SEEDS, st.integers(1, 5))
def test_spreading_keeps_every_turn_times_its_tokens(seed: int, most: int) -> None:
    a = batch(seed)
    rng = stream("tokens", seed)
    values = np.where(a.turn_mask, rng.normal(size=a.turn_mask.shape), 0.0)
    lengths = np.where(a.turn_mask, rng.integers(0, most + 1, a.turn_mask.shape), 0)
    width = int(lengths.sum(1).max()) + 3
    turn = np.full((len(values), width), -1)
    for i, row in enumerate(lengths):
        turn[i, : row.sum()] = np.repeat(np.arange(len(row)), row)
    got = spread(values, turn, turn >= 0)
    np.testing.assert_allclose(got.sum(1), (values * lengths).sum(1), **CLOSE)
    assert not got[turn < 0].any()
