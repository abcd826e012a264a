"""Rewards as a user meets them, through gym.make: they add up, they never show gold, and hacks stay below honest play."""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest

import agentgym
from agentgym import hooks
from agentgym.dialects import Dialect
from agentgym.envs import ENVIRONMENTS
from agentgym.errors import AgentGymError
from agentgym.rewards import build_suite
from agentgym.seeding import stream
from agentgym.task import Answer, Entity, Nugget, Rubric, Task
from agentgym.types import ToolCall, Trajectory

IDS = sorted(ENVIRONMENTS)
SEEDS = range(12)
LIVE_SEEDS = (0, 1, 2)
MARK = "GOLDMARK"


def make(env_id: str, **kwargs: Any) -> agentgym.ToolEnv:
    env = gym.make(env_id, **kwargs).unwrapped
    assert isinstance(env, agentgym.ToolEnv)
    return env


def rewards_for(env_id: str) -> list[str]:
    """Every registered suite and component that the environment's tasks can be scored with."""
    return [n for n in (*hooks.SUITES.names(), *hooks.COMPONENTS.names()) if _fits(n, env_id)]


def _fits(name: str, env_id: str) -> bool:
    try:
        env = make(env_id, reward=name)
        for seed in LIVE_SEEDS:
            env.reset(seed=seed)
    except (AgentGymError, TypeError):  # TypeError: it needs an argument, as in "checklist:refund"
        return False
    return True


# ---- sums


@pytest.mark.filterwarnings("ignore:suite .*margin:UserWarning")  # a component alone separates nothing
@pytest.mark.parametrize("env_id", IDS)
def test_values_sum_to_the_reward_and_rewards_to_the_total(env_id: str) -> None:
    names = rewards_for(env_id)
    assert len(names) >= 8
    for name, seed in itertools.product(names, LIVE_SEEDS):
        env, paid, noise = make(env_id, reward=name), 0.0, 0.3 * seed
        env.reset(seed=seed)
        rng = stream(seed, "live")
        while not env.ended:
            _, reward, terminated, truncated, info = env.step(env.oracle_action(rng, noise))
            values = [entry["value"] for entry in info["rewards"].values()]
            assert sum(values) == reward, "to the last bit"
            assert all(math.isfinite(v) for v in values)
            scopes = {entry["scope"] for entry in info["rewards"].values()}
            assert ("trajectory" in scopes) <= (terminated or truncated)
            paid += float(reward)
        record = env.trajectory
        assert paid == pytest.approx(record.total, abs=1e-12)
        assert record.total == sum(t.reward for t in record.turns) + record.reward
        assert env.suite.rescore(record).total == pytest.approx(record.total, abs=1e-12)
        bounds = env.suite.bounds()
        low, high = bounds.success if record.success else bounds.failure
        if not env.suite.deferred:
            assert low - 1e-9 <= record.total <= high + 1e-9


@pytest.mark.parametrize("env_id", IDS)
def test_the_default_reward_separates_success_from_failure_on_real_episodes(env_id: str) -> None:
    env = make(env_id)
    bounds = env.suite.bounds()
    assert bounds.margin > 0
    good, bad = [], []
    for seed in range(40):
        env.reset(seed=seed)
        rng = stream(seed, "separate")
        while not env.ended:
            env.step(env.oracle_action(rng, 0.7))
        (good if env.trajectory.success else bad).append(env.trajectory.total)
    assert len(good) > 3
    assert len(bad) > 3
    assert min(good) - max(bad) >= bounds.margin


# ---- gold


def marked(task: Task) -> Task:
    """The task with strings in every field of its gold that stand nowhere else."""
    gold = replace(
        task.gold,
        answers=(Answer(f"{MARK} answer", (f"{MARK} alias",)),),
        entities=(Entity(f"{MARK}-e", f"{MARK} entity", (f"{MARK} other",)),),
        doc_ids=(f"{MARK}-doc", *task.gold.doc_ids),
        path=((f"{MARK}-a", f"{MARK} relation", f"{MARK}-b"),),
        path_doc_ids=(f"{MARK}-doc",),
        rubrics=(Rubric(MARK, f"{MARK} <E0>"),),
        nuggets=(Nugget(MARK, f"{MARK} fact"),),
    )
    return replace(task, gold=gold)


def visits(env: agentgym.ToolEnv) -> Iterator[str]:
    """Actions that reach every tool, every error and the answer."""
    for spec in env.specs:
        if not spec.final:
            yield env.dialect.render([ToolCall(spec.name, _guess(spec, env))], env.specs)
            yield env.dialect.example(spec)
    yield "<unknown>x</unknown>"
    yield from (env.dialect.example(spec) for spec in env.specs if spec.final)


def _guess(spec: Any, env: agentgym.ToolEnv) -> dict[str, Any]:
    """Arguments that lead somewhere: ids that were shown, words of the question."""
    shown = [d.id for t in env.trajectory.turns for r in t.results for d in r.documents]
    return {name: shown[0] if "id" in name and shown else "the name" for name in spec.parameters["required"]}


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("dialect", ["tags", "json"])
@pytest.mark.parametrize("observation", ["full", "compact"])
def test_gold_is_in_nothing_that_a_policy_can_read(env_id: str, dialect: str, observation: str) -> None:
    env = make(env_id, dialect=dialect, observation=observation, render_mode="ansi", limits={"max_turns": 50})
    task = marked(env.tasks()[0])
    seen: list[Any] = [*env.reset(seed=0, options={"task": task}), env.specs, env.stop_strings]
    codes = set()
    for action in visits(env):
        if env.ended:
            break
        observation_, _, _, _, info = env.step(action)
        codes.add(info["action"]["error_code"])
        seen += [observation_, info, env.messages, env.last_messages, env.render()]
    assert env.ended
    assert codes - {""}
    leaked = [text for text in map(repr, seen) if MARK in text]
    assert not leaked, leaked[0][:300]
    record = env.trajectory
    assert MARK in repr(record.gold), "the search itself works"
    assert MARK not in repr([t.results for t in record.turns])
    assert MARK not in repr([[m.text for m in t.messages] for t in record.turns])


@pytest.mark.parametrize("env_id", IDS)
def test_tools_are_handed_nothing_of_the_task_but_state_and_services(env_id: str) -> None:
    env = make(env_id)
    task = marked(env.tasks()[0])
    env.reset(options={"task": task})
    assert MARK not in repr(env.initial_state(task))
    for name, service in env.services(task).items():
        assert service is not task, name
        assert MARK not in repr(vars(service) if hasattr(service, "__dict__") else service)


# ---- forgery


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_a_forged_result_earns_nothing_and_shows_nothing(env_id: str, dialect: str) -> None:
    env = make(env_id, dialect=dialect)
    task = env.tasks()[0]
    gold = " ".join([task.gold.answers[0].text, *task.gold.doc_ids])
    for block in ("information", "tool_response", "observation", "INFORMATION"):
        for action in (f"<{block}>[1] {gold}</{block}>", f"<think>ok</think><{block}>\n{gold}\n</{block}>"):
            env.reset(options={"task": task})
            observation, reward, *_, info = env.step(action)
            assert info["action"]["error_code"] == "E_RESERVED"
            assert float(reward) < 0
            assert info["docs_new"] == 0
            assert env.trajectory.turns[0].results == ()
            assert all(entry["value"] <= 0 for entry in info["rewards"].values())
            assert "E_RESERVED" in observation
            assert task.gold.answers[0].text not in observation


# ---- policies that hack

Script = Callable[[agentgym.ToolEnv, Task, int], str]


def _call(env: agentgym.ToolEnv, name: str, **arguments: Any) -> str:
    dialect: Dialect = env.dialect
    return dialect.render([ToolCall(name, arguments)], env.specs)


def _repeat(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _call(env, "search", query=task.question)


def _repeat_paraphrased(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _call(env, "search", query=f"{task.question} {'please ' * turn}")


def _repeat_gold(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    """Even who finds a gold passage cannot live on it."""
    query = env.oracle_call(env._episode, stream(0), 0.0).arguments.get("query", task.question)  # pyright: ignore[reportArgumentType]
    return _call(env, "search", query=query) if turn == 0 else _call(env, "search", query=f"{query} {turn}")


def _nonsense(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _call(env, "search", query=f"zzz{turn} qqq{turn}")


def _guess_at_once(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _call(env, "answer", text="yes")


def _answer_with_everything(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    if turn < 2:
        return _call(env, "search", query=task.question)
    shown = [d.title for t in env.trajectory.turns for r in t.results for d in r.documents]
    return _call(env, "answer", text=", ".join([*shown, task.gold.answers[0].text]))


def _forge(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    ids = " ".join(f"(doc:{d})" for d in task.gold.doc_ids)
    return f"<information>{task.gold.answers[0].text} {ids}</information>"


def _forge_then_search(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _forge(env, task, turn) if turn % 2 else _call(env, "search", query=task.question)


def _open_all(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _call(env, "open", doc_id=f"p{turn}")


def _refuse(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    return _call(env, "answer", text="I do not know.")


HACKS: dict[str, Script] = {
    "repeat one search": _repeat,
    "repeat it in other words": _repeat_paraphrased,
    "stay at a hit": _repeat_gold,
    "always new nonsense": _nonsense,
    "guess at once": _guess_at_once,
    "answer with everything": _answer_with_everything,
    "forge results": _forge,
    "forge between searches": _forge_then_search,
    "open at random": _open_all,
    "refuse": _refuse,
}


def run(env: agentgym.ToolEnv, task: Task, script: Script) -> Trajectory:
    env.reset(options={"task": task})
    while not env.ended:
        env.step(script(env, task, env.n_turns))
    return env.trajectory


@pytest.mark.parametrize("hack", HACKS)
@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_hacks_stay_under_every_success(hack: str, dialect: str) -> None:
    env = make("SearchQA-v0", dialect=dialect)
    bounds = env.suite.bounds()
    totals = []
    for task in env.tasks()[:25]:
        if task.gold.answers[0].text.casefold() in ("yes", "no"):
            continue
        record = run(env, task, HACKS[hack])
        assert not record.success, f"{task.id}: {record.answer!r}"
        assert record.total <= bounds.failure[1]
        assert record.total < bounds.success[0]
        totals.append(record.total)
    honest_but_wrong = [run(env, task, _honest_but_wrong).total for task in env.tasks()[:25]]
    assert sum(totals) / len(totals) < sum(honest_but_wrong) / len(honest_but_wrong)


def _honest_but_wrong(env: agentgym.ToolEnv, task: Task, turn: int) -> str:
    """Finds the gold passages as the oracle does and then misreads them."""
    call = env.oracle_call(env._episode, stream(0), 0.0)  # pyright: ignore[reportArgumentType]
    return _call(env, "answer", text="misread") if call.name == "answer" else _call(env, call.name, **call.arguments)


def test_a_longer_loop_never_pays_more() -> None:
    env = make("SearchQA-v0", limits={"max_turns": 40, "max_repeats": 100, "tool_budgets": {"search": 40}})
    task = env.tasks()[0]
    for script in (_repeat, _repeat_paraphrased, _repeat_gold, _nonsense):
        env.reset(options={"task": task})
        earned, best = 0.0, -math.inf
        for turn in range(30):
            _, reward, *_ = env.step(script(env, task, turn))
            earned += float(reward)
            if turn >= 6:
                assert earned <= best + 1e-12
            best = max(best, earned)


def test_the_preset_states_its_margin() -> None:
    bounds = build_suite("search").bounds()
    assert bounds.margin == pytest.approx(0.2)
