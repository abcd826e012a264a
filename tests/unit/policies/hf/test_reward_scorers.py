"""Rewards from probabilities, with a real model behind the scorer."""

import math

import gymnasium as gym
import pytest

from agentgym.rewards import build_suite

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
