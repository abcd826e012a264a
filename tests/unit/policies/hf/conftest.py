"""The policies that all tests of this folder run on."""

import asyncio
import importlib.util

import numpy as np
import pytest

from agentgym.rollout.policy import Request

STOP = ("</search>", "</answer>")


def load(name):
    from agentgym.policies.hf import smollm2, tiny

    return tiny.load() if name == "tiny" else smollm2.load(few_shot=False)


@pytest.fixture(scope="session", params=["tiny", pytest.param("smollm2", marks=[pytest.mark.smollm2, pytest.mark.slow])])
def policy(request):
    """A policy whose weights no test changes."""
    if importlib.util.find_spec("torch") is None:
        pytest.skip("the extra `train` is not installed")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load(request.param)
    torch.set_num_threads(threads)


@pytest.fixture
def fresh():
    """A tiny policy that a test may change."""
    return load("tiny")


def request_for(episode, ids, turn=0, **options):
    return Request(
        **{
            "episode": str(episode),
            "messages": (),
            "tools": (),
            "stop": STOP,
            "key": ("test", episode, turn),
            "token_ids": tuple(ids),
            "max_tokens": 6,
            **options,
        }
    )


def act(policy, requests):
    return asyncio.run(policy.act(requests))


class Conversations:
    """Several turns of random text for many episodes; text and noise depend on the episode alone."""

    def __init__(self, policy, seed=0, longest=24):
        self.policy, self.seed, self.longest = policy, seed, longest

    def text(self, episode, turn):
        rng = np.random.default_rng((self.seed, episode, turn))
        n = int(rng.integers(2, self.longest))
        return rng.integers(5, len(self.policy.tokenizer) - 5, n).tolist()

    def run(self, episodes, turns=3, **options):
        """Return per episode its completions, and its ledger of ids, mask and logprobs."""
        ledger = {e: ([*self.text(e, 0)], []) for e in episodes}
        found = {e: [] for e in episodes}
        for turn in range(turns):
            requests = [request_for(e, ledger[e][0], turn, **options) for e in episodes]
            for e, completion in zip(episodes, act(self.policy, requests), strict=True):
                assert list(completion.context_ids) == ledger[e][0]
                found[e].append(completion)
                ids, spans = ledger[e]
                spans.append((len(ids), completion))
                ids.extend(completion.token_ids)
                ids.extend(self.text(e, turn + 1))
        self.policy.release([str(e) for e in episodes])
        return found, ledger
