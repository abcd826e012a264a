"""Every registered environment, in both dialects and both ways of showing results, keeps Gymnasium's contract."""

import copy
import functools
import itertools
import json
import pickle
import warnings
from typing import Any

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import RecordEpisodeStatistics, RenderCollection, TimeLimit, TransformReward
from gymnasium.wrappers.vector import RecordEpisodeStatistics as VectorStatistics
from hypothesis import given, settings
from hypothesis import strategies as st

import agentgym
from agentgym import check_env, schema, worlds
from agentgym.check import iter_checks
from agentgym.envs import ENVIRONMENTS
from agentgym.errors import ConfigError, EnvError, ResetNeededError
from agentgym.retrieval import BM25Retriever
from agentgym.rewards import build_suite
from agentgym.seeding import stream

CASES = list(itertools.product(sorted(ENVIRONMENTS), ("tags", "json"), ("full", "compact")))
every_case = pytest.mark.parametrize(("env_id", "dialect", "observation"), CASES)
BAD = ""
"""An action that no dialect accepts."""


@functools.cache
def shared(env_id: str, dialect: str, observation: str) -> agentgym.ToolEnv:
    """An environment that tests may reset as they like."""
    return fresh(env_id, dialect, observation)


def fresh(env_id: str, dialect: str, observation: str, **kwargs: Any) -> agentgym.ToolEnv:
    env = gym.make(env_id, dialect=dialect, observation=observation, **kwargs).unwrapped
    assert isinstance(env, agentgym.ToolEnv)
    return env


def record(env: agentgym.ToolEnv) -> Any:
    return schema.to_json(env.trajectory, keep_defaults=True)


# ---- conformance


@every_case
def test_own_check_finds_nothing(env_id: str, dialect: str, observation: str) -> None:
    check_env(env_id, dialect=dialect, observation=observation)
    names = [r.name for r in iter_checks(env_id, dialect=dialect, observation=observation)]
    assert len(names) == len(set(names)) >= 7


@every_case
def test_gymnasiums_check_says_nothing_at_all(env_id: str, dialect: str, observation: str) -> None:
    env = gym.make(env_id, dialect=dialect, observation=observation)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check_env(env.unwrapped)
    assert [str(w.message) for w in caught] == []


@every_case
def test_misuse_of_the_api_raises_and_says_what_to_do(env_id: str, dialect: str, observation: str) -> None:
    env = fresh(env_id, dialect, observation)
    with pytest.raises(ResetNeededError, match=r"reset\(\)"):
        env.step("x")
    with pytest.raises(ConfigError, match=r"unknown option 'taks'.*did you mean 'task'"):
        env.reset(options={"taks": None})
    with pytest.raises(ConfigError, match="key"):
        env.reset(options={"key": (1.5,)})
    env.reset(seed=0)
    for wrong in (None, 3, b"<search>x</search>"):
        with pytest.raises(EnvError, match="must be a string"):
            env.step(wrong)  # pyright: ignore[reportArgumentType]
    while not env.ended:
        env.step(BAD)
    with pytest.raises(ResetNeededError, match="too_many_invalid"):
        env.step(BAD)


def test_wrong_arguments_of_make_are_refused_with_the_nearest_name() -> None:
    for kwargs, message in (
        ({"world": "synthetic:natural?entites=500"}, "'entites' is not known.*did you mean 'entities'"),
        ({"world": "synthetic:naturel"}, "did you mean 'natural'"),
        ({"dialect": "tag"}, "did you mean 'tags'"),
        ({"dialect": 5}, "dialect=5"),
        ({"observation": "compat"}, "did you mean 'compact'"),
        ({"reward": "serch"}, "did you mean 'search'"),
        ({"limits": {"max_turn": 3}}, "did you mean 'max_turns'"),
        ({"limits": {"max_turns": 0}}, "max_turns is 0; allowed: 1 or more"),
        ({"limits": {"tool_budgets": {"serch": 3}}}, "did you mean 'search'"),
        ({"retriever": "bm26"}, "did you mean 'bm25'"),
        ({"k": 99}, "from 1 to 10"),
        ({"tasks": []}, "the list is empty"),
        ({"tasks": [agentgym.Task("a", "Who?")]}, "give index= or a retriever"),
    ):
        with pytest.raises(agentgym.AgentGymError, match=message):
            gym.make("SearchQA-v0", **kwargs)


def test_limits_may_be_a_table_of_changes() -> None:
    env = fresh("SearchQA-v0", "tags", "full", limits={"max_turns": 2})
    assert env.limits.max_turns == 2
    assert env.limits.tool_budgets == env.default_limits.tool_budgets != {}


# ---- vector environments


def _ending(env_id: str, dialect: str, seed: int) -> tuple[str, str, int]:
    """First and last observation of an episode of bad actions, and its length."""
    env = gym.make(env_id, dialect=dialect)
    first, _ = env.reset(seed=seed)
    for n in itertools.count(1):
        last, _, terminated, truncated, _ = env.step(BAD)
        if terminated or truncated:
            return first, last, n
    raise AssertionError


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("mode", list(AutoresetMode))
@pytest.mark.parametrize("vector", ["sync", "async-pipes", "async-shared"])
def test_vector_environments_keep_the_final_observation(
    env_id: str, dialect: str, mode: AutoresetMode, vector: str
) -> None:
    seed = 11
    first, last, n = _ending(env_id, dialect, seed)
    assert last not in ("", first)
    options: dict[str, Any] = {"autoreset_mode": mode}
    if vector != "sync":
        options |= {"shared_memory": vector == "async-shared", "context": "fork"}
    kind = vector.partition("-")[0]
    envs = gym.make_vec(env_id, 2, vectorization_mode=kind, vector_kwargs=options, dialect=dialect)
    try:
        start, _ = envs.reset(seed=[seed, seed + 1])
        start = tuple(start)
        assert start[0] == first
        for step in range(n):
            # the second environment lives on: a failed action, then a good one, in turn
            observations, _, terminated, truncated, info = envs.step((BAD, BAD if step % 2 else "x" * 70_000))
        assert bool((terminated | truncated)[0])
        if mode == AutoresetMode.SAME_STEP:
            assert info["final_obs"][0] == last
            assert info["final_info"]["end_reason"][0] == "too_many_invalid"
            assert observations[0] not in (last, "")
        else:
            assert observations[0] == last
            assert info["end_reason"][0] == "too_many_invalid"
        if mode == AutoresetMode.NEXT_STEP:
            observations, *_ = envs.step((BAD, BAD))
            assert observations[0] not in (last, "")
        if mode == AutoresetMode.DISABLED:
            before = tuple(observations)
            observations, _ = envs.reset(options={"reset_mask": (terminated | truncated)})
            assert observations[0] not in (last, "")
            if not (terminated | truncated)[1]:
                assert observations[1] == before[1]
    finally:
        envs.close()


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_vector_rewards_are_those_of_single_environments(env_id: str) -> None:
    envs = VectorStatistics(gym.make_vec(env_id, 3, vectorization_mode="sync"))
    envs.reset(seed=[1, 2, 3])
    totals = np.zeros(3)
    singles = [gym.make(env_id) for _ in range(3)]
    alone = np.zeros(3)
    for i, env in enumerate(singles):
        env.reset(seed=i + 1)
    ended = [False] * 3
    for _ in range(3):
        actions = [e.unwrapped.oracle_action(stream(0, "v"), 0.0) if not d else "x" for e, d in zip(singles, ended, strict=True)]
        _, rewards, terminated, truncated, info = envs.step(tuple(actions))
        for i, env in enumerate(singles):
            if not ended[i]:
                _, reward, end, cut, _ = env.step(actions[i])
                alone[i] += reward
                totals[i] += rewards[i]
                ended[i] = end or cut
                assert (end, cut) == (terminated[i], truncated[i])
                if ended[i]:
                    assert info["episode"]["r"][i] == pytest.approx(alone[i])
    assert totals.tolist() == alone.tolist()
    envs.close()


# ---- wrappers


@every_case
def test_common_wrappers_work(env_id: str, dialect: str, observation: str) -> None:
    kwargs = {"dialect": dialect, "observation": observation}
    env = RecordEpisodeStatistics(gym.make(env_id, **kwargs))
    env.reset(seed=4)
    inner: Any = env.unwrapped
    info: dict[str, Any] = {}
    while not inner.ended:
        *_, info = env.step(inner.oracle_action(stream(4, "w"), 0.0))
    assert info["episode"]["r"] == pytest.approx(inner.trajectory.total, abs=1e-6)
    assert info["episode"]["l"] == len(inner.trajectory.turns)

    limited = TimeLimit(gym.make(env_id, **kwargs), 1)
    limited.reset(seed=0)
    assert limited.step(BAD)[3] is True

    doubled = TransformReward(gym.make(env_id, **kwargs), lambda r: 2 * float(r))
    plain = gym.make(env_id, **kwargs)
    doubled.reset(seed=0)
    plain.reset(seed=0)
    assert doubled.step(BAD)[1] == 2 * float(plain.step(BAD)[1])

    frames = RenderCollection(gym.make(env_id, render_mode="ansi", **kwargs))
    frames.reset(seed=0)
    frames.step(BAD)
    shown = frames.render()
    assert isinstance(shown, list)
    assert len(shown) == 2
    assert str(shown[1]).startswith(str(shown[0]))


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_the_spec_survives_json_and_makes_the_same_environment(env_id: str) -> None:
    env = gym.make(env_id, dialect="json", observation="compact", limits={"max_turns": 3})
    assert env.spec is not None
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.reset(seed=5) == env.reset(seed=5)
    inner: Any = env.unwrapped
    action = inner.oracle_action(stream(1), 0.0)
    assert again.step(action) == env.step(action)


# ---- keyword arguments are copied and pickled by gymnasium


def test_keyword_arguments_may_be_objects_and_big_ones_are_shared() -> None:
    world = worlds.world("synthetic:closed?seed=3")
    retriever = BM25Retriever.from_passages(world.passages())
    source = worlds.SyntheticTasks(world.spec)
    kwargs: dict[str, Any] = {
        "world": source,
        "retriever": retriever,
        "reward": build_suite("search"),
        "limits": agentgym.Limits(max_turns=4),
    }
    assert copy.deepcopy(kwargs)["retriever"] is retriever
    envs = [gym.make("SearchQA-v0", **kwargs) for _ in range(2)]
    services = [e.unwrapped.services(e.unwrapped.tasks()[0]) for e in envs]  # type: ignore[attr-defined]
    assert services[0]["corpus"] is services[1]["corpus"] is retriever
    sent = cloudpickle.loads(cloudpickle.dumps(kwargs))  # what a process of a vector environment receives
    remote = gym.make("SearchQA-v0", **sent)
    assert remote.reset(seed=2)[0] == envs[0].reset(seed=2)[0]
    action = envs[0].unwrapped.oracle_action(stream(2), 0.0)  # type: ignore[attr-defined]
    assert remote.step(action) == envs[0].step(action)
    assert gym.make("SearchQA-v0", world=world, limits={"max_turns": 4}).reset(seed=2)[0] == envs[0].reset(seed=2)[0]
    for value in (kwargs["reward"], kwargs["limits"], retriever):
        pickle.loads(pickle.dumps(value))


def test_tasks_may_be_a_list() -> None:
    tasks = list(worlds.SyntheticTasks.parse("synthetic:closed?worlds=2").split("train")[:5])
    env = gym.make("SearchQA-v0", tasks=tasks)
    assert env.reset(options={"task": tasks[3]})[1]["task_id"] == tasks[3].id
    assert env.reset(options={"task": tasks[2].id})[1]["task_id"] == tasks[2].id
    with pytest.raises(ConfigError, match="no task has the id"):
        env.reset(options={"task": "nope"})
    with pytest.raises(ConfigError, match="same id"):
        gym.make("SearchQA-v0", tasks=[tasks[0], tasks[0]])


# ---- snapshots

moves = st.lists(
    st.one_of(
        st.floats(0.0, 1.0).map(lambda noise: ("oracle", noise)),
        st.sampled_from([BAD, "<search>x</search>", "<open>nope</open>", '<search k="99">a</search>', "y" * 70_000]).map(
            lambda text: ("text", text)
        ),
    ),
    max_size=7,
)


@every_case
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10_000), moves=moves)
def test_any_turn_can_be_left_and_taken_up_again(
    env_id: str, dialect: str, observation: str, seed: int, moves: list[tuple[str, Any]]
) -> None:
    env, other = shared(env_id, dialect, observation), fresh(env_id, dialect, observation)
    env.reset(seed=seed)
    rng = stream(seed, "moves")
    states, actions, answers = [env.snapshot()], [], []
    for kind, value in [*moves, *[("oracle", 0.5)] * 8]:
        if env.ended:
            break
        actions.append(env.oracle_action(rng, value) if kind == "oracle" else value)
        answers.append(env.step(actions[-1]))
        states.append(env.snapshot())
    expected, total = record(env), env.trajectory.total
    for turn, state in enumerate(states):
        # into an environment that never saw a reset, and into one in the middle of something else
        target = other if turn % 2 else env
        target.restore(state)
        assert target.snapshot() == state
        assert json.loads(state)["env"] == env_id
        assert [target.step(a) for a in actions[turn:]] == answers[turn:]
        assert record(target) == expected
        assert target.trajectory.total == total
        assert target.suite.rescore(target.trajectory).total == pytest.approx(total, abs=1e-12)


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_what_is_no_snapshot_is_refused_and_changes_nothing(env_id: str) -> None:
    env = fresh(env_id, "tags", "full")
    with pytest.raises(ResetNeededError, match="reset"):
        env.snapshot()
    env.reset(seed=1)
    env.step(BAD)
    good = env.snapshot()
    body = json.loads(good)
    broken = [b"", b"{", b"[]", b"\xff", good[:-9], json.dumps({**body, "env": "Other-v0"}).encode()]
    broken += [json.dumps({**body, "format": 99}).encode(), json.dumps({**body, "turns": [{"index": "x"}]}).encode()]
    broken += [json.dumps({k: v for k, v in body.items() if k != name}).encode() for name in body]
    for data in broken:
        with pytest.raises(EnvError, match=r"snapshot\(\)"):
            env.restore(data)
        assert env.snapshot() == good


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_an_end_from_outside_survives_a_snapshot(env_id: str) -> None:
    env, other = fresh(env_id, "tags", "full"), fresh(env_id, "tags", "full")
    env.reset(seed=1)
    env.step(env.oracle_action(stream(0), 0.0))
    env.end("time_limit", "the machine was busy")
    other.restore(env.snapshot())
    assert record(other) == record(env)
    assert other.trajectory.truncated
    with pytest.raises(ConfigError, match="max_tokens"):
        fresh(env_id, "tags", "full").end("tired")
