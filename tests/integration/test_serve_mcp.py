"""`agentgym serve mcp`: an environment played by an MCP client, over stdio and HTTP, through our own `mcp_tools`."""

import asyncio
import json
import subprocess
import sys

import pytest

pytest.importorskip("mcp")

import agentgym
from agentgym.errors import ConfigError, ServiceError
from agentgym.rollout.record import read_trajectories
from agentgym.serve.mcp import EpisodeServer
from agentgym.tools import Toolbox, ToolContext, tool
from agentgym.tools.mcp import mcp_tools
from agentgym.types import ToolCall

COMMAND = [sys.executable, "-m", "agentgym", "serve", "mcp", "SearchQA-v0", "--world", "synthetic:natural?entities=100&seed=0"]


def player(found):
    box = Toolbox(found)
    return lambda name, **arguments: asyncio.run(box.run(ToolCall(name, arguments, "c1"), ToolContext()))


def play(call):
    """Play an episode; returns what was read."""
    started = call("start_episode")
    assert started.ok
    searched = call("search", query="founder")
    assert searched.ok
    assert "[1]" in searched.data
    bad = call("search", query="x", k=-5)
    assert (bad.code, "-5" in bad.error) == ("E_TOOL", True), bad.error
    over = call("answer", text="nobody")
    assert over.data == "the episode is over (answered)"
    late = call("search", query="x")
    assert "call start_episode" in late.error
    return started.data


def test_over_stdio_every_episode_is_recorded_and_scored(tmp_path):
    out = tmp_path / "played.jsonl"
    call = player(mcp_tools([*COMMAND, "--seed", "3", "--out", str(out)], timeout_s=60))
    first = play(call)
    second = play(call)
    assert first != second, "the next task is drawn"
    records = list(read_trajectories(out))
    assert [(r.end_reason, len(r.turns)) for r in records] == [("answered", 3)] * 2
    assert "answer_em" in records[0].scores
    again = call("start_episode", task=records[0].task_id)
    assert again.data == first
    assert call("start_episode", task="no-such-task").code == "E_TOOL"
    assert "reward" not in json.dumps([first, second])


def test_over_http_the_address_names_the_episode():
    server = subprocess.Popen([*COMMAND, "--http", "--port", "0", "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        url = json.loads(server.stdout.readline())["url"]
        one, two = (player(mcp_tools(url=f"{url}?episode={name}", timeout_s=60)) for name in "ab")
        assert one("start_episode").ok
        assert "call start_episode" in two("search", query="x").error
        play(two)
        assert one("search", query="founder").ok
        assert "at most 64 letters" in player(mcp_tools(url=f"{url}?episode=a/b", timeout_s=60))("search", query="x").error
    finally:
        server.terminate()
        server.communicate(timeout=20)


def test_what_is_no_tool_env_is_refused():
    with pytest.raises(ConfigError, match="takes no argument 'dialect'"):
        EpisodeServer("CartPole-v1")


def test_an_episode_in_the_middle_of_a_call_is_not_the_one_that_goes(tmp_path):
    out = tmp_path / "played.jsonl"
    go = asyncio.Event()

    @tool
    async def wait() -> str:
        """Wait."""
        await go.wait()
        return "done"

    kwargs = {"tools": [wait], "world": "synthetic:natural?entities=100&seed=0"}
    episodes = EpisodeServer("SearchQA-v0", kwargs, out=out, max_episodes=1)

    async def turn(name, tool_name):
        episode = episodes.episode(name)
        async with episode.lock:
            return await episode.call(tool_name, {})

    async def played():
        await turn("a", "start_episode")
        waiting = asyncio.ensure_future(turn("a", "wait"))
        await asyncio.sleep(0)
        with pytest.raises(ServiceError, match="in the middle of a call"):
            await turn("b", "start_episode")
        go.set()
        text, fine = await waiting
        assert (text.startswith("done"), fine) == (True, True)
        assert (await turn("b", "start_episode"))[1]

    asyncio.run(played())
    assert [(r.end_reason, len(r.turns)) for r in read_trajectories(out)] == [("time_limit", 1)], "recorded once"
    episodes.close()


def test_records_that_cannot_be_written_wait_for_the_next_episode(tmp_path):
    out = tmp_path / "played.jsonl"
    with pytest.raises(IsADirectoryError):
        EpisodeServer("SearchQA-v0", {"world": "synthetic:natural?entities=100&seed=0"}, out=tmp_path)
    episodes = EpisodeServer("SearchQA-v0", {"world": "synthetic:natural?entities=100&seed=0"}, out=out)
    assert episodes.server().version == agentgym.__version__

    def play_one():
        episode = episodes.episode("")
        assert asyncio.run(episode.call("start_episode", {}))[1]
        return asyncio.run(episode.call("answer", {"text": "nobody"}))

    out.unlink()
    out.mkdir()
    with pytest.warns(UserWarning, match=r"played\.jsonl: Is a directory; 1 episodes wait"):
        assert play_one() == ("the episode is over (answered)", True)
    out.rmdir()
    play_one()
    assert [r.end_reason for r in read_trajectories(out)] == ["answered"] * 2
    episodes.close()
