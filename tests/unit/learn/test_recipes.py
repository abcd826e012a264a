"""The recipes under examples/ say what the program does."""

from pathlib import Path

import pytest

from agentgym import config

pytestmark = pytest.mark.torch
RECIPES = Path(__file__).resolve().parents[3] / "examples" / "recipes"


def test_the_default_is_written_out() -> None:
    from agentgym.learn.run import RunConfig

    path = RECIPES / "search_tiny.toml"
    assert path.read_text(encoding="utf-8") == config.dump(RunConfig(), docs=True), (
        "search_tiny.toml is not the built-in default any more; write it anew with:\n"
        "    agentgym train --print-config > examples/recipes/search_tiny.toml"
    )
    assert config.load(RunConfig, path) == RunConfig()


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.toml")), ids=lambda p: p.name)
def test_every_recipe_can_be_run(path: Path) -> None:
    import gymnasium as gym

    from agentgym import hooks
    from agentgym.learn.run import RunConfig

    recipe = config.load(RunConfig, path)
    env = gym.make(recipe.env, disable_env_checker=True, **recipe.env_args).unwrapped
    assert env.source.split(recipe.train.split)  # pyright: ignore[reportAttributeAccessIssue]
    assert env.source.split(recipe.evaluation.split)  # pyright: ignore[reportAttributeAccessIssue]
    for policy in (recipe.policy, recipe.demonstrations.policy):
        assert policy.partition(":")[0] in hooks.POLICIES


def test_the_hard_recipe_asks_for_four_hops_and_pays_for_them_within_the_margin() -> None:
    from agentgym.learn.run import RunConfig
    from agentgym.rollout import EnvPool

    loaded = config.load(RunConfig, RECIPES / "search_hard.toml")
    pool = EnvPool(loaded.env, **loaded.env_args, reward=loaded.reward)
    assert {task.hops for task in pool.first.source.split("train")[:300]} == {4}
    # The objective weighs turn scores by turn_weight itself, since nothing is scaled.
    assert loaded.credit.scale == "none"
    assert pool.first.suite.bounds(turn_factor=loaded.credit.turn_weight).margin > 0
