"""A loop of one's own: any Gymnasium code works; every turn comes with named, explained scores."""

import gymnasium as gym

import agentgym  # noqa: F401 (registers the ids)

env = gym.make("SearchQA-v0")
observation, info = env.reset(seed=0)
print(observation)
for action in ("<search>a first query</search>", "<answer>a guess</answer>"):
    observation, reward, terminated, truncated, info = env.step(action)
    print(action, "->", round(float(reward), 3), {name: s["value"] for name, s in info["rewards"].items() if s["value"]})
    if terminated or truncated:
        break
print("ended:", info["end_reason"])
