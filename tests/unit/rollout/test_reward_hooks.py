"""What collectors do for a suite: progress for schedules, group transforms for evaluations and learners."""

import gymnasium as gym
import pytest

from agentgym.errors import ConfigError
from agentgym.rewards import MaxNorm, Schedule, all_valid, answer_em, build_suite, retrieval_gain
from agentgym.rollout import EnvPool, EvalConfig, evaluate, read_trajectories, run_groups

GROUPED = answer_em + 0.3 * MaxNorm(all_valid)
SCHEDULED = answer_em + Schedule(all_valid, [0.1, 0.3])


def test_an_episode_keeps_its_progress_through_snapshot_and_record(pool) -> None:
    env = gym.make("SearchQA-v0", **{**pool.kwargs, "reward": SCHEDULED}, disable_env_checker=True).unwrapped
    with pytest.raises(ConfigError, match="needs the progress of training"):
        env.reset(seed=0)
    env.reset(seed=0, options={"progress": 0.5})
    env.step("<search>x</search>")
    env.restore(env.snapshot())
    env.step("<answer>x</answer>")
    record = env.trajectory
    assert record.info["progress"] == 0.5
    assert record.scores["all_valid"].value == pytest.approx(0.2)
    assert env.suite.rescore(record) == record
    fixed = gym.make("SearchQA-v0", **{**pool.kwargs, "reward": build_suite(SCHEDULED).at(1.0)}, disable_env_checker=True)
    fixed.reset(seed=0)
    assert fixed.unwrapped.suite.bounds().success == (1.0, 1.3)


def test_rollouts_give_progress_and_an_evaluation_is_at_the_end(pool, policy) -> None:
    scheduled = EnvPool("SearchQA-v0", **{**pool.kwargs, "reward": SCHEDULED})
    tasks = list(scheduled.first.tasks("dev")[:2])
    (group, _) = run_groups(scheduled, policy, tasks, group_size=2, key=(0, 0), progress=0.25)
    assert {t.info["progress"] for t in group.trajectories} == {0.25}
    assert [t.scores["all_valid"].weight for t in group.trajectories] == pytest.approx([0.15] * 2)
    _, groups = evaluate(scheduled, policy, tasks, EvalConfig(samples=1))
    assert {t.info["progress"] for g in groups for t in g.trajectories} == {1.0}
    (plain, *_) = run_groups(pool, policy, tasks, group_size=1, key=(0, 0), progress=0.25)
    assert "progress" not in plain.trajectories[0].info


def test_an_evaluation_divides_by_its_groups_and_keeps_the_result(pool, policy, tmp_path) -> None:
    grouped = EnvPool("SearchQA-v0", **{**pool.kwargs, "reward": GROUPED})
    tasks = list(grouped.first.tasks("dev")[:3])
    result, groups = evaluate(grouped, policy, tasks, EvalConfig(samples=2), out=tmp_path)
    everyone = [t for g in groups for t in g.trajectories]
    assert not any(t.scores["all_valid"].deferred for t in everyone)
    assert list(read_trajectories(tmp_path / "trajectories.jsonl")) == everyone
    again, resumed = evaluate(grouped, policy, tasks, EvalConfig(samples=2), out=tmp_path)
    assert again.to_json() == result.to_json()
    assert resumed == groups
    assert {t.scores["all_valid"].value for t in everyone} <= {0.0, 0.3}


def test_a_reward_table_in_the_environments_arguments(pool) -> None:
    table = {"outcome": "answer_em", "terms": [{"use": "retrieval_gain", "weight": 0.2, "cap": 0.2}]}
    env = EnvPool("SearchQA-v0", **{**pool.kwargs, "reward": table}).first
    assert repr(env.suite.expression) == f"answer_em + Cap(0.2 * {retrieval_gain!r}, -0.2, 0.2)"
