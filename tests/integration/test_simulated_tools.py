"""CM2's setting: checklist rewards over tools that a model imitates, trained end to end against a real endpoint."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import chat_server as srv
import pytest
from tool_players import make, oracle, plan, play

from agentgym.cli.main import main
from agentgym.errors import ConfigError
from agentgym.types import ToolCall

RECIPE = Path(__file__).parents[2] / "examples" / "recipes" / "cm2_tools.toml"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[srv.ChatServer]:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    with srv.serving() as running:
        running.default = srv.say('{"result": "lamp w77 lost"}')
        yield running


def simulated(server: srv.ChatServer, **kwargs: Any) -> Any:
    config = {"base_url": server.url, "model": "m", "max_attempts": 1, "timeout_s": 5.0}
    return make(world="shop?seed=0", reward="checklist", simulate=config, **kwargs)


def test_calls_of_the_solution_give_what_was_recorded_and_others_are_made_up_once(server: srv.ChatServer) -> None:
    env, real = simulated(server), make(world="shop?seed=0")
    for n in range(10):
        task = env.tasks()[n]
        record, run = oracle(env, task), oracle(real, task)
        assert record.success
        assert [r.data for t in record.turns for r in t.results] == [r.data for t in run.turns for r in t.results]
    assert not server.requests
    task = env.tasks()[0]
    asked = [plan(task)[0], ToolCall("get_product", {"product_id": "P1"}), *plan(task)[1:]]
    for _ in range(3):
        record = play(env, task, asked)
        assert record.turns[1].results[0].data == "lamp w77 lost"
        assert record.success
    assert len(server.requests) == 1, "siblings see the same world"
    assert play(env, task, [ToolCall("get_order", {"order": "x"})]).turns[0].results[0].code == "E_ARGS"
    assert len(server.requests) == 1


def test_a_simulator_that_fails_takes_the_episode_out(server: srv.ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.default = srv.raw(b"{}", 500)
    arguments = ["eval", "ToolCalls-v0", "--world", "shop?seed=0", "--reward", "checklist", "--limit", "4", "--json", "--quiet"]
    arguments += ["--policy", "scripted", "--noise", "0.9", "--env-arg"]
    config = {"base_url": server.url, "model": "m", "max_attempts": 1, "timeout_s": 5.0}
    main([*arguments, f"simulate={json.dumps(config)}", "--out", str(tmp_path / "e")])
    body = json.loads(capsys.readouterr().out)
    assert body["n_faults"] > 0


def test_rewards_that_read_a_state_are_refused(server: srv.ChatServer) -> None:
    with pytest.raises(ConfigError, match=r"change no state.*checklist"):
        make(simulate={"base_url": server.url, "model": "m"})
    with pytest.raises(ConfigError, match="did you mean 'base_url'"):
        make(simulate={"base_ulr": server.url})


def test_the_recipe_trains(server: srv.ChatServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tools = '["orders", "order", "friend", "cancel", "refund", "ask_user", "finish", "refuse", "information"]'
    small = (
        "policy=tiny", "policy_args.words=shop", f"policy_args.tools={tools}", "env_args.world='shop:closed?worlds=4'",
        "env_args.dialect=tags", "env_args.observation=compact", f"env_args.simulate.base_url={server.url}", "env_args.simulate.max_attempts=1",
        "train.steps=2", "train.n_prompts=4", "train.group_size=4", "sampling.max_tokens=8", "demonstrations.episodes=40", "sft.steps=8",
        "evaluation.tasks=4",
    )  # fmt: skip
    assert main(["train", str(RECIPE), *small, "--out", str(tmp_path / "run"), "--quiet"]) == 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert len([r for r in rows if "step" in r]) >= 2
    assert server.requests, "the simulator was asked"
