"""pass@k, intervals and the paired comparison against brute force."""

from itertools import combinations

import numpy as np
import pytest

from agentgym.rollout.statistics import bootstrap_interval, paired_difference, pass_at_k


@pytest.mark.parametrize(("n", "c", "k"), [(5, 2, 1), (5, 2, 3), (6, 0, 2), (4, 4, 4), (8, 3, 5)])
def test_pass_at_k_equals_the_share_of_subsets(n, c, k):
    outcomes = [1] * c + [0] * (n - c)
    subsets = list(combinations(outcomes, k))
    assert pass_at_k(n, c, k) == pytest.approx(sum(any(s) for s in subsets) / len(subsets))


def test_pass_at_k_refuses_too_few_samples():
    with pytest.raises(ValueError, match="pass@3 needs"):
        pass_at_k(2, 1, 3)


def test_bootstrap_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(100):
        low, high = bootstrap_interval(list(rng.random(40) < 0.3), seed=trial)
        hits += low <= 0.3 <= high
    assert 85 <= hits <= 100


def test_paired_difference_sees_a_shift_and_no_shift():
    rng = np.random.default_rng(1)
    a = rng.random(200)
    diff, low, high, p = paired_difference(list(a), list(a + 0.1))
    assert diff == pytest.approx(0.1)
    assert low > 0
    assert high > 0
    assert p < 0.01
    assert paired_difference(list(a), list(rng.permutation(a)))[3] > 0.05
