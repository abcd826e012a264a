"""Whatever the loss is set to: micro-batches change rounding alone, and its value is a finite number."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from agentgym.learn import LossConfig, policy_loss, token_weights  # noqa: E402
from agentgym.learn.batch import TokenBatch, micro_batches, micro_rows  # noqa: E402
from agentgym.seeding import stream  # noqa: E402

CONFIGS = st.builds(
    LossConfig,
    aggregation=st.sampled_from(["constant", "token_mean", "sequence_mean"]),
    surrogate=st.sampled_from(["ppo", "cispo", "sapo", "reinforce"]),
    ratio=st.sampled_from(["token", "turn", "sequence"]),
    clip=st.booleans(),
    dual_clip=st.sampled_from([0.0, 3.0]),
    kl_coef=st.sampled_from([0.0, 0.3]),
    kl=st.sampled_from(["k1", "k2", "k3"]),
)


def random_batch(seed: int, n_rows: int) -> tuple[TokenBatch, torch.Tensor, torch.Tensor]:
    """Rows of 1 to 9 tokens, some without an action; episodes own one or more rows."""
    rng = stream("losses", seed)
    lengths = rng.integers(1, 10, size=n_rows)
    shape = (n_rows, int(lengths.max(initial=0)))
    mask = (rng.random(shape) < 0.6) & (np.arange(shape[1]) < lengths[:, None])
    mask[:, :1] = False
    episode = np.sort(rng.integers(0, max(1, n_rows), size=n_rows))
    counts = np.bincount(episode, mask.sum(1), minlength=n_rows + 1).astype(np.int64)
    turn = np.where(mask, np.cumsum(~mask, axis=1) // 2, -1)
    old = np.where(mask, -2 * rng.random(shape), 0.0)
    advantages = np.where(mask, rng.normal(size=shape), 0.0)
    batch = TokenBatch(np.zeros(shape, int), mask, old, advantages, lengths, episode, counts, turn)
    new = torch.tensor(old + np.where(mask, rng.normal(size=shape), 0.0))
    return batch, new, torch.tensor(old + np.where(mask, rng.normal(size=shape), 0.0))


def loss_and_gradient(parts, config):
    """Sum the losses of (batch, new, reference) parts; return value, gradients and statistics."""
    total, gradients, stats = 0.0, [], []
    for batch, new, reference in parts:
        leaf = new.clone().requires_grad_()
        loss, found = policy_loss(leaf, batch, token_weights(batch, config, 4.0), config, reference)
        loss.backward()
        total += float(loss.detach())
        gradients.append(leaf.grad)
        stats.append(found)
    return total, gradients, stats


@settings(max_examples=60, deadline=None)
@given(config=CONFIGS, seed=st.integers(0, 10**6), n_rows=st.integers(1, 7), max_tokens=st.integers(1, 40))
def test_micro_batches_change_nothing(config, seed, n_rows, max_tokens):
    batch, new, reference = random_batch(seed, n_rows)
    whole, (gradient,), (stats,) = loss_and_gradient([(batch, new, reference)], config)
    rows = micro_rows(batch, max_tokens)
    parts = micro_batches(batch, max_tokens)
    cut = [(p, new[r, : p.mask.shape[1]], reference[r, : p.mask.shape[1]]) for p, r in zip(parts, rows, strict=True)]
    total, gradients, split = loss_and_gradient(cut, config)
    assert math.isclose(total, whole, rel_tol=1e-12, abs_tol=1e-12)
    for found, r in zip(gradients, rows, strict=True):
        np.testing.assert_allclose(found, gradient[r, : found.shape[1]], rtol=1e-10, atol=1e-12)
    assert sum(s.n_tokens for s in split) == stats.n_tokens
    assert math.isclose(sum(s.clipped for s in split), stats.clipped)


BROKEN = st.sampled_from([math.nan, math.inf, -math.inf, -1e30, 1e30, -800.0, 0.0])


@settings(max_examples=80, deadline=None)
@given(
    config=CONFIGS, seed=st.integers(0, 10**6), n_rows=st.integers(0, 5), bad=st.lists(st.tuples(st.integers(0, 2), BROKEN)),
    single=st.booleans(), empty=st.booleans(),
)  # fmt: skip
def test_a_loss_is_a_finite_number(config, seed, n_rows, bad, single, empty):
    batch, new, reference = random_batch(seed, n_rows)
    if empty:
        batch.mask[:] = False
    rng, places = stream("bad", seed), np.argwhere(batch.mask)
    for which, value in bad:
        if len(places):
            b, t = places[int(rng.integers(len(places)))]
            (new, torch.as_tensor(batch.old_logprobs), reference)[which][b, t] = value
    if single:
        new, reference = new.float(), reference.float()
    used = (new, torch.as_tensor(batch.old_logprobs)) + ((reference,) if config.kl_coef else ())
    n_unknown = sum(any(not math.isfinite(float(x.to(new.dtype)[b, t])) for x in used) for b, t in places)
    loss, _, (stats,) = loss_and_gradient([(batch, new, reference)], config)
    assert math.isfinite(loss)
    assert stats.n_nonfinite == n_unknown
    assert stats.n_tokens == len(places) - n_unknown
    assert stats.metrics().get("nonfinite_tokens", 0) == n_unknown
