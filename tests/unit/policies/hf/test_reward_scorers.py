"""Rewards from probabilities, with a real model behind the scorer."""

import math

import gymnasium as gym
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from agentgym.credit import CreditConfig, advantages  # noqa: E402
from agentgym.errors import DataError  # noqa: E402
from agentgym.policies.hf import scorer  # noqa: E402
from agentgym.policies.hf.training import entropy as entropy_of  # noqa: E402
from agentgym.rewards import build_suite  # noqa: E402
from agentgym.types import Group, Message  # noqa: E402

pytestmark = pytest.mark.torch

REWARD = "answer_em + 0.1 * reference_probability + 0.1 * self_aligned + 0.1 * log_ratio + 0.1 * information_gain_log"


@pytest.mark.filterwarnings("ignore:suite .*margin:UserWarning")
def test_probability_rewards_of_live_episodes(policy, fresh) -> None:
    env = gym.make("SearchQA-v0", world="synthetic:closed?seed=3", observation="compact", reward=REWARD).unwrapped
    records = []
    for seed, answer in enumerate(["Belcastle", "nowhere", None]):
        env.reset(seed=seed)
        env.step("<think>who is it</think><search>Magda</search>")
        if answer is None:
            env.end("max_tokens")
        else:
            env.step(f"<think>it is {answer}</think><answer>{answer}</answer>")
        records.append(env.trajectory)
    done = build_suite(REWARD).complete(records, scorer=policy, reference=fresh)
    for record in done:
        raws = [s.raw for s in [*record.scores.values(), *(s for t in record.turns for s in t.scores.values())]]
        assert all(raw is not None and math.isfinite(raw) for raw in raws)
        assert record.in_loss
        assert env.suite.rescore(record).scores == record.scores
    assert done[0].scores["self_aligned"].raw != done[1].scores["self_aligned"].raw
    assert done[2].scores["self_aligned"].raw == done[2].scores["reference_probability"].raw == 0.0
    same = build_suite(REWARD).complete(records, scorer=fresh, reference=fresh)
    assert all(turn.scores["log_ratio"].raw == 0.0 for record in same for turn in record.turns)


def test_entropies_are_those_of_the_distributions_that_the_probabilities_come_from(policy) -> None:
    """Against the model's own softmax, row by row; rows that begin alike, and a target of several tokens."""
    asked = Message.of("user", "who directed Blue Harbour?")
    contexts = [[asked], [asked], [asked, Message.of("assistant", "hm"), Message.of("user", "well?")]]
    targets = ["Belcastle", "Magda", "Belcastle"]
    logs, entropies = policy.score_with_entropies(contexts, "<answer>", targets, "</answer>")
    assert logs == policy.score(contexts, "<answer>", targets, "</answer>")
    for context, target, row, unsure in zip(contexts, targets, logs, entropies, strict=True):
        start = policy.renderer.start(context, ())
        text = f"<answer>{target}</answer>"
        ids, inside = policy._codec.covering(text, len("<answer>"), len("<answer>") + len(target))
        with torch.no_grad():
            logits = policy.model(torch.tensor([[*start, *ids]])).logits[0].double()
        for at, log, entropy in zip(inside, row, unsure, strict=True):
            p = torch.softmax(logits[len(start) + at - 1], 0)
            assert log == pytest.approx(float(p[ids[at]].log()), abs=1e-4)
            assert entropy == pytest.approx(float(-(p * p.clamp_min(1e-300).log()).sum()), abs=1e-4)
            assert 0 < entropy < math.log(len(p))
    apart = scorer._separately  # the way of rows that are too long, or of models that cannot share
    rows, wanted = scorer._rows(policy._causal, policy._codec, policy.renderer, contexts, "<answer>", targets, "</answer>")
    found = apart(policy._causal, rows[::-1], wanted[::-1], 4096, entropy_of)
    for one, other in zip(found[::-1], entropies, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


@pytest.mark.filterwarnings("ignore:suite .*margin:UserWarning")
def test_probes_store_accuracy_and_confidence_for_the_recipe_that_reads_them(policy) -> None:
    reward = "answer_em + 0 * step_potential"
    env = gym.make("SearchQA-v0", world="synthetic:closed?seed=3", observation="compact", reward=reward).unwrapped
    records = []
    for i, answer in enumerate(["Belcastle", "nowhere"]):
        env.reset(seed=0)
        env.step("<search>Magda</search>")
        env.step(f"<answer>{answer}</answer>")
        records.append(env.trajectory.with_(id=f"t{i}"))
    suite = build_suite(reward)
    done = suite.complete(records, scorer=policy)
    for record in done:
        for turn in record.turns:
            parts = turn.scores["step_potential"].parts
            assert 0 < parts["probe.accuracy"] <= 1
            assert 0 < parts["probe.confidence"] < 1
            assert parts["potential.after"] <= parts["probe.accuracy"] + 1e-9  # geometric and arithmetic mean
    config = CreditConfig(recipe="spae", options={"component": "step_potential"})
    assert np.isfinite(advantages(config, [Group("g", "q", tuple(done))]).values).all()

    class Plain:
        def score(self, *args):
            return policy.score(*args)

    bare = suite.complete(records, scorer=Plain())
    assert "probe.confidence" not in bare[0].turns[0].scores["step_potential"].parts
    assert bare[0].turns[0].scores["step_potential"].raw == done[0].turns[0].scores["step_potential"].raw
    with pytest.raises(DataError, match="scored by a policy that gives entropies"):
        advantages(config, [Group("g", "q", tuple(bare))])
