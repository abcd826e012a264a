"""What collectors do for a suite: progress for schedules, group transforms for evaluations and learners."""

import gymnasium as gym
import pytest

from agentgym import hooks
from agentgym.errors import ConfigError
from agentgym.rewards import (
    Cap,
    Component,
    MaxNorm,
    Schedule,
    all_valid,
    answer_em,
    build_suite,
    retrieval_gain,
    reward,
)
from agentgym.rollout import EnvPool, EvalConfig, evaluate, read_trajectories, run_groups
from agentgym.types import Score

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


def test_a_crash_in_a_component_names_it_and_keeps_its_type(pool, policy) -> None:
    class Broken(Component):
        name, scope, range, supply = "broken", "turn", (-1.0, 0.0), "cost"

        def score(self, view, state):
            return view.no_such_field

    crashing = EnvPool("SearchQA-v0", **{**pool.kwargs, "reward": answer_em + Cap(Broken(), -0.5, 0)})
    env = crashing.first
    env.reset(seed=0)
    with pytest.raises(AttributeError) as caught:
        env.step("<search>x</search>")
    assert caught.value.__notes__ == ["raised by the reward component 'broken' (turn scope) at turn 0"]
    (group,) = run_groups(crashing, policy, crashing.first.tasks()[:1], group_size=1, key=(0, 0))
    assert "AttributeError" in group.trajectories[0].error
    assert "reward component 'broken'" in group.trajectories[0].error


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tools": ["x"]}, "tools= holds 'x', which is no tool; name one of your own"),
        ({"tools": [len]}, "tools= holds the function len, which is no tool"),
        ({"reward": lambda view: 1.0}, "a function must take no argument"),
    ],
)
def test_what_is_no_tool_or_reward_is_refused_when_made(pool, options, says) -> None:
    with pytest.raises(ConfigError, match=says):
        gym.make("SearchQA-v0", **{**pool.kwargs, **options})


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"scope": "trn", "range": (0, 1)}, "scope='trn'.*did you mean 'turn'"),
        ({"scope": "trajectory", "range": (1, 0)}, "lowest, highest"),
        ({"scope": "turn", "range": (0, 1), "supply": "onec"}, "did you mean 'once'"),
    ],
)
def test_a_decorated_reward_is_refused_before_its_name_is_taken(options, says) -> None:
    with pytest.raises(ConfigError, match=says):
        reward(**options, name="never_registered")
    assert "never_registered" not in hooks.COMPONENTS


@pytest.mark.parametrize("scope", ["turn", "trajectory"])
def test_an_episode_whose_score_is_no_number_is_a_fault_of_an_evaluation_and_in_no_mean(pool, policy, scope) -> None:
    class Shaky(Component):
        name, range, supply = "shaky", (0.0, 1.0), "terminal" if scope == "trajectory" else "once"

        def score(self, view, state):
            return Score(scope, float("nan") if view.gold == first.gold else 0.0)

    Shaky.scope = scope
    first, second = pool.first.tasks("dev")[:2]
    shaky = EnvPool("SearchQA-v0", **{**pool.kwargs, "reward": answer_em + 0.1 * Shaky()})
    result, groups = evaluate(shaky, policy, [first, second], EvalConfig())
    assert (result.n_faults, result.n_abstained, result.measures["reward"].n) == (1, 1, 1)
    (bad,), (good,) = (g.trajectories for g in groups)
    assert (bad.in_statistics, bad.in_loss, good.in_statistics) == (False, False, True)
    assert bad.error.startswith("shaky: shaky gave nan")
    assert shaky.first.suite.rescore(bad) == bad
