"""The table of edge cases in docs/credit.md, row by row: what is in the statistics, what is in the loss, what it is worth."""

from typing import Any

import numpy as np
import pytest

from agentgym.credit import CreditConfig, CreditResult, advantages, advantages_from_arrays
from agentgym.learn.batch import to_batch
from agentgym.types import Group, Score, Segment, Span, Trajectory, Turn

PLAIN = CreditConfig(turn_weight=1.0, scale="none")
NAN = float("nan")


def run(turns: Any, outcome: Any, group: Any = None, config: CreditConfig = PLAIN, mask: Any = None, **more: Any) -> CreditResult:
    scores = np.asarray(turns, float)
    exists = np.ones(scores.shape, bool) if mask is None else np.asarray(mask, bool)
    return advantages_from_arrays(scores, exists, outcome, [0] * len(scores) if group is None else group, config=config, **more)


def recipe(name: str, **options: Any) -> CreditConfig:
    return CreditConfig(recipe=name, options=options)


def test_zero_variance_partition_stays_unless_selection_drops_it() -> None:
    outcome, group = [1.0, 1.0, 1.0, 0.0], ["a", "a", "b", "b"]
    kept = run(np.zeros((4, 1)), outcome, group, recipe("grpo"))
    assert not kept.values[:2].any()
    assert kept.in_loss.all()
    dropped = run(np.zeros((4, 1)), outcome, group, recipe("dapo"))
    assert dropped.in_loss.tolist() == [False, False, True, True]
    assert dropped.metrics["left_out"] == 2
    np.testing.assert_array_equal(dropped.values, kept.values)


def test_singleton_partition_is_zero_or_raw_where_the_form_is_exact_only_so() -> None:
    alone = run([[1.0, 0.5]], [1.0])
    assert not alone.values.any()
    assert alone.in_loss.all()
    mask, turns = [[1, 1], [1, 0]], [[0.0, 0.75], [0.0, 0.0]]
    zero_counted = run(turns, [0, 0], mask=mask).values
    alive = CreditConfig(turn_weight=1.0, scale="none", options={"among": "alive"})
    np.testing.assert_allclose(zero_counted[0], [0.75, 0.75])
    np.testing.assert_allclose(run(turns, [0, 0], mask=mask, config=alive).values[0], [0.75, 0.75])  # the lone turn: raw
    assert run(turns, [0, 0], mask=mask, config=recipe("matchtir", lone="zero")).values[0, 1] != 0.75


def test_turn_indices_that_few_members_reach_are_left_out_of_the_loss() -> None:
    mask = np.arange(2) < np.array([2, 2, 2, 2, 1, 1])[:, None]
    turns = np.where(mask, 1.0, 0.0) * np.arange(6)[:, None]
    got = run(turns, [0.0] * 6, config=recipe("cm2", form="turn"), mask=mask).values
    assert got[:, 0].any()
    assert not got[:, 1].any()  # four members, five are needed


def test_single_turn_trajectory_has_outcome_and_its_peers_at_index_zero() -> None:
    mask = [[1, 1], [1, 0], [1, 0]]
    got = run([[0.5, 0.25], [0.25, 0.0], [0.0, 0.0]], [0, 1, 0], mask=mask).values
    np.testing.assert_allclose(got[1], [(0.25 - 0.375) + 1.0, 0.0])  # others' returns-to-go .75 and 0, outcomes 0


@pytest.mark.parametrize(("missing", "first"), [("zero", [1.0, 1.0 + 0.0]), ("outcome", [1.0, 1.0])])
def test_missing_turn_score_is_never_silently_zero(missing: Any, first: list[float]) -> None:
    from agentgym.errors import DataError

    turns = [[NAN, 0.0], [0.0, 0.0]]
    with pytest.raises(DataError, match="group 0, row 0, turn 0"):
        run(turns, [1, 0])
    np.testing.assert_allclose(run(turns, [1, 0], missing=missing).values[0], first)


def test_unequal_group_sizes_are_counted_group_by_group() -> None:
    group = ["a", "b", "a", "b", "b"]  # rows of a group need not lie together
    got = run(np.zeros((5, 1)), [1, 0, 0, 3, 0], group, recipe("rloo")).values[:, 0]
    np.testing.assert_allclose(got, [1, -1.5, -1, 3, -1.5])


@pytest.mark.parametrize(("name", "worth"), [("e_grpo", 0.0), ("atom_searcher", -1.0), ("p2s", -1.0)])
def test_format_error_is_in_both_masks_with_the_value_of_its_recipe(name: str, worth: float) -> None:
    extras = {
        "format_error": [0, 0, 1], "overlong": [0, 0, 0], "correct": [1, 0, 0],
        **{f"score:{c}": [0.5, 0.5, 0.5] for c in ("entity_match", "atomic_thought", "self_aligned")},
    }  # fmt: skip
    got = run(np.zeros((3, 1)), [1.0, 0.0, 0.7], config=recipe(name), extras=extras)
    from agentgym.credit import Scales, recipe_of

    shaped = recipe_of(recipe(name)).prepared(got.arrays, Scales())
    assert shaped.outcome[2] == worth
    assert shaped.in_statistics[2]
    assert shaped.in_loss[2]
    assert got.values[2, 0] < 0


def test_over_length_is_kept_and_excluded_only_when_asked_for() -> None:
    extras = {"score:entity_match": [1.0, 0.5, 0.0], "format_error": [0, 0, 0], "overlong": [0, 1, 0]}
    kept = run(np.zeros((3, 1)), [1, 0, 0], config=recipe("e_grpo"), extras=extras)
    dropped = run(np.zeros((3, 1)), [1, 0, 0], config=recipe("e_grpo", drop_overlong=True), extras=extras)
    assert kept.in_loss.all()
    assert dropped.in_loss.tolist() == [True, False, True]
    np.testing.assert_allclose(dropped.values[[0, 2]], kept.values[[0, 2]])  # still in the statistics


def test_judge_or_tool_failure_is_in_neither_mask() -> None:
    lost = {"in_statistics": [1, 1, 0], "in_loss": [1, 1, 0]}
    got = run([[0.5], [0.0], [NAN]], [1, 0, NAN], **lost)
    np.testing.assert_allclose(got.values[:, 0], [1.5, -1.5, 0.0])


def test_judge_failure_in_a_rubric_abstains_instead_of_scoring_zero() -> None:
    """The release scores 0; here the score is invalid, and the trajectory with it (`Suite.complete`)."""
    from agentgym.errors import DataError

    invalid = {"citation_rubric": Score("trajectory", None, valid=False, reason="the judge failed")}
    members = (_trajectory("a", [0.0], 1.0), _trajectory("b", [0.0], 0.0).with_(scores=invalid))
    with pytest.raises(DataError, match="never counted as 0"):
        advantages(PLAIN, [Group("g", "q", members)])
    out = members[1].with_(in_statistics=False, in_loss=False)
    assert advantages(PLAIN, [Group("g", "q", (members[0], out))]).advantages == {"a": (0.0,), "b": (0.0,)}


def test_invalid_tool_call_turn_stays_with_its_penalty() -> None:
    """A penalty of -.1 is a turn score like any other: charged to that turn and those before it."""
    got = run([[0.0, -0.1, 0.0], [0.0, 0.0, 0.0]], [0, 0]).values
    np.testing.assert_allclose(got[0], [-0.1, -0.1, 0.0])
    masked = run(np.zeros((2, 2)), [1, 0], config=recipe("ggpo"), extras={"masked": [[0, 1], [0, 0]]}).values
    assert masked[0, 1] == 0  # or out of the loss, where a recipe masks turns
    assert masked[0, 0] != 0


def test_alternative_answers_count_by_the_best() -> None:
    from agentgym.rewards.answers import AnswerF1
    from agentgym.task import Answer, Gold

    component = AnswerF1()
    from agentgym.rewards import EpisodeView

    view = EpisodeView("q", Gold(answers=(Answer("Lund", ("the city of Lund",)), Answer("Malmo"))), (), [], "city of Lund", (), "answered")
    assert component.score(view, None).raw == 1.0


def test_later_turns_have_fewer_peers_and_are_no_less_trained() -> None:
    mask = [[1, 1, 1], [1, 1, 0], [1, 0, 0]]
    got = run([[0, 0, 1.0], [0, 0.5, 0], [0, 0, 0]], [0, 0, 0], mask=mask).values
    np.testing.assert_allclose(got[0], [0.75, 0.75, 1.0])  # ended episodes count as 0
    np.testing.assert_allclose(got[1], [0.0, 0.0, 0.0])


# ---- the denominator of the loss follows the selection


def _trajectory(name: str, turns: list[float], outcome: float, tokens: int = 2) -> Trajectory:
    made = tuple(Turn(k, "x", reward=r, scores={"t": Score("turn", r, value=r)}) for k, r in enumerate(turns))
    spans, ids, mask = [], [0], [0]
    for k in range(len(turns)):
        spans.append(Span(k, len(ids), len(ids) + tokens))
        ids += [1] * tokens
        mask += [1] * tokens
    segment = Segment(tuple(ids), tuple(mask), tuple(-0.5 * m for m in mask), tuple(spans))
    scores = {"em": Score("trajectory", outcome, value=outcome)}
    return Trajectory(name, "E", "q", (), made, scores=scores, reward=outcome, segments=(segment,))


def test_episodes_that_a_recipe_leaves_out_are_in_no_denominator() -> None:
    groups = [
        Group("solved", "q", tuple(_trajectory(f"a{i}", [0.0], 1.0, tokens=50) for i in range(3))),
        Group("mixed", "q", tuple(_trajectory(f"b{i}", [0.0], float(i == 0)) for i in range(3))),
    ]
    every = [t for g in groups for t in g.trajectories]
    for name, n in (("grpo", 6), ("dapo", 3)):
        result = advantages(recipe(name), groups)
        chosen = [t for t, kept in zip(every, result.in_loss, strict=True) if kept]
        batch = to_batch(chosen, result.advantages)
        assert batch.n_episodes == n, "zero-advantage episodes count, those that were selected out do not"
        assert batch.n_action_tokens == (6 if name == "dapo" else 156)
        assert len(batch.lengths) == 3
