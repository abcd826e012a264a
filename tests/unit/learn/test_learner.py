"""The whole step on a two-turn bandit."""

import dataclasses

import numpy as np
import pytest
import torch

from agentgym.credit import CreditConfig
from agentgym.errors import ConfigError, TrainingStopped
from agentgym.learn import CheckpointStore, GuardConfig, LearnConfig, Learner, LossConfig, TrainConfig, latest
from agentgym.learn.metrics import rollout_metrics
from agentgym.learn.optim import learning_rate
from agentgym.types import Group, Score, ToolResult, Turn

pytestmark = pytest.mark.torch

FAST = TrainConfig(steps=30, lr=1e-2, n_prompts=6, group_size=6, checkpoint_every=3)
CONFIG = LearnConfig(seed=5, train=FAST)


def make(fake, config=CONFIG, rollout=None, **options):
    return Learner(config, fake.TinyPolicy(config.seed), rollout or fake.rollout, fake.Tasks(), **options)


def numbers(record):
    """All of a record that does not measure the machine."""
    metrics = {k: v for k, v in record.metrics.items() if not k.startswith("time/")}
    return dataclasses.replace(record, metrics=metrics)


def weights(policy):
    return [p.detach().clone() for p in policy.parameters()]


def test_learns_both_turns(fake):
    records = list(make(fake).records())
    first, last = (np.mean([r.metrics["success"] for r in part]) for part in (records[:5], records[-5:]))
    assert first < 0.1
    assert last > 0.9
    assert [r.step for r in records] == list(range(30))


def test_turn_level_credit_learns_sooner_where_success_is_rare(fake):
    slow = LearnConfig(seed=1, train=TrainConfig(steps=40, lr=3e-3, n_prompts=8, group_size=6, schedule="constant"))
    outcome_only = dataclasses.replace(slow, credit=CreditConfig(turn_weight=0.0))
    found = [np.mean([r.metrics["success"] for r in list(make(fake, c).records())[-5:]]) for c in (slow, outcome_only)]
    assert found[0] > found[1] + 0.2


def test_a_step_reports_what_happened(fake):
    learner = make(fake, margin=lambda w: 1.0 - w)
    record = learner.step()
    m = record.metrics
    episodes = [t for g in learner.groups for t in g.trajectories]
    assert len(episodes) == m["n_episodes"] == 36
    assert m["success"] == np.mean([t.success for t in episodes])
    assert m["reward"] == pytest.approx(np.mean([t.total for t in episodes]))
    assert m["reward"] == pytest.approx(m["reward/gain"] + m["reward/outcome"])
    assert m["error_rate"] == pytest.approx(np.mean([not t.turns[0].results[0].ok for t in episodes]) / 2)
    assert m["tool_use_rate"] == np.mean([t.turns[0].results[0].ok for t in episodes])
    assert (m["turns"], m["action_tokens"], m["answer_rate"], m["fault_share"]) == (2, 2, 1, 0)
    assert m["entropy"] == pytest.approx(np.log(12), abs=0.1)
    assert m["logprob_gap"] < 1e-6
    assert m["n_updates"] == 2
    assert m["mean_ratio"] != 1.0  # the second update sees weights that the first one moved
    assert m["w"] == 0.5
    assert m["margin"] == 0.5
    assert record.scales == {"s_T": 1.0, "s_O": 1.0, "c": 2.0}
    assert {name: len(a) for name, a in record.advantages.items()} == {t.id: 2 for t in episodes}
    assert learner.policy.version == 1


def test_scales_move_only_after_the_step_and_c_never(fake):
    learner = make(fake)
    records = [learner.step() for _ in range(4)]
    assert records[0].scales["s_T"] == 1.0
    assert records[1].scales["s_T"] != 1.0
    assert len({r.scales["c"] for r in records}) == 1
    assert records[1].scales["s_T"] == pytest.approx(max(0.05, np.sqrt(np.mean(centred_returns(fake) ** 2))))


def centred_returns(fake):
    """Leave-one-out centred returns-to-go of the first step's turns."""
    learner = make(fake)
    learner.step()
    rows = []
    for group in learner.groups:
        x = np.array([[t.turns[0].reward + t.turns[1].reward, t.turns[1].reward] for t in group.trajectories])
        rows.append((x - x.mean(0)) * len(x) / (len(x) - 1))
    return np.concatenate(rows)


@pytest.mark.parametrize(("configured", "warm_start", "expected"), [(7.0, 3.0, 7.0), (0.0, 3.0, 3.0), (0.0, 0.0, 2.0)])
def test_c_comes_from_config_then_warm_start_then_first_step(fake, configured, warm_start, expected):
    config = dataclasses.replace(CONFIG, loss=LossConfig(tokens_per_episode=configured))
    assert make(fake, config, tokens_per_episode=warm_start).step().scales["c"] == expected


def test_micro_batches_change_only_rounding(fake):
    runs = []
    for micro_tokens in (10**6, 30):
        config = dataclasses.replace(CONFIG, train=dataclasses.replace(FAST, micro_tokens=micro_tokens))
        learner = Learner(config, fake.TinyPolicy(5, torch.float64), fake.rollout, fake.Tasks())
        for _ in range(3):
            learner.step()
        runs.append(weights(learner.policy))
    for a, b in zip(*runs, strict=True):
        torch.testing.assert_close(a, b, atol=1e-9, rtol=0)


def test_an_asynchronous_rollout_gives_the_same_numbers(fake):
    with make(fake, rollout=fake.rollout_async) as learner:
        found = [numbers(learner.step()) for _ in range(2)]
    plain = make(fake)
    assert found == [numbers(plain.step()) for _ in range(2)]


@pytest.mark.parametrize("stop_after", [1, 4, 5, 8])
def test_a_run_cut_anywhere_repeats_the_unbroken_one(fake, tmp_path, stop_after):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(FAST, steps=10, schedule="cosine", warmup_steps=2))
    whole = make(fake, config)
    expected = [numbers(r) for r in whole.records()]
    store = CheckpointStore(tmp_path)
    for done, _ in enumerate(make(fake, config).records(store), 1):
        if done == stop_after:  # cut after the record was given out, before anything else
            break
    resumed, checkpoint = make(fake, config), latest(tmp_path)
    if checkpoint is not None:
        resumed.resume(checkpoint)
    assert resumed.steps_done == (stop_after - 1) // 3 * 3
    expected = expected[resumed.steps_done :]
    assert [numbers(r) for r in resumed.records()] == expected
    for a, b in zip(weights(resumed.policy), weights(whole.policy), strict=True):
        assert torch.equal(a, b)
    assert resumed.state() | {"cpu_s": 0} == whole.state() | {"cpu_s": 0}
    assert [r.metrics["lr"] for r in expected] == [learning_rate(config.train, r.step, 10) for r in expected]


def test_a_checkpoint_carries_c_and_what_the_run_cost(fake, tmp_path):
    learner = make(fake, tokens_per_episode=3.0, cpu_s=50.0)
    learner.step()
    checkpoint = learner.save(CheckpointStore(tmp_path))
    resumed = make(fake)
    resumed.resume(checkpoint)
    assert resumed.step().scales["c"] == 3.0
    assert resumed.cpu_s > learner.cpu_s > 50.0
    assert resumed.policy.version == 2


def test_resuming_under_another_seed_is_refused(fake, tmp_path):
    learner = make(fake)
    learner.step()
    checkpoint = learner.save(CheckpointStore(tmp_path))
    with pytest.raises(ConfigError, match="seed 5, this one has 6"):
        make(fake, dataclasses.replace(CONFIG, seed=6)).resume(checkpoint)


def failing_first(fake, share):
    """A rollout in which a service fault took the first `share` of every group."""

    def run(policy, tasks, *, group_size, key):
        groups = fake.rollout(policy, tasks, group_size=group_size, key=key)
        lost = {"in_loss": False, "in_statistics": False, "end_reason": "service_error", "error": "retriever down"}
        return [
            dataclasses.replace(
                g, trajectories=tuple(t.with_(**lost) if t.member < share * group_size else t for t in g.trajectories)
            )
            for g in groups
        ]

    return run


def test_episodes_lost_to_faults_leave_loss_and_statistics(fake):
    learner = make(fake, rollout=failing_first(fake, 0.5))
    record = learner.step()
    kept = [t for g in learner.groups for t in g.trajectories if t.in_loss]
    assert record.metrics["fault_share"] == 0.5
    assert record.metrics["success"] == np.mean([t.success for t in kept])
    assert any("lost to faults" in w for w in record.warnings)


def test_a_run_without_any_episode_leaves_the_weights_and_stops(fake, tmp_path):
    learner = make(fake, rollout=failing_first(fake, 1.0))
    before = weights(learner.policy)
    records: list = []
    with pytest.raises(TrainingStopped, match="no episode of the last 3 steps"):
        records.extend(learner.records(CheckpointStore(tmp_path)))
    assert len(records) == 3  # the record that shows the stop is not lost, nor is the state
    assert latest(tmp_path).step == 3
    assert all(torch.equal(a, b) for a, b in zip(before, weights(learner.policy), strict=True))


def test_a_gradient_that_is_not_finite_leaves_the_weights(fake):
    learner = make(fake)
    learner.step()
    before, logprobs = weights(learner.policy), learner.policy.logprobs
    learner.policy.logprobs = lambda rows: logprobs(rows) * float("nan")
    record = learner.step()
    assert (record.metrics["skipped_updates"], record.metrics["n_updates"]) == (2, 2)
    assert any("not finite" in w for w in record.warnings)
    assert all(np.isfinite(list(record.metrics.values())))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(learner.policy), strict=True))


def test_answering_is_no_tool_use(fake):
    t = fake.play(fake.TinyPolicy(), fake.Tasks().by_id("t0"), "g", 0, (0,))
    worked = ToolResult("c", "answer", ok=True)
    at_once = t.with_(turns=(Turn(0, "", results=(worked,)),), terminated=True)
    cut = at_once.with_(terminated=False, truncated=True)
    assert rollout_metrics([Group("g", "t0", (at_once,))])["tool_use_rate"] == 0
    assert rollout_metrics([Group("g", "t0", (cut,))])["tool_use_rate"] == 1


def test_a_dead_policy_stops_the_run(fake):
    def never_right(policy, tasks, *, group_size, key):
        groups = fake.rollout(policy, tasks, group_size=group_size, key=key)
        return [dataclasses.replace(g, trajectories=tuple(_fail(t) for t in g.trajectories)) for g in groups]

    config = dataclasses.replace(CONFIG, guards=GuardConfig(patience=4))
    learner = make(fake, config, rollout=never_right)
    with pytest.raises(TrainingStopped, match=r"the policy is dead: 4 steps.*sft\.steps"):
        list(learner.records())
    assert learner.steps_done == 4


def _fail(t):
    turns = tuple(
        dataclasses.replace(turn, error_code="E_PARSE", results=(), scores={}, reward=0.0) for turn in t.turns
    )
    return t.with_(turns=turns, success=False, scores={}, reward=0.0)


def test_deferred_scores_are_filled_before_credit(fake):
    def bonus(trajectories):
        extra = {"bonus": Score("trajectory", raw=1.0, value=1.0)}
        return [t.with_(scores=t.scores | extra, reward=t.reward + 1.0) for t in trajectories]

    learner = make(fake, complete=bonus)
    assert learner.step().metrics["reward/bonus"] == 1.0
    assert all("bonus" in t.scores for g in learner.groups for t in g.trajectories)
    with pytest.raises(ConfigError, match="in their order"):
        make(fake, complete=lambda ts: list(reversed(ts))).step()


def test_a_reference_policy_holds_the_weights_back(fake):
    train = dataclasses.replace(FAST, steps=10)
    free = make(fake, dataclasses.replace(CONFIG, train=train))
    list(free.records())
    config = dataclasses.replace(CONFIG, train=train, loss=LossConfig(kl_coef=20.0))
    with pytest.raises(ConfigError, match="reference policy"):
        make(fake, config)
    held = make(fake, config, reference=fake.TinyPolicy(5))
    last = list(held.records())[-1]
    start = fake.TinyPolicy(5)
    moved = [
        sum(float((a - b).abs().sum()) for a, b in zip(weights(x.policy), weights(start), strict=True))
        for x in (free, held)
    ]
    assert moved[1] < 0.7 * moved[0]
    assert last.metrics["reference_kl"] > 0


def test_a_budget_in_cpu_seconds_ends_the_run(fake):
    config = dataclasses.replace(CONFIG, train=dataclasses.replace(FAST, max_cpu_s=100.0))
    assert list(make(fake, config, cpu_s=100.0).records()) == []
    assert len(list(make(fake, config, cpu_s=99.99999).records())) == 1


def test_the_gap_is_that_of_the_first_update_that_had_rows_to_learn_from(fake):
    def off(policy, tasks, **given):
        groups = fake.rollout(policy, tasks, **given)
        return [dataclasses.replace(g, trajectories=tuple(map(shifted, g.trajectories))) for g in groups]

    def shifted(t):
        (s,) = t.segments
        logprobs = tuple(x - 1.0 if mine else x for x, mine in zip(s.logprobs, s.mask, strict=True))
        return t.with_(segments=(dataclasses.replace(s, logprobs=logprobs),))

    train = TrainConfig(steps=1, n_prompts=2, group_size=4, updates_per_batch=8)  # one episode an update
    found = [make(fake, LearnConfig(seed=seed, train=train), off).step().metrics for seed in (0, 18, 20)]
    assert [m["rows"] for m in found] == [4, 4, 4]  # half of the episodes have no advantage, some first share none
    assert [m["logprob_gap"] for m in found] == pytest.approx([1.0, 1.0, 1.0])
