"""The warm start."""

import dataclasses

import numpy as np
import pytest
import torch

from agentgym.errors import ConfigError, LedgerError
from agentgym.learn import (
    CheckpointStore,
    LearnConfig,
    Learner,
    SftConfig,
    TrainConfig,
    WarmStart,
    demonstration,
    latest,
)
from agentgym.learn.order import Order
from agentgym.task import Task
from agentgym.types import TokenRows

pytestmark = pytest.mark.torch

CONFIG = SftConfig(steps=40, lr=3e-2, warmup_steps=5, batch_episodes=8, checkpoint_every=7)


def demonstrations(fake, n=20):
    """Episodes of the bandit played well."""
    return [
        TokenRows(((fake.START, fake.GOOD_FIRST, fake.RIGHT, fake.GOOD_SECOND),), ((0, 1, 0, 1),)) for _ in range(n)
    ]


def test_imitation_makes_the_policy_competent(fake):
    policy = fake.TinyPolicy()
    warm = WarmStart(CONFIG, policy, demonstrations(fake))
    records = list(warm.records())
    losses = [r.metrics["sft/loss"] for r in records]
    assert losses[0] == pytest.approx(np.log(12), abs=0.2)
    assert losses[-1] < 0.1
    groups = fake.rollout(policy, [Task("t", "")], group_size=50, key=(0, 0))
    assert np.mean([t.success for t in groups[0].trajectories]) > 0.8
    assert warm.tokens_per_episode == 2
    assert warm.cpu_s == records[-1].metrics["time/total_cpu_s"] > 0
    assert warm.cpu_s == pytest.approx(sum(r.metrics["time/cpu_s"] for r in records))


def test_loss_is_the_mean_over_action_tokens_whatever_the_micro_batches(fake):
    rows = [demonstration(fake.random_trajectory(f"d{i}", n_turns=1 + i % 4, n_segments=1 + i % 2)) for i in range(8)]
    policy = fake.TinyPolicy(dtype=torch.float64)
    nll = [
        -float(policy.all_logprobs(torch.tensor(ids[i - 1]))[ids[i]].detach())
        for demo in rows
        for ids, mask in zip(demo.ids, demo.mask, strict=True)
        for i in range(len(ids))
        if mask[i]
    ]
    after = []
    for micro_tokens in (10**6, 25):
        policy = fake.TinyPolicy(dtype=torch.float64)
        warm = WarmStart(dataclasses.replace(CONFIG, micro_tokens=micro_tokens), policy, rows)
        assert warm.step().metrics["sft/loss"] == pytest.approx(np.mean(nll), abs=1e-12)
        after.append([p.detach().clone() for p in policy.parameters()])
    for a, b in zip(*after, strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=0)


@pytest.mark.parametrize("stop_after", [6, 8, 22])
def test_a_warm_start_cut_anywhere_repeats_the_unbroken_one(fake, tmp_path, stop_after):
    rows = [demonstration(fake.random_trajectory(f"d{i}", n_turns=1 + i % 4)) for i in range(30)]
    whole_policy, policy = fake.TinyPolicy(), fake.TinyPolicy()
    expected = [r.metrics["sft/loss"] for r in WarmStart(CONFIG, whole_policy, rows, seed=3).records()]
    store = CheckpointStore(tmp_path)
    for done, _ in enumerate(WarmStart(CONFIG, fake.TinyPolicy(), rows, seed=3).records(store), 1):
        if done == stop_after:
            break
    resumed = WarmStart(CONFIG, policy, rows, seed=3)
    checkpoint = latest(tmp_path)
    assert (checkpoint.step if checkpoint else 0) == (stop_after - 1) // 7 * 7
    if checkpoint:
        resumed.resume(checkpoint)
    expected = expected[resumed.steps_done :]
    assert [r.metrics["sft/loss"] for r in resumed.records()] == expected
    if checkpoint:
        assert resumed.cpu_s > checkpoint.state()["cpu_s"] > 0
    for a, b in zip(policy.parameters(), whole_policy.parameters(), strict=True):
        assert torch.equal(a, b)


def test_a_pass_uses_every_demonstration_once(fake):
    rows = [demonstration(fake.random_trajectory(f"d{i}", n_turns=1 + i % 4)) for i in range(24)]
    warm = WarmStart(CONFIG, fake.TinyPolicy(), rows)
    seen = [warm.step().metrics["sft/action_tokens"] for _ in range(3)]
    assert np.mean(seen) == pytest.approx(warm.tokens_per_episode)
    assert len(set(seen)) == 3


def test_a_learner_starts_from_a_finished_warm_start(fake, tmp_path):
    policy = fake.TinyPolicy()
    store = CheckpointStore(tmp_path)
    warm = WarmStart(CONFIG, policy, demonstrations(fake))
    list(warm.records(store))
    learner = Learner(LearnConfig(train=TrainConfig(steps=1)), fake.TinyPolicy(1), fake.rollout, fake.Tasks())
    learner.resume(latest(tmp_path))
    assert (learner.steps_done, learner.cpu_s, learner.tokens_per_episode) == (0, warm.cpu_s, 2.0)
    assert all(torch.equal(a, b) for a, b in zip(policy.parameters(), learner.policy.parameters(), strict=True))
    learner.step()
    learner.save(store)
    assert latest(tmp_path).phase == "train"  # one step of training is further than all of the warm start


def test_demonstrations_that_teach_nothing_are_refused(fake):
    with pytest.raises(LedgerError, match="demonstration 1 of 2 has no action token"):
        WarmStart(CONFIG, fake.TinyPolicy(), [*demonstrations(fake, 1), TokenRows(((1, 2),), ((0, 0),))])
    with pytest.raises(ConfigError, match="empty"):
        WarmStart(CONFIG, fake.TinyPolicy(), [])


def test_order_covers_each_pass_and_needs_only_a_position():
    order = Order("abcdefg", 1, "x")
    taken = order.take(0, 21)
    assert all(sorted(taken[i : i + 7]) == list("abcdefg") for i in (0, 7, 14))
    assert taken[:7] != taken[7:14]
    assert Order("abcdefg", 1, "x").take(5, 9) == taken[5:14]
    assert Order("abcdefg", 2, "x").take(0, 21) != taken
