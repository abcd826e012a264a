"""A tool and a reward of one's own, used beside the built-in ones."""

import gymnasium as gym

import agentgym
from agentgym.rewards import all_valid, answer_em


@agentgym.tool
def count_words(text: str) -> int:
    """Count the words of a text."""
    return len(text.split())


@agentgym.reward(scope="turn", range=(-1, 0), supply="cost")
def long_query(view: agentgym.EpisodeView) -> float:
    """−1 for a search of more than eight words."""
    return -1.0 * any(len(c.arguments.get("query", "").split()) > 8 for c in view.turns[-1].calls)


env = gym.make(
    "SearchQA-v0",
    tools=[count_words],
    reward=answer_em + 0.1 * all_valid + agentgym.Cap(0.1 * long_query, -0.3, 0),
)
env.reset(seed=0)
for action in (
    "<count_words>two words</count_words>",
    "<search>who on earth may have written this very long and windy query</search>",
    "<answer>nobody</answer>",
):
    observation, reward, terminated, truncated, info = env.step(action)
    print(f"{action}\n  {observation[:60]!r} reward {float(reward):+.2f} {info['rewards'].get('long_query')}")
