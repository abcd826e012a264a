"""`log_ratio` in training: the reference is the weights that learning began with, after a resume too."""

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fork_server import ForkServer

from agentgym.rollout.record import read_trajectories

pytestmark = [pytest.mark.torch, pytest.mark.skipif(sys.platform != "linux", reason="fork")]

WORLD = "synthetic:closed?worlds=8&kinds=2a"
REWARD = "answer_em + Cap(0.2*log_ratio, -0.2, 0.2)"
SETTINGS = (
    f"env_args.world={WORLD}", f"env_args.reward={REWARD}", "seed=3", "record_every=1", "evaluation.tasks=4",
    "evaluation.every=4", "demonstrations.episodes=48", "demonstrations.noise=0", "sft.steps=15",
    "sft.batch_episodes=8", "sft.warmup_steps=3", "sft.checkpoint_every=5", "train.steps=4", "train.n_prompts=3",
    "train.group_size=4", "train.lr=2e-3", "train.schedule=constant", "train.checkpoint_every=2",
)  # fmt: skip
PLAIN = re.compile(r"<(search|answer)>[A-Za-z ]+</\1>")
"""An action whose text reads back to the tokens that were sampled."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkServer]:
    """Processes that have imported torch already."""
    made = ForkServer(tmp_path_factory.mktemp("outputs"))
    yield made
    made.close()


def test_the_policy_is_compared_with_its_start_and_a_resumed_run_goes_on_alike(server: ForkServer, tmp_path: Path) -> None:
    out = tmp_path / "run"
    done = server.run("train", *SETTINGS, "--out", out, "--quiet")
    assert done.code == 0, done.stderr
    compared, raws = 0, {}
    for record in read_trajectories(out / "trajectories.jsonl"):
        (segment,), plain = record.segments, True
        for turn, span in zip(record.turns, segment.spans, strict=True):
            score = turn.scores["log_ratio"]
            assert score.valid
            assert not score.deferred
            raws.setdefault(record.seed[1], []).append(score.raw)
            plain = plain and bool(PLAIN.fullmatch(turn.action))
            if plain:
                compared += 1
                sampled = sum(segment.logprobs[span.start : span.end])
                assert score.parts["policy"] == pytest.approx(sampled, abs=1e-3), "the policy's own probability"
    assert compared > 20
    assert set(raws[0]) == {0.0}, "before the first update the policy is its reference"
    assert max(map(abs, raws[3])) > 0.05, "later it is not"

    resumed = shutil.copytree(out, tmp_path / "resumed")
    shutil.rmtree(resumed / "checkpoints" / "train-000004")
    shutil.rmtree(resumed / "model")
    assert server.run("train", *SETTINGS, "--out", resumed, "--quiet").code == 0
    assert (resumed / "trajectories.jsonl").read_bytes() == (out / "trajectories.jsonl").read_bytes()


def test_an_evaluation_has_no_reference_and_says_so(server: ForkServer) -> None:
    done = server.run("eval", "SearchQA-v0", "--world", WORLD, "--reward", REWARD, "--policy", "tiny", "--limit", "2")
    assert done.code == 2
    assert "log_ratio needs a reference" in done.stderr
    assert "Suite.complete(records, scorer=..., reference=...)" in done.stderr
