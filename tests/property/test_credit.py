"""Properties of credit that hold for every batch."""

from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from agentgym.credit import CreditArrays, CreditConfig, Scales, recipe_of
from agentgym.credit.blocks import accumulate, centre
from agentgym.credit.scales import SCALE_NAMES, RunningSquare
from agentgym.seeding import stream

FROZEN = Scales(turn_square=RunningSquare(0.02, 3), trajectory_square=RunningSquare(0.05, 2))
CLOSE: dict[str, Any] = {"rtol": 0.0, "atol": 1e-9}
SCALES = st.sampled_from(SCALE_NAMES)
GAMMAS = st.floats(0.0, 1.0)


@st.composite
def batches(draw: st.DrawFn, *, all_counted: bool = False, n_turns: int | None = None) -> CreditArrays:
    """Ragged groups of 1 to 5 members with 0 to 4 turns; scores are often equal, so ties and zeros are common."""
    sizes = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4))
    rng = stream("credit", draw(st.integers(0, 2**32)))
    n = sum(sizes)
    lengths = rng.integers(0, 5, n) if n_turns is None else np.full(n, n_turns)
    mask = np.arange(max(int(lengths.max()), 1))[None, :] < lengths[:, None]
    scores = np.round(rng.normal(size=mask.shape), draw(st.integers(0, 2)))
    everyone = np.ones(n, bool)
    return CreditArrays(
        turn_scores=np.where(mask, scores, 0.0),
        turn_mask=mask,
        outcome=np.round(rng.random(n), draw(st.integers(0, 2))),
        group=np.repeat(np.arange(len(sizes)), sizes),
        in_statistics=everyone if all_counted else rng.random(n) < 0.8,
        in_loss=everyone if all_counted else rng.random(n) < 0.9,
    )


def rows(arrays: CreditArrays, order: np.ndarray) -> CreditArrays:
    names = ("turn_scores", "turn_mask", "outcome", "group", "in_statistics", "in_loss")
    return CreditArrays(**{name: getattr(arrays, name)[order] for name in names})


@given(batches(), SCALES, st.sampled_from(["turn_grpo", "grpo"]), GAMMAS, st.integers(0, 99))
def test_order_of_the_rows_changes_nothing(a: CreditArrays, scale: str, name: str, gamma: float, seed: int) -> None:
    recipe = recipe_of(CreditConfig(recipe=name, scale=scale, gamma=gamma))
    order = stream("order", seed).permutation(len(a.group))
    np.testing.assert_allclose(recipe.run(rows(a, order), FROZEN), recipe.run(a, FROZEN)[order], rtol=1e-9, atol=1e-9)


@given(batches(), SCALES)
def test_padding_changes_nothing_and_nothing_lies_outside_the_masks(a: CreditArrays, scale: str) -> None:
    recipe = recipe_of(CreditConfig(scale=scale))
    got = recipe.run(a, FROZEN)
    wider = replace(
        a, turn_scores=np.pad(a.turn_scores, ((0, 0), (0, 2)), constant_values=7.0), turn_mask=np.pad(a.turn_mask, ((0, 0), (0, 2)))
    )  # fmt: skip
    np.testing.assert_array_equal(recipe.run(wider, FROZEN), np.pad(got, ((0, 0), (0, 2))))
    assert np.isfinite(got).all()
    assert not got[~a.turn_mask].any()
    assert not got[~a.in_loss].any()


@given(batches(), GAMMAS)
def test_centring_each_index_with_ended_episodes_as_zero_and_then_accumulating_is_the_default(
    a: CreditArrays, gamma: float
) -> None:
    everywhere = np.ones_like(a.turn_mask)
    centred = centre(np.where(a.turn_mask, a.turn_scores, 0.0), everywhere, a)
    padded = np.where(a.turn_mask, accumulate(centred, everywhere, gamma), 0.0)
    default = centre(accumulate(a.turn_scores, a.turn_mask, gamma), a.turn_mask, a)
    np.testing.assert_allclose(padded, default, **CLOSE)


@given(batches(all_counted=True, n_turns=3), st.sampled_from(["none", "running", "shared", "batch"]), GAMMAS)
def test_advantages_of_a_group_sum_to_zero_at_each_index_where_all_are_alive(
    a: CreditArrays, scale: str, gamma: float
) -> None:
    got = recipe_of(CreditConfig(scale=scale, gamma=gamma)).run(a, FROZEN)
    np.testing.assert_allclose(a.group_sum(got), 0.0, **CLOSE)


@given(batches(all_counted=True), GAMMAS)
def test_leave_one_out_is_the_mean_form_times_g_over_g_minus_one(a: CreditArrays, gamma: float) -> None:
    to_go = accumulate(a.turn_scores, a.turn_mask, gamma)
    size = a.group_sum(np.ones((len(a.group), 1)))
    factor = np.where(size > 1, size / np.maximum(size - 1, 1), 0.0)
    mean = centre(to_go, a.turn_mask, a, baseline="mean")
    np.testing.assert_allclose(centre(to_go, a.turn_mask, a), factor * mean, **CLOSE)
    # zero-counted: what the ended members would have got makes each index sum to zero
    full = centre(to_go, np.ones_like(a.turn_mask), a)
    np.testing.assert_allclose(a.group_sum(full), 0.0, **CLOSE)


@given(batches(), SCALES, st.floats(-5, 5))
def test_a_constant_added_to_all_outcomes_of_a_group_changes_nothing(a: CreditArrays, scale: str, shift: float) -> None:
    recipe = recipe_of(CreditConfig(scale=scale))
    moved = replace(a, outcome=a.outcome + np.where(a.group == 0, shift, 0.0))
    if scale == "batch":  # its spread is taken over all groups, so only a shift of all of them is free
        moved = replace(a, outcome=a.outcome + shift)
    np.testing.assert_allclose(recipe.run(moved, FROZEN), recipe.run(a, FROZEN), rtol=0, atol=1e-7)


@given(batches(), SCALES, st.floats(0.1, 10))
def test_grpo_does_not_see_an_affine_correction_of_the_reward(a: CreditArrays, scale: str, factor: float) -> None:
    recipe = recipe_of(CreditConfig(recipe="grpo", scale=scale))
    moved = replace(a, outcome=factor * a.outcome - 0.3)
    np.testing.assert_allclose(recipe.run(moved, FROZEN), recipe.run(a, FROZEN), rtol=2e-3, atol=1e-6)


@given(batches())
def test_no_part_of_ones_own_score_comes_back_through_a_leave_one_out_baseline_or_scale(a: CreditArrays) -> None:
    recipe = recipe_of(CreditConfig(scale="loo", turn_weight=0.0))
    moved = replace(a, outcome=a.outcome + np.where(np.arange(len(a.group)) == 0, 0.25, 0.0))
    before, after = recipe.trace(a, FROZEN)["trajectory"], recipe.trace(moved, FROZEN)["trajectory"]
    np.testing.assert_allclose(after.divisor[0], before.divisor[0], **CLOSE)
    change = (after.values - before.values)[0] * before.divisor[0]
    np.testing.assert_allclose(change, 0.25 if a.has_other[0] else 0.0, **CLOSE)


@given(batches(), st.permutations(list(range(3))))
def test_scales_of_the_next_step_do_not_depend_on_the_order_of_rows(a: CreditArrays, seed: list[int]) -> None:
    recipe = recipe_of(CreditConfig())
    order = stream("order", *seed).permutation(len(a.group))
    one, two = Scales().update(a, recipe), Scales().update(rows(a, order), recipe)
    np.testing.assert_allclose([one.turn, one.trajectory, one.shared], [two.turn, two.trajectory, two.shared], **CLOSE)
