"""Attacks on live episodes whose bound is a matter of the environment as much as of the score."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest
from reward_episodes import TableScorer

import agentgym
from agentgym.check import HOSTILE
from agentgym.rewards import build_suite
from agentgym.task import Answer
from agentgym.types import ToolCall

WORLD = "synthetic:natural?entities=200&seed=0"
GAIN = "answer_em + Cap(0.2*information_gain, -0.2, 0.2)"


def make(**options: Any) -> agentgym.ToolEnv:
    env = gym.make("SearchQA-v0", world=WORLD, limits={"max_invalid": 50, "max_repeats": 50}, **options).unwrapped
    assert isinstance(env, agentgym.ToolEnv)
    return env


def gains(env: agentgym.ToolEnv) -> list[float]:
    """Information gain per turn under a model that believes whatever text it reads."""
    scorer = TableScorer(lambda text, target: [-0.05 if target.casefold() in text.casefold() else -4.0])
    if not env.ended:
        env.end("max_tokens")
    (done,) = env.suite.complete([env.trajectory], scorer)
    return [turn.scores["information_gain"].raw or 0.0 for turn in done.turns]


@pytest.mark.parametrize("dialect", ["tags", "json"])
def test_no_tool_echoes_a_guess_into_information_gain(dialect: str) -> None:
    """A guess as pattern, query, id, tool name, parameter or in a thought: where no document shows it, it gains 0."""
    env = make(reward=GAIN, dialect=dialect)
    task = next(t for t in env.tasks() if t.gold.answers[0].text.casefold() not in (*t.question.casefold().split(), "yes", "no"))
    guess = "Zzyzxqua Vleermuis"  # stands in no document
    task = replace(task, gold=replace(task.gold, answers=(Answer(guess),)))
    env.reset(options={"task": task})
    corpus: Any = env.services(task)["corpus"]
    page = corpus.search(task.question, 1)[0].passage.id
    calls = [
        ToolCall("open", {"doc_id": page}),
        ToolCall("find", {"pattern": guess}),
        ToolCall("search", {"query": guess}),
        ToolCall("open", {"doc_id": guess.replace(" ", "-")}),
        ToolCall("search", {"query": f"{guess}?", "k": 99}),
    ]
    actions = [env.dialect.render([c], env.specs) for c in calls]
    actions += [f"<think>{guess}</think>{actions[0]}", f"<{guess.split()[0]}>{guess}</{guess.split()[0]}>", guess * 3 + "<bad"]
    for action in actions:
        if not env.ended:
            env.step(action)
    assert env.n_turns >= 5
    assert gains(env) == pytest.approx([0.0] * env.n_turns), [m.text for t in env.trajectory.turns for m in t.messages]


def test_what_the_question_gives_away_is_no_gain() -> None:
    env = make(reward=GAIN)
    task = env.tasks()[0]
    answer = task.gold.answers[0].text
    env.reset(options={"task": replace(task, question=f"{task.question} (It is {answer}.)")})
    env.step(f"<search>{answer}</search>")
    env.step(f"<open>{task.gold.doc_ids[0]}</open>")
    assert gains(env) == pytest.approx([0.0, 0.0])


def test_two_answers_in_one_action_are_none() -> None:
    for dialect in ("tags", "json"):
        env = make(reward="search", dialect=dialect)
        task = env.tasks()[0]
        right, wrong = (env.dialect.render([ToolCall("answer", {"text": t})], env.specs) for t in (task.gold.answers[0].text, "no"))
        if dialect == "json":  # a text without a call is one answer, so two have to be calls
            right, wrong = (f'<tool_call>{{"name": "answer", "arguments": {{"text": "{t}"}}}}</tool_call>'
                            for t in (task.gold.answers[0].text, "no"))  # fmt: skip
        for action in (right + wrong, wrong + right, f"{wrong}\n{right}"):
            env.reset(options={"task": task})
            *_, info = env.step(action)
            assert info["action"]["error_code"] == "E_MULTI"
            assert not env.ended
            assert env.trajectory.answer is None


@pytest.mark.parametrize("name", ["__proto__ key", "full-width braces", "duplicate keys", "NaN", "nested brackets"])
def test_malformed_json_is_refused_and_says_how(name: str) -> None:
    env = make(reward="search", dialect="json")
    env.reset(seed=0)
    observation, reward, *_, info = env.step(HOSTILE[name])
    assert info["action"]["error_code"] in ("E_PARSE", "E_ARGS")
    assert info["action"]["error_code"] in observation
    assert float(reward) < 0


def test_alternating_between_two_pages_for_ever_ends_and_only_costs() -> None:
    """Every other turn the same: no loop of one call, so the limit of turns has to end it."""
    env = make(reward="search")
    task = env.tasks()[0]
    env.reset(options={"task": task})
    ids = [h.passage.id for h in env.services(task)["corpus"].search(task.question, 10) if h.passage.id not in task.gold.doc_ids][:2]
    paid = []
    while not env.ended:
        paid.append(float(env.step(f"<open>{ids[len(paid) % 2]}</open>")[1]))
    assert env.trajectory.end_reason == "max_turns"
    assert all(reward < 0 for reward in paid[:-1])
    assert env.trajectory.total <= build_suite("search").bounds().failure[1]
