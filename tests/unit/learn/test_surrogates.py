"""Every surrogate, level and aggregation against loops written from the papers, in float64."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agentgym.errors import ConfigError, LedgerError
from agentgym.learn import LossConfig, policy_loss, published_loss, to_batch, token_weights
from agentgym.learn.batch import TokenBatch
from agentgym.learn.loss_config import PUBLISHED
from agentgym.seeding import stream

pytestmark = pytest.mark.torch
GOLDEN = json.loads((Path(__file__).parents[2] / "golden" / "losses.json").read_text(encoding="utf-8"))
SURROGATES = {
    "ppo": {},
    "ppo without clip": {"clip": False},
    "dual": {"dual_clip": 1.5},
    "cispo": {"surrogate": "cispo"},
    "cispo cap": {"surrogate": "cispo", "cispo_bounds": "cap", "clip_high": 1.4},
    "sapo": {"surrogate": "sapo", "sapo_tau_negative": 1.7},
    "reinforce": {"surrogate": "reinforce"},
}


def rows_of(lengths, turns=None, advantages=None) -> TokenBatch:
    """One episode a row, a prompt token in front, turns of at most two tokens unless given."""
    width = 1 + max(lengths)
    mask = np.array([[0 < t <= n for t in range(width)] for n in lengths])
    turn = np.where(mask, (np.arange(width)[None, :] - 1) // 2 if turns is None else turns, -1)
    values = np.where(mask, np.zeros(mask.shape) if advantages is None else advantages, 0.0)
    zeros, n = np.zeros(mask.shape), np.array(lengths)
    return TokenBatch(zeros.astype(int), mask, zeros, values, n + 1, np.arange(len(n)), n, turn)


def loss_of(config, batch, logprobs, c=1.0):
    return policy_loss(logprobs, batch, token_weights(batch, config, c), config)


@pytest.mark.parametrize("case", GOLDEN["losses"], ids=lambda c: json.dumps(c.get("preset") or c["settings"]))
def test_golden_losses(case):
    config = published_loss(case["preset"]) if "preset" in case else LossConfig(**case["settings"])
    batch, new = golden_batch()
    loss, stats = loss_of(config, batch, new, case.get("c", 1.0))
    assert float(loss) == pytest.approx(case["value"], abs=6e-7)
    if config.ratio == "sequence":
        want = sum(r * n for r, n in zip(GOLDEN["sequence_ratios"], (2, 4), strict=True)) / 6
        assert stats.metrics()["mean_ratio"] == pytest.approx(want, abs=1e-6)


def golden_batch(first=0, last=2):
    """The two worked sequences, or one of them: log-probabilities as given, sampled so that the ratios come out."""
    lengths, advantages = [2, 4][first:last], np.array(GOLDEN["advantages"][first:last], float)[:, None]
    batch = rows_of(lengths, advantages=advantages)
    new, old = torch.zeros(batch.mask.shape, dtype=torch.float64), batch.old_logprobs
    for b, (ratios, logprobs) in enumerate(zip(GOLDEN["ratios"][first:last], GOLDEN["logprobs"][first:last], strict=True)):
        new[b, 1 : 1 + len(ratios)] = torch.tensor(logprobs)
        old[b, 1 : 1 + len(ratios)] = np.array(logprobs) - np.log(ratios)
    return batch, new


@pytest.mark.parametrize("clip_high", [0.2, 0.28])
def test_golden_losses_of_single_tokens(clip_high):
    batch, new = golden_batch()
    config = LossConfig(clip_high=clip_high)
    for b, row in enumerate(GOLDEN["token_losses"][f"clip_high_{clip_high}"]):
        for t, want in enumerate(row, 1):
            mask = np.zeros_like(batch.mask)
            mask[b, t] = True
            alone = replace(batch, mask=mask, turn=np.where(mask, batch.turn, -1))
            assert float(policy_loss(new, alone, np.ones(2), config)[0]) == pytest.approx(want, abs=1e-12)


@pytest.mark.parametrize("sequence", [0, 1])
def test_golden_losses_of_single_sequences(sequence):
    batch, new = golden_batch(sequence, sequence + 1)
    loss, _ = loss_of(published_loss("gspo"), batch, new)
    assert float(loss) == pytest.approx(GOLDEN["token_losses"]["gspo"][sequence], abs=1e-12)


def test_golden_dual_clip():
    want = GOLDEN["dual_clip"]
    batch = rows_of([1], advantages=np.full((1, 1), want["advantage"]))
    new = torch.full((1, 2), math.log(want["ratio"]), dtype=torch.float64, requires_grad=True)
    loss, stats = loss_of(LossConfig(dual_clip=want["dual_clip"]), batch, new)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(want["value"], abs=1e-12)
    assert (float(new.grad.abs().sum()), stats.clipped) == (0.0, 1.0)


def by_hand(config, batch, new, c):
    """The loss as a sum of scalars, its gradient left to autograd; `held` is what no gradient flows through."""
    weight = token_weights(batch, config, c)
    total = torch.zeros((), dtype=torch.float64)
    for b, t in zip(*np.nonzero(batch.mask), strict=True):
        peers = [(b, int(t))]
        if config.ratio == "turn":
            peers = [(b, s) for s in np.flatnonzero(batch.turn[b] == batch.turn[b, t])]
        elif config.ratio == "sequence":
            peers = [(b, s) for s in np.flatnonzero(batch.mask[b])]
        mean = sum(float(new[p].detach()) - batch.old_logprobs[p] for p in peers) / len(peers)
        ratio = math.exp(mean) * torch.exp(new[b, t] - new[b, t].detach())
        a, held = float(batch.advantages[b, t]), float(ratio.detach())
        if config.surrogate == "ppo":
            term = ratio * a
            if config.clip and held * a > min(max(held, 1 - config.clip_low), 1 + config.clip_high) * a:
                term = torch.tensor(min(max(held, 1 - config.clip_low), 1 + config.clip_high) * a, dtype=torch.float64)
            if config.dual_clip and a < 0 and float(term.detach()) < config.dual_clip * a:
                term = torch.tensor(config.dual_clip * a, dtype=torch.float64)
        elif config.surrogate == "cispo":
            least, most = (0, config.clip_high) if config.cispo_bounds == "cap" else (1 - config.clip_low, 1 + config.clip_high)
            term = min(max(held, least), most) * a * new[b, t]
        elif config.surrogate == "sapo":
            tau = config.sapo_tau_positive if a > 0 else config.sapo_tau_negative
            term = 4 / tau / (1 + torch.exp(-tau * (ratio - 1))) * a
        else:
            term = a * new[b, t]
        total = total - float(weight[b]) * term
    return total


@pytest.mark.parametrize("aggregation", ["constant", "token_mean", "sequence_mean"])
@pytest.mark.parametrize("level", ["token", "turn", "sequence"])
@pytest.mark.parametrize("name", SURROGATES)
def test_loss_and_gradient_equal_the_loops(name, level, aggregation):
    config = LossConfig(aggregation=aggregation, ratio=level, **SURROGATES[name])
    rng = stream("surrogates", name, level)
    batch = rows_of([5, 1, 4, 7], advantages=rng.normal(size=(4, 8)))
    batch.old_logprobs[batch.mask] = -3 * rng.random(int(batch.mask.sum()))
    new = torch.tensor(batch.old_logprobs + np.where(batch.mask, 0.6 * rng.normal(size=(4, 8)), 0), requires_grad=True)
    found, stats = loss_of(config, batch, new, 3.0)
    expected = by_hand(config, batch, new, 3.0)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-13)
    gradient = torch.autograd.grad(found, new)[0]
    np.testing.assert_allclose(gradient, torch.autograd.grad(expected, new)[0], atol=1e-14)
    assert not gradient[~torch.as_tensor(batch.mask)].any()
    if name in ("ppo", "dual", "cispo", "cispo cap") and level == "token":
        assert 0 < stats.clipped < stats.n_tokens
    elif name in ("ppo without clip", "sapo", "reinforce"):
        assert stats.clipped == 0


@pytest.mark.parametrize("aggregation", ["constant", "token_mean", "sequence_mean"])
@pytest.mark.parametrize("kind", ["k1", "k2", "k3"])
def test_a_kl_term_equals_the_loops(kind, aggregation):
    config, rng = LossConfig(aggregation=aggregation, kl_coef=0.3, kl=kind), stream("kl", kind, aggregation)
    batch = rows_of([5, 1, 4], advantages=rng.normal(size=(3, 6)))
    batch.old_logprobs[batch.mask] = -3 * rng.random(int(batch.mask.sum()))
    start = batch.old_logprobs + np.where(batch.mask, 0.3 * rng.normal(size=(3, 6)), 0)
    reference = torch.tensor(start + np.where(batch.mask, 0.5 * rng.normal(size=(3, 6)), 0))
    new = torch.tensor(start, requires_grad=True)
    weights = token_weights(batch, config, 3.0)
    found, stats = policy_loss(new, batch, weights, config, reference)
    estimates = {"k1": lambda d: -d, "k2": lambda d: d * d / 2, "k3": lambda d: torch.exp(d) - d - 1}
    terms = {
        (b, t): estimates[kind](reference[b, t] - new[b, t]) for b, t in zip(*np.nonzero(batch.mask), strict=True)
    }
    expected = by_hand(replace(config, kl_coef=0.0), batch, new, 3.0)
    expected = expected + 0.3 * sum(float(weights[b]) * term for (b, _), term in terms.items())
    assert float(found.detach()) == pytest.approx(float(expected.detach()), abs=1e-13)
    np.testing.assert_allclose(torch.autograd.grad(found, new)[0], torch.autograd.grad(expected, new)[0], atol=1e-14)
    assert stats.reference_kl == pytest.approx(sum(float(term.detach()) for term in terms.values()), abs=1e-12)


@pytest.mark.parametrize("level", ["token", "turn", "sequence"])
@pytest.mark.parametrize("name", SURROGATES)
def test_at_ratio_one_every_loss_has_the_policy_gradient(name, level):
    rng = stream("ratio one", name)
    batch = rows_of([5, 1, 4], advantages=rng.normal(size=(3, 6)))
    new = torch.tensor(np.where(batch.mask, -rng.random((3, 6)), 0), requires_grad=True)
    batch.old_logprobs[:] = new.detach()
    config = LossConfig(ratio=level, **SURROGATES[name])
    loss_of(config, batch, new, 2.0)[0].backward()
    np.testing.assert_allclose(new.grad, -batch.advantages / (3 * 2.0), atol=1e-15)


def test_sequence_ratios_are_those_of_gspo_where_the_advantage_is_one_number():
    """Plain GSPO differentiates s_i = exp(mean log ratio) itself; checked by finite differences."""
    config, rng = published_loss("gspo", clip_low=0.3, clip_high=0.3), stream("gspo")
    batch = rows_of([5, 2, 4], advantages=np.array([1.0, -0.5, 0.7])[:, None])
    start = np.where(batch.mask, 0.3 * rng.normal(size=batch.mask.shape), 0)

    def plain(values):
        total = 0.0
        for b, n in enumerate((5, 2, 4)):
            s, a = math.exp(values[b, 1 : n + 1].sum() / n), batch.advantages[b, 1]
            total -= min(s * a, min(max(s, 0.7), 1.3) * a) / 3
        return total

    new = torch.tensor(start, requires_grad=True)
    loss = loss_of(config, batch, new)[0]
    loss.backward()
    assert float(loss.detach()) == pytest.approx(plain(start), abs=1e-14)
    for b, t in zip(*np.nonzero(batch.mask), strict=True):
        step = np.zeros_like(start)
        step[b, t] = 1e-6
        slope = (plain(start + step) - plain(start - step)) / 2e-6
        assert float(new.grad[b, t]) == pytest.approx(slope, abs=1e-8)


def test_sequence_ratios_leave_each_turn_its_own_credit():
    turn_scores = np.array([[0.0, 1, 1, -2, -2]])
    batch = rows_of([4], advantages=turn_scores)
    new = torch.zeros(batch.mask.shape, dtype=torch.float64, requires_grad=True)
    loss_of(LossConfig(ratio="sequence"), batch, new)[0].backward()
    assert new.grad.tolist() == (-turn_scores).tolist()


@pytest.mark.parametrize("name", SURROGATES)
def test_smooth_parts_pass_a_finite_difference_check(name):
    """Where a loss has no stop-gradient its autograd gradient is the slope of its value."""
    config, rng = LossConfig(**SURROGATES[name]), stream("gradcheck", name)
    if config.surrogate == "cispo":
        config = replace(config, surrogate="ppo")
    batch = rows_of([3, 2], advantages=rng.normal(size=(2, 4)))
    new = torch.tensor(np.where(batch.mask, 0.4 * rng.normal(size=(2, 4)), 0), requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: loss_of(config, batch, x)[0], (new,))


@pytest.mark.parametrize("preset", PUBLISHED)
def test_published_losses_load(preset):
    assert published_loss(preset, kl_coef=0.5).kl_coef == 0.5


def test_turns_are_numbered_by_the_batch(fake):
    episodes = [fake.random_trajectory(f"e{i}", n_turns=3, n_segments=1 + i % 2) for i in range(4)]
    batch = to_batch(episodes, {t.id: np.arange(1.0, 4.0) for t in episodes})
    assert np.array_equal(batch.turn + 1, batch.advantages.astype(int))
    turns, sequences = batch.units("turn"), batch.units("sequence")
    rows = np.nonzero(batch.mask)[0]
    assert np.array_equal(sequences, rows)
    pairs = list(zip(rows, batch.turn[batch.mask], strict=True))
    for (a, u), (b, v) in itertools.product(zip(pairs, turns, strict=True), repeat=2):
        assert (a == b) == (u == v)
    with pytest.raises(LedgerError, match="which turn"):
        replace(batch, turn=None).units("turn")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"surrogate": "pop"}, "did you mean 'ppo'"),
        ({"ratio": "segment"}, "allowed are 'token', 'turn', 'sequence'"),
        ({"dual_clip": 1.0}, "above 1"),
        ({"sapo_tau_negative": 0.0}, "above 0"),
        ({"correction_high": 1.0}, "above 1"),
        ({"correction_low": -0.1}, r"in \[0, 1\)"),
        ({"kl": "k4"}, "'k1', 'k2', 'k3'"),
    ],
)
def test_settings_out_of_range_are_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        LossConfig(**settings)


@pytest.mark.parametrize(
    ("settings", "n_updates", "says"),
    [
        ({}, 4, None),
        ({"kl_coef": 0.1}, 1, None),
        ({"aggregation": "token_mean"}, 1, "order 1 / episodes"),
        ({"aggregation": "sequence_mean"}, 1, "wrong sign"),
        ({"surrogate": "reinforce"}, 1, None),
        ({"surrogate": "reinforce"}, 2, "after the first are biased"),
        ({"kl_coef": 0.1, "kl": "k1"}, 1, "expected gradient of zero"),
        ({"kl_coef": 0.1, "kl": "k1", "kl_in": "reward"}, 1, None),
        ({"kl_coef": 0.1, "kl_in": "reward"}, 1, "k1 is exact"),
        ({"surrogate": "cispo", "cispo_bounds": "cap"}, 1, "5 is usual"),
        ({"dual_clip": 3.0}, 1, None),
        ({"surrogate": "sapo", "dual_clip": 3.0}, 1, "loss.dual_clip is read by ppo alone"),
        ({"surrogate": "reinforce", "ratio": "sequence"}, 1, "loss.ratio = sequence changes nothing"),
    ],
)
def test_what_changes_the_objective_is_said_in_one_sentence(settings, n_updates, says):
    notes = LossConfig(**settings).notes(n_updates)
    assert len(notes) == (says is not None)
    assert says is None or says in notes[0]
