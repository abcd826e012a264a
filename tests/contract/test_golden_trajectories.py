"""One scripted trajectory per environment, frozen: observations, records and rewards change only on purpose.

A difference here means that stored trajectories and published numbers are of another environment: raise its version.
"""

import json
import re
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest

import agentgym
from agentgym import schema
from agentgym.envs import ENVIRONMENTS
from agentgym.seeding import stream

Golden = Callable[[str, str], None]
SEED = 3
DIGITS = 5


def scripted(env_id: str, dialect: str, observation: str) -> agentgym.Trajectory:
    """A bad action, a failed call, then the oracle."""
    env = gym.make(env_id, dialect=dialect, observation=observation).unwrapped
    assert isinstance(env, agentgym.ToolEnv)
    env.reset(options={"task": env.tasks()[SEED], "key": (SEED,)})
    env.step("<nothing>x</nothing> <tool_call>{")
    env.step(env.dialect.example(env.specs[1]))
    while not env.ended:
        env.step(env.oracle_action(stream(SEED, "golden"), 0.0))
    return env.trajectory


def rounded(value: Any) -> Any:
    """Scores of retrieval are sums of float32; their last digits are the platform's."""
    if isinstance(value, float):
        return round(value, DIGITS)
    if isinstance(value, list):
        return [rounded(v) for v in value]
    return {k: rounded(v) for k, v in value.items()} if isinstance(value, dict) else value


@pytest.mark.parametrize("env_id", sorted(ENVIRONMENTS))
def test_scripted_trajectory(env_id: str, golden: Golden) -> None:
    records = {
        f"{dialect} {observation}": rounded(schema.to_json(scripted(env_id, dialect, observation)))
        for dialect, observation in (("tags", "full"), ("json", "full"), ("tags", "compact"))
    }
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", env_id.partition("-")[0]).lower()
    golden(f"trajectory_{name}.json", json.dumps(records, indent=1, ensure_ascii=False, sort_keys=True) + "\n")
    assert all(record["success"] for record in records.values())
