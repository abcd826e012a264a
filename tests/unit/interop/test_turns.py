"""Turns from masks and spans: the one function that adapters of other trainers share."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgym.errors import DataError
from agentgym.interop.turns import n_turns, padded, turn_ids


def test_each_run_of_sampled_tokens_is_a_turn():
    mask = [[1, 1, 0, 1, 0, 0, 1], [0, 1, 1, 1, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0]]
    turns = turn_ids(mask)
    assert turns.tolist() == [[0, 0, -1, 1, -1, -1, 2], [-1, 0, 0, 0, -1, -1, -1], [-1] * 7]
    assert n_turns(turns).tolist() == [3, 1, 0]
    assert turn_ids(np.zeros((0, 4))).shape == (0, 4)
    assert n_turns(turn_ids(np.zeros((2, 0)))).tolist() == [0, 0]


def test_spans_tell_turns_that_touch():
    mask = [[1, 1, 1, 0], [1, 0, 1, 0]]
    assert turn_ids(mask, [[(0, 1), (1, 3)], None]).tolist() == [[0, 1, 1, -1], [0, -1, 1, -1]]


@pytest.mark.parametrize("spans", [[(0, 5)], [(0, 2)], [(0, 2), (1, 3)], [(0, 4)], [(1, 1), (0, 3)], [(-1, 3)]])
def test_spans_that_do_not_fit_name_row_and_turn(spans):
    with pytest.raises(DataError, match="row 1"):
        turn_ids([[1, 0, 0, 0], [1, 1, 1, 0]], [None, spans])


def test_the_mask_must_be_a_table():
    with pytest.raises(DataError, match="shape"):
        turn_ids([1, 0, 1])


def test_ragged_scores_are_padded_and_none_stays_missing():
    scores, exists = padded([[1.0, None], [], [2.0]])
    assert exists.tolist() == [[True, True], [False, False], [True, False]]
    assert np.isnan(scores[0, 1])
    assert scores[[0, 1, 2], [0, 0, 0]].tolist() == [1, 0, 2]
    assert padded([])[0].shape == (0, 0)


@given(st.lists(st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), max_size=5), min_size=1, max_size=4), st.integers(0, 2))
def test_edges_and_spans_agree_where_turns_do_not_touch(rows, lead):
    masks, spans = [], []
    for row in rows:
        mask, found = [0] * lead, []
        for sampled, between in row:
            found.append((len(mask), len(mask) + sampled))
            mask += [1] * sampled + [0] * between
        masks.append(mask)
        spans.append(found)
    width = max(map(len, masks))
    table = np.array([m + [0] * (width - len(m)) for m in masks]).reshape(len(masks), width)
    assert np.array_equal(turn_ids(table), turn_ids(table, spans))
    assert n_turns(turn_ids(table)).tolist() == [len(row) for row in rows]
