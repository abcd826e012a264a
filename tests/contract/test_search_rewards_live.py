"""The rewards of search agents on live episodes: the worlds' gold feeds them, honest play earns them, records keep them."""

import json
import warnings
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import agentgym
from agentgym import schema
from agentgym.errors import ConfigError
from agentgym.judges import Verdict
from agentgym.rewards import Suite, build_suite
from agentgym.seeding import stream
from agentgym.types import ToolCall, Trajectory

pytestmark = pytest.mark.filterwarnings("ignore:suite .*margin:UserWarning")

FAMILY = (
    "format_ladder",
    "query_quality",
    "info_density",
    "entity_match",
    "citation_rubric",
    "citation_precision",
    "nugget_coverage",
    "citation_rubric_judged",
    "nugget_coverage_judged",
    "information_gain_log",
    "reference_probability",
    "self_aligned",
    "log_ratio",
)
EVERYTHING = "answer_em + " + " + ".join(f"0.01 * {name}" for name in FAMILY)
WORLDS = ("synthetic:natural?entities=200&seed=0", "synthetic:closed?seed=3")


def make(reward: Any, world: str, **options: Any) -> agentgym.ToolEnv:
    env = gym.make(
        "SearchQA-v0", reward=reward, world=world, limits={"max_turns": 12, "tool_budgets": {"search": 10}}, **options
    )
    assert isinstance(env.unwrapped, agentgym.ToolEnv)
    return env.unwrapped


def names_of_gold(env: agentgym.ToolEnv) -> str:
    return ", ".join(e.name for e in env.task.gold.entities)


def honest(env: agentgym.ToolEnv, call: ToolCall) -> tuple[str, ToolCall]:
    """Thinks of what it has seen, answers with its sources."""
    shown = {d.id for t in env.trajectory.turns for r in t.results for d in r.documents}
    if call.name == "answer":
        cited = [i for i in env.task.gold.doc_ids if i in shown]
        call = ToolCall("answer", {**call.arguments, "citations": cited})
    return f"So far: {names_of_gold(env)}.", call


def silent(env: agentgym.ToolEnv, call: ToolCall) -> tuple[str, ToolCall]:
    return "", call


def play(
    env: agentgym.ToolEnv, task: Any, how: Callable[[agentgym.ToolEnv, ToolCall], tuple[str, ToolCall]] = honest
) -> Trajectory:
    env.reset(options={"task": task})
    rng = stream("search", task.id)
    while not env.ended:
        thought, call = how(env, env.oracle_call(env._episode, rng, 0.0))  # pyright: ignore[reportArgumentType]
        action = env.dialect.render([call], env.specs)
        env.step(f"<think>{thought}</think>{action}" if thought else action)
    return env.trajectory


class Services:
    """A model and a judge that are functions of the text."""

    def score(self, contexts: Any, prefix: str, targets: Any, suffix: str) -> list[list[float]]:
        return [
            [-1.0 / (1 + sum(len(m.text) for m in c) % 97)] * max(1, len(t) // 4)
            for c, t in zip(contexts, targets, strict=True)
        ]

    def judge(self, requests: Any) -> list[Verdict]:
        return [Verdict(True, 1.0, label=r.labels[-1] if r.labels else "") for r in requests]


def completed(suite: Suite, records: list[Trajectory]) -> list[Trajectory]:
    return suite.complete(records, scorer=Services(), judge=Services(), reference=Services())


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_honest_right_play_earns_what_the_gold_describes(world: str, dialect: str) -> None:
    env = make(EVERYTHING, world, dialect=dialect)
    chains = 0
    for task in env.tasks()[:25]:
        (record,) = completed(env.suite, [play(env, task)])
        found = {name: record.scores[name].raw for name in FAMILY if name in record.scores}
        assert record.success
        assert found["format_ladder"] == 1.0, task.id
        assert found["citation_precision"] == 1.0
        assert found["entity_match"] == 1.0 or task.hops == 1, record.scores["entity_match"].reason
        assert (found["info_density"] or 0) > 0
        assert (found["query_quality"] or 0) >= 0.6
        assert found["citation_rubric"] == 1.0, (task.question, record.scores["citation_rubric"])
        chains += len(task.gold.rubrics) > 1
        assert found["citation_rubric_judged"] == 1.0
        assert found["nugget_coverage_judged"] == 1.0
    assert chains > 3


@pytest.mark.parametrize("world", WORLDS)
def test_play_without_thoughts_and_sources_earns_none_of_it(world: str) -> None:
    env = make(EVERYTHING, world)
    for task in env.tasks()[:15]:
        (record,) = completed(env.suite, [play(env, task, silent)])
        assert record.success
        for name in ("entity_match", "citation_rubric", "citation_precision", "citation_rubric_judged"):
            assert record.scores[name].raw == 0.0, name


def test_a_first_thought_that_names_all_gold_earns_nothing() -> None:
    env = make("entity_match", WORLDS[0])
    task = next(t for t in env.tasks() if t.hops > 1)
    env.reset(options={"task": task})
    env.step(f"<think>{names_of_gold(env)}</think><search>nothing</search>")
    env.step("<answer>x</answer>")
    assert env.trajectory.turns[0].thought == names_of_gold(env)
    assert env.trajectory.scores["entity_match"].raw == 0.0


def test_a_report_covers_the_nuggets() -> None:
    env = make("nugget_coverage:strict", WORLDS[0])
    for task in env.tasks()[:10]:
        env.reset(options={"task": task})
        env.step(f"<answer>{' '.join(n.text for n in task.gold.nuggets)}</answer>")
        assert env.trajectory.scores["nugget_coverage"].raw == 1.0
        env.reset(options={"task": task})
        env.step("<answer>I do not know.</answer>")
        assert env.trajectory.scores["nugget_coverage"].raw == 0.0


@pytest.mark.parametrize("world", WORLDS)
def test_a_record_on_disk_scores_to_the_same_numbers(world: str, tmp_path: Any) -> None:
    env = make(EVERYTHING, world)
    records = completed(env.suite, [play(env, t, how) for t in env.tasks()[:6] for how in (honest, silent)])
    path = tmp_path / "records.jsonl"
    path.write_text("".join(json.dumps(schema.to_json(r)) + "\n" for r in records), encoding="utf-8")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        suite = build_suite(EVERYTHING)
    for line, record in zip(path.read_text(encoding="utf-8").splitlines(), records, strict=True):
        again = suite.rescore(schema.from_json(Trajectory, json.loads(line)))
        assert again.total == record.total
        assert again.scores == record.scores
        assert [t.scores for t in again.turns] == [t.scores for t in record.turns]


def test_snapshots_keep_thoughts() -> None:
    env = make("entity_match", WORLDS[0])
    task = next(t for t in env.tasks() if t.hops > 1)
    whole = play(env, task)
    env.reset(options={"task": task})
    rng = stream("search", task.id)
    for _ in range(2):
        thought, call = honest(env, env.oracle_call(env._episode, rng, 0.0))  # pyright: ignore[reportArgumentType]
        env.step(f"<think>{thought}</think>{env.dialect.render([call], env.specs)}")
    state = env.snapshot()
    env.reset(seed=1)
    env.restore(state)
    while not env.ended:
        thought, call = honest(env, env.oracle_call(env._episode, rng, 0.0))  # pyright: ignore[reportArgumentType]
        env.step(f"<think>{thought}</think>{env.dialect.render([call], env.specs)}")
    assert env.trajectory.scores["entity_match"] == whole.scores["entity_match"]


@pytest.mark.parametrize("name", ["path_potential", "action_reference"])
def test_rewards_of_graphs_are_refused_where_nothing_records_a_graph(name: str) -> None:
    env = make(name, WORLDS[1])
    with pytest.raises(ConfigError, match=rf"{name} needs the events \w+, which this environment does not record"):
        env.reset(seed=0)


def test_gold_that_says_nothing_to_a_component_is_an_error_at_reset() -> None:
    env = make("answer_number", WORLDS[1])
    with pytest.raises(ConfigError, match=r"answer_number cannot score task '.*' is no number"):
        env.reset(seed=0)
