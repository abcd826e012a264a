"""Checkpoints are whole or not there."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from agentgym.errors import ConfigError, DataError
from agentgym.learn import CheckpointStore, OptimConfig, latest
from agentgym.learn.optim import apply_gradients, learning_rate, make_optimizer
from agentgym.seeding import stream

pytestmark = pytest.mark.torch


def trained(fake, seed=0):
    """A policy and an optimiser with a state."""
    policy = fake.TinyPolicy(seed)
    optimizer = make_optimizer(policy.parameters(), OptimConfig())
    for p in policy.parameters():
        p.grad = torch.ones_like(p) * 0.1
    optimizer.step()
    return policy, optimizer


def test_round_trip_is_exact(fake, tmp_path):
    policy, optimizer = trained(fake)
    CheckpointStore(tmp_path).save("train", 7, policy, optimizer, {"a": [1, 0.1]})
    found = latest(tmp_path)
    assert (found.phase, found.step, found.path.name) == ("train", 7, "train-000007")
    other, other_optimizer = trained(fake, seed=1)
    assert found.restore(other, other_optimizer) == {"a": [1, 0.1]}
    for a, b in zip(policy.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(*(o.state_dict()["state"].values() for o in (optimizer, other_optimizer)), strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_keeps_the_last_of_each_phase(fake, tmp_path):
    policy, optimizer = trained(fake)
    store = CheckpointStore(tmp_path, keep=2)
    for phase, step in [("warmstart", 5), ("warmstart", 9), *(("train", s) for s in range(4))]:
        store.save(phase, step, policy, optimizer, {})
    assert sorted(p.name for p in store.folder.iterdir()) == [
        "train-000002",
        "train-000003",
        "warmstart-000005",
        "warmstart-000009",
    ]
    assert latest(tmp_path / "nowhere") is None


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize(
    "damage",
    [
        lambda c: (c / "manifest.json").unlink(),
        lambda c: (c / "manifest.json").write_text('{"files": {"state'),
        lambda c: (c / "optimizer.pt").write_bytes((c / "optimizer.pt").read_bytes()[:-1]),
        lambda c: flip(c / "model" / "weights.pt"),
        lambda c: (c / "state.json").unlink(),
    ],
    ids=["no manifest", "half a manifest", "short file", "flipped bit", "missing file"],
)
def test_damaged_checkpoints_are_passed_over_and_replaced(fake, tmp_path, damage):
    policy, optimizer = trained(fake)
    store = CheckpointStore(tmp_path)
    store.save("train", 1, policy, optimizer, {})
    damage(store.save("train", 2, policy, optimizer, {}).path)
    assert latest(tmp_path).step == 1
    store.save("train", 2, policy, optimizer, {})
    assert latest(tmp_path).step == 2


def test_going_back_behind_a_damaged_checkpoint_keeps_the_new_ones(fake, tmp_path):
    policy, optimizer = trained(fake)
    store = CheckpointStore(tmp_path, keep=1)
    (store.save("train", 9, policy, optimizer, {}).path / "state.json").unlink()
    assert latest(tmp_path) is None
    store.save("train", 3, policy, optimizer, {})
    assert latest(tmp_path).step == 3, "the damaged one does not count as the one to keep"
    assert [c.step for c in store.all()] == [3]
    store.save("warmstart", 5, policy, optimizer, {})
    assert (store.latest("warmstart").step, store.latest().step) == (5, 3)


def test_a_write_that_fails_leaves_nothing(fake, tmp_path):
    policy, optimizer = trained(fake)
    store = CheckpointStore(tmp_path)
    store.save("train", 1, policy, optimizer, {})
    with pytest.raises(ValueError, match="JSON"):
        store.save("train", 2, policy, optimizer, {"loss": float("nan")})
    assert [p.name for p in store.folder.iterdir()] == ["train-000001"]
    (store.folder / ".train-000002-999.partial").mkdir()  # what a kill in the middle leaves
    assert latest(tmp_path).step == 1
    store.save("train", 2, policy, optimizer, {})
    assert sorted(p.name for p in store.folder.iterdir()) == ["train-000001", "train-000002"]


def test_what_cannot_fit_is_refused(fake, tmp_path):
    policy, optimizer = trained(fake)
    store = CheckpointStore(tmp_path)
    checkpoint = store.save("train", 1, policy, optimizer, {})
    with pytest.raises(DataError, match="does not fit this policy"):
        checkpoint.restore(policy, make_optimizer(policy.parameters()[:1], OptimConfig()))
    with pytest.raises(ConfigError, match="allowed are warmstart, train"):
        store.save("eval", 1, policy, optimizer, {})


def test_learning_rates():
    def rates(n_steps=10, **changes):
        return [learning_rate(OptimConfig(lr=1.0, **changes), s, n_steps) for s in range(n_steps + 1)]

    assert rates(warmup_steps=4)[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates(schedule="linear", warmup_steps=5) == pytest.approx([0.2, 0.4, 0.6, 0.8, 1, 1, 0.8, 0.6, 0.4, 0.2, 0])
    cosine = rates(schedule="cosine", min_lr_share=0.1)
    assert (cosine[0], cosine[5], cosine[10]) == pytest.approx((1.0, 0.55, 0.1))
    assert learning_rate(OptimConfig(lr=1.0, schedule="linear", min_lr_share=0.1), 99, 10) == pytest.approx(0.1)


def test_long_gradients_are_cut_to_length():
    weight = torch.zeros(2, requires_grad=True)
    weight.grad = torch.tensor([3.0, 4.0])
    norm, taken = apply_gradients(torch.optim.SGD([weight], lr=1.0), OptimConfig(max_grad_norm=0.5), lr=0.1)
    assert (norm, taken, weight.grad) == (5.0, True, None)
    assert weight.tolist() == pytest.approx([-0.03, -0.04], rel=1e-5)


RUN = """
    import importlib.util, json, sys, time
    from pathlib import Path
    import torch
    from agentgym.learn import CheckpointStore, LearnConfig, Learner, TrainConfig, latest
    spec = importlib.util.spec_from_file_location("fakes", sys.argv[1])
    fakes = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fakes)
    torch.set_num_threads(1)
    run = Path(sys.argv[2])
    config = LearnConfig(seed=3, train=TrainConfig(steps=40, n_prompts=4, group_size=4, lr=1e-2, checkpoint_every=2))
    learner = Learner(config, fakes.TinyPolicy(3), fakes.rollout, fakes.Tasks())
    checkpoint = latest(run)
    if checkpoint:
        learner.resume(checkpoint)
    print("ready", flush=True)
    with (run / "metrics.jsonl").open("a") as file:
        for record in learner.records(CheckpointStore(run)):
            metrics = {k: v for k, v in record.metrics.items() if not k.startswith("time/")}
            print(json.dumps([record.step, metrics, record.scales, record.advantages]), file=file, flush=True)
            time.sleep(float(sys.argv[3]))
"""


def start(run: Path, pause: float) -> subprocess.Popen:
    command = [
        sys.executable,
        "-c",
        textwrap.dedent(RUN),
        str(Path(__file__).with_name("conftest.py")),
        str(run),
        str(pause),
    ]
    run.mkdir(exist_ok=True)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"OMP_NUM_THREADS": "1"}, text=True)
    assert process.stdout.readline() == "ready\n"
    return process


def finish(process: subprocess.Popen) -> None:
    process.communicate(timeout=300)
    assert process.returncode == 0


@pytest.mark.slow
def test_a_run_killed_at_random_moments_repeats_the_unbroken_one(tmp_path):
    finish(start(tmp_path / "whole", 0.0))
    rng = stream("kill")
    for _ in range(3):
        metrics = tmp_path / "broken" / "metrics.jsonl"
        before = metrics.stat().st_size if metrics.exists() else 0
        process = start(tmp_path / "broken", 0.02)
        while not metrics.exists() or metrics.stat().st_size == before:  # it has taken a step
            time.sleep(0.005)
        time.sleep(float(rng.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=300)
    finish(start(tmp_path / "broken", 0.0))
    whole, broken = ((tmp_path / n / "metrics.jsonl").read_text().splitlines() for n in ("whole", "broken"))
    # Steps after a checkpoint were repeated, each time with the same numbers; the last word on a step is compared too.
    assert len(broken) >= len(whole) == 40
    assert {json.loads(line)[0] for line in broken} == set(range(40))
    assert set(broken) == set(whole)
