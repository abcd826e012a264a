"""UnicodeText alone and inside gymnasium's vector environments."""

import copy
import pickle
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv
from gymnasium.vector.utils import (
    batch_space,
    concatenate,
    create_empty_array,
    create_shared_memory,
    iterate,
    read_from_shared_memory,
    write_to_shared_memory,
)

from agentgym.spaces import UnicodeText

LINES = ("", "naïve café", "東京 → Kyōto", "👩‍🔬" * 3)


class Echo(gym.Env[str, str]):
    """Answers with the action, upper-cased and numbered; three steps."""

    def __init__(self, nested: bool = False) -> None:
        text = UnicodeText(64)
        self.nested = nested
        self.observation_space: Any = Dict({"text": text, "n": Box(0, 9, (1,), np.float32)}) if nested else text
        self.action_space = UnicodeText(64, examples=LINES)

    def _observe(self, text: str) -> Any:
        return {"text": text, "n": np.array([self.n], np.float32)} if self.nested else text

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None):
        super().reset(seed=seed)
        self.n = 0
        return self._observe("début"), {}

    def step(self, action: str):
        self.n += 1
        return self._observe(f"{self.n}:{action.upper()}"), 0.0, self.n == 3, False, {}


def test_membership():
    space = UnicodeText(5)
    assert all(text in space for text in ("", "naïve", "東京", "\x00\ud800"))
    assert not any(x in space for x in ("sixsix", 5, None, b"ab"))
    assert space == UnicodeText(5, examples=["a"], seed=3)
    assert space != UnicodeText(6)


@pytest.mark.parametrize("kwargs", [{"max_length": 0}, {"max_length": True}, {"examples": []}, {"examples": ["x" * 9]}])
def test_bad_arguments_are_refused(kwargs: dict[str, Any]):
    with pytest.raises(ValueError, match="UnicodeText"):
        UnicodeText(**{"max_length": 8, **kwargs})


def test_samples_are_seeded_and_come_from_the_examples():
    def draws(space: UnicodeText) -> list[str]:
        space.seed(7)
        return [space.sample() for _ in range(20)]

    assert draws(UnicodeText(64, LINES)) == draws(UnicodeText(64, LINES))
    assert set(draws(UnicodeText(64, LINES))) == set(LINES)
    assert all(text in UnicodeText(8) for text in draws(UnicodeText(8)))
    with pytest.raises(ValueError, match="mask"):
        UnicodeText().sample(mask=1)


def test_a_function_may_draw_and_is_shared_by_copies_but_not_pickled():
    held = {"lock": __import__("threading").Lock()}
    space = UnicodeText(64, examples=lambda rng: f"{held and rng.integers(10)}é", seed=1)
    twin = copy.deepcopy(space)
    assert [twin.sample() for _ in range(5)] == [space.sample() for _ in range(5)]
    restored = pickle.loads(pickle.dumps(space))
    assert restored == space
    assert restored.sample() in restored


def test_jsonable_round_trip():
    space = UnicodeText(64)
    assert space.from_jsonable(space.to_jsonable(list(LINES))) == list(LINES)


def test_vector_functions():
    space = UnicodeText(64, LINES)
    batch = batch_space(space, 3)
    assert list(iterate(batch, ("a", "bcd", ""))) == ["a", "bcd", ""]
    assert concatenate(space, ["a", "b"], create_empty_array(space, 2)) == ("a", "b")
    assert create_empty_array(space, 2) == ("", "")
    batch.seed(5)
    first = [batch.sample() for _ in range(9)]
    batch.seed(5)
    assert first == [batch.sample() for _ in range(9)]
    assert any(len(set(row)) > 1 for row in first)
    assert first[0] in batch


def test_shared_memory_shows_what_was_written_last():
    space = UnicodeText(12)
    memory = create_shared_memory(space, n=3)
    texts = read_from_shared_memory(space, memory, n=3)
    assert tuple(texts) == ("", "", "")
    longest = "👩" * 12
    write_to_shared_memory(space, 1, longest, memory)
    write_to_shared_memory(space, 2, "\ud800é", memory)
    kept = copy.deepcopy(texts)
    assert kept == ("", longest, "\ud800é")
    write_to_shared_memory(space, 1, "a", memory)
    assert texts == ("", "a", "\ud800é")
    assert kept[1] == longest
    assert texts[-1:] == ("\ud800é",)
    with pytest.raises(IndexError):
        texts[3]
    with pytest.raises(ValueError, match="13 characters does not fit in UnicodeText"):
        write_to_shared_memory(space, 0, "x" * 13, memory)


@pytest.mark.filterwarnings("ignore:.*:UserWarning")
def test_gymnasiums_check_passes():
    check_env(Echo(), skip_render_check=True)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("mode", ["sync", "pipes", "shared"])
def test_vector_environments_carry_unicode(mode: str, nested: bool):
    makers = [lambda: Echo(nested)] * 2
    if mode == "sync":
        envs = SyncVectorEnv(makers, autoreset_mode=AutoresetMode.SAME_STEP)
    else:
        envs = AsyncVectorEnv(
            makers, shared_memory=mode == "shared", context="fork", autoreset_mode=AutoresetMode.SAME_STEP
        )

    def text(observation: Any) -> tuple[str, ...]:
        return tuple(observation["text"] if nested else observation)

    try:
        start, _ = envs.reset(seed=1)
        assert text(start) == ("début", "début")
        first, *_ = envs.step(("straße", ""))
        second, *_ = envs.step(envs.action_space.sample())
        assert text(first) == ("1:STRASSE", "1:")
        assert all(t.startswith("2:") for t in text(second))
        third, _, ended, _, info = envs.step(("東", "京"))
        assert ended.all()
        assert text(third) == ("début", "début")
        final = [o["text"] if nested else o for o in info["final_obs"]]
        assert final == ["3:東", "3:京"]
    finally:
        envs.close()


def test_make_vec_on_a_registered_id():
    gym.register("AgentGymEcho-v0", entry_point=lambda: Echo())
    try:
        envs = gym.make_vec("AgentGymEcho-v0", num_envs=2, vectorization_mode="sync")
        envs.reset(seed=0)
        observation, *_ = envs.step(("ä", "ö"))
        assert observation == ("1:Ä", "1:Ö")
        envs.close()
    finally:
        del gym.registry["AgentGymEcho-v0"]
