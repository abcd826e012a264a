"""The gradient that reaches the weights, against formulas written out by hand."""

import numpy as np
import pytest
import torch

from agentgym.errors import ConfigError, LedgerError
from agentgym.learn import LossConfig, micro_batches, policy_loss, to_batch, token_weights
from agentgym.seeding import stream
from agentgym.types import Segment, Span, Trajectory, Turn

pytestmark = pytest.mark.torch


def gradients(policy, batch, config, c=5.0, max_tokens=10**9):
    """The update's loss and gradient, accumulated over micro-batches."""
    for p in policy.parameters():
        p.grad = None
    total, seen = 0.0, 0
    for part in micro_batches(batch, max_tokens):
        loss, stats = policy_loss(policy.logprobs(part.rows()), part, token_weights(part, config, c), config)
        loss.backward()
        total, seen = total + float(loss.detach()), seen + stats.n_tokens
    return total, torch.cat([p.grad.flatten() for p in policy.parameters()]).numpy(), seen


def sample(fake, n=9, **changes):
    episodes = [
        fake.random_trajectory(f"e{i}", n_turns=1 + i % 4, n_segments=1 + (i % 3 == 0 and i % 4 > 0), **changes)
        for i in range(n)
    ]
    rng = stream("advantages")
    return episodes, {t.id: rng.normal(size=len(t.turns)) for t in episodes}


def hand_loss(policy, episodes, advantages, weight_of, config):
    """The loss by plain loops over tokens."""
    kept = [t for t in episodes if t.in_loss]
    total = torch.zeros((), dtype=torch.float64)
    for t in kept:
        for segment in t.segments:
            for span in segment.spans:
                for i in range(span.start, span.end):
                    new = policy.all_logprobs(torch.tensor(segment.ids[i - 1]))[segment.ids[i]]
                    ratio = torch.exp(new - segment.logprobs[i])
                    a = float(advantages[t.id][span.turn])
                    term = ratio * a
                    if config.clip:
                        term = torch.minimum(term, ratio.clamp(1 - config.clip_low, 1 + config.clip_high) * a)
                    total = total - weight_of(t, kept) * term
    return total


def n_actions(trajectory):
    return sum(sum(s.mask) for s in trajectory.segments)


WEIGHTS = {
    "constant": lambda t, kept: 1 / (len(kept) * 5.0),
    "token_mean": lambda t, kept: 1 / sum(map(n_actions, kept)),
    "sequence_mean": lambda t, kept: 1 / (len(kept) * n_actions(t)),
}


@pytest.mark.parametrize("aggregation", WEIGHTS)
@pytest.mark.parametrize("clip", [True, False])
def test_gradient_equals_the_formula(fake, aggregation, clip):
    policy = fake.TinyPolicy(dtype=torch.float64)
    episodes, advantages = sample(fake)
    episodes[2] = episodes[2].with_(in_loss=False)
    config = LossConfig(aggregation=aggregation, clip=clip)
    loss, gradient, _ = gradients(policy, to_batch(episodes, advantages), config)
    expected = hand_loss(policy, episodes, advantages, WEIGHTS[aggregation], config)
    by_hand = torch.cat([g.flatten() for g in torch.autograd.grad(expected, policy.parameters())]).numpy()
    assert loss == pytest.approx(float(expected.detach()), abs=1e-12)
    np.testing.assert_allclose(gradient, by_hand, atol=1e-13)
    assert np.abs(gradient).max() > 1e-3


@pytest.mark.parametrize("aggregation", WEIGHTS)
@pytest.mark.parametrize("max_tokens", [1, 30, 61])
def test_micro_batches_change_nothing(fake, aggregation, max_tokens):
    policy = fake.TinyPolicy(dtype=torch.float64)
    episodes, advantages = sample(fake)
    batch, config = to_batch(episodes, advantages), LossConfig(aggregation=aggregation)
    parts = micro_batches(batch, max_tokens)
    assert len(parts) > 1
    assert all(len(p.lengths) == 1 or p.ids.size <= max_tokens for p in parts)
    assert sorted(n for p in parts for n in p.lengths) == sorted(batch.lengths)
    whole, split = gradients(policy, batch, config), gradients(policy, batch, config, max_tokens=max_tokens)
    assert split[0] == pytest.approx(whole[0], abs=1e-13)
    np.testing.assert_allclose(split[1], whole[1], atol=1e-13)
    assert split[2] == whole[2]


@pytest.mark.parametrize("aggregation", WEIGHTS)
def test_zero_advantage_episodes_count_and_cost_no_forward(fake, aggregation):
    policy = fake.TinyPolicy(dtype=torch.float64)
    episodes, advantages = sample(fake)
    for name in ("e1", "e4", "e7"):
        advantages[name] = np.zeros_like(advantages[name])
    config = LossConfig(aggregation=aggregation)
    skipping, all_rows = to_batch(episodes, advantages), to_batch(episodes, advantages, skip_zero=False)
    assert len(skipping.lengths) == len(all_rows.lengths) - 3
    assert skipping.n_episodes == all_rows.n_episodes == 9
    np.testing.assert_allclose(
        gradients(policy, skipping, config)[1], gradients(policy, all_rows, config)[1], atol=1e-13
    )
    without = to_batch([t for t in episodes if np.any(advantages[t.id])], advantages)
    assert gradients(policy, without, config)[0] != pytest.approx(gradients(policy, skipping, config)[0], rel=1e-3)


@pytest.mark.parametrize("aggregation", WEIGHTS)
def test_shares_of_a_batch_keep_their_own_counts(fake, aggregation):
    policy = fake.TinyPolicy(dtype=torch.float64)
    episodes, advantages = sample(fake)
    advantages["e0"] = np.zeros_like(advantages["e0"])
    config, chosen = LossConfig(aggregation=aggregation), [np.array([0, 3, 8]), np.array([1, 2, 4, 5, 6, 7])]
    shares = to_batch(episodes, advantages).split_episodes(chosen)
    for share, indices in zip(shares, chosen, strict=True):
        alone = to_batch([episodes[i] for i in indices], advantages)
        assert share.n_episodes == len(indices)
        np.testing.assert_array_equal(gradients(policy, share, config)[1], gradients(policy, alone, config)[1])


def test_segments_and_spans_carry_their_turns_advantage():
    first = Segment((1, 2, 3, 4), (0, 1, 1, 0), (0.0, -1.0, -2.0, 0.0), (Span(0, 1, 3),))
    second = Segment((1, 5, 6, 7, 8), (0, 1, 0, 1, 1), (0.0, -3.0, 0.0, -4.0, -5.0), (Span(1, 1, 2), Span(2, 3, 5)))
    t = Trajectory("t", "E", "q", (), (Turn(0, ""), Turn(1, ""), Turn(2, "")), segments=(first, second))
    batch = to_batch([t], {"t": [0.5, 0.0, -2.0]})
    assert batch.advantages.tolist() == [[0, 0.5, 0.5, 0, 0], [0, 0, 0, -2, -2]]
    assert batch.old_logprobs.tolist() == [[0, -1, -2, 0, 0], [0, -3, 0, -4, -5]]
    assert batch.mask.tolist() == [[False, True, True, False, False], [False, True, False, True, True]]
    assert batch.rows().ids == (first.ids, second.ids)
    assert batch.rows().mask == (first.mask, second.mask)
    assert (batch.n_episodes, batch.n_action_tokens, batch.lengths.tolist()) == (1, 5, [4, 5])


def broken(**changes):
    values = {"ids": (1, 2, 3), "mask": (0, 1, 1), "logprobs": (0.0, -1.0, -1.0), "spans": (Span(0, 1, 3),)} | changes
    return Trajectory("t", "E", "q", (), (Turn(0, ""),), segments=(Segment(**values),))


@pytest.mark.parametrize(
    ("trajectory", "advantages", "says"),
    [
        (broken(), {}, "no advantages"),
        (broken(), {"t": [1.0, 2.0]}, "1 turns but advantages of shape"),
        (broken(), {"t": [float("nan")]}, "not finite"),
        (broken(spans=(Span(0, 1, 2),)), {"t": [1.0]}, "sampled token 2 belongs to no turn"),
        (broken(spans=(Span(1, 1, 3),)), {"t": [1.0]}, "does not fit"),
        (broken(spans=(Span(0, 1, 3), Span(0, 2, 3))), {"t": [1.0]}, "overlaps"),
        (broken(mask=(1, 1, 1), spans=(Span(0, 0, 3),)), {"t": [1.0]}, "nothing comes before"),
        (broken(logprobs=(0.0,)), {"t": [1.0]}, "1 logprobs"),
        (broken().with_(segments=()), {"t": [1.0]}, "no token segments"),
    ],
)
def test_records_that_disagree_are_refused(trajectory, advantages, says):
    with pytest.raises(LedgerError, match=says):
        to_batch([trajectory], advantages)


def test_statistics_and_kl_term(fake):
    episodes, advantages = sample(fake, n=4)
    batch = to_batch(episodes, advantages, skip_zero=False)
    old = torch.tensor(batch.old_logprobs)
    same = policy_loss(old, batch, token_weights(batch, LossConfig(), 3.0), LossConfig())[1]
    assert (same.metrics()["mean_ratio"], same.metrics()["clip_share"], same.max_logprob_gap) == (1.0, 0.0, 0.0)
    # One token moved so that its gain is cut off by the clip; then the gradient through it is gone.
    b, t = (int(i[0]) for i in np.nonzero(batch.advantages > 0))
    moved = old.clone()
    moved[b, t] += 0.5
    moved.requires_grad_()
    loss, stats = policy_loss(moved, batch, token_weights(batch, LossConfig(), 3.0), LossConfig())
    loss.backward()
    assert stats.metrics()["clip_share"] == pytest.approx(1 / batch.n_action_tokens)
    assert stats.max_logprob_gap == pytest.approx(0.5)
    assert stats.metrics()["approx_kl"] == pytest.approx((np.exp(0.5) - 1.5) / batch.n_action_tokens)
    assert moved.grad[b, t] == 0
    config = LossConfig(kl_coef=0.1)
    with pytest.raises(ConfigError, match="reference"):
        policy_loss(old, batch, token_weights(batch, config, 3.0), config)
    weights = token_weights(batch, config, 3.0)
    with_kl, stats = policy_loss(moved.detach(), batch, weights, config, old)
    k3 = np.exp(-0.5) + 0.5 - 1
    assert float(with_kl) - float(loss.detach()) == pytest.approx(0.1 * weights[b] * k3)
    assert stats.metrics()["reference_kl"] == pytest.approx(k3 / batch.n_action_tokens)


def test_micro_batches_compute_as_little_as_any_cut_in_order():
    """Padding and passes together, against every way to cut the rows, longest first."""
    from itertools import combinations, pairwise

    from agentgym.learn.batch import PASS_TOKENS, TokenBatch, micro_rows

    lengths = np.array([40, 900, 35, 300, 310, 38, 880, 36])
    empty = np.zeros((8, 0))
    batch = TokenBatch(empty.astype(int), empty.astype(bool), empty, empty, lengths, np.arange(8), np.ones(8, int))
    ordered, limit = sorted(lengths.tolist(), reverse=True), 1_900

    def cost(parts):
        if any(len(p) > 1 and p[0] * len(p) > limit for p in parts):
            return float("inf")
        return sum(p[0] * len(p) + PASS_TOKENS for p in parts)

    cuts = [(0, *c, 8) for n in range(8) for c in combinations(range(1, 8), n)]
    best = min(cost([ordered[a:b] for a, b in pairwise(c)]) for c in cuts)
    found = [lengths[rows].tolist() for rows in micro_rows(batch, limit)]
    assert [n for part in found for n in part] == ordered
    assert cost(found) == best
    assert len(found) == 3
