"""What KL terms and sampler corrections are in expectation, enumerated; and plain loops for the rest."""

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch

from agentgym.errors import ConfigError
from agentgym.learn import CheckpointStore, LearnConfig, Learner, LossConfig, TrainConfig, policy_loss, to_batch
from agentgym.learn.correction import corrected
from agentgym.learn.kl import kl_terms, with_kl_reward
from agentgym.learn.prepare import prepare
from agentgym.seeding import stream
from agentgym.types import Group, Segment, Span, Trajectory, Turn

pytestmark = pytest.mark.torch
LOGITS, REFERENCE = torch.tensor([0.4, -0.3, 1.1, 0.0]), torch.tensor([-0.2, 0.5, 0.3, 0.1])
C = 3.0


def softmax_kl(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    p, q = torch.log_softmax(a, 0), torch.log_softmax(b, 0)
    return (p.exp() * (p - q)).sum()


@pytest.mark.parametrize(
    ("kind", "claim"),
    [
        ("k1", lambda x, ref: 0.0 * x.sum()),
        ("k2", softmax_kl),
        ("k3", lambda x, ref: softmax_kl(ref, x)),
    ],
)
def test_a_kl_term_in_the_loss_has_the_gradient_that_is_claimed(kind, claim):
    logits = LOGITS.double().requires_grad_()
    new, reference = torch.log_softmax(logits, 0), torch.log_softmax(REFERENCE.double(), 0)
    term = (new.detach().exp() * kl_terms(new, reference, kind)).sum()
    other = LOGITS.double().requires_grad_()
    want = torch.autograd.grad(claim(other, REFERENCE.double()), other)[0]
    np.testing.assert_allclose(torch.autograd.grad(term, logits)[0], want, atol=1e-14)
    if kind != "k2":
        value = float(term.detach())
        assert value == pytest.approx(float(softmax_kl(LOGITS.double(), REFERENCE.double())), abs=1e-14)


class Chain:
    """Two decisions: turn 0 stops (token 1) or goes on (token 2); turn 1 chooses token 3 or 4. Logits are weights."""

    def __init__(self, *logits: float) -> None:
        self.logits = torch.tensor(logits, dtype=torch.float64, requires_grad=True)

    def episodes(self, behind: "Chain | None" = None) -> list[tuple[float, Trajectory]]:
        """Every path with its probability; log-probabilities recorded are those of `behind` (the sampler)."""
        p = torch.sigmoid(self.logits.detach()).tolist()
        q = torch.sigmoid((behind or self).logits.detach()).tolist()
        paths = [((1,), 1 - p[0], (1 - q[0],))]
        paths += [((2, 3), p[0] * p[1], (q[0], q[1])), ((2, 4), p[0] * (1 - p[1]), (q[0], 1 - q[1]))]
        return [(weight, episode(tokens, chances)) for tokens, weight, chances in paths]

    def logprobs(self, rows) -> torch.Tensor:
        out = torch.zeros(len(rows.ids), max(map(len, rows.ids)), dtype=torch.float64)
        table = {1: (0, -1.0), 2: (0, 1.0), 3: (1, 1.0), 4: (1, -1.0)}
        for b, (ids, mask) in enumerate(zip(rows.ids, rows.mask, strict=True)):
            for t, (token, wanted) in enumerate(zip(ids, mask, strict=True)):
                if wanted:
                    which, sign = table[token]
                    out[b, t] = torch.nn.functional.logsigmoid(sign * self.logits[which])
        return out


def episode(tokens, chances) -> Trajectory:
    spans = tuple(Span(k, 1 + 2 * k, 2 + 2 * k) for k in range(len(tokens)))
    ids, mask, logprobs = [0], [0], [0.0]
    for token, chance in zip(tokens, chances, strict=True):
        ids, mask, logprobs = [*ids, token, 0], [*mask, 1, 0], [*logprobs, math.log(chance), 0.0]
    turns = tuple(Turn(k, "a") for k in range(len(tokens)))
    return Trajectory("", "E", "q", (), turns, segments=(Segment(tuple(ids), tuple(mask), tuple(logprobs), spans),))


def expectation(policy, n, change, sampler=None):
    """E[gradient of the loss] over all batches of n independent episodes, after `change(batch)`."""
    found, total = policy.episodes(), torch.zeros(2, dtype=torch.float64)
    drawn = (sampler or policy).episodes()
    assert len(found) == len(drawn)
    for chosen in itertools.product(range(len(drawn)), repeat=n):
        members = [drawn[i][1].with_(id=f"m{m}") for m, i in enumerate(chosen)]
        zeros = {t.id: np.zeros(len(t.turns)) for t in members}
        batch = change(to_batch(members, zeros, skip_zero=False))
        weights = np.full(len(batch.lengths), 1 / (n * C))
        loss = policy_loss(policy.logprobs(batch.rows()), batch, weights, LossConfig())[0]
        total += math.prod(drawn[i][0] for i in chosen) * torch.autograd.grad(loss, policy.logits)[0]
    return C * total.numpy()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_kl_in_the_reward_is_exactly_the_gradient_of_the_kl(n):
    policy, reference = Chain(0.7, -0.4), Chain(-0.3, 0.9)

    def paying(batch):
        scored = reference.logprobs(batch.rows()).detach().numpy()
        return with_kl_reward(batch, scored, 0.5, "k1")

    def total_kl():
        p, q = torch.sigmoid(policy.logits), torch.sigmoid(reference.logits.detach())
        first = p[0] * (p[0] / q[0]).log() + (1 - p[0]) * ((1 - p[0]) / (1 - q[0])).log()
        second = p[1] * (p[1] / q[1]).log() + (1 - p[1]) * ((1 - p[1]) / (1 - q[1])).log()
        return 0.5 * (first + p[0] * second)

    truth = torch.autograd.grad(total_kl(), policy.logits)[0].numpy()
    np.testing.assert_allclose(expectation(policy, n, paying), truth, atol=1e-14)
    assert np.abs(truth).min() > 1e-2


def test_kl_reward_runs_on_through_the_segments_of_an_episode(fake):
    """A compacted context continues in another row: what it pays counts for the rows before it."""
    episodes = [fake.random_trajectory(f"e{i}", n_turns=4, n_segments=1 + i % 2) for i in range(3)]
    batch = to_batch(episodes, {t.id: np.ones(4) for t in episodes}, skip_zero=False)
    reference = batch.old_logprobs - stream("reference").random(batch.mask.shape)
    paid = with_kl_reward(batch, reference, 2.0, "k1")
    price = batch.old_logprobs - reference
    order = [(b, t) for b in range(len(batch.lengths)) for t in np.flatnonzero(batch.mask[b])]
    for b, t in order:
        e, k = batch.episode[b], batch.turn[b, t]
        own = sum(price[p] for p in order if batch.episode[p[0]] == e and p >= (b, t))
        others = [sum(price[p] for p in order if batch.episode[p[0]] == o and batch.turn[p] >= k) for o in range(3) if o != e]
        assert paid.advantages[b, t] == pytest.approx(1 - 2 * (own - sum(others) / 2), abs=1e-12)
    assert not paid.advantages[~batch.mask].any()


def test_an_unbounded_sequence_correction_makes_another_sampler_exact():
    policy, sampler = Chain(0.7, -0.4), Chain(-0.3, 0.9)
    value = {(1,): 0.2, (2, 3): 1.0, (2, 4): -0.7}

    def run(batch, level):
        """Advantages of the outcome, on-policy or corrected for the sampler."""
        values = [value[tuple(int(i) for i in row[m])] for row, m in zip(batch.ids, batch.mask, strict=True)]
        batch = dataclasses.replace(batch, advantages=np.where(batch.mask, np.array(values)[:, None], 0.0))
        if level is None:
            return batch
        scored = policy.logprobs(batch.rows()).detach().numpy()
        return corrected(batch, scored, "truncate", level, 0.0, math.inf)[0]

    truth = expectation(policy, 1, lambda b: run(b, None))
    np.testing.assert_allclose(expectation(policy, 1, lambda b: run(b, "sequence"), sampler), truth, atol=1e-14)
    assert np.abs(expectation(policy, 1, lambda b: run(b, "token"), sampler) - truth).max() > 1e-3


@pytest.mark.parametrize("level", ["token", "turn", "sequence"])
@pytest.mark.parametrize("mode", ["truncate", "mask"])
def test_correction_weights_by_hand(fake, mode, level):
    episodes = [fake.random_trajectory(f"e{i}", n_turns=3) for i in range(4)]
    batch = to_batch(episodes, {t.id: np.arange(1.0, 4.0) for t in episodes})
    b0, t0 = (int(i[0]) for i in np.nonzero(batch.mask))
    learner = batch.old_logprobs + np.where(batch.mask, 0.4 * stream("learner").normal(size=batch.mask.shape), 0)
    batch.old_logprobs[b0, t0] = np.nan  # a sampler that gave none: equal on both sides
    found, metrics = corrected(batch, learner, mode, level, 0.5, 1.5)
    bounded = []
    for b, t in zip(*np.nonzero(batch.mask), strict=True):
        peers = [t] if level == "token" else np.flatnonzero(batch.mask[b] & ((batch.turn[b] == batch.turn[b, t]) | (level == "sequence")))
        gaps = [learner[b, s] - batch.old_logprobs[b, s] for s in peers]
        raw = math.exp(sum(g for g in gaps if math.isfinite(g)))
        inside = 0.5 <= raw <= 1.5
        weight = raw if inside else (0.0 if mode == "mask" else min(max(raw, 0.5), 1.5))
        assert found.advantages[b, t] == pytest.approx(weight * batch.advantages[b, t], abs=1e-12)
        bounded.append(not inside)
    np.testing.assert_array_equal(found.old_logprobs, learner)
    assert metrics["correction/bounded_share"] == pytest.approx(np.mean(bounded))
    assert 0 < metrics["correction/bounded_share"] < 1


def learner_of(fake, loss, seed=0, **settings):
    def rollout(policy, tasks, *, group_size, key):
        return [
            Group(f"g{g}", task.id, tuple(fake.play(policy, task, f"g{g}", m, (*key, g, m)) for m in range(group_size)))
            for g, task in enumerate(tasks)
        ]

    train = TrainConfig(steps=6, n_prompts=4, group_size=8, lr=0.03)
    return Learner(LearnConfig(seed=seed, train=train, loss=loss), fake.TinyPolicy(), rollout, fake.Tasks(), **settings)


def test_a_learner_pays_for_its_distance_to_the_reference(fake):
    def distance(coef, kl_in):
        config = LossConfig(kl_coef=coef, kl="k1" if kl_in == "reward" else "k3", kl_in=kl_in)
        with learner_of(fake, config, reference=fake.TinyPolicy()) as learner:
            records = [learner.step() for _ in range(6)]
        start, end = fake.TinyPolicy(), learner.policy
        with torch.no_grad():
            moved = [float((a - b).norm()) for a, b in zip(start.parameters(), end.parameters(), strict=True)]
        return sum(moved), records

    free, _ = distance(0.0, "reward")
    held, records = distance(20.0, "reward")
    assert held < 0.9 * free
    assert records[0].metrics["kl_reward"] == pytest.approx(0.0, abs=1e-6)
    assert any(abs(r.metrics["kl_reward"]) > 1e-5 for r in records[1:])
    assert "kl_reward" not in distance(0.0, "loss")[1][0].metrics


def test_a_learner_corrects_for_a_sampler_of_another_precision(fake, tmp_path):
    """The recorded log-probabilities are off by a little: the correction sees it, and the first ratio is 1 again."""

    class Rounded(fake.TinyPolicy):
        def sample(self, last, key):
            token, logprob = super().sample(last, key)
            return token, round(logprob, 1)

    with learner_of(fake, LossConfig(correction="mask", correction_low=0.99, correction_high=1.02)) as learner:
        learner.policy = Rounded()
        metrics = learner.step().metrics
        learner.save(CheckpointStore(tmp_path, keep=1))
    assert metrics["logprob_gap"] < 1e-6
    assert 0 < metrics["correction/bounded_share"] < 1
    assert metrics["correction/max"] > 1.02
    with learner_of(fake, LossConfig()) as plain:
        plain.policy = Rounded()
        metrics = plain.step().metrics
    assert metrics["logprob_gap"] > 0.01
    assert not [name for name in metrics if name.startswith("correction")]


def test_a_missing_reference_is_said(fake):
    episodes = [fake.random_trajectory("e")]
    batch = to_batch(episodes, {"e": np.ones(3)})
    config = LossConfig(kl_coef=0.1, kl_in="reward", kl="k1")
    with pytest.raises(ConfigError, match="reference"):
        prepare(batch, config, fake.TinyPolicy(), None, 100)
    assert prepare(batch, LossConfig(), fake.TinyPolicy(), None, 100) == (batch, {})
